"""Gates and verdicts, row by row: each row is one reason why a cluster is still alive."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from aiops.action import (
    Action,
    Admission,
    ConfirmHold,
    Decision,
    Deny,
    Drain,
    Effect,
    Entry,
    EntryState,
    HoldCapacity,
    LendQueue,
    LimitBandwidth,
    Migrate,
    Mode,
    Order,
    OrderKind,
    Outcome,
    Preempt,
    Receipt,
    ReleaseBandwidth,
    RequestCheckpoint,
    ScalePool,
    ScaleService,
    SetPowerLimit,
)
from aiops.codec import digest
from aiops.decide.admit import GATES, admit
from aiops.decide.limits import Limits
from aiops.decide.request import plan_hash
from aiops.decide.settle import judge, resendable, settle
from aiops.errors import ConfigError
from aiops.model import (
    Checkpoint,
    Cluster,
    Gpu,
    HoldState,
    Job,
    JobState,
    Link,
    Node,
    NodeState,
    Pool,
    Reservation,
    SeriesKey,
    Service,
)  # fmt: skip
from aiops.snapshot import Snapshot

NOW = 1e9
PROOF = Checkpoint(id="c9", run_id="r1", at=NOW - 100.0, read_at=NOW - 5.0, verified=True)
JOB = Job(
    id="j1", run_id="r1", name="train", queue="q", state=JobState.RUNNING, gpus=8, submitted_at=NOW - 9e3,
    nodes=("n0",), checkpoint=PROOF,
)  # fmt: skip
WEB = Service(
    name="web", uid="u", version="1", pool="p", replicas=4, ready=4, min_replicas=2, max_replicas=8,
    load=SeriesKey.of("load"), target=1.0,
)  # fmt: skip
NODES = tuple(Node(name=f"n{i}", uid=f"u{i}", pool="p", state=NodeState.READY, cpu_cores=0.8) for i in range(10))
UP = ScaleService(service="web", uid="u", version="1", replicas=6, was=4)
DOWN = replace(UP, replicas=3)
PREEMPT = Preempt(job="j1", run_id="r1", on_nodes=("n0",), checkpoint="c9", gpus=8, lost_gpu_s=800.0)
MOVE = Migrate(job="j1", run_id="r1", on_nodes=("n0",), to_nodes=("n9",), checkpoint="c9", gpus=8)
ASK = RequestCheckpoint(job="j1", run_id="r1")
LEND = LendQueue(job="j1", run_id="r1", borrower="a", lender="b", nodes=("n0",), gpus=8)
HOLD = HoldCapacity(hold="h", owner="j1", nodes=(), gpus=0, ttl_s=30.0, fence=1, cpu_cores=8.0)
DRAIN = Drain(node="n1", uid="u1", reason="ecc")


CLOUD = Pool(name="p", nodes=10, min_nodes=2, max_nodes=10)
GIVE = ScalePool(pool="p", version="1", nodes=9, was=10, remove=("n9",))
PROMISE = Reservation(
    name="r", owner="user/ann", state=HoldState.ACTIVE, fence=1, created_at=NOW, expires_at=NOW + 60, hard_cap_at=NOW + 900
)  # fmt: skip


def cloud(*, jobs: tuple[Job, ...] = (JOB,), services: tuple[Service, ...] = (), gone: tuple[str, ...] = ()) -> Cluster:
    there = tuple(node for node in NODES if node.name not in gone)
    pool = replace(CLOUD, nodes=len(there))
    return Cluster(at=NOW, backend="b", nodes=there, jobs=jobs, services=services, pools=(pool,))


def gave(*names: str, age: float = 600.0, state: EntryState = EntryState.CONFIRMED) -> Entry:
    return entry(replace(GIVE, nodes=10 - len(names), remove=names), state, age)


def snapshot(**changes: Any) -> Snapshot:
    cluster = changes.pop("cluster", Cluster(at=NOW, backend="b", nodes=NODES, jobs=(JOB,), services=(WEB,)))
    fields: dict[str, Any] = {
        "id": "1-1", "now": NOW, "epoch": 1, "cluster": cluster, "census": {"p": 10}, "modes": {"x": Mode.ACT},
        "supports": (
            "scale_service", "scale_pool",
            "preempt", "migrate", "drain", "set_power_limit", "hold_capacity", "confirm_hold", "rollback",
        ),
    }  # fmt: skip
    return Snapshot(**{**fields, **changes})


def wish(action: Action, **changes: Any) -> Decision:
    return replace(Decision(policy="x", action=action, reason="because", inputs_at=NOW), **changes)


def denied(
    action: Action, limits: Mapping[str, Any] | None = None, wished: Mapping[str, Any] | None = None, **seen: Any
) -> Deny | None:
    (one,) = admit(snapshot(**seen), Limits.from_settings(limits or {}, "t"), [wish(action, **(wished or {}))])
    return one.denied


def order(kind: OrderKind, target: str = "", by: str = "ann", note: str = "", at: float = NOW - 60.0) -> Order:
    return Order(id=f"{kind}{by}", at=at, by=by, kind=kind, target=target, note=note)


def entry(action: Action, state: EntryState = EntryState.CONFIRMED, age: float = 30.0, **changes: Any) -> Entry:
    admission = Admission(id=f"0-{age:.0f}-{digest(action)[:6]}", at=NOW - age, decision=wish(action), mode=Mode.ACT)
    fields: dict[str, Any] = {
        "admission": admission, "state": state, "epoch": 1, "expires_at": NOW + 100.0, "changed_at": NOW - age, "attempts": 1
    }  # fmt: skip
    return Entry(**{**fields, **changes})


def nodes(down: int = 0, gone: int = 0) -> Cluster:
    kept = [replace(n, state=NodeState.DOWN) if i < down else n for i, n in enumerate(NODES)][: 10 - gone]
    return Cluster(at=NOW, backend="b", nodes=tuple(kept), jobs=(JOB,), services=(WEB,))


def job(**changes: Any) -> Cluster:
    return Cluster(at=NOW, backend="b", nodes=NODES, jobs=(replace(JOB, **changes),), services=(WEB,))


@pytest.mark.parametrize(
    ("action", "seen", "deny"),
    [
        pytest.param(UP, {}, None, id="growth passes"),
        pytest.param(DOWN, {}, None, id="shrink within bounds passes"),
        pytest.param(PREEMPT, {}, None, id="a proven preemption passes"),
        pytest.param(UP, {"orders": (order(OrderKind.KILL),)}, Deny.KILL_SWITCH, id="kill switch"),
        pytest.param(UP, {"orders": (order(OrderKind.PAUSE),)}, Deny.PAUSED, id="global pause"),
        pytest.param(UP, {"orders": (order(OrderKind.PAUSE, "service/web"),)}, Deny.PAUSED, id="target paused"),
        pytest.param(UP, {"orders": (order(OrderKind.PAUSE, "service/other"),)}, None, id="another target paused"),
        pytest.param(UP, {"supports": ()}, Deny.UNSUPPORTED, id="unsupported by name"),
        pytest.param(replace(UP, service="gone"), {}, Deny.EMPTY_TARGET, id="no such service"),
        pytest.param(replace(UP, uid="other"), {}, Deny.EMPTY_TARGET, id="same name, another identity"),
        pytest.param(replace(PREEMPT, run_id="r0"), {}, Deny.EMPTY_TARGET, id="another run of the job"),
        pytest.param(replace(PREEMPT, job=""), {}, Deny.EMPTY_TARGET, id="empty means nothing"),
        pytest.param(replace(UP, replicas=9), {}, Deny.OUT_OF_BOUNDS, id="above max"),
        pytest.param(replace(UP, replicas=1), {}, Deny.OUT_OF_BOUNDS, id="below min"),
        pytest.param(PREEMPT, {"cluster": job(protected=True)}, Deny.PROTECTED, id="protected job"),
        pytest.param(UP, {"wall_step_s": 3600.0}, None, id="growth survives a stepped clock"),
        pytest.param(DOWN, {"wall_step_s": -3600.0}, Deny.CLOCK_STEPPED, id="a shrink does not"),
        pytest.param(DOWN, {"cluster": nodes(down=3)}, Deny.MASS_FAULT, id="30 % down"),
        pytest.param(DOWN, {"cluster": nodes(gone=3)}, Deny.MASS_FAULT, id="30 % vanished"),
        pytest.param(DOWN, {"cluster": nodes(down=2)}, None, id="20 % is the limit, not above it"),
        pytest.param(UP, {"cluster": nodes(gone=9)}, None, id="growth goes on in a mass fault"),
        pytest.param(UP, {"history": (entry(DOWN, EntryState.SENT),)}, Deny.IN_FLIGHT, id="one in flight per target"),
        pytest.param(UP, {"history": (entry(DOWN, EntryState.INTENT),)}, Deny.IN_FLIGHT, id="an intent is in flight"),
        pytest.param(UP, {"history": (entry(DOWN, age=10.0), entry(UP, age=20.0))}, None, id="a late replica is an outage"),
        pytest.param(UP, {"history": (entry(UP, EntryState.FAILED),)}, Deny.COOLDOWN, id="growth waits after a failure"),
        pytest.param(UP, {"history": (entry(UP, EntryState.FAILED, age=61.0),)}, None, id="for a minute"),
        pytest.param(DOWN, {"history": (entry(DOWN, age=59.0),)}, Deny.COOLDOWN, id="shrinking further rests a minute"),
        pytest.param(DOWN, {"history": (entry(DOWN, age=61.0),)}, None, id="not five: it does not turn round"),
        pytest.param(
            DOWN,
            {"history": (entry(UP, age=200.0), entry(DOWN, age=100.0))},
            Deny.COOLDOWN,
            id="an earlier growth still counts",
        ),
        pytest.param(
            DOWN, {"history": (entry(DOWN, EntryState.FAILED, age=299.0),)}, Deny.COOLDOWN, id="five after one that failed"
        ),
        pytest.param(DOWN, {"history": (entry(UP, age=299.0),)}, Deny.COOLDOWN, id="shrinking for five"),
        pytest.param(DOWN, {"history": (entry(UP, age=301.0),)}, None, id="and then passes"),
        pytest.param(PREEMPT, {"history": (entry(ASK, age=20.0),)}, None, id="a stop does not cool down from its own request"),
        pytest.param(PREEMPT, {"history": (entry(LEND, age=20.0),)}, None, id="what was lent is reclaimable at any time"),
        pytest.param(PREEMPT, {"history": (entry(MOVE, age=299.0),)}, Deny.COOLDOWN, id="but it does from a move"),
        pytest.param(
            ASK,
            {"history": (entry(ASK, age=20.0),), "supports": (ASK.kind,)},
            Deny.COOLDOWN,
            id="and nobody is asked again at once",
        ),
        pytest.param(DRAIN, {"history": (entry(replace(DRAIN, node="n2")),)}, Deny.BUDGET_SPENT, id="10 % of nodes an hour"),
        pytest.param(DRAIN, {"history": (entry(replace(DRAIN, node="n2"), age=3601.0),)}, None, id="a new window"),
        pytest.param(PREEMPT, {"cluster": job(checkpoint=None)}, Deny.NO_CHECKPOINT, id="no proof"),
        pytest.param(
            replace(PREEMPT, checkpoint=""),
            {"cluster": job(checkpoint=None, preemptible=True)},
            Deny.NO_CHECKPOINT,
            id="nor of work that may be asked to go without one",
        ),
        pytest.param(
            PREEMPT, {"cluster": job(checkpoint=replace(PROOF, verified=False))}, Deny.NO_CHECKPOINT, id="unverified proof"
        ),
        pytest.param(
            PREEMPT, {"cluster": job(checkpoint=replace(PROOF, run_id="r0"))}, Deny.NO_CHECKPOINT, id="another run's proof"
        ),
        pytest.param(
            PREEMPT,
            {"cluster": job(checkpoint=replace(PROOF, read_at=NOW - 31.0))},
            Deny.NO_CHECKPOINT,
            id="proof read long ago",
        ),
        pytest.param(
            PREEMPT, {"cluster": job(checkpoint=replace(PROOF, id="c8"))}, Deny.NO_CHECKPOINT, id="not the checkpoint named"
        ),
        pytest.param(UP, {"modes": {"x": Mode.ADVISE}}, Deny.ADVISE_ONLY, id="advise"),
        pytest.param(UP, {"modes": {}}, Deny.OBSERVE_ONLY, id="unknown policies observe"),
        pytest.param(UP, {"orders": (order(OrderKind.SET_MODE, "x", note="observe"),)}, Deny.OBSERVE_ONLY, id="ordered down"),
        pytest.param(UP, {"orders": (order(OrderKind.SET_MODE, "x", note="yolo"),)}, Deny.OBSERVE_ONLY, id="unknown mode"),
    ],
)
def test_gates(action: Action, seen: dict[str, Any], deny: Deny | None) -> None:
    assert denied(action, **seen) is deny


def test_a_destructive_wish_on_old_inputs_is_refused_and_growth_is_not() -> None:
    assert denied(DOWN, wished={"inputs_at": NOW - 61.0}) is Deny.STALE_INPUT
    assert denied(DOWN, wished={"inputs_at": NOW + 1.0}) is Deny.STALE_INPUT
    assert denied(UP, wished={"inputs_at": NOW - 61.0}) is None


def test_the_breaker_latches_until_a_person_resets_it() -> None:
    failed = tuple(entry(SetPowerLimit(node="n", gpu=f"g{i}", watts=1, was=2), EntryState.FAILED, 600.0 + i) for i in range(3))
    assert denied(DOWN, history=failed) is Deny.BREAKER_OPEN
    assert denied(UP, history=failed) is None
    assert denied(DOWN, history=failed, orders=(order(OrderKind.RESET_BREAKER, at=NOW - 1.0),)) is None
    assert denied(DOWN, history=failed, orders=(order(OrderKind.RESET_BREAKER, at=NOW - 900.0),)) is Deny.BREAKER_OPEN


def test_a_big_action_needs_two_people_who_approved_exactly_this_plan() -> None:
    plan, other = plan_hash(PREEMPT), plan_hash(replace(PREEMPT, on_nodes=("n1",)))
    ann, bob = order(OrderKind.APPROVE, plan, "ann"), order(OrderKind.APPROVE, plan, "bob")
    small = {"approve_gpus": 8}
    assert denied(PREEMPT, small) is Deny.NEEDS_APPROVAL
    assert denied(PREEMPT, small, orders=(ann, ann)) is Deny.NEEDS_APPROVAL
    assert denied(PREEMPT, small, orders=(ann, replace(bob, target=other))) is Deny.NEEDS_APPROVAL
    assert denied(PREEMPT, small, orders=(ann, bob)) is None
    later = replace(PREEMPT, lost_gpu_s=999.0)  # the same plan a cycle later: its cost has grown meanwhile
    assert denied(later, small, orders=(ann, bob)) is None


def test_two_wishes_for_one_target_in_one_cycle_are_a_conflict_and_the_first_wins() -> None:
    admissions = admit(snapshot(), Limits(), [wish(UP), wish(DOWN)])
    assert [a.denied for a in admissions] == [None, Deny.CONFLICT]


def test_a_dry_run_spends_its_budget_as_it_goes() -> None:
    drains = [wish(DRAIN), wish(replace(DRAIN, node="n2", uid="u2"))]
    watching = admit(snapshot(modes={"x": Mode.ADVISE}), Limits(), drains)
    assert [a.denied for a in watching] == [Deny.ADVISE_ONLY, Deny.BUDGET_SPENT]


ALONE = [  # what single limits, wishes and pictures refuse
    pytest.param(replace(DOWN, replicas=-1), {}, {}, Deny.INVALID, id="a negative count"),
    pytest.param(SetPowerLimit(node="n0", gpu="g", watts=float("nan"), was=1.0), {}, {}, Deny.INVALID, id="not a number"),
    pytest.param(UP, {"scopes": {"x": ["service/api*"]}}, {}, Deny.NO_AUTHORITY, id="outside the policy's scope"),
    pytest.param(UP, {"scopes": {"x": []}}, {}, Deny.NO_AUTHORITY, id="an empty scope is nothing, not everything"),
    pytest.param(UP, {"scopes": {"x": ["service/web"]}}, {}, None, id="inside the scope"),
    pytest.param(PREEMPT, {"approve_gpus": 8}, {}, Deny.NEEDS_APPROVAL, id="big without approval"),
    pytest.param(
        replace(PREEMPT, gpus=1), {"approve_gpus": 8}, {}, Deny.NEEDS_APPROVAL, id="a policy that belittles its damage"
    ),
    pytest.param(
        PREEMPT, {"evictions_per_day": 1}, {"cluster": job(evictions=(NOW - 9e3,))}, Deny.BUDGET_SPENT, id="evicted today"
    ),
    pytest.param(
        PREEMPT, {"evictions_per_day": 1}, {"cluster": job(evictions=(NOW - 9e4,))}, None, id="evicted the day before"
    ),
    pytest.param(PREEMPT, {"gpus": 7, "approve_gpus": 7}, {}, Deny.BLAST_RADIUS, id="more GPUs than the cap"),
    pytest.param(PREEMPT, {"protected": ["n0"]}, {}, Deny.PROTECTED, id="its node is protected"),
    pytest.param(
        replace(DRAIN, node="n0", uid="u0"), {"protected": ["train"]}, {}, Deny.PROTECTED, id="a drain under a protected job"
    ),
    pytest.param(
        replace(DRAIN, node="n0", uid="u0"), {}, {"cluster": job(protected=True)}, Deny.PROTECTED, id="and by its own mark"
    ),
    pytest.param(replace(DRAIN, uid="u0"), {}, {}, Deny.EMPTY_TARGET, id="a node reborn under the same name"),
    pytest.param(replace(PREEMPT, on_nodes=("n1",)), {}, {}, Deny.EMPTY_TARGET, id="the run moved elsewhere"),
    pytest.param(PREEMPT, {}, {"cluster": job(state=JobState.DONE)}, Deny.EMPTY_TARGET, id="it ended by itself just before"),
    pytest.param(
        UP, {}, {"orders": (order(OrderKind.SET_MODE, "x=observe"),)}, Deny.OBSERVE_ONLY, id="an order as the API writes it"
    ),
    pytest.param(UP, {}, {"modes": {}, "orders": (order(OrderKind.SET_MODE, "x=act"),)}, None, id="ordered to act"),
    pytest.param(DOWN, {}, {"breaker_at": NOW - 9e5}, Deny.BREAKER_OPEN, id="tripped ten days ago, not reset"),
    pytest.param(DOWN, {}, {"cluster": replace(nodes(), at=NOW - 61.0)}, Deny.STALE_INPUT, id="an old picture"),
    pytest.param(
        DOWN,
        {"max_wall_step_s": 4000},
        {"history": (entry(UP, age=3700.0),), "wall_step_s": 3600.0},
        Deny.COOLDOWN,
        id="a clock that jumped an hour ends no cooldown",
    ),
    pytest.param(
        replace(MOVE, to_nodes=("n1",)),
        {},
        {"history": (entry(DRAIN, EntryState.SENT),)},
        Deny.CONFLICT,
        id="a move onto a node that is being drained",
    ),
    pytest.param(replace(PREEMPT, bind_to="h"), {}, {}, Deny.NO_CAPACITY, id="a victim for a hold that was not granted"),
    pytest.param(HOLD, {}, {}, None, id="a hold that fits"),
    pytest.param(replace(HOLD, cpu_cores=9.0), {}, {}, Deny.NO_CAPACITY, id="a hold of more than there is"),
    pytest.param(replace(HOLD, owner=""), {}, {}, Deny.INVALID, id="a hold that nobody owns"),
    pytest.param(ConfirmHold(hold="h", fence=1), {}, {}, Deny.INVALID, id="a confirm without a hold"),
]


ON_N9 = replace(WEB, nodes=("n9",))
TWO = replace(GIVE, nodes=8, remove=("n8", "n9"))
FOUR = ("n5", "n6", "n7", "n8")
GIVEN = [  # what a pool may give back: few nodes, and none with anything on it
    pytest.param(GIVE, {}, {"cluster": cloud()}, None, id="an idle node goes"),
    pytest.param(replace(GIVE, remove=("n0",)), {}, {"cluster": cloud()}, Deny.CONFLICT, id="a job runs on it"),
    pytest.param(
        replace(GIVE, remove=("n0",)), {}, {"cluster": cloud(jobs=(replace(JOB, state=JobState.STOPPING),))}, Deny.CONFLICT,
        id="a job is leaving it",
    ),
    pytest.param(replace(GIVE, remove=("n0",)), {}, {"cluster": cloud(jobs=(replace(JOB, state=JobState.DONE),))}, None,
                 id="one has left"),
    pytest.param(GIVE, {}, {"cluster": cloud(services=(ON_N9,))}, Deny.CONFLICT, id="a replica is on it"),
    pytest.param(GIVE, {}, {"cluster": cloud(services=(WEB,))}, Deny.CONFLICT, id="nobody tells where the replicas are"),
    pytest.param(GIVE, {}, {"cluster": cloud(jobs=(replace(JOB, nodes=()),))}, Deny.CONFLICT,
                 id="nobody tells where a running job is"),
    pytest.param(GIVE, {}, {"cluster": cloud(jobs=(replace(JOB, nodes=(), state=JobState.QUEUED),))}, None, id="it waits"),
    pytest.param(GIVE, {}, {"cluster": cloud(services=(replace(WEB, replicas=0),))}, Deny.CONFLICT,
                 id="replicas that are on their way out are somewhere"),
    pytest.param(GIVE, {}, {"cluster": cloud(), "reservations": (replace(PROMISE, nodes=("n9",), cpu_cores=0.1),)},
                 Deny.CONFLICT, id="it was promised"),
    pytest.param(GIVE, {}, {"cluster": cloud(), "reservations": (replace(PROMISE, cpu_cores=7.9),)}, Deny.NO_CAPACITY,
                 id="promises would not fit what is left"),
    pytest.param(GIVE, {}, {"cluster": cloud(), "reservations": (replace(PROMISE, cpu_cores=7.0),)}, None, id="they do"),
    pytest.param(TWO, {}, {"cluster": cloud()}, Deny.BLAST_RADIUS, id="two of ten at once"),
    pytest.param(TWO, {"nodes_ratio": 0.2}, {"cluster": cloud()}, None, id="if allowed"),
    pytest.param(GIVE, {}, {"cluster": cloud(gone=FOUR), "history": (gave(*FOUR),)}, None,
                 id="the fifth of ten within the hour"),
    pytest.param(GIVE, {"idle_nodes_ratio": 0.4},
                 {"cluster": cloud(gone=FOUR), "history": (gave(*FOUR),)},
                 Deny.BUDGET_SPENT, id="more of the pool than may go within the hour"),
    pytest.param(GIVE, {"idle_nodes_ratio": 0.4},
                 {"cluster": cloud(gone=FOUR), "history": (gave(*FOUR, age=3601.0),)}, None,
                 id="a new hour"),
    pytest.param(GIVE, {}, {"cluster": cloud(), "history": (entry(replace(DRAIN, node="n2")),)}, None,
                 id="it spends nothing of the budget for nodes with work"),
    pytest.param(DRAIN, {}, {"cluster": cloud(), "history": (gave("n5"),)}, None, id="nor is that spent by it"),
]  # fmt: skip


@pytest.mark.parametrize(("action", "limits", "seen", "deny"), GIVEN)
def test_what_a_pool_gives_back(action: Action, limits: dict[str, Any], seen: dict[str, Any], deny: Deny | None) -> None:
    assert denied(action, limits, **{"census": {}, **seen}) is deny


CAP = LimitBandwidth(link="disk", owner="job/j1", bytes_per_s=1.0, was=None)
COOLER = SetPowerLimit(node="n0", gpu="g", watts=300.0, was=700.0)
SLOWED = [  # who keeps running and gets less: that is taken away too
    pytest.param(CAP, {}, {}, None, id="a cap on anybody"),
    pytest.param(CAP, {}, {"protected": True}, Deny.PROTECTED, id="on a protected job"),
    pytest.param(CAP, {"protected": ["train"]}, {}, Deny.PROTECTED, id="on one that the limits name"),
    pytest.param(CAP, {"protected": ["ann"]}, {"tenant": "ann"}, Deny.PROTECTED, id="or whose tenant"),
    pytest.param(replace(CAP, bytes_per_s=None, was=1.0), {"protected": ["j1"]}, {}, None, id="to lift it takes nothing"),
    pytest.param(replace(CAP, owner="service/web"), {"protected": ["web"]}, {}, Deny.PROTECTED, id="on a protected service"),
    pytest.param(ReleaseBandwidth(link="disk", owner="job/j1"), {"protected": ["j1"]}, {}, Deny.PROTECTED, id="its guarantee"),
    pytest.param(
        ReleaseBandwidth(link="disk", owner="job/j1"), {"protected": ["j1"]}, {"state": JobState.DONE}, None,
        id="the guarantee of one that has ended is free",
    ),
    pytest.param(COOLER, {}, {}, None, id="power"),
    pytest.param(COOLER, {"protected": ["n0"]}, {}, Deny.PROTECTED, id="of a protected node"),
    pytest.param(COOLER, {}, {"protected": True}, Deny.PROTECTED, id="under a protected job"),
]  # fmt: skip


@pytest.mark.parametrize(("action", "limits", "changes", "deny"), SLOWED)
def test_what_is_protected_is_not_slowed_down(
    action: Action, limits: dict[str, Any], changes: dict[str, Any], deny: Deny | None
) -> None:
    nodes = (replace(NODES[0], gpus=(Gpu(uuid="g", index=0),)), *NODES[1:])
    seen = replace(job(**changes), nodes=nodes, links=(Link(name="disk", kind="storage", capacity_bytes_per_s=9.0),))
    supports = ("limit_bandwidth", "release_bandwidth", "set_power_limit")
    assert denied(action, limits, cluster=seen, supports=supports) is deny


@pytest.mark.parametrize(("action", "limits", "seen", "deny"), ALONE)
def test_gates_under_given_limits(action: Action, limits: dict[str, Any], seen: dict[str, Any], deny: Deny | None) -> None:
    assert denied(action, limits, **seen) is deny


@pytest.mark.parametrize("within_s", [0.0, -1.0, float("inf"), float("nan"), 1e6])
def test_a_wish_without_a_deadline_could_never_be_judged(within_s: float) -> None:
    assert denied(UP, wished={"within_s": within_s}) is Deny.INVALID


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.__name__)
def test_every_gate_is_needed(gate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take one gate out, and some row of the tables above must turn from refused to something else."""
    rows = next(m.args[1] for m in test_gates.pytestmark if m.name == "parametrize")  # type: ignore[attr-defined]
    table = [(r.values[0], r.values[1], {}, r.values[2]) for r in rows]
    table += [(r.values[0], r.values[2], r.values[1], r.values[3]) for r in ALONE]
    table += [(r.values[0], {"census": {}, **r.values[2]}, r.values[1], r.values[3]) for r in GIVEN]
    table += [(DOWN, {"history": _three_failures()}, {}, Deny.BREAKER_OPEN)]
    monkeypatch.setattr("aiops.decide.admit.GATES", tuple(g for g in GATES if g is not gate))
    assert [row for row in table if row[3] and _safe(*row[:3]) is not row[3]]


