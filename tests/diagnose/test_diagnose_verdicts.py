"""Typed verdicts on a training job: the right word and the right part, and what forbids each."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from worlds import NOW, job_graph, job_rows, noise, panel, shifted

from aiops.diagnose.analysis import analyse
from aiops.diagnose.graph import Graph
from aiops.diagnose.report import Report
from aiops.model import Cause

SLI = "job:job_step_duration_seconds"
Rows = dict[tuple[str, str], np.ndarray]

VOLUME = (("rank-0", "volume-a"), ("rank-1", "volume-a"), ("volume-a", "tenant-x"), ("volume-a", "tenant-y"))
HOST = (("rank-0", "host-0"), ("rank-1", "host-0"))


def look(rows: Rows, graph: Graph, at: float = NOW, sli: str | None = SLI) -> Report:
    return analyse(panel(rows), graph, at, sli)


def volume(latency: float = 0.004, tenant: float = 1e8, last: int = 14) -> Rows:
    return {
        ("volume-a", "volume_read_latency_seconds"): shifted(0.004, latency, last, seed=11),
        ("tenant-x", "node_disk_read_bytes_per_s"): shifted(1e8, tenant, last, seed=12),
        ("tenant-y", "node_disk_read_bytes_per_s"): noise(1e8, seed=13),
    }


def host(busy: float = 0.4, free: float = 1e11, faults: float = 1.0, last: int = 14) -> Rows:
    return {
        ("host-0", "cpu_busy_ratio"): shifted(0.4, busy, last, seed=14),
        ("host-0", "node_memory_MemAvailable_bytes"): shifted(1e11, free, last, seed=15),
        ("host-0", "node_vmstat_pgmajfault"): np.clip(shifted(1.0, faults, last, seed=16), 0, None) * np.ones(120),
    }


def gpu(rank: int, last: int = 14, **to: float) -> Rows:
    usual = {"gpu_temperature_celsius": 60.0, "gpu_clock_hertz": 1.7e9, 'gpu_throttle_active{reason="sw_thermal"}': 0.0}
    usual |= {'gpu_throttle_active{reason="sw_power_cap"}': 0.0, "gpu_xid_errors_per_s": 0.0}
    short = {"temp": "gpu_temperature_celsius", "clock": "gpu_clock_hertz", "errors": "gpu_xid_errors_per_s"}
    short |= {"hot": 'gpu_throttle_active{reason="sw_thermal"}', "capped": 'gpu_throttle_active{reason="sw_power_cap"}'}
    new = {short[name]: value for name, value in to.items()}
    return {(f"gpu-{rank}", m): shifted(v, new.get(m, v), last, seed=20 + i) for i, (m, v) in enumerate(usual.items())}


WAITING = job_rows(data_0=0.5, data_1=0.5, comm_2=0.5, comm_3=0.5)
LATE = job_rows(compute_1=0.4, comm_0=0.4, comm_2=0.4, comm_3=0.4)
WORK = {f"samples_{rank}": (f"rank-{rank}", "job_samples_per_step") for rank in range(4)}


def samples(*more: int) -> Rows:
    return {key: shifted(64.0, 96.0 if rank in more else 64.0, 12, seed=30 + rank) for rank, key in enumerate(WORK.values())}


CASES = [
    ("slow storage", {**WAITING, **volume(latency=0.08)}, VOLUME, Cause.IO_STALL, "volume-a"),
    ("storage used up by a neighbour", {**WAITING, **volume(0.08, tenant=9e8)}, VOLUME, Cause.NOISY_NEIGHBOUR, "tenant-x"),
    ("storage well, CPUs full", {**WAITING, **volume(), **host(busy=0.99)}, (*VOLUME, *HOST), Cause.PREP_STALL, "host-0"),
    (
        "swapping loaders",
        {**WAITING, **volume(), **host(free=1e9, faults=500)},
        (*VOLUME, *HOST),
        Cause.MEMORY_PRESSURE,
        "host-0",
    ),
    ("one slow rank, no reason", LATE, (), Cause.STRAGGLER, "rank-1"),
    (
        "one hot GPU",
        {**LATE, **gpu(1, temp=92.0, clock=1.2e9, hot=1.0)},
        (("rank-1", "gpu-1"),),
        Cause.THERMAL_THROTTLE,
        "gpu-1",
    ),
    ("one capped GPU", {**LATE, **gpu(1, clock=1.2e9, capped=1.0)}, (("rank-1", "gpu-1"),), Cause.POWER_CAP, "gpu-1"),
    ("one broken GPU", {**LATE, **gpu(1, errors=0.5)}, (("rank-1", "gpu-1"),), Cause.GPU_FAULT, "gpu-1"),
    ("one rank got more data", {**LATE, **samples(1)}, (), Cause.DATA_IMBALANCE, "rank-1"),
    ("all ranks got more data", {**job_rows(compute=0.4), **samples(0, 1, 2, 3)}, (), Cause.LOAD_CHANGE, "job"),
    (
        "a stage with too many layers",
        job_rows(compute_0=0.4, compute_1=0.4, comm_2=0.4, comm_3=0.4),
        (("job", "stage-0"), ("stage-0", "rank-0"), ("stage-0", "rank-1")),
        Cause.STAGE_IMBALANCE,
        "stage-0",
    ),
    (
        "a congested link",
        {**job_rows(comm=0.5), ("link-0", "node_infiniband_np_ecn_marked_packets_per_s"): shifted(1.0, 900.0, 14, seed=40)},
        (("rank-0", "link-0"),),
        Cause.NET_CONTENTION,
        "link-0",
    ),
]


@pytest.mark.parametrize(("why", "rows", "edges", "cause", "subject"), CASES, ids=[case[0] for case in CASES])
def test_each_cause_is_told_by_what_it_alone_shows(why: str, rows: Rows, edges: tuple, cause: Cause, subject: str) -> None:
    report = look(rows, job_graph(4, *edges))
    assert (report.verdict, report.causes[0].entity) == (cause, subject)
    assert report.confidence > 0.7
    assert report.causes[0].evidence_for
    assert report.causes[0].counterfactual["step_s"] == pytest.approx(0.92, abs=0.15), "the step as it was"
    assert report.onset is not None and abs(report.onset - (NOW - 110)) <= 20


def test_every_entity_is_ranked_once() -> None:
    graph = job_graph(4, *VOLUME)
    names = [cause.entity for cause in look({**WAITING, **volume(latency=0.08)}, graph).causes]
    assert sorted(names) == sorted(graph.types)


def test_a_neighbour_who_rose_after_the_storage_did_is_not_blamed() -> None:
    rows = {**WAITING, **volume(latency=0.08), ("tenant-x", "node_disk_read_bytes_per_s"): shifted(1e8, 9e8, 4, seed=12)}
    assert look(rows, job_graph(4, *VOLUME)).verdict is Cause.IO_STALL


def test_storage_that_is_not_measured_does_not_count_as_healthy() -> None:
    report = look({**WAITING, **host()}, job_graph(4, *VOLUME, *HOST, **{"volume-a": "volume"}))
    assert (report.verdict, report.causes[0].entity) == (Cause.IO_STALL, "volume-a")


def test_two_causes_at_once_are_both_named() -> None:
    rows = {**job_rows(data_0=0.5, compute_1=0.5, comm_2=0.5, comm_3=0.5), **volume(latency=0.08), **gpu(1, hot=1.0, temp=95.0)}
    report = look(rows, job_graph(4, *VOLUME, ("rank-1", "gpu-1")))
    assert {(c.verdict, c.entity) for c in report.causes[:2]} == {
        (Cause.IO_STALL, "volume-a"),
        (Cause.THERMAL_THROTTLE, "gpu-1"),
    }


@pytest.mark.parametrize("late_s", [0, 60, 120, 180])
def test_being_told_late_changes_nothing(late_s: int) -> None:
    rows = {**job_rows(last=24, data_0=0.5, data_1=0.5, comm_2=0.5, comm_3=0.5), **volume(latency=0.08, last=26)}
    report = look(rows, job_graph(4, *VOLUME), at=NOW - 180 + late_s)
    assert (report.verdict, report.causes[0].entity) == (Cause.IO_STALL, "volume-a")


def test_a_normal_job_is_unknown_with_low_confidence() -> None:
    report = look({**job_rows(), **volume(), **host()}, job_graph(4, *VOLUME, *HOST))
    assert report.verdict is Cause.UNKNOWN
    assert report.confidence <= 0.5


def test_a_checkpoint_is_a_pause_and_not_a_fault() -> None:
    rows = job_rows()
    pause = np.zeros(120)
    pause[-5:-3] = 0.9
    rows["job", "job_step_duration_seconds"] = rows["job", "job_step_duration_seconds"] + 20 * pause
    rows["job", "job_checkpoint_seconds"] = pause
    assert look(rows, job_graph()).verdict is Cause.UNKNOWN


def test_without_hooks_a_gpu_that_stays_busy_while_the_others_idle_is_late() -> None:
    step = {("job", "job_step_duration_seconds"): shifted(0.9, 1.4, 12, seed=1)}
    busy = {(f"rank-{r}", "gpu_sm_active_ratio"): shifted(0.8, 0.8 if r == 2 else 0.5, 12, seed=r) for r in range(4)}
    report = look({**step, **busy}, job_graph())
    assert (report.verdict, report.causes[0].entity) == (Cause.STRAGGLER, "rank-2")


SENSORS = {
    ("gpu-0", "gpu_power_watts"): noise(400, seed=1),
    ("gpu-0", "gpu_utilization_ratio"): noise(0.9, seed=2),
    ("gpu-0", "gpu_sm_active_ratio"): noise(0.8, seed=3),
    ("gpu-0", "gpu_temperature_celsius"): noise(60, seed=4),
}


def spoiled(metric: str, values: np.ndarray) -> Rows:
    late = SENSORS["gpu-0", metric].copy()
    late[-len(values) :] = values
    return {**SENSORS, **job_rows(), ("gpu-0", metric): late}


@pytest.mark.parametrize(
    ("metric", "values", "why"),
    [
        ("gpu_temperature_celsius", np.full(20, 255.0), "no silicon lives at 255 degrees"),
        ("gpu_sm_active_ratio", np.zeros(20), "power, utilisation and the step say that it works"),
        ("gpu_power_watts", np.full(20, 401.234), "a working GPU's power never stands still"),
    ],
)
def test_a_sensor_that_cannot_be_believed_is_a_sensor_fault(metric: str, values: np.ndarray, why: str) -> None:
    report = look(spoiled(metric, values), job_graph(4, ("rank-0", "gpu-0")))
    assert (report.verdict, report.causes[0].entity) == (Cause.SENSOR_FAULT, "gpu-0"), why


@pytest.mark.parametrize(
    ("metric", "values", "why"),
    [
        (
            "gpu_temperature_celsius",
            np.repeat([60.0, 61.0, 60.0, 61.0, 60.0, 61.0], 20),
            "a coarse reading that has always stood so long",
        ),
        (
            "gpu_utilization_ratio",
            np.r_[np.tile([0.99, 0.98], 45), np.full(30, 0.99)],
            "a pinned utilisation says nothing anyway",
        ),
    ],
)
def test_a_reading_that_may_stand_still_is_not_frozen(metric: str, values: np.ndarray, why: str) -> None:
    rows = {**SENSORS, **job_rows(), ("gpu-0", metric): values}
    causes = look(rows, job_graph(4, ("rank-0", "gpu-0"))).causes
    assert not any(cause.verdict is Cause.SENSOR_FAULT for cause in causes), why
