"""Forecasts of a whole file from many origins, each from what was known then and nothing else.

The global model is trained at day boundaries from the first row on (`schedule`), each origin uses the one that existed
then, and the ensemble is weighed and calibrated on what earlier models said about moments whose outcome was known by the
origin. Cutting the file at an origin therefore changes nothing about that origin's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aiops.forecast.bands import settle_band, stretch
from aiops.forecast.calibration import Settled, Track, settle
from aiops.forecast.experts import BOOST, NAMES, rule_bands
from aiops.forecast.features import DAY_S, Described, describe
from aiops.forecast.gate import fallback, patience, refusal, unready
from aiops.forecast.panel import grid_of, times_of
from aiops.forecast.regression import MAX_ROWS, TRAIN_DAYS, Trained, anchors_for, at_quantiles, join, take, train, truths_at
from aiops.model import Floats, Forecast, Series
from aiops.ports import Grid

GROWTH = 1.12
"""Retrain when history has grown by an eighth, at most daily: later models differ less and less."""

TRACK_DAYS = 4.0
TRACK_PER_DAY = 144


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What to forecast: `steps` of `step_s` ahead, at ascending `quantiles`, for a panel of so many `series`."""

    step_s: float
    steps: int
    quantiles: Floats
    series: int = 1

    @property
    def anchors(self) -> tuple[int, ...]:
        """Horizons with models of their own."""
        return anchors_for(self.steps, self.series)


@dataclass(slots=True)
class _Line:
    """One series on its own grid, with everything that was said at each of its columns: `bands` (n, a, e, q)."""

    series: Series
    grid: Grid
    seen: Described
    truths: Floats
    bands: Floats

    @property
    def times(self) -> Floats:
        return times_of(self.grid)


def schedule(first: float, last: float) -> tuple[float, ...]:
    """Times at which the global model is trained: midnights (UTC) from a day after `first`, ever rarer, up to `last`."""
    times, age = [], DAY_S
    while first + age <= last:
        boundary = float(np.ceil((first + age) / DAY_S) * DAY_S)
        if boundary <= last:
            times.append(boundary)
        age = max(boundary - first + DAY_S / 2, (boundary - first) * GROWTH)
    return tuple(times)


def forecast_origins(
    series: Sequence[Series], origins: Sequence[float], ask: Ask, progress: Callable[[float], None] = lambda share: None
) -> Iterator[Forecast]:
    """Forecasts of every series that has a point by then, from each origin, in the order of origins, then series.

    `progress` hears the share that is done.
    """
    ends, ask = sorted(set(origins)), replace(ask, series=len(series))
    lines = [_line(s, ends[-1], ask) for s in series]
    known = [line for line in lines if line is not None]
    models = _train_all(known, (ends[0], ends[-1]), ask, lambda share: progress(0.9 * share))
    for index, origin in enumerate(ends):
        yield from _at(origin, known, models, ask)
        progress(0.9 + 0.1 * (index + 1) / len(ends))


def _line(series: Series, end: float, ask: Ask) -> _Line | None:
    finite = np.flatnonzero(np.isfinite(series.values))
    if not len(finite) or series.times[finite[0]] > end:
        return None
    start = float(series.times[finite[0]])
    last = start + np.floor((end - start) / ask.step_s + 1e-9) * ask.step_s
    grid = grid_of(series.key, series.times, series.values, (last, ask.step_s, None))
    cols = np.arange(len(grid.values))
    seen = describe(grid.values[None], cols, (ask.step_s, times_of(grid)), ask.anchors)
    rules = rule_bands(grid.values[None], cols, ask.step_s, ask.anchors)[0]
    bands = np.concatenate([rules, np.full((*rules.shape[:2], 1, rules.shape[3]), np.nan)], axis=2)
    return _Line(series, grid, seen, truths_at(grid.values[None], cols, ask.anchors)[0], bands)


def _train_all(
    lines: Sequence[_Line], span: tuple[float, float], ask: Ask, progress: Callable[[float], None]
) -> list[tuple[float, Trained]]:
    """Models by the time from which they hold, and their bands written into the lines."""
    if not lines:
        return []
    times = schedule(min(line.grid.start for line in lines), span[1])
    begins = span[0] - TRACK_DAYS * DAY_S
    used = [t for i, t in enumerate(times) if i + 1 == len(times) or times[i + 1] > begins]
    models = []
    for index, time in enumerate(used):
        until = used[index + 1] if index + 1 < len(used) else np.inf
        trained = _train_at(lines, time, ask)
        if trained is not None:
            models.append((time, trained))
            for line in lines:
                _say(line, trained, (time, until))
        progress((index + 1) / len(used))
    return models