def _three_failures() -> tuple[Entry, ...]:
    return tuple(entry(SetPowerLimit(node="n", gpu=f"g{i}", watts=1, was=2), EntryState.FAILED, 600.0 + i) for i in range(3))


def _safe(action: Action, seen: dict[str, Any], limits: dict[str, Any]) -> Deny | str | None:
    try:
        return denied(action, limits, **seen)
    except (RuntimeError, StopIteration):  # without the gate a later one finds nothing to look at
        return "raised"


# -- settle ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempts", "effect", "expired", "state"),
    [
        pytest.param(1, Effect.PRESENT, False, EntryState.CONFIRMED, id="seen"),
        pytest.param(0, Effect.PRESENT, True, EntryState.CONFIRMED, id="seen late, even if the call's record was lost"),
        pytest.param(1, Effect.ABSENT, False, None, id="not yet"),
        pytest.param(1, Effect.UNREADABLE, False, None, id="unreadable is not failed"),
        pytest.param(1, Effect.UNREADABLE, True, EntryState.NEEDS_HUMAN, id="unreadable to the end"),
        pytest.param(1, Effect.ABSENT, True, EntryState.FAILED, id="said OK and did nothing"),
        pytest.param(0, Effect.ABSENT, True, EntryState.EXPIRED, id="never sent"),
    ],
)
def test_verdicts(attempts: int, effect: Effect, expired: bool, state: EntryState | None) -> None:
    one = entry(UP, EntryState.SENT, attempts=attempts, expires_at=NOW - 1.0 if expired else NOW + 1.0)
    assert judge(one, effect, NOW)[0] is state


