"""Repair: out on evidence that lasts, empty on hard evidence only, back on measured health only, never a person's cordon."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.action import Admission, Cordon, Decision, Drain, Entry, EntryState, Uncordon
from aiops.demand import sampled
from aiops.errors import ConfigError
from aiops.model import Cause, Cluster, Finding, Gpu, Job, JobState, Node, NodeState, Series, SeriesKey
from aiops.snapshot import Snapshot, query_id
from aiops.store.memory import MemoryStore
from policies.repair import MARK, Repair

NOW = 1e9
POLICY = Repair()


def node(number: int = 0, state: NodeState = NodeState.READY, **changes: Any) -> Node:
    gpus = tuple(Gpu(uuid=f"g{number}{i}", index=i) for i in range(2))
    return replace(Node(name=f"n{number}", uid=f"u{number}", pool="p", state=state, gpus=gpus), **changes)


def pool(*first: Node, size: int = 20) -> tuple[Node, ...]:
    return (*first, *(node(i) for i in range(len(first), size)))


def fault(subject: str = "gpu:g00", ago: float = 300.0, **changes: Any) -> Finding:
    plain = Finding(
        id=f"f-{subject}", at=NOW - 10.0, cause=Cause.GPU_FAULT, subject=subject, score=1.0, confidence=0.95, since=NOW - ago
    )
    return replace(plain, **changes)


def job(name: str = "n0") -> Job:
    return Job(
        id="train",
        run_id="r",
        name="t",
        queue="q",
        state=JobState.RUNNING,
        gpus=2,
        submitted_at=0.0,
        nodes=(name,),
        started_at=1.0,
    )


def seen(nodes: tuple[Node, ...], *findings: Finding, jobs: tuple[Job, ...] = (), **changes: Any) -> Snapshot:
    cluster = Cluster(at=NOW, backend="b", nodes=nodes, jobs=jobs)
    return replace(Snapshot(id="c", now=NOW, epoch=1, cluster=cluster, findings=findings), **changes)


def asks(snapshot: Snapshot) -> list[Any]:
    return [one.action for one in POLICY.decide(snapshot) if isinstance(one, Decision)]


def notes(snapshot: Snapshot) -> str:
    return "; ".join(one for one in POLICY.decide(snapshot) if isinstance(one, str))


OUT = node(0, NodeState.CORDONED, reason=f"{MARK}gpu_fault at gpu:g00 (0.95)")


# -- out ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finding", "out"),
    [
        pytest.param(fault(), True, id="sure, and for five minutes"),
        pytest.param(fault("host:n0", cause=Cause.THERMAL_THROTTLE), True, id="heat on the whole node"),
        pytest.param(fault(ago=60.0), False, id="only for a minute"),
        pytest.param(fault(since=None), False, id="nobody knows since when: counted from when it was found"),
        pytest.param(fault(confidence=0.79), False, id="not sure"),
        pytest.param(fault(at=NOW - 200.0), False, id="found once, and nobody has looked since"),
        pytest.param(fault(horizon_s=600.0), False, id="a warning of what may come"),
        pytest.param(fault(cause=Cause.IO_STALL), False, id="not the node's fault"),
        pytest.param(fault("gpu:elsewhere"), False, id="not a GPU of this cluster"),
    ],
)
def test_a_node_is_taken_out_on_sure_and_lasting_evidence(finding: Finding, out: bool) -> None:
    wishes = asks(seen(pool(), finding))
    assert [(one.kind, one.node) for one in wishes] == ([("cordon", "n0")] if out else [])
    assert all(one.reason.startswith(MARK) for one in wishes)


LOST = node(0, gpus=(Gpu(uuid="g00", index=0, healthy=False), Gpu(uuid="g01", index=1)))


def hidden(*ages: float, one: Node = LOST, jobs: tuple[Job, ...] = (job(),), **changes: Any) -> Snapshot:
    """A node one of whose GPUs is lost now and was at the looks so many seconds ago."""
    snapshot = seen(pool(one), jobs=jobs, **changes)
    query = next(need.query for need in POLICY.needs(snapshot.cluster) if need.query.metric == "node_gpus_lost")
    times = NOW - np.array(sorted(ages, reverse=True), dtype=np.float64)
    series = Series(key=SeriesKey.of("node_gpus_lost", node="n0"), times=times, values=np.ones(len(times)))
    other = Series(key=SeriesKey.of("node_gpus_lost", node="n1"), times=NOW - 10.0 * np.arange(40)[::-1], values=np.ones(40))
    return replace(snapshot, series={query_id(query): (series, other) if ages else (other,)})


EVERY_10_S = tuple(10.0 * i for i in range(1, 40))


@pytest.mark.parametrize(
    ("ages", "out"),
    [
        pytest.param((), False, id="seen lost just now, and by nobody before"),
        pytest.param(EVERY_10_S[:6], False, id="for a minute: a device plugin that restarts"),
        pytest.param(EVERY_10_S[:11], False, id="for not quite two"),
        pytest.param(EVERY_10_S[:12], True, id="for two minutes: a real loss"),
        pytest.param((*EVERY_10_S[:3], 120.0, 130.0), False, id="it was back between: two restarts are no loss"),
        pytest.param((60.0, 120.0), True, id="looked for once a minute"),
        pytest.param((70.0, 130.0), False, id="nobody has looked for more than a minute"),
        pytest.param((-10.0, *EVERY_10_S[:6]), False, id="a sample of the future proves nothing"),
    ],
)
def test_a_lost_gpu_is_evidence_by_itself_once_it_has_lasted(ages: tuple[float, ...], out: bool) -> None:
    snapshot = hidden(*ages)
    assert [one.kind for one in asks(snapshot)] == (["cordon"] if out else [])
    assert out or "lost g00 for" in notes(snapshot)


@pytest.mark.parametrize(
    ("lost_for_s", "since_s"),
    [pytest.param(60.0, None, id="a restart"), pytest.param(300.0, 120.0, id="a loss")],
)
def test_as_the_daemon_keeps_its_looks(lost_for_s: float, since_s: float | None) -> None:
    """Cycle by cycle, every 10 s: decided on what the cycles before it kept."""
    store, cordoned = MemoryStore(), None
    for second in np.arange(0.0, 400.0, 10.0):
        now = NOW + float(second)
        world = Cluster(at=now, backend="b", nodes=pool(LOST if 50.0 <= second < 50.0 + lost_for_s else node(0)))
        found = {query_id(need.query): store.read(need.query, now) for need in POLICY.needs(world)}
        snapshot = Snapshot(id="c", now=now, epoch=1, cluster=world, series=found)
        cordoned = second - 50.0 if cordoned is None and asks(snapshot) else cordoned
        store.append(sampled(world, store))
    assert cordoned == since_s


def test_a_fault_that_was_found_does_not_wait_for_the_inventory() -> None:
    found = hidden(10.0)
    assert [one.kind for one in asks(replace(found, findings=(fault(),)))] == ["cordon"]


def test_a_lost_gpu_empties_its_node_only_once_the_cordon_has_stood_for_a_while() -> None:
    """One odd reading must not move anybody's work."""
    gone = replace(OUT, gpus=LOST.gpus)
    assert asks(hidden(*EVERY_10_S, one=gone, history=(entry(299.0),))) == []
    assert [one.kind for one in asks(hidden(*EVERY_10_S, one=gone, history=(entry(300.0),)))] == ["drain"]
    # Nor where it came back in the meantime and is hidden anew
    assert asks(hidden(*EVERY_10_S[:6], one=gone, history=(entry(2000.0),))) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"protected": True}, "protected"), ({"state": NodeState.DOWN}, "down"), ({"state": NodeState.OFF}, "off")],
)
def test_what_is_protected_or_down_is_not_touched(changes: dict[str, Any], word: str) -> None:
    snapshot = seen(pool(node(0, **changes)), fault())
    assert asks(snapshot) == [] and word in notes(snapshot)


