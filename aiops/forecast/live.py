"""The ensemble, refreshed as time goes on: learnt once a day, said every few minutes, judged by what came.

`learn` fits the global model (and `draw` Prophet's shapes) on a panel, with and without the newest moments; `say` forecasts
from the newest column, weighed and calibrated by the record, and lets the record grow. Values are passed in and out: workers
hold nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from aiops.forecast import record
from aiops.forecast.calibration import settle
from aiops.forecast.features import carry_forward, describe
from aiops.forecast.record import Said
from aiops.forecast.regression import MAX_ROWS, Trained, join, train, truths_at
from aiops.forecast.rolling import Ask, row
from aiops.forecast.trend import Calendar, fit_shapes
from aiops.forecast.voices import CHUNK, Shapes, Voices, clock, matrix
from aiops.model import Floats, Forecast
from aiops.ports import Grid

MIN_TRAIN_COLUMNS = 16


@dataclass(frozen=True, slots=True)
class Learnt:
    """What fits for a panel of `series` series gave, for now and from before the held-out moments: plain data and trees."""

    at: float
    series: int
    model: Trained | None
    earlier: Trained | None
    shapes: Shapes = field(default_factory=dict)
    earlier_shapes: Shapes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judged:
    """Forecasts of a panel, and the record to pass in next time."""

    forecasts: tuple[Forecast, ...]
    said: Said


def learn(panel: Sequence[Grid], ask: Ask, calendar: Calendar) -> Learnt:
    """Fit the global model on a sample of a panel of `ask.series`, with and without the newest moments."""
    values = matrix(panel)
    last, held = values.shape[1] - 1, held_out(values.shape[1], ask)
    model = _train(panel, values, last - ask.steps, (ask, calendar))
    earlier = _train(panel, values, last - ask.steps - held, (ask, calendar)) if held else None
    return Learnt(max(grid.end for grid in panel), ask.series, model, earlier)


def draw(panel: Sequence[Grid], ask: Ask, calendar: Calendar, warm: Shapes) -> tuple[Shapes, Shapes]:
    """Prophet's shape of each series, and those from before the newest moments; a fit starts from the one in `warm`."""
    held = held_out(max(len(grid.values) for grid in panel), ask)
    before = [
        Grid(key=g.key, start=g.start, step_s=g.step_s, values=g.values[:-held]) for g in panel if len(g.values) > held > 0
    ]
    shapes = fit_shapes(panel, calendar, warm)
    return shapes, fit_shapes(before, calendar, shapes)


def held_out(columns: int, ask: Ask) -> int:
    """How many of the newest columns judge what was learnt without them."""
    held = round(record.HELD_OUT_S / ask.step_s)
    return held if columns > 3 * held else columns // 3


def _train(panel: Sequence[Grid], values: Floats, last: int, by: tuple[Ask, Calendar]) -> Trained | None:
    """A model of the moments up to column `last`: evenly spaced columns, and of many series only every k-th."""
    ask, calendar = by
    if last < 2 * ask.steps:
        return None
    columns = min(last - ask.steps, max(MIN_TRAIN_COLUMNS, MAX_ROWS // len(values)))
    cols = np.unique(np.linspace(ask.steps, last, columns).astype(np.int64))
    picked = values[:: max(1, len(values) * len(cols) // MAX_ROWS)]
    beat = clock(panel, cols, (ask, calendar, values.shape[1]))
    parts = [describe(picked[i : i + CHUNK], cols, beat, ask.anchors) for i in range(0, len(picked), CHUNK)]
    return train(join(parts), truths_at(picked, cols, ask.anchors).reshape(-1, len(ask.anchors)), ask.anchors)


def say(panel: Sequence[Grid], ask: Ask, calendar: Calendar, learnt: Learnt, said: Said | None) -> Judged:
    """Forecast every series of the panel from its newest column; none is dropped. The record starts or grows as needed."""
    values, end, ask = matrix(panel), max(grid.end for grid in panel), replace(ask, series=learnt.series)
    earlier, said = Voices(ask, calendar, learnt.earlier, learnt.earlier_shapes), said and said.until(end)
    if said is None or not said.mostly_of(panel, ask):
        said = record.first(panel, values, earlier)
    elif said.keys != tuple(grid.key for grid in panel):
        said = said.carried(panel, values, (earlier, learnt.at))
    now = np.array([values.shape[1] - 1])
    bands = Voices(ask, calendar, learnt.model, learnt.shapes).bands(panel, values, now)[:, 0]
    settled = settle(said.track(panel, values, ask), bands, carry_forward(values)[:, -1])
    made = tuple(row(grid, end, (settled, index), ask) for index, grid in enumerate(panel))
    return Judged(made, said.grown(end, bands))


def group(panel: Sequence[Grid], size: int) -> list[tuple[Grid, ...]]:
    """The panel in groups that are forecast together, in order; groups are the same for any number of workers."""
    return [tuple(panel[i : i + size]) for i in range(0, len(panel), size)]
