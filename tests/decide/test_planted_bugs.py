"""The planted bugs: each breaks the core in one way, and `check` must name the invariant that it broke.

Every scenario is run twice: unbroken it must be safe, and with the bug it must not be.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from lying_world import World, drain, give_back, preempt, scale, wish_for

from aiops import loop
from aiops.action import (
    ConfirmHold,
    Decision,
    Effect,
    Entry,
    EntryState,
    HoldCapacity,
    Mode,
    OrderKind,
    ReserveBandwidth,
    Rollback,
)
from aiops.decide import admit, blast, budgets, core, gates, holds, index, request, reserve, settle
from aiops.decide.admit import GATES
from aiops.loop import act as loop_act
from aiops.model import Batch, Forecast, HoldState, NodeState
from aiops.snapshot import Snapshot
from policies import outlook, prescale

Plant = Callable[[pytest.MonkeyPatch], None]
Scene = Callable[[World], None]


def without(*names: str) -> Plant:
    """Gates taken out of the list."""
    return lambda patch: patch.setattr("aiops.decide.admit.GATES", tuple(g for g in GATES if g.__name__ not in names))


def put(where: object, name: str, value: object) -> Plant:
    """One name of the core bound to something wrong."""
    return lambda patch: patch.setattr(where, name, value)


def both(*plants: Plant) -> Plant:
    """A bug that shows only where a second defence is gone too."""
    return lambda patch: [plant(patch) for plant in plants] and None


def shrink(world: World) -> None:
    world.cycle(scale("web", 2))


# -- scenes ------------------------------------------------------------------------------------------------------------


def under_kill(world: World) -> None:
    world.order(OrderKind.KILL)
    shrink(world)


def under_pause(world: World) -> None:
    world.order(OrderKind.PAUSE, "service/web")
    shrink(world)


def endless(world: World) -> None:
    world.cycle(scale("web", 5, within_s=1e9))


def ghost(world: World) -> None:
    world.cycle(drain("ghost"))


def below_floor(world: World) -> None:
    world.cycle(scale("web", 0))


def protected(world: World) -> None:
    world.cycle(scale("vault", 2))
    world.cycle(preempt("j5"))


def stale(world: World) -> None:
    world.cycle(scale("web", 2, age=300.0))


def stepped(world: World) -> None:
    world.cycle()
    world.clock.step_wall(3600.0)
    shrink(world)


def half_the_pool_is_down(world: World) -> None:
    for name in ("n6", "n7", "n8"):
        world.cluster.nodes[name] = replace(world.cluster.nodes[name], state=NodeState.DOWN)
    shrink(world)


def vanished(world: World) -> None:
    world.cycle()
    for name in ("n6", "n7", "n8"):
        del world.cluster.nodes[name]
    shrink(world)


def failures(world: World) -> None:
    world.mood("do nothing")
    for replicas in (5, 6, 7):
        world.cycle(scale("api", replicas), after=100.0)
        world.cycle(after=100.0)
    world.mood("honest")


def after_failures(world: World) -> None:
    failures(world)
    shrink(world)


def a_day_after_failures(world: World) -> None:
    failures(world)
    world.cycle(after=10.0)
    world.clock.advance(90000.0)
    world.epoch = world.cluster.epoch = world.store.acquire("me", world.clock.now(), 1e6) or 0
    shrink(world)


def busy(world: World) -> None:
    world.mood("do nothing")
    world.cycle(scale("web", 6, within_s=6000.0))
    world.cycle(scale("web", 7), after=400.0)


def too_soon(world: World) -> None:
    world.cycle(scale("web", 6))
    world.cycle(after=10.0)
    shrink(world)


def too_soon_by_a_wrong_clock(world: World) -> None:
    world.limits["max_wall_step_s"] = 1e5
    world.cycle(scale("web", 6))
    world.cycle(after=10.0)
    world.clock.step_wall(3600.0)
    shrink(world)


def many_jobs(world: World) -> None:
    world.limits |= {"jobs": 2, "tenant_jobs": 2, "policy_jobs": 2}
    world.cycle(*(preempt(f"j{i}") for i in range(4)))


def many_jobs_in_flight(world: World) -> None:
    world.limits |= {"jobs": 2, "tenant_jobs": 2, "policy_jobs": 2}
    world.mood("do nothing")
    for i in range(4):
        world.cycle(preempt(f"j{i}", within_s=3000.0))


def half_a_plan(world: World) -> None:
    world.limits |= {"jobs": 2, "tenant_jobs": 2, "policy_jobs": 2}
    world.cycle(*(preempt(f"j{i}", plan="room for vip") for i in range(4)))


def many_nodes(world: World) -> None:
    world.cycle(drain("n8"), drain("n9"))


def replicas_are_seen(world: World) -> None:
    world.cluster.services = {name: replace(one, nodes=("n0",)) for name, one in world.cluster.services.items()}


def a_node_with_work_is_given_back(world: World) -> None:
    replicas_are_seen(world)
    world.cycle(give_back("n3"))


def nodes_are_given_back_unseen(world: World) -> None:
    world.cycle(give_back("n9"))


def nodes_are_given_back_beside_a_job_unseen(world: World) -> None:
    replicas_are_seen(world)
    world.cluster.jobs["j0"] = replace(world.cluster.jobs["j0"], nodes=())
    world.cycle(give_back("n9"))


def a_promised_node_is_given_back(world: World) -> None:
    replicas_are_seen(world)
    world.cycle(wish_for(HoldCapacity(hold="a", owner="j1", nodes=("n9",), gpus=8, ttl_s=90.0, fence=1)))
    world.cycle(give_back("n9"))


def half_the_pool_at_once(world: World) -> None:
    replicas_are_seen(world)
    world.cluster.jobs, world.limits["approve_gpus"] = {}, 64
    world.cycle(give_back("n5", "n6", "n7", "n8", "n9"))


def node_after_node_is_given_back(world: World) -> None:
    replicas_are_seen(world)
    world.cluster.jobs = {}
    for i in range(9, 2, -1):
        world.cycle(give_back(f"n{i}"), after=70.0)
        world.cycle()


def again_and_again(world: World) -> None:
    world.limits["evictions_per_day"] = 2
    for _ in range(4):
        world.cycle(preempt("j1"), after=400.0)
        world.cycle(after=10.0)


def no_proof(world: World) -> None:
    world.cluster.proofs = False
    world.cycle(preempt("j1"))


def big(world: World) -> None:
    world.limits["approve_gpus"] = 8
    world.cycle(preempt("j1"))


def big_but_said_small(world: World) -> None:
    world.limits["approve_gpus"] = 8
    world.cycle(preempt("j1", gpus=1))


def big_twice_approved_by_one(world: World) -> None:
    big(world)
    plan = request.plan_hash(world.store.admissions(0.0, 1e12)[0].decision.action)
    for _ in range(2):
        world.order(OrderKind.APPROVE, plan, by="ann")
    world.cycle(preempt("j1"))


def another_plan_approved(world: World) -> None:
    big(world)
    plan = request.plan_hash(world.store.admissions(0.0, 1e12)[0].decision.action)
    for who in ("ann", "bob"):
        world.order(OrderKind.APPROVE, plan, by=who)
    world.cycle(preempt("j2"))


def only_watching(world: World) -> None:
    world.modes = {"x": Mode.OBSERVE}
    shrink(world)


def out_of_scope(world: World) -> None:
    world.limits["scopes"] = {"x": []}
    shrink(world)


def too_much_held(world: World) -> None:
    for name in ("a", "b"):
        world.cycle(wish_for(HoldCapacity(hold=name, owner="j1", nodes=(), gpus=50, ttl_s=30.0, fence=1)))


def too_much_on_the_uplink(world: World) -> None:
    world.cycle(wish_for(ReserveBandwidth(link="nic", owner="j1", bytes_per_s=9.0)))


def hold_forgotten(world: World) -> None:
    world.cycle(wish_for(HoldCapacity(hold="a", owner="j1", nodes=(), gpus=8, ttl_s=30.0, fence=1)))
    world.cycle(after=1000.0)


def lost_request(world: World) -> None:
    world.mood("lose request")
    world.cycle(scale("web", 6))
    for _ in range(6):
        world.cycle()


def lost_request_then_kill(world: World) -> None:
    world.mood("lose request")
    world.cycle(scale("web", 6))
    world.order(OrderKind.KILL)
    world.mood("honest")
    world.cycle()


def blind(world: World) -> None:
    world.mood("lose reply")
    world.cluster.blind = True
    world.cycle(scale("web", 6))
    for _ in range(9):
        world.cycle()


def lying_read(world: World) -> None:
    world.cluster.idempotent = False
    world.mood("stale read")
    world.cycle(drain("n9", cordon=True))
    world.cycle()


def idle_backend(world: World) -> None:
    world.mood("do nothing")
    world.cycle(scale("web", 6))
    for _ in range(4):
        world.cycle(after=100.0)


def half_done_twice(world: World) -> None:
    world.limits |= {"destructive_cooldown_s": 30.0, "cooldown_s": 30.0}
    world.mood("half")
    world.cycle(scale("web", 8))
    for _ in range(30):
        world.cycle(after=35.0)


def old_leader(world: World) -> None:
    first = world.epoch
    world.takeover()
    world.cycle()
    world.epoch = world.cluster.epoch = first
    world.cycle(scale("web", 6))


def record_is_lost(world: World) -> None:
    world.cycle(scale("web", 6))


def long_unread(world: World) -> None:
    world.mood("lose request")
    world.cycle(scale("web", 6))
    world.mood("honest")
    world.cluster.blind = True
    world.cycle(after=100.0)


def namesake(world: World) -> None:
    world.mood("lose request")
    world.cycle(scale("web", 6))
    world.mood("honest")
    world.cluster.services["web"] = replace(world.cluster.services["web"], uid="another")
    world.cycle()


def load_went_silent(world: World) -> None:
    """The load was last seen two minutes ago, at full use; a trusted forecast says that it will be low."""
    load, now = world.cluster.services["web"].load, world.clock.now()
    for ago in range(400, 110, -10):
        world.store.append(Batch.of(now - ago, [(load, 4.0)]))
    world.store.put_forecasts([
        Forecast(target=str(load), made_at=now - 60.0, times=now + np.arange(1.0, 7.0) * 300.0, model="m",
                 quantiles=np.array([0.5, 0.9]), values=np.full((2, 6), 0.5)),
    ])  # fmt: skip
    world.policies, world.modes = {"prescale": prescale.Prescale()}, {"prescale": Mode.ACT}
    world.cycle()


@dataclass
class Impostor:
    """A plug-in that signs with another's name."""

    name: str = "y"
    every_s: float = 1.0
    wishes: list[Any] = field(default_factory=list)

    def needs(self, cluster: Any) -> tuple[()]:
        return ()

    def decide(self, snapshot: Snapshot) -> list[Decision]:
        return [replace(scale("web", 2)(snapshot), policy="trusted")]


