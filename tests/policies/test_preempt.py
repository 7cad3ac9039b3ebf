"""Preemption: least loss by optimum, nobody without a proof, nobody if it would not help, gangs whole."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.action import (
    Admission,
    Decision,
    Deny,
    Entry,
    EntryState,
    HoldCapacity,
    Mode,
    Order,
    OrderKind,
    Preempt,
    RequestCheckpoint,
)
from aiops.decide.core import decide
from aiops.decide.request import plan_hash
from aiops.errors import ConfigError
from aiops.model import Checkpoint, Cluster, Gpu, HoldState, Job, JobState, Node, NodeState, Reservation, SeriesKey, Service
from aiops.snapshot import Snapshot
from policies.preempt import PreemptPolicy
from policies.victims import Room, Victim, cheapest, fits, free_gpus

NOW = 1e9
GPUS = tuple(Gpu(uuid=f"g{i}", index=i) for i in range(8))
NODES = tuple(Node(name=f"n{i}", uid=f"n{i}", pool="p", state=NodeState.READY, gpus=GPUS) for i in range(3))
WAITING = Job(id="vip", run_id="v", name="vip", queue="q", state=JobState.QUEUED, gpus=8, submitted_at=NOW - 60.0, priority=10)


def running(id: str, node: int | tuple[str, ...] = 0, gpus: int = 8, ago: float = 100.0, **changes: Any) -> Job:
    """A job that started long ago and wrote its last checkpoint `ago` seconds ago; its proof has just been read."""
    proof = Checkpoint(id=f"c-{id}", run_id=id, at=NOW - ago, read_at=NOW - 5.0, verified=True)
    plain = Job(
        id=id, run_id=id, name=id, queue="q", state=JobState.RUNNING, gpus=gpus, submitted_at=NOW - 9e4,
        nodes=(f"n{node}",) if isinstance(node, int) else node, started_at=NOW - 8e4, checkpoint=proof, restart_s=0.0,
    )  # fmt: skip
    return replace(plain, **changes)


def seen(*jobs: Job, supports: tuple[str, ...] = ("preempt",), waiting: Job = WAITING) -> Snapshot:
    cluster = Cluster(at=NOW, backend="b", nodes=NODES, jobs=(waiting, *jobs))
    return Snapshot(id="c", now=NOW, epoch=1, cluster=cluster, supports=supports)


def answers(snapshot: Snapshot) -> list[Any]:
    return [one.action if isinstance(one, Decision) else one for one in PreemptPolicy().decide(snapshot)]


def stopped(snapshot: Snapshot) -> list[str]:
    return [action.job for action in answers(snapshot) if isinstance(action, Preempt)]


FULL = (running("a", 0, ago=100.0), running("b", 1, ago=50.0), running("c", 2, ago=200.0))


def test_the_victim_is_who_loses_least_since_its_checkpoint() -> None:
    assert stopped(seen(*FULL)) == ["b"]


def test_nobody_is_stopped_where_the_job_fits_anyway_or_never_would() -> None:
    assert stopped(seen(*FULL[:2])) == []
    (note,) = answers(seen(*FULL, waiting=replace(WAITING, gpus=25)))
    assert "nobody is" in note


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"priority": 10}, id="not outranked"),
        pytest.param({"protected": True}, id="protected"),
        pytest.param({"started_at": NOW - 599.0}, id="younger than the minimum run time"),
        pytest.param({"evictions": (NOW - 1.0, NOW - 2.0, NOW - 3.0)}, id="evicted three times today"),
        pytest.param({"checkpoint": None}, id="neither checkpointed nor expressly preemptible"),
        pytest.param({"checkpoint_requested_at": NOW - 46.0, "checkpoint_s": 30.0}, id="asked, and silent for too long"),
    ],
)
def test_who_may_not_be_stopped_is_not(changes: dict[str, Any]) -> None:
    a, b, c = FULL
    assert stopped(seen(a, replace(b, **changes), c)) == ["a"]


def test_who_answers_wrong_time_after_time_is_not_chosen() -> None:
    """Else whoever outranks it waits as long as its disk is full."""
    a, b, c = FULL
    wrong = replace(b, checkpoint=replace(b.checkpoint, at=NOW - 5.0, verified=False))  # type: ignore[type-var]
    ask = Decision(policy="preempt", action=RequestCheckpoint(job=b.id, run_id=b.run_id), reason="r")
    history = tuple(
        Entry(
            admission=Admission(id=f"{ago}", at=NOW - ago, decision=ask), state=EntryState.CONFIRMED, epoch=1,
            expires_at=NOW, changed_at=NOW - ago,
        )
        for ago in (30.0, 60.0)
    )  # fmt: skip
    first = [one for one in answers(seen(a, wrong, c)) if not isinstance(one, str)]
    assert first == [RequestCheckpoint(job="b", run_id=b.run_id)]
    assert stopped(replace(seen(a, wrong, c), history=history)) == ["a"]


@pytest.mark.parametrize(
    ("limits", "victim"),
    [
        pytest.param({}, "b", id="nobody is protected"),
        pytest.param({"protected": ["b"]}, "a", id="the limits name it"),
        pytest.param({"protected": ["n1"]}, "a", id="or its node"),
        pytest.param({"protected": ["n0", "ann"]}, "c", id="or its tenant"),
        pytest.param({"evictions_per_day": 1}, "a", id="it was evicted as often today as anybody may be"),
        pytest.param({"scopes": {"preempt": ["job/[ac]"]}}, "a", id="it is outside of the policy's scope"),
        pytest.param({"scopes": {"other": ["job/a"]}}, "b", id="another policy's scope is not its"),
    ],
)
def test_who_would_be_refused_is_not_chosen(limits: dict[str, Any], victim: str) -> None:
    """Else the same plan would be refused in every cycle, and nobody would make room."""
    jobs = (FULL[0], replace(FULL[1], tenant="ann", evictions=(NOW - 9000.0,)), FULL[2])
    snapshot = replace(seen(*jobs), limits=limits, due=("preempt",), modes={"preempt": Mode.ACT})
    decided = decide(snapshot, {"preempt": PreemptPolicy()})
    (done,) = (one.decision.action for one in decided.admissions if one.permitted)
    assert isinstance(done, Preempt) and done.job == victim


def test_whom_an_operator_paused_is_not_chosen() -> None:
    """Else the plan is refused as long as the pause lasts, and nobody makes room."""
    pause = Order(id="1", at=NOW, by="ann", kind=OrderKind.PAUSE, target="job/b")
    acting = replace(seen(*FULL), due=("preempt",), modes={"preempt": Mode.ACT}, orders=(pause,))
    (admission,) = decide(acting, {"preempt": PreemptPolicy()}).admissions
    assert isinstance(admission.decision.action, Preempt)
    assert (admission.decision.action.job, admission.denied) == ("a", None)


def test_a_plan_that_waits_for_people_keeps_nobody_else_waiting() -> None:
    """The first in line would take 16 GPUs from one, which two people must approve; the next needs what nobody is asked for."""
    big = running("big", ("n0", "n1"), 16)
    waiting = replace(WAITING, gpus=16, priority=20)
    small = replace(WAITING, id="next", run_id="n", submitted_at=NOW - 50.0)
    snapshot = seen(big, FULL[2], small, waiting=waiting)
    acting = replace(snapshot, due=("preempt",), modes={"preempt": Mode.ACT}, limits={"approve_gpus": 16})
    told = [
        (one.decision.action.job, one.denied)
        for one in decide(acting, {"preempt": PreemptPolicy()}).admissions
        if isinstance(one.decision.action, Preempt)
    ]
    assert told == [("big", Deny.NEEDS_APPROVAL), ("c", None)]
    # One of the two is not enough; once both have, it is carried out alone: what it frees is not counted for two
    plan = plan_hash(next(one for one in answers(snapshot) if isinstance(one, Preempt)))
    said = tuple(Order(id=by, at=NOW, by=by, kind=OrderKind.APPROVE, target=plan) for by in ("ann", "bob"))
    assert len(decide(replace(acting, orders=said[:1]), {"preempt": PreemptPolicy()}).admissions) == 2
    decided = decide(replace(acting, orders=said), {"preempt": PreemptPolicy()})
    assert [one.decision.action.job for one in decided.admissions if isinstance(one.decision.action, Preempt)] == ["big"]
    assert all(one.permitted for one in decided.admissions)


@pytest.mark.parametrize(
    ("limits", "jobs"),
    [
        pytest.param({"gpus": 8, "approve_gpus": 8}, [], id="more GPUs than may be stopped within an hour"),
        pytest.param({"jobs": 1, "policy_jobs": 1, "tenant_jobs": 1}, ["b"], id="more jobs"),
        pytest.param({"policy_jobs": 1}, ["b"], id="more than one policy may stop"),
        pytest.param({"tenant_jobs": 1}, ["b"], id="more of one tenant"),
        pytest.param({}, ["a", "b"], id="within the limits"),
    ],
)
def test_what_the_limits_will_never_allow_is_not_begun_and_keeps_nobody_waiting(
    limits: dict[str, Any], jobs: list[str]
) -> None:
    """The first in line needs two runs stopped; else all would be asked for checkpoints for ever, and the next would wait."""
    runs = [replace(one, tenant="ann") for one in FULL]
    small = replace(WAITING, id="next", run_id="n", submitted_at=NOW - 50.0)
    snapshot = seen(*runs, small, waiting=replace(WAITING, gpus=16, priority=20))
    acting = replace(snapshot, due=("preempt",), modes={"preempt": Mode.ACT}, limits=limits)
    stops = [
        one.decision.action.job
        for one in decide(acting, {"preempt": PreemptPolicy()}).admissions
        if isinstance(one.decision.action, Preempt) and one.permitted
    ]
    assert sorted(stops) == jobs


def test_who_asks_for_the_same_in_vain_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand may wait for what the limits will never allow: the search for victims takes a twentieth of a second each."""
    looks: list[int] = []

    def counted(room: Room, victims: Sequence[Victim]) -> tuple[Victim, ...] | None:
        looks.append(room.job.gpus)
        return cheapest(room, victims)

    monkeypatch.setattr("policies.preempt.cheapest", counted)
    many = [replace(WAITING, id=f"w{i}", run_id="w", gpus=16 + 8 * (i == 9)) for i in range(10)]
    notes = answers(replace(seen(*FULL, *many, waiting=replace(WAITING, gpus=16)), limits={"gpus": 8, "approve_gpus": 8}))
    assert looks == [16, 24]
    assert len(notes) == 11 and notes[0] == "vip: 16 GPUs would have to be stopped, 8 may be; nobody is"
    assert all(note.partition(": ")[2] == notes[0].partition(": ")[2] for note in notes[:-1])
    assert notes[-1] == "w9: 24 GPUs would have to be stopped, 8 may be; nobody is"


