"""The ensemble, refreshed as time goes on: learnt once a day, said every few minutes, judged by what came.

`learn` fits the global model (and Prophet's shapes where asked) on a panel and starts a track on held-out moments; `say`
forecasts from the newest column, weighed and calibrated by the track, and lets the track grow. Values are passed in and
out: workers hold nothing. A panel is a matrix (s, n) of series that end at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from aiops.forecast.calibration import Track, settle
from aiops.forecast.experts import BOOST, NAMES, PROPHET, rule_bands
from aiops.forecast.features import DAY_S, ERROR_QUANTILES, HOUR_S, describe
from aiops.forecast.regression import MAX_ROWS, Trained, join, train, truths_at
from aiops.forecast.rolling import Ask, row
from aiops.forecast.trend import Calendar, CorrectedCurve, Shape, fit_shapes, local_days
from aiops.model import Floats, Forecast, SeriesKey
from aiops.ports import Grid

HELD_OUT_S = 36 * HOUR_S
"""The newest day and a half judges a first model, so that a fresh start has a record at once."""

FIRST_MOMENTS = (12, 144)
"""Fewest and most held-out moments that judge a fresh start: a dozen are noise, but ten thousand series cannot have more."""
FIRST_BANDS = 20_000
"""Series times moments of a first track that are worth their seconds."""
TRACK_S = 4 * DAY_S
TRACK_EVERY_S = HOUR_S
CHUNK = 250
"""Series described at once: bounds memory at about 300 MB for 14 days of five-minute points."""

MIN_TRAIN_COLUMNS = 16


Shapes = Mapping[SeriesKey, Shape]


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
class Said:
    """What the experts said about `keys` at `times` (m,): `bands` (s, m, a, e, q) float32. The record to be judged by."""

    keys: tuple[SeriesKey, ...]
    times: Floats
    bands: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Judged:
    """Forecasts of a panel, and the track to pass in next time."""

    forecasts: tuple[Forecast, ...]
    said: Said


def learn(panel: Sequence[Grid], ask: Ask, calendar: Calendar) -> Learnt:
    """Fit the global model on a sample of a panel of `ask.series`, with and without the newest moments."""
    values = matrix(panel)
    end, last, held = max(grid.end for grid in panel), values.shape[1] - 1, held_out(values.shape[1], ask)
    model = _train(values, (end, last - ask.steps), (ask, calendar))
    earlier = _train(values, (end, last - ask.steps - held), (ask, calendar)) if held else None
    return Learnt(end, ask.series, model, earlier)


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
    held = round(HELD_OUT_S / ask.step_s)
    return held if columns > 3 * held else columns // 3


def matrix(panel: Sequence[Grid]) -> Floats:
    """(s, n) values, right-aligned, NaN before a series begins."""
    n = max(len(grid.values) for grid in panel)
    values = np.full((len(panel), n), np.nan)
    for row_, grid in zip(values, panel, strict=True):
        row_[n - len(grid.values) :] = grid.values
    return values


def _clock(end: float, columns: NDArray[np.int64], by: tuple[Ask, Calendar, int]) -> tuple[float, Floats]:
    ask, calendar, n = by
    times = np.asarray(end - ask.step_s * (n - 1 - columns), dtype=np.float64)
    return ask.step_s, times if calendar.zone == "UTC" else local_days(times, calendar.zone) * DAY_S


def _train(values: Floats, until: tuple[float, int], by: tuple[Ask, Calendar]) -> Trained | None:
    """A model of the moments up to column `until[1]`: evenly spaced columns, and of many series only every k-th."""
    (end, last), (ask, calendar) = until, by
    if last < 2 * ask.steps:
        return None
    columns = min(last - ask.steps, max(MIN_TRAIN_COLUMNS, MAX_ROWS // len(values)))
    cols = np.unique(np.linspace(ask.steps, last, columns).astype(np.int64))
    picked = values[:: max(1, len(values) * len(cols) // MAX_ROWS)]
    beat = _clock(end, cols, (ask, calendar, values.shape[1]))
    parts = [describe(picked[i : i + CHUNK], cols, beat, ask.anchors) for i in range(0, len(picked), CHUNK)]
    return train(join(parts), truths_at(picked, cols, ask.anchors).reshape(-1, len(ask.anchors)), ask.anchors)


def say(panel: Sequence[Grid], ask: Ask, calendar: Calendar, learnt: Learnt, said: Said | None) -> Judged:
    """Forecast every series of the panel from its newest column; none is dropped. The track starts or grows as needed."""
    values, end = matrix(panel), max(grid.end for grid in panel)
    keys, ask = tuple(grid.key for grid in panel), replace(ask, series=learnt.series)
    if said is None or said.keys != keys or said.bands.shape[2] != len(ask.anchors):
        said = _first_track(panel, values, (ask, calendar, learnt))
    now = np.array([values.shape[1] - 1])
    bands = _bands(panel, values, now, (ask, calendar, learnt.model, learnt.shapes))[:, 0]
    settled = settle(_track(values, end, said, ask), bands, values[:, -1])
    made = tuple(row(grid, end, (settled, index), ask) for index, grid in enumerate(panel))
    return Judged(made, _grown(said, end, bands))


def _first_track(panel: Sequence[Grid], values: Floats, by: tuple[Ask, Calendar, Learnt]) -> Said:
    ask, calendar, learnt = by
    end, n = max(grid.end for grid in panel), values.shape[1]
    held = min(round(HELD_OUT_S / ask.step_s), n // 3)
    moments = int(np.clip(FIRST_BANDS // len(panel), *FIRST_MOMENTS))
    cols = (
        np.unique(np.linspace(n - 1 - held, n - 1 - ask.steps, moments).astype(np.int64))
        if held > ask.steps
        else np.zeros(0, int)
    )
    bands = _bands(panel, values, cols, (ask, calendar, learnt.earlier, learnt.earlier_shapes))
    times = np.asarray(end - ask.step_s * (n - 1 - cols), dtype=np.float64)
    return Said(tuple(grid.key for grid in panel), times, bands.astype(np.float32))


_Voices = tuple[Ask, Calendar, Trained | None, Shapes]


def _bands(panel: Sequence[Grid], values: Floats, cols: NDArray[np.int64], by: _Voices) -> Floats:
    """(s, m, a, e, q) what every expert says at the asked columns."""
    ask, calendar, model, shapes = by
    end = max(grid.end for grid in panel)
    out = np.full((len(values), len(cols), len(ask.anchors), len(NAMES), len(ERROR_QUANTILES)), np.nan)
    if not len(cols):
        return out
    beat = _clock(end, cols, (ask, calendar, values.shape[1]))
    for i in range(0, len(values), CHUNK):
        part = values[i : i + CHUNK]
        out[i : i + CHUNK, :, :, :BOOST] = rule_bands(part, cols, ask.step_s, ask.anchors)
        if model is not None:
            said = model.bands(describe(part, cols, beat, ask.anchors))
            out[i : i + CHUNK, :, :, BOOST] = said.reshape(len(part), len(cols), *said.shape[1:])
    curve = CorrectedCurve(shapes)
    for index, grid in enumerate(panel):
        if grid.key in shapes:
            for place, col in enumerate(cols):
                out[index, place, :, PROPHET] = _prophet(curve, grid, int(values.shape[1] - 1 - col), ask)
    return out


def _prophet(curve: CorrectedCurve, grid: Grid, back: int, ask: Ask) -> Floats:
    history = Grid(key=grid.key, start=grid.start, step_s=grid.step_s, values=grid.values[: len(grid.values) - back])
    try:
        band = curve.predict(history, ask.steps, np.array(ERROR_QUANTILES))
    except ValueError:
        return np.full((len(ask.anchors), len(ERROR_QUANTILES)), np.nan)
    return band[:, np.array(ask.anchors) - 1].T


def _track(values: Floats, end: float, said: Said, ask: Ask) -> Track:
    n, step_s = values.shape[1], ask.step_s
    cols = np.round(n - 1 - (end - said.times) / step_s).astype(np.int64)
    inside = np.flatnonzero(cols >= 0)
    cols, bands = cols[inside], said.bands[:, inside].astype(np.float64)
    known = np.isfinite(values)
    own = np.where(known.any(axis=1), n - known.argmax(axis=1), 0) * step_s / DAY_S
    alike = (values[:, cols] == 0) == (values[:, [-1]] == 0)
    ages = (end - said.times[inside]) / DAY_S
    gap = float(np.median(np.diff(said.times))) / step_s if len(said.times) > 1 else 1.0
    overlap = np.maximum(1.0, np.array(ask.anchors) / max(gap, 1.0))
    return Track(bands, truths_at(values, cols, ask.anchors), alike, ages, overlap, own)


def _grown(said: Said, end: float, bands: Floats) -> Said:
    if len(said.times) and end - said.times[-1] < TRACK_EVERY_S:
        return said
    keep = said.times > end - TRACK_S
    grown = np.concatenate([said.bands[:, keep], bands[:, None].astype(np.float32)], axis=1)
    return Said(said.keys, np.append(said.times[keep], end), grown)


def group(panel: Sequence[Grid], size: int) -> list[tuple[Grid, ...]]:
    """The panel in groups that are forecast together, in order; groups are the same for any number of workers."""
    return [tuple(panel[i : i + size]) for i in range(0, len(panel), size)]