@pytest.mark.parametrize(
    ("changes", "effect", "again"),
    [
        pytest.param({"attempts": 0, "receipt": None}, Effect.ABSENT, True, id="crashed before the call"),
        pytest.param({"outcome": Outcome.UNKNOWN}, Effect.ABSENT, True, id="reply lost, a read proves it absent"),
        pytest.param({"outcome": Outcome.UNKNOWN}, Effect.UNREADABLE, False, id="no proof, no second call"),
        pytest.param({"outcome": Outcome.UNKNOWN}, Effect.PRESENT, False, id="it is there"),
        pytest.param({"outcome": Outcome.DONE}, Effect.ABSENT, False, id="promised: wait for the deadline"),
        pytest.param({"epoch": 2, "outcome": Outcome.UNKNOWN}, Effect.ABSENT, False, id="another leader's intent"),
        pytest.param({"attempts": 3, "outcome": Outcome.UNKNOWN}, Effect.ABSENT, False, id="three attempts are enough"),
    ],
)
def test_what_may_be_sent_again(changes: dict[str, Any], effect: Effect, again: bool) -> None:
    outcome = changes.pop("outcome", None)
    receipt = Receipt(id="i", outcome=outcome) if outcome else None
    assert resendable(entry(UP, EntryState.SENT, **{"receipt": receipt, **changes}), effect, 1, Limits()) is again