def test_a_protected_job_protects_nobody_else_of_its_name() -> None:
    """Half of a cluster's jobs are called `train`: one of them that the site protects must not protect them all."""
    jobs = (replace(FULL[0], name="train", protected=True), replace(FULL[1], name="train"), replace(FULL[2], name="train"))
    acting = replace(seen(*jobs), due=("preempt",), modes={"preempt": Mode.ACT})
    (admission,) = decide(acting, {"preempt": PreemptPolicy()}).admissions
    assert isinstance(admission.decision.action, Preempt)
    assert (admission.decision.action.job, admission.denied) == ("b", None)


def test_without_a_fresh_proof_a_checkpoint_is_asked_for_and_nobody_is_stopped() -> None:
    a, b, c = FULL
    old = replace(b, checkpoint=replace(b.checkpoint, read_at=NOW - 60.0))  # type: ignore[type-var]
    assert answers(seen(a, old, c)) == [RequestCheckpoint(job="b", run_id="b")]
    asked = replace(old, checkpoint_requested_at=NOW - 10.0, checkpoint_s=30.0)
    assert answers(seen(a, asked, c)) == []


def test_who_costs_nothing_is_not_stopped_for_nothing() -> None:
    """A job without GPUs loses no GPU-seconds; that is no reason to stop it beside the one who makes room."""
    free_of_cost = running("cpu", 2, 0)
    assert stopped(seen(*FULL, free_of_cost)) == ["b"]
    two = seen(*FULL, free_of_cost, running("cpu2", 1, 0), waiting=replace(WAITING, gpus=16))
    assert sorted(stopped(two)) == ["a", "b"]


