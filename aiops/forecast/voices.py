"""What every expert says of many series at the asked moments, by the models that could exist then.

Below `live`, which learns and says, and `record`, which keeps what was said. A panel is a matrix (s, n) of series that end at
the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.forecast.experts import BOOST, NAMES, PROPHET, rule_bands
from aiops.forecast.features import DAY_S, ERROR_QUANTILES, describe
from aiops.forecast.regression import Trained
from aiops.forecast.rolling import Ask
from aiops.forecast.trend import Calendar, CorrectedCurve, Shape, local_days
from aiops.model import Floats, SeriesKey
from aiops.ports import Grid

CHUNK = 250
"""Series described at once: bounds memory at about 300 MB for 14 days of five-minute points."""

Shapes = Mapping[SeriesKey, Shape]


@dataclass(frozen=True, slots=True)
class Voices:
    """Who may speak besides the simple rules: the global model and Prophet's shapes, on a calendar."""

    ask: Ask
    calendar: Calendar
    model: Trained | None
    shapes: Shapes

    def bands(self, panel: Sequence[Grid], values: Floats, cols: NDArray[np.int64]) -> Floats:
        """(s, m, a, e, q) what every expert says at the asked columns (m,) of (s, n) `values`; NaN where one is silent."""
        out = np.full((len(values), len(cols), len(self.ask.anchors), len(NAMES), len(ERROR_QUANTILES)), np.nan)
        if not len(cols) or not len(values):
            return out
        beat = clock(panel, cols, (self.ask, self.calendar, values.shape[1]))
        for i in range(0, len(values), CHUNK):
            part = values[i : i + CHUNK]
            out[i : i + CHUNK, :, :, :BOOST] = rule_bands(part, cols, self.ask.step_s, self.ask.anchors)
            if self.model is not None:
                said = self.model.bands(describe(part, cols, beat, self.ask.anchors))
                out[i : i + CHUNK, :, :, BOOST] = said.reshape(len(part), len(cols), *said.shape[1:])
        self._draw(panel, (cols, values.shape[1]), out)
        return out

    def _draw(self, panel: Sequence[Grid], at: tuple[NDArray[np.int64], int], out: Floats) -> None:
        curve, (cols, n) = CorrectedCurve(self.shapes), at
        for index, grid in enumerate(panel):
            if grid.key in self.shapes:
                for place, col in enumerate(cols):
                    out[index, place, :, PROPHET] = _prophet(curve, grid, int(n - 1 - col), self.ask)


def clock(panel: Sequence[Grid], columns: NDArray[np.int64], by: tuple[Ask, Calendar, int]) -> tuple[float, Floats]:
    """(step, times (m,)) of the columns of a panel's matrix with n columns, by the calendar's clock."""
    ask, calendar, n = by
    end = max(grid.end for grid in panel)
    times = np.asarray(end - ask.step_s * (n - 1 - columns), dtype=np.float64)
    return ask.step_s, times if calendar.zone == "UTC" else local_days(times, calendar.zone) * DAY_S


def matrix(panel: Sequence[Grid]) -> Floats:
    """(s, n) values, right-aligned, NaN before a series begins."""
    n = max(len(grid.values) for grid in panel)
    values = np.full((len(panel), n), np.nan)
    for row_, grid in zip(values, panel, strict=True):
        row_[n - len(grid.values) :] = grid.values
    return values


def _prophet(curve: CorrectedCurve, grid: Grid, back: int, ask: Ask) -> Floats:
    history = Grid(key=grid.key, start=grid.start, step_s=grid.step_s, values=grid.values[: len(grid.values) - back])
    try:
        band = curve.predict(history, ask.steps, np.array(ERROR_QUANTILES))
    except ValueError:
        return np.full((len(ask.anchors), len(ERROR_QUANTILES)), np.nan)
    return band[:, np.array(ask.anchors) - 1].T
