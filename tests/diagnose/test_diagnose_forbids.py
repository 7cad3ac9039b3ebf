"""What forbids a verdict: evidence that looks like a cause and is none. Each row was once a wrong answer on a real machine."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from worlds import NOW, counter, job_graph, job_rows, noise, panel, shifted

from aiops.diagnose.analysis import analyse
from aiops.diagnose.derive import enrich
from aiops.diagnose.facts import Facts, recent_facts
from aiops.diagnose.graph import Graph, link
from aiops.diagnose.meaning import Role, meaning
from aiops.diagnose.panel import from_points
from aiops.diagnose.report import Report
from aiops.metrics import Bad
from aiops.model import Cause

SLI = "job:job_step_duration_seconds"
LATE = {"compute_1": 0.4, "comm_0": 0.4, "comm_2": 0.4, "comm_3": 0.4}
HOST = (("rank-0", "host-0"), ("rank-1", "host-0"))
VOLUME = (("rank-0", "volume-a"), ("rank-1", "volume-a"))
Rows = dict[tuple[str, str], np.ndarray]


def look(rows: Rows, graph: Graph) -> Report:
    return analyse(panel(rows), graph, NOW, SLI)


def first(rows: Rows, graph: Graph) -> tuple[Cause, str]:
    report = look(rows, graph)
    return report.verdict, report.causes[0].entity


def facts(rows: Rows) -> Facts:
    return recent_facts(enrich(panel(rows), Graph()), Graph(), NOW)


@pytest.mark.parametrize("name", ['node_cpu_seconds_total{mode="idle"}', "cpu_idle_percent", "idle_cpu_ratio"])
def test_idle_time_is_not_busy_time(name: str) -> None:
    told = meaning(name)
    assert told.role is not Role.CPU_BUSY
    assert told.worse is not Bad.UP


def test_a_metric_without_a_bad_direction_never_hurts() -> None:
    rows = {("host-0", 'node_cpu_seconds_total{mode="idle"}'): shifted(1.0, 3.0, 12, seed=1)}
    known = facts(rows)
    assert known.rose(0)
    assert not known.hurts(0)


def test_a_host_that_idles_more_because_a_rank_is_late_is_not_fought_over() -> None:
    idle = {("host-0", 'node_cpu_seconds_total{mode="idle"}'): shifted(0.4, 0.9, 12, seed=2)}
    user = {("host-0", 'node_cpu_seconds_total{mode="user"}'): shifted(1.3, 0.8, 12, seed=3)}
    graph = job_graph(4, *((f"rank-{rank}", "host-0") for rank in range(4)))
    assert first({**job_rows(**LATE), **idle, **user}, graph) == (Cause.STRAGGLER, "rank-1")


@pytest.mark.parametrize("samples", [False, True])
def test_a_job_of_one_rank_has_no_straggler_and_no_imbalance(samples: bool) -> None:
    rows = job_rows(ranks=1, compute=0.5)
    if samples:
        rows["rank-0", "job_samples_per_step"] = shifted(6.0, 10.0, 12, seed=4, ratio=0.0)
    verdict = look(rows, job_graph(1)).verdict
    assert verdict is (Cause.LOAD_CHANGE if samples else Cause.UNKNOWN)


def test_memory_outranks_the_cpus_that_it_keeps_busy() -> None:
    stall = {("host-0", "node_pressure_memory_waiting_seconds_per_s"): shifted(0.0, 0.3, 12, ratio=0.0)}
    busy = {("host-0", "node_pressure_cpu_waiting_seconds_per_s"): shifted(0.4, 0.8, 12, seed=5)}
    low = {("host-0", "node_memory_MemAvailable_bytes"): noise(2e7, seed=6)}  # it was scarce all the time
    graph = job_graph(2, *HOST)
    assert first({**job_rows(ranks=2, compute=0.5), **stall, **busy, **low}, graph) == (Cause.MEMORY_PRESSURE, "host-0")


@pytest.mark.parametrize(
    ("latency", "queue", "cause", "why"),
    [
        (0.001, 9.0, Cause.PREP_STALL, "a queue that is longer though every read is as fast is demand, not trouble"),
        (0.050, 9.0, Cause.IO_STALL, "reads got slower"),
        (None, 9.0, Cause.IO_STALL, "without a latency the queue has to do"),
    ],
)
def test_storage_is_to_blame_only_where_its_operations_got_slower(
    latency: float | None, queue: float, cause: Cause, why: str
) -> None:
    rows = job_rows(data_0=0.5, data_1=0.5, comm_2=0.5, comm_3=0.5)
    rows["volume-a", "volume_queue_requests"] = shifted(2.0, queue, 12, seed=7)
    if latency is not None:
        rows["volume-a", "volume_read_latency_seconds"] = shifted(0.001, latency, 12, seed=8)
    assert look(rows, job_graph(4, *VOLUME)).verdict is cause, why


def test_a_part_of_the_step_shows_the_onset_that_a_noisy_step_hides() -> None:
    rows = job_rows(ranks=1, data=0.35)
    rows["job", "job_step_duration_seconds"] = shifted(0.92, 1.27, 12, seed=9, ratio=0.2)
    report = look(rows, job_graph(1))
    assert report.verdict is Cause.PREP_STALL
    assert report.onset is not None and abs(report.onset - (NOW - 110)) <= 20


def test_a_part_that_another_gave_back_is_no_slower_step() -> None:
    rows = job_rows(ranks=1, data=0.35, compute=-0.35)
    rows["job", "job_step_duration_seconds"] = noise(0.92, seed=10, ratio=0.2)
    assert look(rows, job_graph(1)).verdict is Cause.UNKNOWN


def test_the_onset_is_the_leap_and_not_the_drift_before_it() -> None:
    rows = job_rows(ranks=2, last=8, compute_1=0.4, comm_0=0.4)
    rows["job", "job_step_duration_seconds"][-20:-8] += 0.06
    report = look(rows, job_graph(2))
    assert (report.verdict, report.causes[0].entity) == (Cause.STRAGGLER, "rank-1")
    assert report.onset is not None and abs(report.onset - (NOW - 70)) <= 10


@pytest.mark.parametrize(
    ("waits", "cause", "why"),
    [
        ((0.5, 0.17), Cause.STRAGGLER, "one waits much less than the other: it is the late one"),
        ((0.5, 0.45), Cause.NET_CONTENTION, "both wait alike"),
    ],
)
def test_the_spread_of_the_waits_tells_a_late_rank_from_a_slow_network(
    waits: tuple[float, float], cause: Cause, why: str
) -> None:
    rows = job_rows(ranks=2, comm_0=waits[0], comm_1=waits[1])
    graph = job_graph(2, ("rank-0", "link-0"), ("rank-1", "link-0"), **{"link-0": "link"})
    assert look(rows, graph).verdict is cause, why


def test_a_bigger_batch_that_also_waits_for_its_data_is_still_more_load() -> None:
    rows = job_rows(ranks=2, compute=0.2, data=0.5)
    for rank in range(2):
        rows[f"rank-{rank}", "job_samples_per_step"] = shifted(6.0, 12.0, 12, seed=rank, ratio=0.0)
    assert first(rows, job_graph(2, *VOLUME)) == (Cause.LOAD_CHANGE, "job")


def test_a_part_without_a_typed_fault_is_a_suspect_and_no_service_fault() -> None:
    graph = Graph(types={"a": "service", "loader-0": "loader"}, causes=link([("a", "loader-0")]))
    rows = {("a", "latency_seconds"): shifted(0.2, 0.25, 12, seed=1)}
    rows["loader-0", "job_loader_queue_batches"] = shifted(8.0, 0.1, 12, seed=2)
    report = analyse(panel(rows), graph, NOW, "a:latency_seconds")
    assert (report.verdict, report.causes[0].entity) == (Cause.UNKNOWN, "loader-0")


@pytest.mark.parametrize("ranks", [1, 4])
def test_seconds_per_step_are_right_though_somebody_summed_the_step_counter_over_ranks(ranks: int) -> None:
    step = noise(0.5, seed=1)
    times = NOW - 10.0 * np.arange(119, -1, -1.0)
    rows = {
        ("job", "job_steps_total"): counter(ranks / step),
        ("job", "job_step_duration_seconds"): step,
        ("rank-0", "job_compute_seconds_total"): counter(0.4 / step),
    }
    keys = np.repeat(np.array([e for e, _ in rows], object), 120), np.repeat(np.array([m for _, m in rows], object), 120)
    made = from_points(*keys, np.tile(times, len(rows)), np.concatenate(list(rows.values())))
    rich = enrich(made, job_graph(1))
    assert np.nanmedian(rich.panel.values[rich.panel.metrics.index("job_compute_seconds_total")]) == pytest.approx(
        0.4, rel=0.02
    )


def test_parts_are_weighed_against_the_step_by_its_counter_because_a_gauge_shows_some_steps_only() -> None:
    """Given a gauge that shows a few very long steps, when half of the true growth is data wait, then it is named."""
    rows = job_rows(ranks=1, data=0.15, compute=0.1)
    rows["job", "job_step_duration_seconds"] = shifted(0.92, 2.2, 12, seed=11)
    rows["job", "job_steps_total"] = 1 / shifted(0.92, 1.17, 12, seed=12)
    assert look(rows, job_graph(1)).verdict is Cause.PREP_STALL


@pytest.mark.parametrize(("size", "cause"), [(64.0, Cause.STRAGGLER), (96.0, Cause.DATA_IMBALANCE)])
def test_samples_counted_one_too_many_are_no_uneven_work_while_the_batch_size_in_force_stays(size: float, cause: Cause) -> None:
    rows = job_rows(compute_1=0.4, comm_0=0.4, comm_2=0.4, comm_3=0.4)
    rows |= {(f"rank-{r}", "job_samples_per_step"): shifted(64.0, 96.0 if r == 1 else 64.0, 12, seed=30 + r) for r in range(4)}
    rows |= {("rank-1", 'job_knob_value{knob="batch_size"}'): shifted(64.0, size, 12, ratio=0.0)}
    assert look(rows, job_graph(4)).verdict is cause


def test_a_rank_whose_others_are_not_measured_is_still_one_of_many() -> None:
    rows = job_rows(**LATE)
    for rank in (0, 2, 3):
        del rows[f"rank-{rank}", "job_compute_seconds"]
    assert first(rows, job_graph(4)) == (Cause.STRAGGLER, "rank-1")


def test_bytes_into_a_gpu_tell_of_uneven_work_where_samples_are_not_counted() -> None:
    rows = job_rows(**LATE)
    for rank in range(4):
        rows[f"rank-{rank}", 'gpu_pcie_bytes{direction="rx"}'] = shifted(6e7, 9e7 if rank == 1 else 6e7, 12, seed=40 + rank)
    assert first(rows, job_graph(4)) == (Cause.DATA_IMBALANCE, "rank-1")


def test_a_utilisation_that_always_reads_full_is_no_witness_against_an_idle_gpu() -> None:
    """Given a GPU that idles because another is late, when utilisation stays at 99 %, then its SM activity is believed."""
    rows = job_rows(ranks=2, compute_1=0.6, comm_0=0.6)
    rows["rank-0", "gpu_sm_active_ratio"] = shifted(0.8, 0.45, 12, seed=1)
    rows["rank-0", "gpu_utilization_ratio"] = noise(0.99, seed=2, ratio=0.001)
    assert first(rows, job_graph(2)) == (Cause.STRAGGLER, "rank-1")
    causes = look(rows, job_graph(2)).causes
    assert not any(cause.verdict is Cause.SENSOR_FAULT for cause in causes)