def test_a_job_without_gpus_that_holds_the_cores_goes_and_nothing_is_held_of_what_it_has_not() -> None:
    """A hold of no GPUs would be refused, and with it the whole plan, in every cycle."""
    hog = running("hog", 0, 0, cpu_cores=60.0)
    snapshot = seen(hog, waiting=replace(WAITING, gpus=4, cpu_cores=32.0), supports=("preempt", "hold_capacity"))
    cluster = replace(snapshot.cluster, nodes=(replace(NODES[0], cpu_cores=64.0),))
    acting = replace(snapshot, cluster=cluster, due=("preempt",), modes={"preempt": Mode.ACT})
    (admission,) = decide(acting, {"preempt": PreemptPolicy()}).admissions
    assert isinstance(admission.decision.action, Preempt)
    assert (admission.decision.action.job, admission.denied) == ("hog", None)


@pytest.mark.parametrize(
    "where",
    [
        pytest.param("cpu", id="on nodes without GPUs"),
        pytest.param("n2", id="beside GPUs, where nobody lacks the cores"),
    ],
)
def test_many_jobs_that_could_not_help_do_not_hide_who_loses_least(where: str) -> None:
    """Each costs no GPU-second: sets of them alone would use up the search, and two runs would go instead of one."""
    nodes = (
        *(replace(node, cpu_cores=64.0) for node in NODES),
        replace(NODES[0], name="cpu", uid="cpu", gpus=(), cpu_cores=64.0),
    )
    many = [running(f"x{i:02d}", (where,), 0, cpu_cores=1.0) for i in range(20)]
    runs = (running("a", 0, 4, 100.0), running("b", 0, 4, 100.0), running("c", 1, 8, 90.0), running("d", 2, protected=True))
    cluster = Cluster(at=NOW, backend="b", nodes=nodes, jobs=(*runs, *many, replace(WAITING, cpu_cores=4.0)))
    assert stopped(Snapshot(id="c", now=NOW, epoch=1, cluster=cluster, supports=("preempt",))) == ["c"]