def impostor(world: World) -> None:
    world.policies = {"y": Impostor()}
    world.modes = {"trusted": Mode.ACT}
    world.cycle()


# -- bugs --------------------------------------------------------------------------------------------------------------


def _asks_nobody(snapshot: Snapshot, policies: Any) -> Any:
    answers = [answer for name in snapshot.due for answer in policies[name].decide(snapshot)]
    return tuple(answers), (), ()


def _one_by_one(snapshot: Snapshot, limits: Any, decisions: Any) -> Any:
    return admit._in_order(index.Index(snapshot), limits, tuple(decisions), {})


def _approved_by_count(req: request.Request) -> request.Refusal:
    plan = request.plan_hash(req.action)
    orders = [o for o in req.snapshot.orders if o.kind is OrderKind.APPROVE and o.target == plan]
    return None if len(orders) >= req.limits.approvers else gates.approved(req)


def _approved_anything(req: request.Request) -> request.Refusal:
    people = {o.by for o in req.snapshot.orders if o.kind is OrderKind.APPROVE}
    return None if len(people) >= req.limits.approvers else gates.approved(req)


def _fails_unread(entry: Any, effect: Effect, now: float) -> tuple[EntryState | None, str]:
    return (EntryState.FAILED, "time-out") if now >= entry.expires_at else (None, "")


