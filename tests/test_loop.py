"""One cycle end to end on fakes: recorded before acted, judged by a later look, replayable, and halted at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest

from aiops.action import Admission, Decision, Deny, Effect, EntryState, Mode, Outcome, Receipt, ScaleService
from aiops.clock import ManualClock
from aiops.errors import Fenced, Unreadable
from aiops.loop import House, Memory, run_cycle
from aiops.model import Batch, Cluster, Node, NodeState, Query, SeriesKey, Service
from aiops.ports import Policy
from aiops.replay import first_difference, replay
from aiops.snapshot import Decided, Need, Snapshot
from aiops.store.memory import MemoryStore

LOAD = SeriesKey.of("service_requests_per_second", service="web")
QUERY = Query(metric=LOAD.metric, window_s=60.0)


class ToThree:
    """A policy that wants three replicas of every service, whatever happens."""

    name: ClassVar[str] = "to_three"
    every_s: ClassVar[float] = 10.0

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> "ToThree":
        return cls()

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        return (Need(query=QUERY),)

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        for service in snapshot.cluster.services:
            if service.replicas == 3:
                yield f"{service.name}: already three"
                continue
            action = ScaleService(
                service=service.name, uid=service.uid, version=service.version, replicas=3, was=service.replicas
            )
            yield Decision(
                policy=self.name, action=action, reason="three is a good number", within_s=60.0, inputs_at=snapshot.now
            )


class Raises(ToThree):
    """A third party's broken policy."""

    name: ClassVar[str] = "raises"

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        raise ZeroDivisionError("broken plug-in")


@dataclass
class OneService:
    """A cluster of one service that keeps an effect log and can be told to lie."""

    name: ClassVar[str] = "one"
    supports: frozenset[str] = frozenset({"scale_service"})
    replicas: int = 1
    effects: list[str] = field(default_factory=list)
    lose_reply: bool = False
    do_nothing: bool = False
    unreadable: bool = False
    nodes: int = 3

    def observe(self, now: float) -> Cluster:
        if self.unreadable:
            raise Unreadable("half a picture")
        nodes = tuple(Node(name=f"n{i}", uid=f"n{i}", pool="p", state=NodeState.READY) for i in range(self.nodes))
        web = Service(
            name="web", uid="u", version=str(self.replicas), pool="p", replicas=self.replicas, ready=self.replicas,
            min_replicas=1, max_replicas=10, load=LOAD, target=10.0,
        )  # fmt: skip
        return Cluster(at=now, backend="one", nodes=nodes, services=(web,))

    def apply(self, admission: Admission, now: float) -> Receipt:
        action = admission.decision.action
        assert isinstance(action, ScaleService)
        if admission.id in self.effects:
            return Receipt(id=admission.id, outcome=Outcome.ALREADY)
        if not self.do_nothing:
            self.effects.append(admission.id)
            self.replicas = action.replicas
        return Receipt(id=admission.id, outcome=Outcome.UNKNOWN if self.lose_reply else Outcome.DONE)

    def probe(self, admission: Admission, now: float) -> Effect:
        action = admission.decision.action
        assert isinstance(action, ScaleService)
        return Effect.PRESENT if self.replicas == action.replicas else Effect.ABSENT

    def close(self) -> None:
        pass


@dataclass
class World:
    """A house on fakes, and hands to move it."""

    mode: Mode = Mode.ACT
    policy: Policy = field(default_factory=ToThree)
    halted: bool = False
    leads: bool = True

    def __post_init__(self) -> None:
        self.clock, self.store, self.backend, self.memory = ManualClock(1e9, 100.0), MemoryStore(), OneService(), Memory()
        self.announced: list[Decided] = []
        self.epoch = self.store.acquire("me", self.clock.now(), 1e6) or 0

    def cycle(self, after: float = 10.0) -> Decided | None:
        self.clock.advance(after)
        self.store.append(Batch.of(self.clock.now(), [(LOAD, 25.0)]))
        house = House(
            store=self.store,
            backend=self.backend,
            policies={self.policy.name: self.policy},
            clock=self.clock,
            modes={self.policy.name: self.mode},
            rules={self.policy.name: {}},
            limits={},
            halted=lambda: self.halted,
            leads=lambda: self.leads,
            announce=lambda snapshot, decided: self.announced.append(decided),
        )
        return run_cycle(house, self.memory, self.clock.now(), self.epoch)

    def states(self) -> list[EntryState]:
        return [entry.state for entry in self.store.entries(0.0)]


def test_a_permitted_decision_is_done_once_and_confirmed_by_a_later_look() -> None:
    world = World()
    first = world.cycle()
    assert first
    assert [a.denied for a in first.admissions] == [None]
    assert world.states() == [EntryState.SENT]
    world.cycle()
    assert world.states() == [EntryState.CONFIRMED]
    assert len(world.backend.effects) == 1
    assert world.backend.replicas == 3


@pytest.mark.parametrize(("mode", "deny"), [(Mode.OBSERVE, Deny.OBSERVE_ONLY), (Mode.ADVISE, Deny.ADVISE_ONLY)])
def test_observe_and_advise_decide_the_same_and_do_nothing(mode: Mode, deny: Deny) -> None:
    acting, watching = World(), World(mode=mode)
    did, would = acting.cycle(), watching.cycle()
    assert did
    assert would
    assert did.decisions == would.decisions
    assert [a.denied for a in would.admissions] == [deny]
    assert watching.backend.effects == []


