"""Did it help? A job's step time before and after an action, from the series in the snapshot. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aiops.model import Cluster, JobState, Match, Matcher, Query, Series
from aiops.snapshot import Snapshot

BEFORE_S = 600.0
_LEAST_POINTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Median step time in the ten minutes before, and from the settling time on; `ratio` is the share saved."""

    before_s: float
    after_s: float

    @property
    def ratio(self) -> float:
        """Share of the step time that was saved; negative where it got worse."""
        return 1 - self.after_s / self.before_s


def queries(cluster: Cluster, window_s: float) -> tuple[Query, ...]:
    """Step times of the first rank of every running job; empty where none runs."""
    names = sorted(job.id for job in cluster.jobs if job.state is JobState.RUNNING)
    if not names:
        return ()
    which = (Matcher("job_id", "|".join(_escaped(name) for name in names), Match.REGEX), Matcher("rank", "0"))
    return (Query(metric="job_step_duration_seconds", matchers=which, window_s=window_s, step_s=30.0),)


def gain(snapshot: Snapshot, job: str, at: float, settle_s: float) -> Gain | None:
    """What an action at `at` did to a job's step; None while it has not settled or where either side is not measured."""
    if snapshot.now - at < settle_s:
        return None
    found = [one for series in snapshot.series.values() for one in series if one.key.metric == "job_step_duration_seconds"]
    mine = [one for one in found if one.key.label("job_id") == job]
    before = _between(mine, at - BEFORE_S, at)
    after = _between(mine, at + settle_s / 2, at + settle_s / 2 + BEFORE_S)
    return Gain(before_s=before, after_s=after) if before and after else None


def _between(series: Sequence[Series], start: float, end: float) -> float | None:
    values = [one.values[(one.times > start) & (one.times <= end) & np.isfinite(one.values)] for one in series]
    known = np.concatenate(values) if values else np.array([])
    return float(np.median(known)) if len(known) >= _LEAST_POINTS else None


def _escaped(name: str) -> str:
    return "".join(char if char.isalnum() or char in "_-" else f"[{char}]" for char in name)