def _undoes_rollbacks(snapshot: Snapshot, transitions: Any) -> tuple[Decision, ...]:
    wishes = []
    for entry in snapshot.history:
        for one in transitions:
            if one.id == entry.admission.id and one.state in (EntryState.FAILED, EntryState.NEEDS_HUMAN):
                action = entry.admission.decision.action
                inner = action.action if isinstance(action, Rollback) else action
                seen = next(s for s in snapshot.cluster.services if s.name == inner.service)
                back = replace(inner, version=seen.version, replicas=inner.was, was=seen.replicas)
                wishes.append(replace(entry.admission.decision, action=Rollback(of=one.id, action=back), inputs_at=None))
    return tuple(wishes)


def _small_blast(action: Any, cluster: Any) -> Any:
    full = blast.blast(action, cluster)
    return replace(full, gpus=getattr(action, "gpus", 0))


def _counted_in_a_window(snapshot: Snapshot, limits: Any) -> float | None:
    bad = [e for e in snapshot.history if e.state in budgets.BAD and snapshot.now - e.changed_at < limits.window_s]
    return snapshot.now if len(bad) >= limits.breaker_failures else None


def _swap_gate(old: str, new: Any) -> Plant:
    return lambda patch: patch.setattr("aiops.decide.admit.GATES", tuple(new if g.__name__ == old else g for g in GATES))


