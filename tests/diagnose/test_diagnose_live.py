"""The live door on one host: quiet when all is well, and the right part named when it is not."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from worlds import NOW, counter, job, noise, one_host, series, shifted

from aiops.diagnose.engine import CausalDiagnoser
from aiops.model import Cause, Series


def host(last: int = 12, io: float = 0.01, cpu: float = 0.01, latency: float = 0.002, thermal: float = 0.0) -> list[Series]:
    reads = np.full(120, 100.0)
    return [
        series("node_pressure_io_waiting_seconds_total", counter(shifted(0.01, io, last, seed=1)), node="h"),
        series("node_pressure_cpu_waiting_seconds_total", counter(shifted(0.01, cpu, last, seed=2)), node="h"),
        series("node_disk_reads_completed_total", counter(reads), node="h", device="sda"),
        series(
            "node_disk_read_time_seconds_total", counter(reads * shifted(0.002, latency, last, seed=3)), node="h", device="sda"
        ),
        series("gpu_throttle_active", shifted(0.0, thermal, last, ratio=0.0), node="h", uuid="GPU-1", reason="sw_thermal"),
        series("gpu_temperature_celsius", np.rint(noise(60, seed=4)), node="h", uuid="GPU-1", sensor="gpu"),
    ]


def rank(data: float = 0.02, last: int = 12) -> list[Series]:
    step = shifted(0.9, 0.88 + data, last, seed=5)
    labels = {"job_id": "7", "run_id": "1", "rank": "0", "node": "h"}
    return [
        series("job_step_duration_seconds", step, **labels),
        series("job_steps_total", counter(1 / step), **labels),
        series("job_data_wait_seconds_total", counter(shifted(0.02, data, last, seed=6) / step), **labels),
        series("job_compute_seconds_total", counter(0.88 / step), **labels),
    ]


def found(*more: Series) -> dict[Cause, str]:
    cluster = one_host(job(gpu_uuids=("GPU-1",)))
    return {f.cause: f.subject for f in CausalDiagnoser().diagnose(cluster, list(more), NOW)}


def test_a_healthy_host_with_a_job_gives_no_finding() -> None:
    assert found(*host(), *rank()) == {}


@pytest.mark.parametrize(
    ("what", "cause", "subject", "why"),
    [
        ({"io": 0.6, "latency": 0.05}, Cause.IO_STALL, "disk:h/sda", "tasks wait for I/O and this disk got slow"),
        ({"cpu": 0.7}, Cause.CPU_CONTENTION, "host:h", "tasks wait for a CPU most of the time"),
        ({"thermal": 1.0}, Cause.THERMAL_THROTTLE, "gpu:GPU-1", "the bit says so"),
    ],
)
def test_a_host_beyond_its_limits_is_found_without_any_job(
    what: dict[str, float], cause: Cause, subject: str, why: str
) -> None:
    assert found(*host(**what)) == {cause: subject}, why


def test_a_job_that_waits_for_a_slow_disk_is_an_io_stall_with_its_price() -> None:
    cluster = one_host(job(gpu_uuids=("GPU-1",)))
    findings = CausalDiagnoser().diagnose(cluster, [*host(io=0.6, latency=0.05), *rank(data=0.6)], NOW)
    first = findings[0]
    assert (first.cause, first.subject, first.sli) == (Cause.IO_STALL, "disk:h/sda", "job:7:job_step_duration_seconds")
    assert first.chain == ("job:7", "rank:7/0", "host:h", "disk:h/sda")
    assert first.counterfactual["step_s"] < 1.0 < first.counterfactual["step_now_s"]
    assert first.since is not None and abs(first.since - (NOW - 110)) <= 30
    assert [f.cause for f in findings] == [Cause.IO_STALL], "one cause, one finding"


@pytest.mark.parametrize(
    ("started_s_ago", "cause", "neighbour", "why"),
    [
        (125.0, Cause.NOISY_NEIGHBOUR, "tenant:9", "it came just before the disk got slow"),
        (30.0, Cause.IO_STALL, None, "it came when the disk had long been slow"),
        (5000.0, Cause.IO_STALL, None, "it has been there all along"),
    ],
)
def test_a_job_that_started_beside_the_victim_is_named_as_the_neighbour(
    started_s_ago: float, cause: Cause, neighbour: str | None, why: str
) -> None:
    other = replace(job(), id="9", started_at=NOW - started_s_ago)
    victim = replace(job(gpu_uuids=("GPU-1",)), started_at=NOW - 130.0)
    cluster = one_host(victim, other)
    first = CausalDiagnoser().diagnose(cluster, [*host(io=0.6, latency=0.05), *rank(data=0.6)], NOW)[0]
    assert (first.cause, first.neighbour) == (cause, neighbour), why
    assert (neighbour is None) or first.chain[-2:] == ("disk:h/sda", "tenant:9")


def test_the_neighbour_that_crowds_a_host_is_named_with_it() -> None:
    cluster = one_host(job(gpu_uuids=("GPU-1",)), replace(job(), id="9", started_at=NOW - 125.0))
    found = CausalDiagnoser().diagnose(cluster, [*host(cpu=0.7), *rank(data=0.6)], NOW)
    assert {(f.cause, f.subject, f.neighbour) for f in found} == {
        (Cause.PREP_STALL, "host:h", "tenant:9"),
        (Cause.CPU_CONTENTION, "host:h", "tenant:9"),
    }


def test_a_job_that_waits_for_data_while_storage_is_well_is_a_preparation_stall() -> None:
    assert found(*host(cpu=0.7), *rank(data=0.6))[Cause.PREP_STALL] == "host:h"


@pytest.mark.parametrize(
    ("readings", "seen", "why"),
    [
        (6, True, "a minute of equal readings of a working GPU's power, at one reading in ten seconds"),
        (2, False, "two equal readings happen"),
        (0, False, "it is well"),
    ],
)
def test_a_frozen_sensor_is_found_at_one_reading_in_ten_seconds(readings: int, seen: bool, why: str) -> None:
    watts = np.round(noise(400.0, seed=9, ratio=0.01), 1)
    watts[len(watts) - readings :] = watts[len(watts) - readings - 1]
    power = series("gpu_power_watts", watts, node="h", uuid="GPU-1")
    assert (found(*host(), power).get(Cause.SENSOR_FAULT) == "gpu:GPU-1") is seen, why


@pytest.mark.parametrize("values", [np.array([]), np.array([1.0]), np.full(50, np.nan)])
def test_hardly_any_data_gives_no_finding_and_no_error(values: np.ndarray) -> None:
    assert found(series("node_load1", values, node="h")) == {}


def test_everything_that_is_read_is_declared() -> None:
    names = {query.metric for query in CausalDiagnoser().needs()}
    assert {one.key.metric for one in (*host(), *rank())} <= names
    assert all(query.window_s <= 3600 and query.step_s == 10 for query in CausalDiagnoser().needs())
