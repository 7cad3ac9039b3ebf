"""A fault that outlasts the baseline: found at once, kept under one name while it lasts, ended when it is over."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from worlds import NOW, STEP, counter, job, one_host

from aiops.diagnose.continuity import LONGEST_S, LOST_S
from aiops.diagnose.engine import CausalDiagnoser
from aiops.model import Cause, Finding, Series, SeriesKey

HOURS = 5
POINTS = int(HOURS * 3600 / STEP)
TIMES = NOW - STEP * np.arange(POINTS - 1, -1, -1.0)
BEGAN, ENDED = float(TIMES[0]) + 5400.0, float(TIMES[0]) + 5400.0 + 3 * 3600.0
LABELS = {"job_id": "7", "run_id": "1", "rank": "0", "node": "h"}


def level(usual: float, faulty: float, seed: int) -> np.ndarray:
    values = np.where((TIMES >= BEGAN) & (TIMES < ENDED), faulty, usual)
    return values * (1 + 0.02 * np.random.default_rng(seed).standard_normal(POINTS))


def stored() -> list[Series]:
    """Five hours of a job that waits for a slow disk for three of them."""
    step = level(0.9, 1.5, 1)
    reads = np.full(POINTS, 100.0)
    rows = {
        ("job_step_duration_seconds", tuple(LABELS.items())): step,
        ("job_steps_total", tuple(LABELS.items())): counter(1 / step),
        ("job_data_wait_seconds_total", tuple(LABELS.items())): counter(level(0.02, 0.62, 2) / step),
        ("node_disk_reads_completed_total", (("node", "h"), ("device", "sda"))): counter(reads),
        ("node_disk_read_time_seconds_total", (("node", "h"), ("device", "sda"))): counter(reads * level(0.002, 0.05, 3)),
        ("node_pressure_io_waiting_seconds_total", (("node", "h"),)): counter(level(0.01, 0.6, 4)),
    }
    return [Series(key=SeriesKey.of(name, **dict(labels)), times=TIMES, values=v) for (name, labels), v in rows.items()]


def window(rows: Sequence[Series], now: float) -> list[Series]:
    keep = (now - 3600 < TIMES) & (now >= TIMES)
    return [replace(one, times=one.times[keep], values=one.values[keep]) for one in rows]


def live(until: float, every_s: float = 150.0) -> list[tuple[float, tuple[Finding, ...]]]:
    """What a daemon finds at each refresh from a quarter of an hour before the fault until `until`."""
    rows, cluster, known, seen = stored(), one_host(job(gpu_uuids=("GPU-1",))), (), []
    for now in np.arange(BEGAN - 900, until, every_s):
        known = CausalDiagnoser().diagnose(cluster, window(rows, float(now)), float(now), known)
        seen.append((float(now), known))
    return seen


def test_a_fault_of_three_hours_is_one_finding_from_its_beginning_to_its_end() -> None:
    seen = live(ENDED + 900)
    stalls = [(now, {f.id for f in found if f.cause is Cause.IO_STALL}) for now, found in seen]
    during = [ids for now, ids in stalls if BEGAN + 300 <= now < ENDED]
    assert all(len(ids) == 1 for ids in during), "named at every refresh, though after half an hour it is most of the window"
    assert len(set.union(*during)) == 1, "under one id"
    (since,) = {f.since for now, found in seen for f in found if f.cause is Cause.IO_STALL}
    assert since == pytest.approx(BEGAN, abs=30)
    assert not any(found for now, found in seen if now < BEGAN)
    assert not any(found for now, found in seen if now > ENDED + 300), "over when it is over"


def after_an_hour() -> tuple[list[Series], Finding]:
    (found,) = [f for f in live(BEGAN + 3600)[-1][1] if f.cause is Cause.IO_STALL]
    return stored(), found


def test_without_a_memory_a_long_fault_would_be_usual() -> None:
    rows, _ = after_an_hour()
    assert CausalDiagnoser().diagnose(one_host(job(gpu_uuids=("GPU-1",))), window(rows, BEGAN + 5400), BEGAN + 5400) == ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"at": BEGAN + 5400 - LOST_S - 1}, "a memory that old is none: the daemon was away"),
        ({"since": BEGAN + 5400 - LONGEST_S - 1}, "after a day it is how things are"),
        ({"cause": Cause.LOAD_CHANGE}, "a new load is the new usual at once"),
        ({"evidence_for": ()}, "nothing says what was usual"),
    ],
)
def test_what_is_no_memory_does_not_keep_a_finding(change: dict, why: str) -> None:
    rows, known = after_an_hour()
    now = BEGAN + 5400
    kept = replace(known, at=now - 30, **{k: v for k, v in change.items() if k != "at"})
    kept = replace(kept, at=change.get("at", kept.at))
    assert CausalDiagnoser().diagnose(one_host(job(gpu_uuids=("GPU-1",))), window(rows, now), now, (kept,)) == (), why


def test_a_series_that_ended_keeps_no_finding() -> None:
    rows, known = after_an_hour()
    now = BEGAN + 5400
    gone = [one for one in rows if one.key.metric != "job_step_duration_seconds"]
    known = replace(known, at=now - 30)
    assert CausalDiagnoser().diagnose(one_host(job(gpu_uuids=("GPU-1",))), window(gone, now), now, (known,)) == ()