def _train_at(lines: Sequence[_Line], time: float, ask: Ask) -> Trained | None:
    """The model that could exist at `time`: moments whose last outcome was known by then."""
    reach = ask.steps * ask.step_s
    rows = [np.flatnonzero((line.times + reach <= time) & (line.times > time - TRAIN_DAYS * DAY_S)) for line in lines]
    stride = max(1, sum(len(r) for r in rows) // MAX_ROWS)
    picked = [r[(r + index) % stride == 0] for index, r in enumerate(rows)]
    pairs = [(line, r) for line, r in zip(lines, picked, strict=True) if len(r)]
    if not pairs:
        return None
    return train(
        join([take(line.seen, r) for line, r in pairs]), np.concatenate([line.truths[r] for line, r in pairs]), ask.anchors
    )


def _say(line: _Line, trained: Trained, span: tuple[float, float]) -> None:
    cols = np.flatnonzero((line.times >= span[0]) & (line.times < span[1]))
    cols = cols[np.isfinite(line.seen.now[cols])]
    if len(cols):
        line.bands[cols, :, BOOST] = trained.bands(take(line.seen, cols))


def _at(origin: float, lines: Sequence[_Line], models: Sequence[tuple[float, Trained]], ask: Ask) -> Iterator[Forecast]:
    started = [line for line in lines if line.grid.start <= origin]
    if not started:
        return
    trained = next((model for time, model in reversed(models) if time <= origin), None)
    columns = [int(np.floor((origin - line.grid.start) / ask.step_s + 1e-9)) for line in started]
    columns = [min(c, _latest(line.grid.values)) for c, line in zip(columns, started, strict=True)]
    track = _track([_gather(line, c, ask) for line, c in zip(started, columns, strict=True)], columns, ask)
    views = [_view(line, c, origin, (trained, ask)) for line, c in zip(started, columns, strict=True)]
    now = np.array([line.seen.now[min(c, len(line.bands) - 1)] for line, c in zip(started, columns, strict=True)])
    settled = settle(track, np.stack([bands for _, bands in views]), now)
    for index, (grid, _) in enumerate(views):
        yield row(grid, origin, (settled, index), ask)


def _latest(values: Floats) -> int:
    """The last column of a series that ends with `values` at which it matters how long ago that was."""
    return len(values) + patience(np.flatnonzero(np.isfinite(values)))


def _view(line: _Line, column: int, origin: float, by: tuple[Trained | None, Ask]) -> tuple[Grid, Floats]:
    """History up to the origin on a grid that ends there, and the experts' bands (a, e, q) on it."""
    trained, ask = by
    grid = line.grid
    behind = origin - (grid.start + column * ask.step_s)
    if column >= len(grid.values) or behind <= 1e-6 * ask.step_s:
        history = Grid(key=grid.key, start=grid.start + behind, step_s=ask.step_s, values=grid.values[: column + 1])
        if column >= len(grid.values):  # silent since: the gap belongs to the history
            gap = np.full(column + 1 - len(grid.values), np.nan)
            history = replace(history, values=np.concatenate([grid.values, gap]))
        return history, line.bands[min(column, len(line.bands) - 1)]
    history = grid_of(grid.key, line.series.times, line.series.values, (origin, ask.step_s, None))
    values, last = history.values[None], np.array([len(history.values) - 1])
    bands = rule_bands(values, last, ask.step_s, ask.anchors)[0, 0]
    seen = describe(values, last, (ask.step_s, np.array([origin])), ask.anchors)
    boosted = trained.bands(seen)[0] if trained is not None else np.full_like(bands[:, 0], np.nan)
    return history, np.concatenate([bands, boosted[:, None]], axis=1)


_Part = tuple[Floats, Floats, NDArray[np.bool_]]


def _gather(line: _Line, column: int, ask: Ask) -> _Part:
    """(m, a, e, q) bands, (m, a) truths and (m,) likeness of the moments before `column`, newest first; NaN: not yet known."""
    per_day = DAY_S / ask.step_s
    stride = max(1, round(per_day / TRACK_PER_DAY))
    back = np.arange(0, max(2, round(TRACK_DAYS * per_day)), stride)
    where = column - back
    inside = (where >= 0) & (where < len(line.bands))
    safe = np.clip(where, 0, len(line.bands) - 1)
    bands = np.where(inside[:, None, None, None], line.bands[safe], np.nan)
    due = where[:, None] + np.array(ask.anchors)[None, :] <= column
    alike = (line.seen.now[safe] == 0) == (line.seen.now[min(column, len(line.bands) - 1)] == 0)
    return bands, np.where(inside[:, None] & due, line.truths[safe], np.nan), alike


def _track(parts: Sequence[_Part], columns: Sequence[int], ask: Ask) -> Track:
    per_day = DAY_S / ask.step_s
    stride = max(1, round(per_day / TRACK_PER_DAY))
    moments = len(parts[0][0])
    overlap = np.maximum(1.0, np.array(ask.anchors) / stride)
    own = np.array(columns) / per_day
    ages = stride * np.arange(moments) / per_day
    bands, truths, alike = (np.stack(part) for part in zip(*parts, strict=True))
    return Track(bands, truths, alike, ages, overlap, own)


def row(history: Grid, origin: float, at: tuple[Settled, int], ask: Ask) -> Forecast:
    """The settled band of one series as a record: all steps, the asked quantiles, who spoke, whether it may be acted upon."""
    settled, index = at
    times = origin + ask.step_s * np.arange(1, ask.steps + 1, dtype=np.float64)
    reason = unready(history.values) or ("" if np.isfinite(settled.bands[index]).all() else "no band")
    if reason:
        band, model = fallback(history, ask.steps, ask.quantiles), f"last_value(fallback: {reason})"
        skill = coverage = None
    else:
        stretched = stretch(settled.bands[index], history, (ask.anchors, ask.steps))
        band, model = settle_band(at_quantiles(stretched, ask.quantiles), history.values), mixture(settled.weights[index])
        skill, coverage = _or_none(settled.skill[index]), _or_none(settled.coverage[index])
        reason = refusal(skill, coverage) or ""
    return Forecast(
        target=str(history.key),
        made_at=origin,
        times=times,
        quantiles=ask.quantiles,
        values=band,
        model=model,
        skill=skill,
        coverage=coverage,
        refused=reason or None,
    )


def _or_none(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def mixture(weights: Floats) -> str:
    """The experts behind a forecast, with their mean share of its 0.9 quantile: `boosting:0.83+last_value:0.17`."""
    shares = sorted(zip(weights[:, :, 2].mean(axis=0), NAMES, strict=False), reverse=True)
    return "+".join(f"{name}:{share:.2f}" for share, name in shares if share >= 0.05)