def test_no_more_than_a_tenth_of_a_pool_goes_and_hard_faults_go_first() -> None:
    findings = [fault(f"gpu:g{i}0", cause=Cause.THERMAL_THROTTLE) for i in (1, 2)] + [fault("gpu:g30")]
    snapshot = seen(pool(), *findings)
    assert [one.node for one in asks(snapshot)] == ["n3", "n1"]
    assert "2 of 20 nodes of p are out already" in notes(snapshot)


def test_nodes_that_are_switched_off_are_not_out_of_order() -> None:
    """Else no fault would ever be acted upon in a pool that saves power."""
    nodes = tuple(node(i, NodeState.OFF if i >= 10 else NodeState.READY) for i in range(20))
    assert [one.node for one in asks(seen(nodes, fault()))] == ["n0"]
    two = seen(nodes, fault(), fault("gpu:g10"))
    assert [one.node for one in asks(two)] == ["n0"], "and a tenth is one of those that are on"


def test_one_node_of_a_small_pool_may_go() -> None:
    assert [one.node for one in asks(seen(pool(size=3), fault()))] == ["n0"]


@given(faulty=st.sets(st.integers(0, 19)), down=st.sets(st.integers(0, 19)))
def test_the_budget_holds_whatever_is_found(faulty: set[int], down: set[int]) -> None:
    nodes = tuple(node(i, NodeState.DOWN if i in down else NodeState.READY) for i in range(20))
    wishes = asks(seen(nodes, *(fault(f"gpu:g{i}0") for i in sorted(faulty))))
    assert len(wishes) <= max(0, 2 - len(down))


# -- empty -------------------------------------------------------------------------------------------------------------


def test_work_is_moved_off_a_hard_fault_that_stays() -> None:
    assert [one.kind for one in asks(seen(pool(OUT), fault(ago=300.0), jobs=(job(),)))] == ["drain"]
    early = seen(pool(OUT), fault(ago=299.0), jobs=(job(),))
    assert asks(early) == [] and "may run on" in notes(early)


