"""An injected storage stall, from raw series through the real diagnosis to decisions: no GPU is added, the stall is treated.

The load of the GPU service is its requests in flight: by Little's law they grow with the latency, though nobody asks for more.
"""

from dataclasses import replace

import numpy as np
import pytest

from aiops.action import Deny, LimitBandwidth, Mode, ScalePool, ScaleService
from aiops.decide.core import decide
from aiops.diagnose.engine import CausalDiagnoser
from aiops.model import (
    Cause,
    Cluster,
    Floats,
    Gpu,
    Job,
    JobState,
    Link,
    Node,
    NodeState,
    Series,
    SeriesKey,
    Service,
    Volume,
)  # fmt: skip
from aiops.snapshot import Snapshot, query_id
from policies.bandwidth import Bandwidth
from policies.prescale import Prescale
from policies.remedy import Remedy

NOW = 1_800_000_000.0
STEP = 10.0
N = 360
LOAD = SeriesKey.of("service_requests_in_flight", service="llm")
POLICIES = {"prescale": Prescale(), "remedy": Remedy(), "bandwidth": Bandwidth.from_settings({"bulk": ["job/backup"]}, "t")}


def moved(usual: float, to: float, seed: int, last: int = 30) -> Floats:
    values = usual * (1 + 0.02 * np.random.default_rng(seed).standard_normal(N))
    values[N - last :] += to - usual
    return np.asarray(values, dtype=np.float64)


def series(metric: str, values: Floats, **labels: str) -> Series:
    return Series(key=SeriesKey.of(metric, **labels), times=NOW - STEP * np.arange(N - 1, -1, -1.0), values=values)


def counter(metric: str, per_s: Floats, **labels: str) -> Series:
    return series(metric, np.asarray(np.cumsum(per_s * STEP), dtype=np.float64), **labels)


def telemetry(stalled: bool, asked: float = 18.0) -> list[Series]:
    """A service of 18 requests/s; with `stalled` every read takes 20 times as long from five minutes ago on."""
    slow = 20.0 if stalled else 1.0
    answer = 0.9 if stalled else 0.2
    disk = {"device": "nvme0n1"}
    return [
        series("service_requests_per_second", moved(18.0, asked, 1), service="llm"),
        series("service_request_seconds", moved(0.2, answer, 2), service="llm"),
        series(LOAD.metric, moved(3.6, asked * answer, 2), service="llm"),
        counter("node_disk_reads_completed_total", moved(100.0, 100.0, 3), **disk),
        counter("node_disk_read_time_seconds_total", moved(0.1, 0.1 * slow, 4), **disk),
        counter("node_disk_read_bytes_total", moved(3e8, 9e8 if stalled else 3e8, 5), **disk),
        counter("node_disk_written_bytes_total", moved(1e6, 1e6, 9), **disk),
        counter("node_disk_io_time_weighted_seconds_total", moved(0.1, 0.1 * slow, 6), **disk),
        counter("node_disk_io_time_seconds_total", moved(0.1, 0.95 if stalled else 0.1, 7), **disk),
        counter("node_pressure_io_waiting_seconds_total", moved(0.01, 0.6 if stalled else 0.01, 8)),
    ]


def cluster(gpus: int = 1) -> Cluster:
    card = tuple(Gpu(uuid=f"GPU-{i}", index=i) for i in range(8))
    node = Node(name="h", uid="1", pool="p", state=NodeState.READY, gpus=card)
    service = Service(
        name="llm", uid="u", version="1", pool="p", replicas=2, ready=2, min_replicas=1, max_replicas=8, load=LOAD, target=2.0,
        gpus_per_replica=gpus,
    )  # fmt: skip
    backup = Job(
        id="backup", run_id="b", name="backup", queue="q", state=JobState.RUNNING, gpus=0, submitted_at=0.0, nodes=("h",),
        volumes=("data",),
    )  # fmt: skip
    disk = Link(name="disk", kind="storage", capacity_bytes_per_s=1e9, node="h", device="nvme0n1", enforced=True)
    return Cluster(
        at=NOW, backend="local", nodes=(node,), jobs=(backup,), services=(service,), links=(disk,),
        volumes=(Volume(name="data", link="disk"),),
    )  # fmt: skip


def cycle(stalled: bool, asked: float = 18.0, gpus: int = 1, looked: bool = True) -> list[object]:
    """One whole cycle on the telemetry: what was permitted."""
    seen, rows = cluster(gpus), telemetry(stalled, asked)
    findings = tuple(CausalDiagnoser().diagnose(seen, rows, NOW)) if looked else ()
    needs = [need.query for policy in POLICIES.values() for need in policy.needs(seen)]
    found = {query_id(q): tuple(r for r in rows if r.key.metric == q.metric) for q in needs}
    cut = {key: tuple(replace(r, times=r.times[-90:], values=r.values[-90:]) for r in kept) for key, kept in found.items()}
    snapshot = Snapshot(
        id="c", now=NOW, epoch=1, cluster=seen, due=tuple(POLICIES), series=cut, findings=findings,
        diagnosed_at=NOW if looked else None,
        modes=dict.fromkeys(POLICIES, Mode.ACT), supports=("scale_service", "scale_pool", "limit_bandwidth"),
    )  # fmt: skip
    decided = decide(snapshot, POLICIES)
    assert decided.failed == () and not [a for a in decided.admissions if a.denied not in (None, Deny.COOLDOWN)]
    return [admission.decision.action for admission in decided.admissions if admission.permitted]


def ups(actions: list[object]) -> list[object]:
    return [
        one
        for one in actions
        if (isinstance(one, ScaleService) and one.replicas > one.was) or (isinstance(one, ScalePool) and one.nodes > one.was)
    ]


def test_the_stall_is_found_and_would_have_been_answered_by_gpus() -> None:
    """The test of the test: the diagnosis names storage, and blind to it the reactive rule asks for more GPUs."""
    findings = CausalDiagnoser().diagnose(cluster(), telemetry(stalled=True), NOW)
    assert any(f.cause is Cause.IO_STALL and f.subject == "disk:h/nvme0n1" for f in findings)
    assert ups(cycle(stalled=True, looked=False))


def test_a_storage_stall_adds_no_gpu_and_makes_bulk_traffic_yield() -> None:
    actions = cycle(stalled=True)
    assert ups(actions) == []
    assert LimitBandwidth(link="disk", owner="job/backup", bytes_per_s=2.5e8, was=None) in actions


@pytest.mark.parametrize(
    ("stalled", "asked", "gpus"),
    [
        pytest.param(False, 60.0, 1, id="real demand without a stall still scales"),
        pytest.param(True, 18.0, 0, id="replicas without GPUs are cheap: they may scale"),
    ],
)
def test_what_is_not_a_gpu_waiting_for_storage_still_scales(stalled: bool, asked: float, gpus: int) -> None:
    assert ups(cycle(stalled, asked, gpus))
