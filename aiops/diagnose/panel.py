"""Telemetry as one matrix: what was measured, on one time grid, ready for vectorised statistics.

The first room of a diagnosis. Points of any spacing become columns of a regular grid; counters become rates; NaN means
missing and stays so. Knows nothing of graphs or meanings beyond 'this is a counter'.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aiops.errors import UserError
from aiops.metrics import CATALOGUE, Kind
from aiops.model import Floats

MAX_COLUMNS = 2000
"""Grid columns kept, newest first: 5.5 hours at 10 s, a week at 5 min; older history adds cost and drift, not certainty."""
MAX_RESTARTS = 0.1
"""Share of falling steps above which a series is no counter: a noisy rate falls every other step, a process rarely restarts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """`values` (m, t) float64, one row per (entity, metric), NaN where missing; `times` (t,) ascending."""

    times: Floats
    step_s: float
    entities: tuple[str, ...]
    metrics: tuple[str, ...]
    values: Floats

    def take(self, rows: NDArray[np.intp]) -> Panel:
        """The given rows, in that order."""
        return replace(
            self,
            entities=tuple(self.entities[i] for i in rows),
            metrics=tuple(self.metrics[i] for i in rows),
            values=self.values[rows],
        )

    def until(self, at: float) -> Panel:
        """Without columns later than `at`."""
        keep = self.times <= at
        return replace(self, times=self.times[keep], values=self.values[:, keep])


def sound(panel: Panel) -> Panel:
    """The panel as statistics need it: infinite values are missing. UserError where it has no time or no order."""
    times = panel.times
    if not len(times) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise UserError("expected a panel with at least one time, and times that ascend")
    if not (np.isfinite(panel.step_s) and panel.step_s > 0):
        raise UserError(f"expected a step of more than 0 s, found {panel.step_s:g}")
    endless = np.isinf(panel.values)
    return replace(panel, values=np.where(endless, np.nan, panel.values)) if endless.any() else panel


def from_points(entities: NDArray[np.object_], metrics: NDArray[np.object_], times: Floats, values: Floats) -> Panel:
    """Panel from n points in any order, counters as rates; of two points in one grid cell the later row wins.

    ValueError where there is no finite value.
    """
    finite = np.isfinite(times) & np.isfinite(values)
    if not finite.any():
        raise ValueError("expected at least one finite value")
    entity, metric = np.unique(entities, return_inverse=True), np.unique(metrics, return_inverse=True)
    code, row = np.unique(entity[1] * len(metric[0]) + metric[1], return_inverse=True)
    step = _step(row[finite], times[finite])
    cell = np.rint((times - times[finite].min()) / step)
    grid = np.unique(cell[finite])[-MAX_COLUMNS:]
    kept = np.flatnonzero(finite & (cell >= grid[0]))
    at = (row[kept], np.searchsorted(grid, cell[kept]))
    matrix: Floats = np.full((len(code), len(grid)), np.nan)
    stamps = matrix.copy()  # a counter's rate needs the moment of reading: the grid's own would turn jitter into noise
    matrix[at], stamps[at] = values[kept], times[kept]
    names = tuple(str(name) for name in metric[0][code % len(metric[0])])
    for i, name in enumerate(names):
        if is_counter(name):
            matrix[i] = rate(matrix[i], stamps[i])
    return Panel(
        times=times[finite].min() + grid * step,
        step_s=step,
        entities=tuple(str(name) for name in entity[0][code // len(metric[0])]),
        metrics=names,
        values=matrix,
    )


def _step(row: NDArray[np.intp], times: Floats) -> float:
    """Typical spacing of the points of one series: the grid step. 60 s where every series has one point only."""
    order = np.lexsort((times, row))
    gap = np.diff(times[order])
    gap = gap[(np.diff(row[order]) == 0) & (gap > 0)]
    return float(np.median(gap)) if len(gap) else 60.0


def is_counter(metric: str) -> bool:
    """True where a metric only grows by convention: the catalogue says so, or its name ends in `_total`."""
    name = metric.partition("{")[0]
    row = CATALOGUE.get(name)
    return row.kind is Kind.COUNTER if row else name.endswith(("_total", "-total"))


def rate(counts: Floats, stamps: Floats) -> Floats:
    """(t,) growth per second since the reading before; a step down is a restart: missing, never negative.

    What is named like a counter but falls more often than things restart already is a rate, and is returned as it is.
    """
    known = np.flatnonzero(np.isfinite(counts))
    growth = np.diff(counts[known])
    if len(known) < 2 or (growth < 0).mean() > MAX_RESTARTS:
        return counts if len(known) != 1 else np.full_like(counts, np.nan)
    speed: Floats = np.full_like(counts, np.nan)
    speed[known[1:]] = np.where(growth >= 0, growth / np.diff(stamps[known]), np.nan)
    return speed