def _no_pass(snapshot: Snapshot, limits: Any) -> Any:
    return snapshot.reservations


def _all_in_scope(req: request.Request) -> request.Refusal:
    return gates.in_scope(req) if req.limits.scopes.get(req.decision.policy) else None


def _record_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("aiops.store.memory.MemoryStore.record", lambda self, snapshot, decided: None)
    patch.setattr("aiops.store.memory.MemoryStore.advance", lambda self, id, state, at, result=None: None)


def _confirmed_only(entry: Entry) -> bool:
    return entry.state is EntryState.CONFIRMED


def _never_expires(one: Any, now: float, forecasts: Any) -> HoldState:
    return HoldState(one.state)


def _answers_only_yes(snapshot: Snapshot, limits: Any, decisions: Any) -> Any:
    return tuple(one for one in admit.admit(snapshot, limits, decisions) if one.permitted)


def _sends_whatever_is_open(house: Any, snapshot: Snapshot, decided: Any) -> int:
    for entry in (entry for entry in snapshot.history if entry.state in settle.OPEN):
        house.backend.apply(entry.admission, snapshot.now)
    return loop_act(house, snapshot, decided)


def _silence_is_zero(*asked: Any) -> tuple[float, float, float]:
    return 0.0, 0.0, 0.0


def _resend_any(entry: Any, effect: Effect, epoch: int, limits: Any) -> bool:
    return True


def _resend_promised(entry: Any, effect: Effect, epoch: int, limits: Any) -> bool:
    return effect is Effect.ABSENT


