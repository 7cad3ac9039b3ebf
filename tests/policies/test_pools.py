"""Node pools: as many nodes as is asked, promised, foreseen; only empty, unprotected ones go, and never on stale figures."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.action import (
    Admission,
    Decision,
    Deny,
    Entry,
    EntryState,
    Mode,
    ScalePool,
)
from aiops.codec import decode, encode
from aiops.decide.core import decide
from aiops.errors import ConfigError
from aiops.model import (
    Cause,
    Cluster,
    Finding,
    Forecast,
    Gpu,
    HoldState,
    Job,
    JobState,
    Node,
    NodeState,
    Pool,
    Reservation,
    Series,
    SeriesKey,
    Service,
)  # fmt: skip
from aiops.snapshot import Snapshot, query_id
from policies.prescale import Prescale

NOW = 1e9
DEMANDED = SeriesKey.of("pool_gpus_demanded", pool="p")
POLICY = Prescale()


def node(number: int, **changes: object) -> Node:
    gpus = tuple(Gpu(uuid=f"n{number}/{i}", index=i, model="H100") for i in range(8))
    fields = {"name": f"n{number}", "uid": f"u{number}", "pool": "p", "state": NodeState.READY, "gpus": gpus, "removable": True}
    return Node(**{**fields, **changes})  # type: ignore[arg-type]


def job(id: str, gpus: int, *nodes: str, **changes: object) -> Job:
    state = JobState.RUNNING if nodes else JobState.QUEUED
    fields = {
        "id": id,
        "run_id": "1",
        "name": id,
        "queue": "q",
        "state": state,
        "gpus": gpus,
        "submitted_at": 0.0,
        "nodes": nodes,
    }
    return Job(**{**fields, **changes})  # type: ignore[arg-type]


def cluster(*nodes: Node, jobs: tuple[Job, ...] = (), most: int = 20, **changes: object) -> Cluster:
    on = sum(one.state is not NodeState.OFF for one in nodes)
    pool = Pool(name="p", gpu_type="H100", nodes=on, min_nodes=1, max_nodes=most, version="7")
    return Cluster(at=NOW, backend="b", nodes=nodes, jobs=jobs, pools=(pool,), **changes)  # type: ignore[arg-type]


def flat(gpus: float, seconds: float = 700.0, ends: float = NOW) -> Series:
    times = np.arange(ends - seconds + 10.0, ends + 1.0, 10.0)
    return Series(key=DEMANDED, times=times, values=np.full(len(times), gpus))


def ahead(gpus: float, refused: str | None = None) -> Forecast:
    return Forecast(
        target=str(DEMANDED), made_at=NOW, times=NOW + 300.0 * np.arange(1, 7), quantiles=np.array([0.5, 0.9]),
        values=np.tile([[gpus / 2], [gpus]], 6), model="m", refused=refused,
    )  # fmt: skip


def seen(world: Cluster, series: Series | None, *forecasts: Forecast, **by: object) -> Snapshot:
    found = {query_id(need.query): () if series is None else (series,) for need in POLICY.needs(world)}
    return Snapshot(id="c", now=NOW, epoch=1, cluster=world, series=found, forecasts=forecasts, **by)  # type: ignore[arg-type]


def action(snapshot: Snapshot) -> ScalePool | str:
    answer = list(POLICY.decide(snapshot))[-1]  # services are spoken of first
    if isinstance(answer, Decision):
        assert isinstance(answer.action, ScalePool)
        return answer.action
    return answer


def hold(gpus: int, *nodes: str, owner: str = "user/ann", **changes: object) -> Reservation:
    fields = {
        "name": "h", "owner": owner, "state": HoldState.ACTIVE, "fence": 1, "created_at": NOW, "expires_at": NOW + 60,
        "hard_cap_at": NOW + 900, "nodes": nodes, "gpus": gpus,
    }  # fmt: skip
    return Reservation(**{**fields, **changes})  # type: ignore[arg-type]


TWO = (node(0), node(1))
FULL = (job("a", 8, "n0"), job("b", 8, "n1"))


@pytest.mark.parametrize(
    ("gpus", "nodes"),
    [
        pytest.param(16.0, None, id="all are held and nobody waits"),
        pytest.param(17.0, 3, id="one GPU more is a node more"),
        pytest.param(40.0, 5, id="all that are needed, at once and absolute"),
        pytest.param(1e6, 20, id="never beyond the pool's own bound"),
    ],
)
def test_a_pool_grows_to_what_is_asked_for(gpus: float, nodes: int | None) -> None:
    done = action(seen(cluster(*TWO, jobs=FULL), flat(gpus)))
    assert (done.nodes if isinstance(done, ScalePool) else None) == nodes
    if isinstance(done, ScalePool):
        assert (done.was, done.version, done.remove) == (2, "7", ())


def test_nodes_are_ordered_a_start_up_before_they_are_needed() -> None:
    world = cluster(*TWO, jobs=FULL)
    done = action(seen(world, flat(16.0), ahead(30.0)))
    assert isinstance(done, ScalePool) and done.nodes == 4
    assert isinstance(action(seen(world, flat(16.0), ahead(30.0, refused="no skill"))), str)


def test_what_cannot_be_used_is_made_up_for() -> None:
    broken = (node(0), node(1, state=NodeState.DOWN), node(2, state=NodeState.CORDONED))
    done = action(seen(cluster(*broken, jobs=(job("a", 8, "n0"), job("w", 8))), flat(16.0)))
    assert isinstance(done, ScalePool) and done.nodes == 4, "two that work, and two that are there and do not"


THREE_BUSY = (job("a", 8, "n0"), job("b", 8, "n1"), job("c", 8, "n2"))


@pytest.mark.parametrize(
    ("state", "extra", "sampled", "nodes"),
    [
        pytest.param(NodeState.CORDONED, (), 24.0, None, id="its work runs on, nobody waits: no cordon buys a node"),
        pytest.param(NodeState.CORDONED, (job("w", 8),), 32.0, 4, id="who waits gets one node, not two"),
        pytest.param(NodeState.CORDONED, (job("w", 16),), 40.0, 5, id="or two, not three"),
        pytest.param(NodeState.DRAINING, (), 24.0, 4, id="its work must go somewhere"),
        pytest.param(NodeState.READY, (), 24.0, None, id="uncordoned: as before"),
    ],
)
def test_work_on_a_cordoned_node_asks_for_no_node(
    state: NodeState, extra: tuple[Job, ...], sampled: float, nodes: int | None
) -> None:
    world = cluster(*TWO, node(2, state=state), jobs=(*THREE_BUSY, *extra))
    done = action(seen(world, flat(sampled)))
    assert (done.nodes if isinstance(done, ScalePool) else None) == nodes


def test_replicas_that_wait_for_a_node_are_not_taken_to_run_on_a_cordoned_one() -> None:
    """Two of sixteen replicas run, one of them on the cordoned node: the others need two nodes, not one."""
    web = Service(
        name="web", uid="w", version="1", pool="p", replicas=16, ready=2, min_replicas=1, max_replicas=16,
        load=SeriesKey.of("load"), target=1.0, gpus_per_replica=1, nodes=("n0", "n1"),
    )  # fmt: skip
    world = cluster(node(0), node(1, state=NodeState.CORDONED), services=(web,))
    done = action(seen(world, flat(16.0)))
    assert isinstance(done, ScalePool) and done.nodes == 3, "two that take work, and the cordoned one"


def test_work_that_has_just_ended_on_a_cordoned_node_buys_none() -> None:
    """The newest sample is a cycle older than the picture and still counts it."""
    world = cluster(*TWO, node(2, state=NodeState.CORDONED), jobs=THREE_BUSY[:2])
    assert isinstance(action(seen(world, flat(24.0))), str)


def test_what_is_foreseen_counts_what_runs_on_cordoned_nodes_once() -> None:
    world = cluster(*TWO, node(2, state=NodeState.CORDONED), jobs=THREE_BUSY)
    assert isinstance(action(seen(world, flat(24.0), ahead(24.0))), str)
    done = action(seen(world, flat(24.0), ahead(25.0)))
    assert isinstance(done, ScalePool) and done.nodes == 4


def test_an_empty_node_goes_although_a_cordoned_one_is_busy() -> None:
    world = cluster(*TWO, node(2, state=NodeState.CORDONED), node(3), jobs=THREE_BUSY)
    done = action(seen(world, flat(24.0)))
    assert isinstance(done, ScalePool) and (done.nodes, done.remove) == (3, ("n3",))


def test_a_node_with_a_part_of_a_job_that_still_waits_for_the_rest_stays() -> None:
    """Of a gang of pods two of three may be placed: it waits, and names the nodes that it has."""
    world = cluster(node(0), node(1), jobs=(job("g", 24, "n1", state=JobState.QUEUED, gpu_type="A100"),))
    done = action(seen(world, flat(0.0)))
    assert isinstance(done, ScalePool) and done.remove == ("n0",)


def test_jobs_that_fit_in_sum_and_nowhere_in_place_get_a_node() -> None:
    half = (job("a", 5, "n0"), job("b", 5, "n1"), job("w", 6))
    done = action(seen(cluster(*TWO, jobs=half), flat(16.0)))
    assert isinstance(done, ScalePool) and done.nodes == 3
    whole = (job("a", 5, "n0"), job("b", 2, "n1"), job("w", 6))
    assert isinstance(action(seen(cluster(*TWO, jobs=whole), flat(13.0))), str), "n1 has room for six"
    other = (*half[:2], job("w", 6, gpu_type="A100"))
    assert isinstance(action(seen(cluster(*TWO, jobs=other), flat(10.0))), str), "it waits for another kind"


def test_a_job_that_can_never_run_here_orders_nothing() -> None:
    huge = job("w", 10**12)
    assert isinstance(action(seen(cluster(*TWO, jobs=(*FULL, huge)), flat(16.0))), str)


def test_a_job_that_can_never_run_here_keeps_no_node() -> None:
    world = cluster(*THREE, jobs=(FULL[0], job("w", 10**12)))
    done = action(seen(world, flat(8.0)))
    assert isinstance(done, ScalePool) and done.nodes == 2, "what waits for more than the pool may ever have, waits for nothing"


def test_a_promise_counts_unless_its_owner_already_asks() -> None:
    world = cluster(*TWO, jobs=FULL)
    done = action(seen(world, flat(16.0), reservations=(hold(8, starts_at=NOW + 100),)))
    assert isinstance(done, ScalePool) and done.nodes == 3
    assert isinstance(action(seen(world, flat(16.0), reservations=(hold(8, owner="job/a"),))), str)
    assert isinstance(action(seen(world, flat(16.0), reservations=(hold(8, owner="a"),))), str), "as the policies name it"
    assert isinstance(action(seen(world, flat(16.0), reservations=(hold(8, starts_at=NOW + 9999),))), str), "not yet"
    assert isinstance(action(seen(world, flat(16.0), reservations=(replace(hold(8), state=HoldState.EXPIRED),))), str)


THREE = (node(0), node(1), node(2))


@pytest.mark.parametrize(
    ("world", "reservations", "gone"),
    [
        pytest.param(cluster(*THREE, jobs=FULL[:1]), (), "n2", id="the last empty one, though two are"),
        pytest.param(cluster(*THREE, jobs=(job("c", 8, "n2"),)), (), "n1", id="not the one that works"),
        pytest.param(cluster(node(0), node(1), node(2, protected=True), jobs=FULL[:1]), (), "n1", id="not a protected one"),
        pytest.param(cluster(node(0), node(1), node(2, removable=False), jobs=FULL[:1]), (), "n1", id="only what may go"),
        pytest.param(cluster(node(0), node(1), node(2, state=NodeState.DOWN), jobs=FULL[:1]), (), "n1", id="not a broken one"),
        pytest.param(cluster(*THREE, jobs=FULL[:1]), (hold(0, "n2"),), "n1", id="not one that is promised"),
    ],
)
def test_one_empty_node_goes_at_a_time(world: Cluster, reservations: tuple[Reservation, ...], gone: str) -> None:
    done = action(seen(world, flat(8.0), reservations=reservations))
    assert isinstance(done, ScalePool), done
    assert (done.nodes, done.was, done.remove) == (2, 3, (gone,))


@pytest.mark.parametrize(
    ("limits", "go"),
    [
        pytest.param({}, 1, id="a tenth of ten"),
        pytest.param({"nodes_ratio": 0.4}, 3, id="as many as nobody must approve"),
        pytest.param({"nodes_ratio": 0.4, "idle_nodes_ratio": 0.2}, 2, id="as many as may go within the hour"),
    ],
)
def test_no_more_nodes_go_at_once_than_the_limits_let_go(limits: dict[str, object], go: int) -> None:
    ten = cluster(*(node(number) for number in range(10)))
    snapshot = seen(ten, flat(0.0), limits=limits, due=("prescale",), modes={"prescale": Mode.ACT}, supports=("scale_pool",))
    (admission,) = decide(snapshot, {"prescale": POLICY}).admissions
    assert admission.permitted, admission.detail
    assert isinstance(admission.decision.action, ScalePool) and len(admission.decision.action.remove) == go


CALM = cluster(*THREE, jobs=FULL[:1])
BLIND = Service(
    name="web", uid="u", version="1", pool="p", replicas=1, ready=1, min_replicas=1, max_replicas=4,
    load=SeriesKey.of("service_requests_per_second", service="web"), target=1.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("world", "series", "forecasts", "why"),
    [
        pytest.param(CALM, None, (), "stale or missing", id="no figures"),
        pytest.param(CALM, flat(8.0, ends=NOW - 61), (), "stale or missing", id="old figures"),
        pytest.param(CALM, flat(8.0, seconds=300), (), "stale or missing", id="half of the ten minutes not seen"),
        pytest.param(CALM, flat(float("nan")), (), "stale or missing", id="unreadable is not zero"),
        pytest.param(CALM, flat(24.0), (), "none is spare", id="needed a moment ago"),
        pytest.param(CALM, flat(8.0), (ahead(24.0),), "none is spare", id="needed soon"),
        pytest.param(cluster(*THREE, jobs=(FULL[0], job("w", 2))), flat(10.0), (), "jobs wait", id="somebody waits"),
        pytest.param(replace(CALM, services=(BLIND,)), flat(8.0), (), "is not told", id="replicas nobody can see"),
        pytest.param(
            replace(CALM, jobs=(replace(FULL[0], nodes=()),)),
            flat(8.0),
            (),
            "is not told",
            id="a running job that nobody can see",
        ),
        pytest.param(cluster(node(0)), flat(0.0), (), "none is spare", id="the floor"),
    ],
)
def test_nothing_is_given_back_where_it_may_be_needed(
    world: Cluster, series: Series | None, forecasts: tuple[Forecast, ...], why: str
) -> None:
    note = action(seen(world, series, *forecasts))
    assert isinstance(note, str), note
    assert why in note


def test_nodes_that_replicas_are_on_stay() -> None:
    web = replace(BLIND, nodes=("n2",))
    snapshot = seen(replace(CALM, services=(web,)), flat(8.0))
    gone = [one.action for one in POLICY.decide(snapshot) if isinstance(one, Decision)]
    assert [one.remove for one in gone if isinstance(one, ScalePool)] == [("n1",)]


def test_what_is_on_its_way_is_not_asked_for_again() -> None:
    grow = ScalePool(pool="p", version="7", nodes=3, was=2)
    wish = Decision(policy="prescale", action=grow, reason="r", within_s=400.0)
    entry = Entry(
        admission=Admission(id="a", at=NOW - 60, decision=wish), state=EntryState.CONFIRMED, epoch=1, changed_at=NOW,
        expires_at=NOW + 300,
    )  # fmt: skip
    world = cluster(*TWO, jobs=FULL)
    assert "on their way" in str(action(seen(world, flat(24.0), history=(entry,))))
    done = action(seen(world, flat(25.0), history=(entry,)))
    assert isinstance(done, ScalePool) and done.nodes == 4, "more than that is new"


def test_what_came_and_was_given_back_is_not_on_its_way() -> None:
    grow, back = (
        ScalePool(pool="p", version="7", nodes=3, was=2),
        ScalePool(pool="p", version="8", nodes=2, was=3, remove=("x",)),
    )
    history = tuple(
        Entry(
            admission=Admission(id=id, at=NOW - ago, decision=Decision(policy="prescale", action=one, reason="r")), epoch=1,
            state=EntryState.CONFIRMED, changed_at=NOW, expires_at=NOW + 300,
        )
        for id, ago, one in (("a", 250, grow), ("b", 60, back))
    )  # fmt: skip
    done = action(seen(cluster(*TWO, jobs=FULL), flat(24.0), history=history))
    assert isinstance(done, ScalePool) and done.nodes == 3


def stall(subject: str, sli: str | None = None, **changes: object) -> Finding:
    fields = {
        "id": subject,
        "at": NOW,
        "cause": Cause.IO_STALL,
        "subject": subject,
        "score": 1.0,
        "confidence": 0.9,
        "sli": sli,
    }
    return Finding(**{**fields, **changes})  # type: ignore[arg-type]


STEPS = "job:a:job_step_duration_seconds"


@pytest.mark.parametrize(
    ("finding", "grows"),
    [
        pytest.param(stall("volume:data", STEPS), False, id="who holds half of its GPUs waits for storage"),
        pytest.param(stall("link:up", STEPS, cause=Cause.NET_CONTENTION), False, id="or for the network"),
        pytest.param(stall("disk:n1/sda"), False, id="half of its nodes do"),
        pytest.param(stall("disk:n1/sda", confidence=0.5), True, id="not sure"),
        pytest.param(stall("disk:n1/sda", at=NOW - 1000.0), True, id="long ago: nobody looks any more"),
        pytest.param(stall("disk:far/sda"), True, id="elsewhere"),
        pytest.param(
            stall("loader:a", STEPS, cause=Cause.PREP_STALL), True, id="its own loader: others need not wait for that"
        ),
    ],
)
def test_no_node_is_added_that_would_wait_for_the_same_storage(finding: Finding, grows: bool) -> None:
    answer = action(seen(cluster(*TWO, jobs=FULL), flat(24.0), ahead(40.0), findings=(finding,)))
    assert isinstance(answer, ScalePool) is grows
    assert grows or finding.cause.value in str(answer)


def test_a_stall_keeps_no_pool_under_its_floor() -> None:
    world = cluster(*TWO, jobs=FULL)
    low = replace(world, pools=(replace(world.pools[0], min_nodes=3),))
    done = action(seen(low, flat(40.0), findings=(stall("disk:n1/sda"),)))
    assert isinstance(done, ScalePool) and done.nodes == 3


def test_a_pool_above_its_bound_comes_down_step_by_step() -> None:
    """Its bound was lowered to four: a node at a time goes, though five are still more than may be."""
    world = cluster(*(node(i) for i in range(6)), most=4)
    snapshot = seen(world, flat(0.0), due=("prescale",), modes={"prescale": Mode.ACT}, supports=("scale_pool",))
    (done,) = decide(snapshot, {"prescale": POLICY}).admissions
    assert isinstance(done.decision.action, ScalePool) and (done.decision.action.nodes, done.denied) == (5, None)


def test_a_pool_that_nobody_may_scale_is_not_spoken_of() -> None:
    fixed = replace(CALM, pools=(Pool(name="p", nodes=3, min_nodes=3, max_nodes=3),))
    assert list(POLICY.decide(seen(fixed, flat(8.0)))) == []
    off = Prescale.from_settings({"pools": False}, "t")
    assert list(off.decide(seen(CALM, flat(80.0)))) == []


def test_the_core_admits_it_and_the_bytes_are_the_same() -> None:
    world = cluster(*TWO, jobs=FULL)
    snapshot = seen(world, flat(24.0), due=("prescale",), modes={"prescale": Mode.ACT}, supports=("scale_pool",))
    decided = decide(snapshot, {"prescale": POLICY})
    assert [one.denied for one in decided.admissions] == [None]
    assert encode(decide(decode(Snapshot, encode(snapshot)), {"prescale": POLICY})) == encode(decided)
    lost = replace(snapshot, supports=())
    assert [one.denied for one in decide(lost, {"prescale": POLICY}).admissions] == [Deny.UNSUPPORTED]


@given(st.floats(0, 400), st.floats(0, 400), st.floats(0, 1e4))
def test_no_forecast_gives_less_than_no_forecast(gpus: float, peak: float, foreseen: float) -> None:
    series = flat(peak)
    series.values[-1] = gpus

    def nodes(*forecasts: Forecast) -> int:
        done = action(seen(CALM, series, *forecasts))
        return done.nodes if isinstance(done, ScalePool) else 3

    assert nodes(ahead(foreseen)) >= nodes()


@given(st.sets(st.integers(0, 69)), st.floats(0, 30))
def test_less_data_never_gives_more_back(dropped: set[int], gpus: float) -> None:
    whole, part = flat(gpus), flat(gpus)
    part.values[sorted(dropped)] = np.nan
    kept, known = (action(seen(CALM, one)) for one in (part, whole))
    if isinstance(kept, ScalePool) and kept.nodes < 3:
        assert isinstance(known, ScalePool) and known.nodes <= kept.nodes


@pytest.mark.parametrize(
    ("section", "key"),
    [({"pool_quantile": 1.0}, "pool_quantile"), ({"pools": 1}, "pools"), ({"remove_at_once": 0}, "remove_at_once")],
)
def test_wrong_settings_are_refused_by_their_path(section: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"policies\.prescale\.{key}"):
        Prescale.from_settings(section, "aiops.yaml")