def test_nobody_is_stopped_in_vain_where_cores_would_still_be_lacking() -> None:
    """GPUs alone start nothing; a job on the node that may not go keeps the cores (policy.md 20)."""
    nodes = tuple(replace(node, cpu_cores=64.0) for node in NODES)
    stays = [running(f"cpu{i}", i, 0, cpu_cores=40.0, protected=True) for i in (1, 2)]
    snapshot = seen(*FULL, *stays, waiting=replace(WAITING, cpu_cores=32.0))
    snapshot = replace(snapshot, cluster=replace(snapshot.cluster, nodes=nodes))
    assert stopped(snapshot) == ["a"], "b loses less, but its node would not do"
    # And where GPUs are free and a job that may go holds the cores, it goes
    busy = running("busy", 0, 1, cpu_cores=60.0)
    snapshot = replace(snapshot, cluster=replace(snapshot.cluster, jobs=(replace(WAITING, gpus=4, cpu_cores=32.0), busy)))
    alone = replace(snapshot, cluster=replace(snapshot.cluster, nodes=nodes[:1]))
    assert stopped(alone) == ["busy"]


@pytest.mark.parametrize(
    ("replicas", "stops"),
    [
        pytest.param(1, [], id="it has the other half, and does not go"),
        pytest.param(9, ["a"], id="of nine that are wanted only one fits on it"),
    ],
)
def test_what_a_service_has_is_not_free(replicas: int, stops: list[str]) -> None:
    """Half of n0 is a service's: who needs six of eight is not helped by stopping the other half."""
    web = Service(
        name="web", uid="u", version="1", pool="p", replicas=replicas, ready=1, min_replicas=1, max_replicas=9,
        load=SeriesKey.of("load"), target=1.0, gpus_per_replica=4, nodes=("n0",),
    )  # fmt: skip
    snapshot = seen(running("a", 0, 4), waiting=replace(WAITING, gpus=6 if not stops else 4))
    cluster = replace(snapshot.cluster, nodes=NODES[:1], services=(web,))
    assert stopped(replace(snapshot, cluster=cluster)) == stops