def test_a_lost_reply_is_read_back_before_anything_else_and_never_sent_twice() -> None:
    world = World()
    world.backend.lose_reply = True
    world.cycle()
    world.cycle()
    assert world.states() == [EntryState.CONFIRMED]
    assert len(world.backend.effects) == 1


def test_a_backend_that_says_ok_and_does_nothing_is_found_out_and_the_intent_still_ends() -> None:
    world = World()
    world.backend.do_nothing = True
    for _ in range(12):
        world.cycle()
    first = world.store.entries(0.0)[0]
    assert first.state in (EntryState.FAILED, EntryState.EXPIRED, EntryState.NEEDS_HUMAN)


def test_the_kill_switch_stops_effects_but_not_the_record() -> None:
    world = World(halted=True)
    decided = world.cycle()
    assert decided
    assert decided.decisions
    assert world.backend.effects == []
    assert world.announced


def test_a_daemon_that_no_longer_leads_sends_nothing_and_writes_nothing() -> None:
    world = World(leads=False)
    world.cycle()
    assert world.backend.effects == []
    world.store.acquire("other", world.clock.now() + 2e6, 60.0)
    with pytest.raises(Fenced):
        world.cycle()
    assert world.backend.effects == []


def test_an_unreadable_cluster_makes_the_cycle_abstain_whole() -> None:
    world = World()
    world.backend.unreadable = True
    assert world.cycle() is None
    assert world.store.cycles(0.0, 1e12) == ()


def test_a_policy_that_raises_costs_only_its_own_decisions() -> None:
    world = World(policy=Raises())
    decided = world.cycle()
    assert decided
    assert decided.decisions == ()
    assert "broken plug-in" in decided.failed[0]


def test_every_recorded_cycle_decides_the_same_again_and_a_changed_rule_is_noticed() -> None:
    world = World()
    for _ in range(5):
        world.cycle()
    again = list(replay(world.store, 0.0, 1e12, lambda name, section: ToThree()))
    assert len(again) == 5
    assert all(one.equal for one in again)
    changed = list(replay(world.store, 0.0, 1e12, lambda name, section: Raises()))
    assert not changed[0].equal
    assert "recorded" in first_difference(changed[0].recorded, changed[0].fresh)


def test_a_policy_runs_when_its_period_has_passed_and_not_before() -> None:
    world = World()
    world.cycle()
    soon = world.cycle(after=4.0)
    assert soon
    assert soon.decisions == ()
    assert replace(soon).notes == ()


class FullDisk(MemoryStore):
    """A store that records nothing while its disk is full."""

    full = True

    def record(self, snapshot: Snapshot, decided: Decided) -> None:
        if self.full:
            raise Unreadable("disk is full")
        super().record(snapshot, decided)


def test_a_policy_whose_cycle_could_not_be_recorded_is_still_due() -> None:
    world = World()
    world.store = disk = FullDisk()
    world.epoch = disk.acquire("me", world.clock.now(), 1e6) or 0
    with pytest.raises(Unreadable):
        world.cycle()
    assert world.backend.effects == []
    disk.full = False
    soon = world.cycle(after=1.0)
    assert soon
    assert len(soon.decisions) == 1


def _counted(world: World) -> dict[str, int]:
    assert world.cycle()
    snapshot, _ = world.store.cycle(world.store.cycles(0.0, 1e12)[-1])
    return dict(snapshot.census)


@pytest.mark.parametrize(
    ("down_s", "clock_s", "counted"),
    [
        pytest.param(60.0, 0.0, 3, id="back soon: the nodes that went meanwhile are missed"),
        pytest.param(60.0, -600.0, 3, id="the wall clock went back meanwhile"),
        pytest.param(4000.0, 0.0, 1, id="away for longer than the census looks back"),
    ],
)
def test_a_restart_does_not_forget_how_many_nodes_there_were(down_s: float, clock_s: float, counted: int) -> None:
    world = World()
    world.cycle()
    world.memory, world.backend.nodes = Memory(), 1
    world.clock.advance(down_s)
    world.clock.step_wall(clock_s)
    assert _counted(world) == {"p": counted}


def test_a_leader_that_comes_back_knows_what_the_other_one_saw() -> None:
    world = World()
    world.cycle()
    mine, world.memory, world.backend.nodes = world.memory, Memory(), 5
    world.epoch = world.store.acquire("other", world.clock.now() + 2e6, 60.0) or 0
    assert _counted(world) == {"p": 5}
    world.memory, world.backend.nodes = mine, 1
    world.epoch = world.store.acquire("me", world.clock.now() + 4e6, 1e7) or 0
    assert _counted(world) == {"p": 5}


def test_a_census_that_was_recalled_is_forgotten_an_hour_after_it_was_recorded() -> None:
    world = World()
    world.cycle()
    world.memory, world.backend.nodes = Memory(), 1
    world.clock.advance(1800.0)
    assert _counted(world) == {"p": 3}
    world.clock.advance(1800.0)
    assert _counted(world) == {"p": 1}
