"""Jobs that tell no step time, and queues: what the scheduler and the GPUs know of them is enough to see that they suffer."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from worlds import NOW, counter, job, noise, one_host, series, shifted

from aiops.diagnose.engine import CausalDiagnoser
from aiops.model import Cause, JobState, Series


def activity(to: float) -> Series:
    return series("gpu_sm_active_ratio", np.clip(shifted(0.8, to, 12, seed=1), 0, 1), node="h", uuid="GPU-1")


def disk(latency: float) -> list[Series]:
    reads = np.full(120, 100.0)
    took = counter(reads * shifted(0.002, latency, 12, seed=3))
    return [
        series("node_disk_reads_completed_total", counter(reads), node="h", device="sda"),
        series("node_disk_read_time_seconds_total", took, node="h", device="sda"),
    ]


@pytest.mark.parametrize(
    ("active", "latency", "found", "why"),
    [
        (0.3, 0.05, {Cause.IO_STALL: "disk:h/sda"}, "its GPU idles and the disk under it got slow"),
        (0.8, 0.05, {}, "the disk got slow, and it does not matter to the GPU"),
        (0.3, 0.002, {}, "it idles and nothing says why: an evaluation, maybe; no finding without a cause"),
    ],
)
def test_a_job_without_hooks_is_seen_by_the_idle_share_of_its_gpus(
    active: float, latency: float, found: dict[Cause, str], why: str
) -> None:
    cluster = one_host(job(gpu_uuids=("GPU-1",)))
    findings = CausalDiagnoser().diagnose(cluster, [activity(active), *disk(latency)], NOW)
    assert {f.cause: f.subject for f in findings} == found, why
    assert all(f.sli == "job:7:job_gpu_idle_ratio" for f in findings)


def waiting(name: str, since_s: float, gpus: int) -> object:
    return replace(
        job(), id=name, state=JobState.QUEUED, queue="q", gpus=gpus, submitted_at=NOW - since_s, started_at=None, nodes=()
    )


def test_a_queue_that_waits_because_more_is_asked_of_it_has_a_change_of_load() -> None:
    running = replace(job(), submitted_at=NOW - 9000.0, started_at=NOW - 9000.0, gpus=4)
    cluster = one_host(running, waiting("a", 280.0, 8), waiting("b", 250.0, 8))
    (finding,) = CausalDiagnoser().diagnose(cluster, [series("node_load1", noise(1.0), node="h")], NOW)
    assert (finding.cause, finding.subject, finding.sli) == (Cause.LOAD_CHANGE, "queue:q", "queue:q:queue_wait_seconds")


def test_a_queue_in_which_nobody_waits_says_nothing() -> None:
    cluster = one_host(replace(job(), submitted_at=NOW - 9000.0, started_at=NOW - 9000.0))
    assert CausalDiagnoser().diagnose(cluster, [series("node_load1", noise(1.0), node="h")], NOW) == ()