def test_an_entry_that_was_not_probed_counts_as_unreadable() -> None:
    late = entry(UP, EntryState.SENT, expires_at=NOW - 1.0)
    transitions, again = settle(snapshot(history=(late,)), Limits())
    assert [t.state for t in transitions] == [EntryState.NEEDS_HUMAN]
    assert again == ()


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"jobz": 1}, "jobz"),
        ({"nodes_ratio": 0}, "nodes_ratio"),
        ({"nodes_ratio": 1.5}, "nodes_ratio"),
        ({"gpus": True}, "gpus"),
        ({"window_s": "soon"}, "window_s"),
        ({"protected": "all"}, "protected"),
        ({"jobs": float("inf")}, "jobs"),
        ({"jobs": 2.5}, "jobs"),
        ({"approve_gpus": 65}, "approve_gpus"),
        ({"cooldown_s": 600, "destructive_cooldown_s": 60}, "cooldown_s"),
        ({"window_s": "2d"}, "window_s"),
        ({"scopes": ["all"]}, "scopes"),
        ({"scopes": {"prescale": ["web"]}}, "scopes"),
        ({"scopes": {"prescale": ["services/web"]}}, "scopes"),
        ({"idle_nodes_ratio": 0}, "idle_nodes_ratio"),
        ({"oversubscription": {"nic": 0}}, "oversubscription"),
    ],
)
def test_wrong_limits_are_refused_by_their_path(section: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"limits\.{key}"):
        Limits.from_settings(section, "aiops.yaml")