def test_a_node_that_takes_no_work_gives_no_room_even_if_some_of_it_is_held() -> None:
    nodes = (NODES[0], replace(NODES[1], state=NodeState.CORDONED))
    other = Reservation(
        name="h", owner="other", state=HoldState.HELD, fence=1, created_at=NOW, expires_at=NOW + 30.0,
        hard_cap_at=NOW + 900.0, nodes=("n1",), gpus=4,
    )  # fmt: skip
    snapshot = replace(seen(replace(FULL[0], protected=True), FULL[1], waiting=replace(WAITING, gpus=4)), reservations=(other,))
    (note,) = answers(replace(snapshot, cluster=replace(snapshot.cluster, nodes=nodes)))
    assert "nobody is" in note


def test_gangs_go_whole() -> None:
    a, b, c = FULL
    starting = (replace(a, gang="g", state=JobState.STARTING), replace(b, gang="g"))
    assert stopped(seen(*starting, replace(c, protected=True))) == [], "part of it still starts"
    gang = (replace(a, gang="g"), replace(b, gang="g"))
    assert stopped(seen(*gang, replace(c, protected=True))) == ["a", "b"]
    assert stopped(seen(gang[0], replace(gang[1], protected=True), c)) == ["c"]


def test_what_is_freed_is_held_for_the_waiting_job_before_the_first_is_stopped() -> None:
    first, second = answers(seen(*FULL, supports=("preempt", "hold_capacity")))
    assert isinstance(first, HoldCapacity)
    assert (first.owner, first.nodes, first.gpus) == ("vip", ("n1",), 8)
    assert isinstance(second, Preempt)
    assert second.bind_to == first.hold


def test_the_hold_and_all_victims_are_one_plan_and_asking_for_a_checkpoint_is_none() -> None:
    supports = ("preempt", "hold_capacity")
    wishes = list(PreemptPolicy().decide(seen(*FULL, supports=supports, waiting=replace(WAITING, gpus=16))))
    assert [one.plan for one in wishes if isinstance(one, Decision)] == ["preempt-vip"] * 3
    unproven = replace(FULL[1], checkpoint=replace(FULL[1].checkpoint, read_at=NOW - 60.0))  # type: ignore[type-var]
    (asking,) = PreemptPolicy().decide(seen(FULL[0], unproven, FULL[2]))
    assert isinstance(asking, Decision)
    assert asking.plan == ""


def test_while_victims_drain_nobody_else_is_stopped_however_long_it_takes() -> None:
    # Given b was stopped for the waiting job and still leaves
    a, b, c = FULL
    leaving = replace(b, state=JobState.STOPPING)
    (note,) = answers(seen(a, leaving, c))
    assert "once those that are stopping have left" in note
    # But what leaves for somebody else does not help
    other = Reservation(
        name="preempt-other", owner="other", state=HoldState.HELD, fence=1, created_at=NOW, expires_at=NOW + 30.0,
        hard_cap_at=NOW + 900.0, nodes=("n1",), gpus=8,
    )  # fmt: skip
    assert stopped(replace(seen(a, leaving, c), reservations=(other,))) == ["a"]


def test_not_reporting_checkpoints_is_never_rewarded() -> None:
    a, b, c = FULL
    quiet = replace(b, checkpoint=None, preemptible=True)
    assert answers(seen(a, quiet, c)) == [Preempt(
        job="a", run_id="a", on_nodes=("n0",), checkpoint="c-a", gpus=8, lost_gpu_s=800.0)]  # fmt: skip


