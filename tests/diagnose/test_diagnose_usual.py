"""A fault that has ended is not what is usual: a second, smaller one is found while the first is still in the window."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from worlds import NOW, STEP, counter, job, one_host

from aiops.diagnose.engine import CausalDiagnoser
from aiops.model import Cause, Finding, Series, SeriesKey

POINTS = 360
TIMES = NOW - STEP * np.arange(POINTS - 1, -1, -1.0)
FIRST = (NOW - 3300.0, NOW - 1200.0)
SECOND = NOW - 120.0
CLUSTER = one_host(job(gpu_uuids=("GPU-1",)))
LABELS = {"job_id": "7", "run_id": "1", "rank": "0", "node": "h"}


def level(usual: float, first: float, second: float, seed: int) -> np.ndarray:
    during = (FIRST[0] <= TIMES) & (FIRST[1] >= TIMES)
    values = np.where(during, first, np.where(TIMES >= SECOND, second, usual))
    return values * (1 + 0.02 * np.random.default_rng(seed).standard_normal(POINTS))


def stored(second: float = 0.4) -> list[Series]:
    """An hour in which a slow disk cost 0.9 s of every step for 35 minutes, and costs `second` s since two minutes ago."""
    step, reads = level(0.9, 1.8, 0.9 + second, 1), np.full(POINTS, 100.0)
    rows = {
        ("job_step_duration_seconds", tuple(LABELS.items())): step,
        ("job_steps_total", tuple(LABELS.items())): counter(1 / step),
        ("job_data_wait_seconds_total", tuple(LABELS.items())): counter(level(0.02, 0.92, 0.02 + second, 2) / step),
        ("node_disk_reads_completed_total", (("node", "h"), ("device", "sda"))): counter(reads),
        ("node_disk_read_time_seconds_total", (("node", "h"), ("device", "sda"))): counter(
            reads * level(0.002, 0.05, 0.002 + 0.04 * second, 3)
        ),
    }
    return [Series(key=SeriesKey.of(name, **dict(labels)), times=TIMES, values=v) for (name, labels), v in rows.items()]


def earlier(**changes: object) -> Finding:
    """What was found of the first fault, and ended."""
    finding = Finding(
        id=f"io_stall:disk:h/sda@{FIRST[0]:.0f}", at=FIRST[1], cause=Cause.IO_STALL, subject="disk:h/sda", score=5.0,
        confidence=0.9, since=FIRST[0], sli="job:7:job_step_duration_seconds",
        chain=("job:7", "rank:7/0", "host:h", "disk:h/sda"),
    )  # fmt: skip
    return replace(finding, **changes)


@pytest.mark.parametrize(
    ("known", "found", "why"),
    [
        ((earlier(),), True, "the first fault is known, so that its 35 minutes are not what is usual"),
        ((), False, "unknown, it is most of the hour"),
        ((earlier(cause=Cause.LOAD_CHANGE),), False, "a load is no fault: the new one is the new usual"),
        ((earlier(since=NOW - 3600.0, at=NOW - 400.0),), False, "nearly nothing else would be left to compare with"),
        ((earlier(chain=("job:8", "disk:other/sda"), subject="disk:other/sda"),), False, "another job's"),
    ],
)
def test_a_second_fault_is_found_where_the_first_is_known(known: tuple[Finding, ...], found: bool, why: str) -> None:
    findings = CausalDiagnoser().diagnose(CLUSTER, stored(), NOW, known)
    assert [f.subject for f in findings if f.cause is Cause.IO_STALL] == (["disk:h/sda"] if found else []), why


def test_after_a_known_fault_all_is_well_again() -> None:
    assert CausalDiagnoser().diagnose(CLUSTER, stored(second=0.0), NOW, (earlier(),)) == ()


def test_a_second_fault_is_an_episode_of_its_own() -> None:
    (finding,) = [f for f in CausalDiagnoser().diagnose(CLUSTER, stored(), NOW, (earlier(),)) if f.cause is Cause.IO_STALL]
    assert finding.id != earlier().id
    assert finding.since == pytest.approx(SECOND, abs=20.0)