BUGS: list[tuple[str, Plant, Scene, str]] = [
    ("kill switch not looked at", without("killed"), under_kill, "I17"),
    ("pause not looked at", without("paused"), under_pause, "I17"),
    ("endless deadlines allowed", without("sound"), endless, "I3"),
    ("empty = all", without("known"), ghost, "I12"),
    ("floor not kept", without("bounded"), below_floor, "I21"),
    ("protection forgotten", without("unprotected"), protected, "I22"),
    ("stale inputs accepted", without("fresh"), stale, "I5"),
    ("clock step ignored", without("steady_clock"), stepped, "I15"),
    ("mass fault ignored", without("healthy_pool"), half_the_pool_is_down, "I11"),
    ("vanished nodes not counted", without("healthy_pool"), vanished, "I11"),
    ("no breaker", without("breaker"), after_failures, "I13"),
    ("breaker closes by itself", put(core, "tripped_at", _counted_in_a_window), a_day_after_failures, "I13"),
    ("two in flight on one target", without("alone", "cooled"), busy, "I20"),
    ("no cooldown", without("cooled"), too_soon, "I14"),
    ("wall clock ends a cooldown", put(request.Request, "since", lambda self, at: self.snapshot.now - at),
     too_soon_by_a_wrong_clock, "I14"),
    ("no budget", without("within_blast_radius"), many_jobs, "I10"),
    ("no node budget", without("within_blast_radius"), many_nodes, "I10"),
    ("a node with work is given back", without("vacant"), a_node_with_work_is_given_back, "I10"),
    ("a node that nobody sees into is given back", without("vacant"), nodes_are_given_back_unseen, "I10"),
    ("a node that a job may be on is given back", without("vacant"), nodes_are_given_back_beside_a_job_unseen, "I10"),
    ("a promised node is given back", without("vacant"), a_promised_node_is_given_back, "I10"),
    ("idle nodes go all at once", without("few_given_back"), half_the_pool_at_once, "I10"),
    ("idle nodes go one by one without end", without("few_given_back"), node_after_node_is_given_back, "I10"),
    ("budget forgets what is in flight", put(index, "touched", _confirmed_only), many_jobs_in_flight, "I10"),
    ("no cap on evictions of a job", without("seldom_evicted"), again_and_again, "I10"),
    ("half a plan goes", put(core, "admit", _one_by_one), half_a_plan, "I12"),
    ("preempts without a proof", without("proven"), no_proof, "I9"),
    ("big without approval", without("approved"), big, "I29"),
    ("a policy's own account of damage is believed", put(gates, "blast", _small_blast), big_but_said_small, "I29"),
    ("one person approves twice", _swap_gate("approved", _approved_by_count), big_twice_approved_by_one, "I29"),
    ("approval of any plan counts", _swap_gate("approved", _approved_anything), another_plan_approved, "I29"),
    ("observe acts", without("allowed_to_act"), only_watching, "I18"),
    ("scope not checked", without("in_scope"), out_of_scope, "I28"),
    ("an empty scope is everything", _swap_gate("in_scope", _all_in_scope), out_of_scope, "I28"),
    ("a policy speaks in another's name", put(core, "ask", _asks_nobody), impostor, "I28"),
    ("capacity promised twice", put(reserve, "excess", lambda ledger, room, now: ""), too_much_held, "I21"),
    ("uplinks not counted", put(reserve.Capacity, "path", lambda self, link: iter((link,))), too_much_on_the_uplink, "I21"),
    ("holds never expire", put(reserve, "_after", _never_expires), hold_forgotten, "I21"),
    ("time does not pass in the ledger", put(core, "pass_time", _no_pass), hold_forgotten, "I21"),
    ("sends again without a read", put(settle, "resendable", _resend_any), blind, "I4"),
    ("retries for ever", put(settle, "resendable", _resend_promised), lost_request, "I4"),
    ("believes a lying read over a promise", put(settle, "resendable", _resend_promised), lying_read, "I1"),
    ("a resend passes no gate", put(settle, "still_permitted", lambda *args: True), lost_request_then_kill, "I17"),
    ("time-out = failed", put(settle, "judge", _fails_unread), blind, "I4"),
    ("nothing ever expires", put(settle, "judge", lambda *args: (None, "")), idle_backend, "I3"),
    ("rolls back rollbacks", put(core, "rollbacks", _undoes_rollbacks), half_done_twice, "I19"),
    ("epoch not checked", put(__import__("aiops.store.memory", fromlist=["_Lease"])._Lease, "_check_epoch",
                              lambda self, epoch: None), old_leader, "I16"),
    ("record lost before the call", _record_nothing, record_is_lost, "I2"),
    ("sends what is open without a look", put(loop, "act", _sends_whatever_is_open), long_unread, "I7"),
    ("a resend reaches a namesake", put(settle, "still_permitted", lambda *args: True), namesake, "I8"),
    ("silence is zero load", both(put(outlook, "now_and_peak", _silence_is_zero), without("fresh")), load_went_silent, "I27"),
    ("refusals are not recorded", put(core, "admit", _answers_only_yes), under_kill, "I30"),
]  # fmt: skip


@pytest.mark.parametrize(("bug", "plant", "scene", "rule"), BUGS, ids=[bug[0] for bug in BUGS])
def test_each_planted_bug_is_caught(bug: str, plant: Plant, scene: Scene, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sound, broken = World(), World()
    scene(sound)
    assert sound.violations() == (), "the scene itself must be safe"
    plant(monkeypatch)
    scene(broken)
    assert rule in {violation.rule for violation in broken.violations()}


def test_there_are_at_least_thirty_of_them() -> None:
    assert len(BUGS) >= 30
    assert len({bug[0] for bug in BUGS}) == len(BUGS)


def test_a_confirmed_hold_outlives_its_term() -> None:
    world = World()
    world.cycle(wish_for(HoldCapacity(hold="a", owner="j1", nodes=(), gpus=8, ttl_s=30.0, fence=1)))
    world.cycle(wish_for(ConfirmHold(hold="a", fence=1)), after=70.0)
    assert world.store.reservations() == ()
    world.cycle(wish_for(HoldCapacity(hold="b", owner="j1", nodes=(), gpus=8, ttl_s=90.0, fence=1)))
    world.cycle()
    world.cycle(wish_for(ConfirmHold(hold="b", fence=1)), after=60.0)
    assert [one.state for one in world.store.reservations()] == [HoldState.ACTIVE]
    assert holds.RENEW_S == 30.0
