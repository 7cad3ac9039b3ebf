"""From irregular points to regular grids: the one shape that models learn from.

Each grid point is the last value in its step (start exclusive, end inclusive), NaN where there is none. Knows no model.
"""

from __future__ import annotations

import numpy as np

from aiops.model import Floats, Series, SeriesKey
from aiops.ports import Grid

MAX_POINTS = 2_000_000
"""Points that one grid may have; a wrong step or a stray year-1970 stamp would otherwise ask for terabytes."""


def to_grid(series: Series, end: float, step_s: float, window_s: float | None = None) -> Grid:
    """The series on a grid that ends at `end`, at most `window_s` long. Points after `end` are never looked at.

    An unknown series, or one without a finite point in the window, gives a single NaN.
    """
    return grid_of(series.key, series.times, series.values, (end, step_s, window_s))


def grid_of(key: SeriesKey, times: Floats, values: Floats, span: tuple[float, float, float | None]) -> Grid:
    """As `to_grid`, from (n,) ascending times and values; `span` is (end, step_s, window_s)."""
    end, step_s, window_s = span
    keep = np.isfinite(values) & (times <= end)
    if window_s is not None:
        keep &= times > end - window_s
    keep &= times > end - MAX_POINTS * step_s
    back = np.floor((end - times[keep]) / step_s + 1e-9).astype(np.int64)
    grid = np.full(int(back.max()) + 1 if len(back) else 1, np.nan)
    grid[len(grid) - 1 - back] = values[keep]  # ascending times: the last point of a step is written last
    return Grid(key=key, start=end - step_s * (len(grid) - 1), step_s=step_s, values=grid)


def times_of(grid: Grid) -> Floats:
    """(n,) Unix times of the grid points."""
    return np.asarray(grid.start + grid.step_s * np.arange(len(grid.values), dtype=np.float64))


def median_step(times: Floats) -> float:
    """The usual distance of ascending times in seconds; 300 where fewer than two are known."""
    gaps = np.diff(times)
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if len(gaps) else 300.0
