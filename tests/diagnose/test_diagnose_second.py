"""A second cause beside the first, witnesses of the job's own, and how sure a diagnosis is that found nothing typed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from worlds import NOW, job_graph, job_rows, noise, panel, shifted

from aiops.diagnose.analysis import analyse
from aiops.diagnose.confidence import Readings, confidence
from aiops.diagnose.graph import Graph
from aiops.diagnose.report import Report
from aiops.diagnose.shift import Window, find_window
from aiops.model import Cause

SLI = "job:job_step_duration_seconds"
HOST = (("rank-0", "host-0"), ("rank-1", "host-0"), ("host-0", "tenant-x"))
LATE = job_rows(compute_1=0.4, comm_0=0.4, comm_2=0.4, comm_3=0.4)


def look(rows: dict, graph: Graph, sli: str = SLI) -> Report:
    return analyse(panel(rows), graph, NOW, sli)


def named(report: Report) -> set[tuple[Cause, str]]:
    return {(cause.verdict, cause.entity) for cause in report.causes[:2]}


# -- the job's own witness ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waited", "cause", "subject", "why"),
    [
        (0.38, Cause.CPU_CONTENTION, "host-0", "the thread waited for a CPU as long as its computing grew"),
        (0.05, Cause.STRAGGLER, "rank-1", "it hardly waited: the device itself is slow"),
    ],
)
def test_a_thread_that_waits_for_a_cpu_tells_where_pressure_has_always_been_high(
    waited: float, cause: Cause, subject: str, why: str
) -> None:
    rows = {
        **LATE,
        ("rank-1", "job_cpu_wait_seconds"): shifted(0.02, 0.02 + waited, 12, seed=60),
        ("host-0", "node_pressure_cpu_waiting_ratio"): np.clip(noise(0.95, seed=61, ratio=0.05), 0.0, 1.0),
        ("tenant-x", "node_cpu_seconds_per_s"): shifted(0.1, 3.0, 12, seed=62),
    }
    first = look(rows, job_graph(4, *HOST)).causes[0]
    assert (first.verdict, first.entity) == (cause, subject), why
    assert first.neighbour == ("tenant-x" if cause is Cause.CPU_CONTENTION else None)


def test_a_neighbour_that_came_when_nobody_waited_for_a_cpu_is_not_blamed() -> None:
    rows = {
        **job_rows(),
        ("rank-1", "job_cpu_wait_seconds"): noise(0.02, seed=60),
        ("tenant-x", "node_cpu_seconds_per_s"): shifted(0.1, 3.0, 12, seed=62),
    }
    report = look(rows, job_graph(4, *HOST))
    assert report.verdict is Cause.UNKNOWN
    assert all(cause.neighbour is None for cause in report.causes)


# -- two at once -------------------------------------------------------------------------------------------------------

LINK = ("link-0", "node_infiniband_np_ecn_marked_packets_per_s")


def test_what_a_slow_rank_does_not_make_the_others_wait_is_the_networks() -> None:
    rows = job_rows(compute_1=0.4, comm_1=0.35, comm_0=0.75, comm_2=0.75, comm_3=0.75) | {LINK: shifted(1.0, 900.0, 14)}
    report = look(rows, job_graph(4, ("rank-1", "link-0"), **{"link-0": "link"}))
    assert named(report) == {(Cause.STRAGGLER, "rank-1"), (Cause.NET_CONTENTION, "link-0")}


def test_without_a_mark_on_the_network_a_slow_rank_is_the_only_cause() -> None:
    rows = job_rows(compute_1=0.4, comm_1=0.35, comm_0=0.75, comm_2=0.75, comm_3=0.75) | {LINK: noise(1.0)}
    report = look(rows, job_graph(4, ("rank-1", "link-0"), **{"link-0": "link"}))
    assert [c.entity for c in report.causes if c.verdict is not Cause.UNKNOWN] == ["rank-1"]


def test_a_rank_with_a_broken_gpu_and_more_to_do_has_two_causes_each_with_its_seconds() -> None:
    rows = job_rows(compute_1=0.8, comm_0=0.8, comm_2=0.8, comm_3=0.8)
    rows |= {(f"rank-{r}", "job_samples_per_step"): shifted(64.0, 96.0 if r == 1 else 64.0, 12, seed=30 + r) for r in range(4)}
    rows |= {("gpu-1", "gpu_xid_errors_per_s"): shifted(0.0, 0.5, 14)}
    report = look(rows, job_graph(4, ("rank-1", "gpu-1")))
    assert named(report) == {(Cause.GPU_FAULT, "gpu-1"), (Cause.DATA_IMBALANCE, "rank-1")}
    steps = [cause.counterfactual["step_s"] for cause in report.causes[:2]]
    assert steps == pytest.approx([1.32, 1.32], abs=0.05), "half as much work again asks for half of the extra seconds"


def test_the_ranks_in_which_the_first_cause_shows_do_not_stand_before_a_second_one() -> None:
    rows = job_rows(data_0=0.5, data_1=0.5, comm_2=0.5, comm_3=0.5)
    rows |= {("host-0", "node_memory_MemAvailable_bytes"): shifted(1e11, 1e9, 14, seed=15)}
    rows |= {("host-0", "node_vmstat_pgmajfault"): shifted(1.0, 500.0, 14, seed=16)}
    rows |= {("volume-a", "volume_read_latency_seconds"): shifted(0.004, 0.08, 14, seed=11)}
    more = (*HOST, ("rank-0", "volume-a"), ("rank-1", "volume-a"), ("volume-a", "tenant-y"))
    causes = look(rows, job_graph(4, *more)).causes
    assert [(c.verdict, c.entity) for c in causes[:2]] == [(Cause.MEMORY_PRESSURE, "host-0"), (Cause.UNKNOWN, "volume-a")]


def test_beside_memory_a_neighbour_who_rose_is_named() -> None:
    rows = job_rows(data_0=0.5, data_1=0.5, comm_2=0.5, comm_3=0.5)
    rows |= {("host-0", "node_memory_MemAvailable_bytes"): shifted(1e11, 1e9, 14, seed=15)}
    rows |= {("host-0", "node_vmstat_pgmajfault"): shifted(1.0, 500.0, 14, seed=16)}
    rows |= {("volume-a", "volume_read_latency_seconds"): shifted(0.004, 0.08, 14, seed=11)}
    rows |= {("tenant-y", "node_disk_read_bytes_per_s"): shifted(1e8, 9e8, 14, seed=12)}
    more = (*HOST, ("rank-0", "volume-a"), ("rank-1", "volume-a"), ("volume-a", "tenant-y"))
    assert named(look(rows, job_graph(4, *more))) == {(Cause.MEMORY_PRESSURE, "host-0"), (Cause.NOISY_NEIGHBOUR, "tenant-y")}


# -- windows and suspects ----------------------------------------------------------------------------------------------


def window(track: list[float]) -> Window:
    times = panel({("a", "x"): np.array(track)}, step_s=1.0)
    return find_window(np.array(track), times, float(times.times[-1]))


def test_a_smaller_change_before_the_leap_is_not_its_beginning() -> None:
    found = window([0.0] * 16 + [3.5] * 8 + [10.0] * 8)
    assert (found.onset, found.end) == (24, 32)


def test_the_evidence_is_averaged_over_no_more_than_a_quarter_of_a_short_past() -> None:
    found = window([0.0] * 16 + [10.0] * 16)
    assert (found.baseline, found.width) == (16, 4)


def test_who_cannot_show_in_the_sli_gives_way_to_who_can() -> None:
    rows = {
        ("service-a", "latency_seconds"): shifted(0.3, 0.6, 12, seed=1),
        ("service-b", "cpu_usage"): shifted(0.3, 0.5, 12, seed=2),
        ("stranger", "cpu_usage"): shifted(0.3, 0.6, 12, seed=3),
    }
    graph = Graph(types=dict.fromkeys(("service-a", "service-b", "stranger"), "service"), causes={"service-a": ("service-b",)})
    ranked = [cause.entity for cause in look(rows, graph, "service-a:latency_seconds").causes]
    assert ranked.index("service-b") < ranked.index("stranger")
    nothing_declared = Graph(types=graph.types, causes={"stranger": ("service-b",)})
    ranked = [cause.entity for cause in look(rows, nothing_declared, "service-a:latency_seconds").causes]
    assert ranked.index("stranger") < ranked.index("service-b"), "nobody said what the SLI depends on: anything can be it"


# -- how sure ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lead", "score", "noticed", "least", "most", "why"),
    [
        (0.05, 4.0, True, 0.1, 0.3, "the best of many rows by chance, and hardly ahead: a guess"),
        (0.40, 15.0, True, 0.85, 0.9, "far beyond chance and far ahead"),
        (0.01, 10.0, True, 0.5, 0.8, "beyond chance, but another one is, too"),
        (0.40, 15.0, False, 0.1, 0.6, "the SLI is as it always was: maybe nobody is to blame"),
        (1.00, 0.5, True, 0.0, 0.1, "nothing was seen at all"),
    ],
)
def test_where_nothing_typed_was_found_confidence_is_that_of_a_suspect_against_chance(
    lead: float, score: float, noticed: bool, least: float, most: float, why: str
) -> None:
    seen = Readings(lead=lead, typed=0.0, strength=1.0, graph=True, named=False, noticed=noticed, score=score, points=60)
    assert least <= confidence(seen) <= most, why


@pytest.mark.parametrize(
    ("sli", "found"),
    [
        ("gpu-0:gpu_power_watts", True),
        (SLI, False),
    ],
)
def test_three_equal_readings_are_a_fault_of_the_sensor_somebody_complains_about_and_of_no_other(sli: str, found: bool) -> None:
    power = noise(400.0, seed=50)
    power[-4:] = power[-4]
    rows = {**job_rows(), ("gpu-0", "gpu_power_watts"): power, ("gpu-0", "gpu_sm_active_ratio"): noise(0.8, seed=51)}
    report = look(rows, job_graph(4, ("rank-0", "gpu-0")), sli)
    assert (report.verdict is Cause.SENSOR_FAULT) is found