@given(
    sizes=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 8), st.integers(0, 500)), min_size=1, max_size=8),
    need=st.sampled_from([1, 4, 8, 16, 24]),
)
@settings(max_examples=150, deadline=None)
def test_the_choice_is_the_brute_forced_optimum(sizes: list[tuple[int, int, int]], need: int) -> None:
    room, jobs = [8, 8, 8], []
    for i, (node, gpus, ago) in enumerate(sizes):
        if gpus <= room[node]:
            room[node] -= gpus
            jobs.append(running(f"j{i}", node, gpus, float(ago)))
    waiting = replace(WAITING, gpus=need)
    cluster = seen(*jobs, waiting=waiting).cluster
    victims = PreemptPolicy().victims(seen(*jobs, waiting=waiting), waiting)
    free = free_gpus(cluster)

    def after(chosen: tuple[Victim, ...]) -> dict[str, float]:
        return {n: free[n] + sum(j.gpus for v in chosen for j in v.jobs if n in j.nodes) for n in free}

    if fits(waiting, free, cluster):
        return
    subsets = chain.from_iterable(combinations(victims, k) for k in range(1, len(victims) + 1))
    costs = [sum(v.lost_gpu_s for v in some) for some in subsets if fits(waiting, after(some), cluster)]
    chosen = cheapest(Room.of(waiting, free, cluster), victims)
    assert (chosen is None) == (not costs)
    if chosen is not None:
        assert sum(v.lost_gpu_s for v in chosen) == pytest.approx(min(costs))


@given(
    sizes=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 8), st.integers(0, 64), st.integers(0, 500)), min_size=1, max_size=7
    ),
    need=st.tuples(st.sampled_from([1, 4, 8, 16]), st.sampled_from([0, 16, 64, 100])),
    search=st.sampled_from([1, 5_000]),
)
@settings(max_examples=200, deadline=None)
def test_with_cores_too_the_choice_starts_the_job_and_is_the_optimum(
    sizes: list[tuple[int, int, int, int]], need: tuple[int, int], search: int
) -> None:
    """Counted anew here, node by node: GPUs and cores, on one node of eight or on both whole."""
    room, cores, jobs = [8, 8], [64, 64], []
    for i, (node, gpus, asked, ago) in enumerate(sizes):
        if gpus <= room[node] and asked <= cores[node]:
            room[node], cores[node] = room[node] - gpus, cores[node] - asked
            jobs.append(running(f"j{i}", node, gpus, float(ago), cpu_cores=float(asked)))
    waiting = replace(WAITING, gpus=need[0], cpu_cores=float(need[1]))
    nodes = tuple(replace(node, cpu_cores=64.0) for node in NODES[:2])
    cluster = Cluster(at=NOW, backend="b", nodes=nodes, jobs=(waiting, *jobs))

    def starts(gone: set[str]) -> bool:
        left = [[one for one in jobs if one.id not in gone and one.nodes == (f"n{i}",)] for i in range(2)]
        gpus = [8 - sum(one.gpus for one in here) for here in left]
        free = [64 - sum(one.cpu_cores for one in here) for here in left]
        if need[0] <= 8:
            return any(gpus[i] >= need[0] and free[i] >= need[1] for i in range(2))
        return gpus == [8, 8] and all(2 * one >= need[1] for one in free)

    if starts(set()):
        return
    victims = PreemptPolicy().victims(Snapshot(id="", now=NOW, epoch=1, cluster=cluster), waiting)
    ways = chain.from_iterable(combinations(victims, k) for k in range(1, len(victims) + 1))
    costs = [sum(v.lost_gpu_s for v in some) for some in ways if starts({v.name for v in some})]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("policies.victims.SEARCH", search)
        chosen = cheapest(Room.of(waiting, free_gpus(cluster), cluster), victims)
    assert (chosen is None) == (not costs)
    if chosen is not None:
        assert starts({v.name for v in chosen})
        assert search == 1 or sum(v.lost_gpu_s for v in chosen) == pytest.approx(min(costs))


def test_where_the_search_ends_the_greedy_choice_still_suffices_and_spares_whom_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.victims.SEARCH", 1)
    assert sorted(stopped(seen(*FULL, waiting=replace(WAITING, gpus=16)))) == ["a", "b"]


@pytest.mark.parametrize("section", [{"oops": 1}, {"priority_gap": 0}, {"hold_s": "soon"}])
def test_wrong_settings_are_refused_by_their_path(section: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"policies\.preempt\."):
        PreemptPolicy.from_settings(section, "aiops.yaml")