@pytest.mark.parametrize(
    ("one", "finding", "jobs"),
    [
        pytest.param(OUT, fault(cause=Cause.THERMAL_THROTTLE), (job(),), id="heat goes away by itself"),
        pytest.param(OUT, fault(), (job("n5"),), id="nothing runs there"),
        pytest.param(replace(OUT, reason="maintenance"), fault(), (job(),), id="a person's cordon"),
        pytest.param(replace(OUT, state=NodeState.DRAINING), fault(), (job(),), id="it is draining already"),
    ],
)
def test_work_is_left_where_it_is(one: Node, finding: Finding, jobs: tuple[Job, ...]) -> None:
    assert asks(seen(pool(one), finding, jobs=jobs)) == []


def test_draining_can_be_switched_off() -> None:
    policy = Repair.from_settings({"drain": False}, "test")
    answers = list(policy.decide(seen(pool(OUT), fault(), jobs=(job(),))))
    assert not any(isinstance(one, Decision) for one in answers)


# -- back --------------------------------------------------------------------------------------------------------------


def up(uuid: str, minutes: int = 30, value: float = 1.0, metric: str = "gpu_up", ends: float = NOW) -> Series:
    times = ends - 60.0 * np.arange(minutes)[::-1]
    return Series(key=SeriesKey.of(metric, uuid=uuid), times=times, values=np.full(minutes, value))


def entry(ago: float, number: int = 0) -> Entry:
    action = Cordon(node="n0", uid="u0", reason=f"{MARK}x")
    admission = Admission(id=f"a{number}", at=NOW - ago, decision=Decision(policy="repair", action=action, reason="r"))
    return Entry(admission=admission, state=EntryState.CONFIRMED, epoch=1, expires_at=NOW - ago + 120.0, changed_at=NOW - ago)


def measured(*answers: Series, one: Node = OUT, errors: tuple[Series, ...] = (), **changes: Any) -> Snapshot:
    snapshot = seen(pool(one), **{"history": (entry(2000.0),), **changes})
    needs = {need.query.metric: query_id(need.query) for need in POLICY.needs(snapshot.cluster)}
    found = {"gpu_up": answers, "gpu_xid_errors_total": errors}
    return replace(snapshot, series={needs[metric]: found[metric] for metric in needs})


BACK = [Uncordon(node="n0", uid="u0")]


def test_a_node_is_given_back_after_half_an_hour_of_measured_health() -> None:
    assert asks(measured(up("g00"), up("g01"))) == BACK


@pytest.mark.parametrize(
    ("snapshot", "why"),
    [
        pytest.param(measured(), "did not answer", id="nothing was measured: no finding is not health"),
        pytest.param(measured(up("g00")), "g01 did not answer", id="one GPU is silent"),
        pytest.param(measured(up("g00"), up("g01", 20)), "g01 did not answer", id="measured for 20 minutes only"),
        pytest.param(measured(up("g00"), up("g01", value=0.0)), "g01 did not answer", id="it answers that it is lost"),
        pytest.param(measured(up("g00"), up("g01", ends=NOW - 200.0)), "g01 did not answer", id="silent for the last minutes"),
        pytest.param(
            measured(
                up("g00"), up("g01"),
                errors=(replace(up("g00", metric="gpu_xid_errors_total"), values=np.arange(30.0)),),
            ), "new errors", id="errors went on",
        ),
        pytest.param(measured(up("g00"), up("g01"), history=(entry(1700.0),)), "1800 s are waited", id="out for too short"),
        pytest.param(
            measured(up("g00"), up("g01"), history=(entry(2000.0), entry(50_000.0, 1))), "a person", id="twice in a day"
        ),
        pytest.param(measured(one=replace(OUT, gpus=())), "a person must", id="no GPU could prove it"),
    ],
)  # fmt: skip
def test_a_node_stays_out_while_its_health_is_not_proven(snapshot: Snapshot, why: str) -> None:
    assert asks(snapshot) == [] and why in notes(snapshot)


def test_a_persons_cordon_is_never_undone() -> None:
    assert asks(measured(up("g00"), up("g01"), one=replace(OUT, reason="fan replaced on Monday"))) == []


def test_a_fault_that_is_still_there_keeps_the_node_out() -> None:
    snapshot = measured(up("g00"), up("g01"))
    assert asks(replace(snapshot, findings=(fault("gpu:g01"),))) == []


@pytest.mark.parametrize("section", [{"confidence": 1.5}, {"drain": "yes"}, {"cordons_per_day": 0.5}, {"no": 1}])
def test_settings_that_make_no_sense_are_refused_with_their_path(section: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        Repair.from_settings(section, "aiops.yaml")
    assert error.value.key == f"policies.repair.{next(iter(section))}"


def test_a_drain_names_what_it_rests_on() -> None:
    (wish,) = (one for one in POLICY.decide(seen(pool(OUT), fault(), jobs=(job(),))) if isinstance(one, Decision))
    assert isinstance(wish.action, Drain) and wish.cause == "gpu_fault" and wish.rejected and wish.inputs_at == NOW - 10.0
