"""Bandwidth: promises kept, bulk yields, compression under congestion, all given back; nothing on what is not measured."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aiops import traffic
from aiops.action import Decision, LimitBandwidth, Mode, ReleaseBandwidth, ReserveBandwidth, TuneJob
from aiops.codec import decode, encode
from aiops.decide.core import decide
from aiops.errors import ConfigError
from aiops.model import (
    Cause,
    Cluster,
    Finding,
    Job,
    JobState,
    Knob,
    Link,
    Node,
    NodeState,
    Series,
    SeriesKey,
    Share,
    TaskClass,
    Volume,
)
from aiops.snapshot import Snapshot, query_id
from policies.bandwidth import Bandwidth
from policies.wires import users

NOW = 1e9
MOST = 1000.0
POLICY = Bandwidth.from_settings({"bulk": ["job/backup*"]}, "test")
NIC = Link(name="nic", kind="nic", capacity_bytes_per_s=MOST, node="n0", device="eth0", enforced=True)
COMPRESSION = Knob(name="compression", value=0.5, least=0.0, most=0.9)


def job(id: str, **changes: Any) -> Job:
    fields = {
        "id": id, "run_id": f"{id}-1", "name": id, "queue": "q", "state": JobState.RUNNING, "gpus": 1, "submitted_at": 0.0,
        "nodes": ("n0",),
    }  # fmt: skip
    return Job(**{**fields, **changes})


def trainer(**changes: Any) -> Job:
    return job("train", task_class=TaskClass.COMMUNICATION, compresses=True, knobs=(COMPRESSION,), **changes)


def counter(metric: str, rate: float, then: float | None = None, device: str = "eth0", ends: float = NOW) -> Series:
    """A counter that rises by `rate` for 13 minutes and by `then` in the last two."""
    times = np.arange(ends - 900.0, ends + 1.0, 10.0)
    rates = np.where(times > ends - 120.0, rate if then is None else then, rate)
    return Series(key=SeriesKey.of(metric, device=device), times=times, values=np.cumsum(rates * 10.0))


def seen(
    link: Link = NIC,
    *jobs: Job,
    rate: float | None = 100.0,
    then: float | None = None,
    policy: Bandwidth = POLICY,
    **changes: Any,
) -> Snapshot:
    node = Node(name="n0", uid="u", pool="p", state=NodeState.READY)
    cluster = Cluster(at=NOW, backend="b", nodes=(node,), jobs=jobs, links=(link,))
    both = {} if rate is None else {m: counter(m, rate, then) for m in traffic._NIC}
    series = {query_id(need.query): (both[need.query.metric],) for need in policy.needs(cluster) if need.query.metric in both}
    return Snapshot(id="c", now=NOW, epoch=1, cluster=cluster, series=series, **changes)


def asks(snapshot: Snapshot, policy: Bandwidth = POLICY) -> list[Any]:
    return [one.action for one in policy.decide(snapshot) if isinstance(one, Decision)]


def notes(snapshot: Snapshot) -> str:
    return "; ".join(one for one in POLICY.decide(snapshot) if isinstance(one, str))


CAP = LimitBandwidth(link="nic", owner="job/backup-1", bytes_per_s=250.0, was=None)
LIFT = LimitBandwidth(link="nic", owner="job/backup-1", bytes_per_s=None, was=250.0)
CAPPED = replace(NIC, shares=(Share(owner="job/backup-1", cap_bytes_per_s=250.0),))


@pytest.mark.parametrize(
    ("link", "rate", "then", "wishes"),
    [
        pytest.param(NIC, 100.0, 750.0, [CAP], id="75 % in the last minute: bulk yields"),
        pytest.param(NIC, 750.0, 650.0, [], id="it was busy, it is not now"),
        pytest.param(NIC, 100.0, 690.0, [], id="under 70 %: nothing"),
        pytest.param(CAPPED, 100.0, 600.0, [], id="between calm and busy a cap stays: no flapping"),
        pytest.param(CAPPED, 100.0, 800.0, [], id="already capped"),
        pytest.param(CAPPED, 800.0, 100.0, [LIFT], id="calm for two minutes: lifted"),
        pytest.param(CAPPED, 800.0, None, [], id="busy throughout"),
        pytest.param(
            replace(NIC, shares=(Share(owner="job/backup-1", cap_bytes_per_s=77.0),)), 50.0, 50.0, [],
            id="a cap of another size is a person's",
        ),
    ],
)  # fmt: skip
def test_bulk_traffic_yields_on_a_busy_link_and_is_let_go_on_a_calm_one(
    link: Link, rate: float, then: float | None, wishes: list[Any]
) -> None:
    assert asks(seen(link, job("backup-1"), job("other"), rate=rate, then=then)) == wishes


@pytest.mark.parametrize(
    "rate",
    [
        pytest.param(None, id="no counters"),
    ],
)
def test_a_link_that_is_not_measured_is_left_alone(rate: float | None) -> None:
    snapshot = seen(CAPPED, job("backup-1"), trainer(), rate=rate)
    assert asks(snapshot) == [] and "not measured" in notes(snapshot)


def test_a_link_that_carries_nothing_costs_no_other_its_look() -> None:
    snapshot = seen(NIC, trainer(), rate=900.0)
    dead = Link(name="dead", kind="nic", capacity_bytes_per_s=0.0, node="n0", device="eth0")
    both = replace(snapshot, cluster=replace(snapshot.cluster, links=(NIC, dead)))
    assert asks(both) == asks(snapshot) != []


def test_stale_counters_are_no_measurement() -> None:
    snapshot = seen(CAPPED, job("backup-1"), rate=10.0)
    later = replace(snapshot, now=NOW + 61.0)
    assert asks(later) == [] and "not measured" in notes(later)


def test_a_reset_counter_is_neither_a_jump_nor_a_rate() -> None:
    fresh = counter(traffic._NIC[0], 100.0)
    values = np.concatenate([fresh.values[:88], fresh.values[:3]])  # the host was restarted half a minute ago
    snapshot = seen(NIC, rate=100.0)
    series = {key: (replace(found[0], values=values),) for key, found in snapshot.series.items()}
    use = traffic.use(replace(snapshot, series=series), NIC)
    assert use is not None and use.now == pytest.approx(100.0) and use.p95 == pytest.approx(100.0)


def test_a_communication_bound_job_compresses_more_under_congestion_and_goes_back() -> None:
    busy = TuneJob(job="train", run_id="train-1", knob="compression", value=0.75, was=0.5)
    assert asks(seen(NIC, trainer(), rate=100.0, then=800.0)) == [busy]
    high = replace(trainer(), knobs=(replace(COMPRESSION, value=0.75),))
    assert asks(seen(NIC, high, rate=100.0, then=600.0)) == []
    assert asks(seen(NIC, high, rate=100.0)) == [replace(busy, value=0.5, was=0.75)]


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(replace(trainer(), compresses=False), id="does not allow it"),
        pytest.param(replace(trainer(), task_class=TaskClass.COMPUTE), id="is not communication-bound"),
        pytest.param(replace(trainer(), knobs=()), id="declares no such knob"),
        pytest.param(replace(trainer(), nodes=("n9",)), id="runs elsewhere"),
        pytest.param(replace(trainer(), state=JobState.SUSPENDED), id="does not run"),
    ],
)
def test_others_are_not_told_to_compress(one: Job) -> None:
    assert asks(seen(NIC, one, rate=100.0, then=800.0)) == []


def test_compression_stays_within_the_declared_bounds() -> None:
    low = replace(trainer(), knobs=(replace(COMPRESSION, most=0.6),))
    (wish,) = asks(seen(NIC, low, rate=100.0, then=800.0))
    assert wish.value == 0.6


def test_marks_found_by_the_diagnosis_congest_a_link_below_70_percent() -> None:
    finding = Finding(
        id="f", at=NOW - 20.0, cause=Cause.NET_CONTENTION, subject="nic:n0/eth0", score=1.0, confidence=0.9, sli="job:train"
    )
    assert asks(seen(NIC, job("backup-1"), rate=300.0, findings=(finding,))) == [CAP]
    doubtful = replace(finding, confidence=0.5)
    assert asks(seen(NIC, job("backup-1"), rate=300.0, findings=(doubtful,))) == []
    left = replace(finding, at=NOW - 200.0)
    assert asks(seen(NIC, job("backup-1"), rate=300.0, findings=(left,))) == [], "nobody has looked since"


def test_who_takes_more_than_its_guarantee_is_held_to_it_only_where_others_wait() -> None:
    over = replace(NIC, shares=(Share(owner="job/a", guarantee_bytes_per_s=300.0, used_bytes_per_s=400.0),))
    assert asks(seen(over, rate=100.0, then=800.0)) == [LimitBandwidth(link="nic", owner="job/a", bytes_per_s=300.0, was=None)]
    calm = seen(over, rate=100.0)
    assert asks(calm) == [] and "400 of 300 bytes/s guaranteed" in notes(calm)
    within = replace(NIC, shares=(Share(owner="job/a", guarantee_bytes_per_s=300.0, used_bytes_per_s=329.0),))
    assert asks(seen(within, rate=100.0, then=800.0)) == []


def test_storage_is_used_by_those_who_mount_it_not_by_all_on_its_node() -> None:
    disk = replace(NIC, name="disk", kind="storage", device="sda")
    cluster = Cluster(
        at=NOW, backend="b", links=(disk,), volumes=(Volume(name="data", link="disk"),),
        jobs=(job("near"), job("mounts", volumes=("data",), nodes=("n7",)), job("q", volumes=("data",), state=JobState.QUEUED)),
    )  # fmt: skip
    assert [one.id for one in users(cluster, disk)] == ["mounts"]
    above = replace(cluster, links=(replace(disk, parent="up"), Link(name="up", kind="uplink", capacity_bytes_per_s=1.0)))
    assert [one.id for one in users(above, above.links[1])] == ["mounts"]


# -- guarantees --------------------------------------------------------------------------------------------------------


PROMISING = Bandwidth.from_settings({"guarantees": {"job/train": {"nic": 400}}}, "test")


def test_a_guarantee_is_given_while_its_owner_runs_and_taken_back_after() -> None:
    give = ReserveBandwidth(link="nic", owner="job/train", bytes_per_s=400)
    given = replace(NIC, shares=(Share(owner="job/train", guarantee_bytes_per_s=400.0),))
    assert asks(seen(NIC, job("train"), policy=PROMISING), PROMISING) == [give]
    assert asks(seen(given, job("train"), policy=PROMISING), PROMISING) == []
    assert asks(seen(given, policy=PROMISING), PROMISING) == [ReleaseBandwidth(link="nic", owner="job/train")]
    assert asks(seen(NIC, policy=PROMISING), PROMISING) == []


def test_what_is_only_accounted_says_so() -> None:
    (wish,) = PROMISING.decide(seen(replace(NIC, enforced=False), job("train"), policy=PROMISING))
    assert isinstance(wish, Decision) and wish.evidence == ("nic: accounted, not enforced",)


@pytest.mark.parametrize(
    ("rate", "denied"),
    [
        pytest.param(100.0, None, id="P95 of 100 leaves 900 of 1000"),
        pytest.param(590.0, None, id="590 + 400 fits"),
        pytest.param(610.0, "no_capacity", id="nominal speed would allow 400, the P95 of the measured traffic does not"),
        pytest.param(None, None, id="not measured: what is promised counts, as before"),
    ],
)
def test_admission_counts_measured_traffic_not_nominal_speed(rate: float | None, denied: str | None) -> None:
    snapshot = seen(NIC, job("train"), rate=rate, policy=PROMISING)
    snapshot = replace(snapshot, due=("bandwidth",), modes={"bandwidth": Mode.ACT}, supports=("reserve_bandwidth",))
    (admission,) = decide(snapshot, {"bandwidth": PROMISING}).admissions
    assert (admission.denied.value if admission.denied else None) == denied


def test_traffic_of_those_who_hold_a_guarantee_is_not_counted_twice() -> None:
    """`job/a` holds 500 and uses them: 1000 - 500 are free, not 1000 - 500 - 500."""
    snapshot = seen(NIC, job("a"), job("train"), rate=500.0, policy=PROMISING)
    snapshot = replace(snapshot, due=("bandwidth",), modes={"bandwidth": Mode.ACT}, supports=("reserve_bandwidth",))
    holding = Bandwidth.from_settings({"guarantees": {"job/a": {"nic": 500}}}, "test")
    first = decide(replace(snapshot, series={}), {"bandwidth": holding})
    (held,) = first.reservations
    second = decide(replace(snapshot, reservations=(held,)), {"bandwidth": PROMISING})
    assert [a.denied for a in second.admissions] == [None]


def test_a_link_above_carries_the_sum_of_what_is_measured_below() -> None:
    up = Link(name="up", kind="uplink", capacity_bytes_per_s=150.0)
    snapshot = seen(replace(NIC, parent="up"), rate=100.0)
    cluster = replace(snapshot.cluster, links=(up, *snapshot.cluster.links))
    whole = traffic.use(replace(snapshot, cluster=cluster), up)
    assert whole is not None and whole.now == pytest.approx(100.0)
    blind = replace(cluster, links=(*cluster.links, Link(name="other", kind="nic", capacity_bytes_per_s=1.0, parent="up")))
    assert traffic.use(replace(snapshot, cluster=blind), up) is None  # one child unknown: the sum is unknown


def test_links_in_a_circle_end() -> None:
    a, b = (Link(name=x, kind="uplink", capacity_bytes_per_s=1.0, parent=y) for x, y in (("a", "b"), ("b", "a")))
    snapshot = seen(NIC, rate=None)
    assert traffic.use(replace(snapshot, cluster=replace(snapshot.cluster, links=(a, b))), a) is None


# -- settings, replay --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"calm_ratio": 0.8}, "calm_ratio"),
        ({"busy_ratio": 0}, "busy_ratio"),
        ({"busy_ratio": 1.2}, "busy_ratio"),
        ({"usual": 0.9}, "usual"),
        ({"bulk": "job/x"}, "bulk"),
        ({"bulk": ["backup-*"]}, "bulk"),  # matches nothing: owners are job/NAME and service/NAME
        ({"bulk": ["*"]}, "bulk"),  # everything is bulk: nothing is
        ({"bulk": ["job/*"]}, "bulk"),
        ({"knob": ""}, "knob"),
        ({"guarantees": {"train": {"nic": 1}}}, "guarantees.train"),
        ({"guarantees": {"job/train": {"nic": 0}}}, "guarantees.job/train.nic"),
        ({"guarantees": 3}, "guarantees"),
        ({"wrong": 1}, "wrong"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_their_path(section: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        Bandwidth.from_settings(section, "aiops.yaml")
    assert error.value.key == f"policies.bandwidth.{key}"


def test_a_recorded_snapshot_decides_the_same_again() -> None:
    snapshot = seen(NIC, job("backup-1"), trainer(), rate=100.0, then=800.0)
    again = decode(Snapshot, encode(snapshot))
    assert asks(snapshot) == asks(again) != []
