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
    """One series on its own grid, described at the columns that matter, `cols` (k,) ascending.

    Those are the ones models learn from and the ones that are `asked` (k,) about, however long the file is. `truths` (k, a) is
    what came, `bands` (k, a, e, q) what was said there.
    """

    series: Series
    grid: Grid
    cols: NDArray[np.int64]
    asked: NDArray[np.bool_]
    seen: Described
    truths: Floats
    bands: Floats

    @property
    def times(self) -> Floats:
        return np.asarray(times_of(self.grid)[self.cols])

    def rows(self, columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where these columns of the grid, all of which matter, are in the arrays."""
        return np.minimum(np.searchsorted(self.cols, columns), len(self.cols) - 1)

    def row(self, column: int) -> int:
        """The row of a column, that of the last one for what is beyond the series' end."""
        return int(self.rows(np.array([min(column, len(self.grid.values) - 1)]))[0])


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
    ends = sorted(set(origins))
    placed = [(one, grid) for one in series if (grid := _grid(one, ends[-1], ask)) is not None]
    lessons = _lessons([grid for _, grid in placed], (ends[0], ends[-1]), ask)
    lines = [
        _line(one, grid, ([picked[index] for _, picked in lessons], _asked(grid, ends, ask)), ask)
        for index, (one, grid) in enumerate(placed)
    ]
    models = _train_all(lines, lessons, ask, lambda share: progress(0.9 * share))
    for index, origin in enumerate(ends):
        yield from _at(origin, lines, models, ask)
        progress(0.9 + 0.1 * (index + 1) / len(ends))


def _grid(series: Series, end: float, ask: Ask) -> Grid | None:
    finite = np.flatnonzero(np.isfinite(series.values))
    if not len(finite) or series.times[finite[0]] > end:
        return None
    start = float(series.times[finite[0]])
    last = start + np.floor((end - start) / ask.step_s + 1e-9) * ask.step_s
    return grid_of(series.key, series.times, series.values, (last, ask.step_s, None))


_Lesson = tuple[float, list[NDArray[np.int64]]]
"""From when on a model holds, and the columns of each series that it learns from."""


def _lessons(grids: Sequence[Grid], span: tuple[float, float], ask: Ask) -> list[_Lesson]:
    """What the models that speak at the origins in `span`, or in their record, could have learnt at their time: moments whose
    last outcome was known by then.
    """
    if not grids:
        return []
    times = schedule(min(grid.start for grid in grids), span[1])
    begins, reach = span[0] - TRACK_DAYS * DAY_S, ask.steps * ask.step_s
    lessons, of = list[_Lesson](), [times_of(grid) for grid in grids]
    for time in (t for i, t in enumerate(times) if i + 1 == len(times) or times[i + 1] > begins):
        rows = [np.flatnonzero((at + reach <= time) & (at > time - TRAIN_DAYS * DAY_S)) for at in of]
        stride = max(1, sum(len(r) for r in rows) // MAX_ROWS)
        ranks = np.cumsum([len(r) > 0 for r in rows])  # among those that had begun by then: who comes later shifts nobody
        lessons.append((time, [r[(r + rank - 1) % stride == 0] for r, rank in zip(rows, ranks, strict=True)]))
    return lessons


def _asked(grid: Grid, origins: Sequence[float], ask: Ask) -> NDArray[np.int64]:
    """The columns of a series that the origins, or the records they are judged by, ask about."""
    at = np.floor((np.array(origins) - grid.start) / ask.step_s + 1e-9).astype(np.int64)
    at = np.minimum(at[at >= 0], _latest(grid.values))
    asked = np.unique(at[:, None] - np.append(_back(ask), 0)[None, :])
    return np.unique(np.minimum(asked[asked >= 0], len(grid.values) - 1))


def _line(series: Series, grid: Grid, columns: tuple[list[NDArray[np.int64]], NDArray[np.int64]], ask: Ask) -> _Line:
    learnt_from, asked = columns
    cols, values = np.unique(np.concatenate([*learnt_from, asked])), grid.values[None]
    seen = describe(values, cols, (ask.step_s, times_of(grid)[cols]), ask.anchors)
    rules = rule_bands(values, cols, ask.step_s, ask.anchors)[0]
    bands = np.concatenate([rules, np.full((*rules.shape[:2], 1, rules.shape[3]), np.nan)], axis=2)
    return _Line(series, grid, cols, np.isin(cols, asked), seen, truths_at(values, cols, ask.anchors)[0], bands)


def _train_all(
    lines: Sequence[_Line], lessons: Sequence[_Lesson], ask: Ask, progress: Callable[[float], None]
) -> list[tuple[float, Trained]]:
    """Models by the time from which they hold, and their bands written into the lines."""
    models = []
    for index, (time, picked) in enumerate(lessons):
        until = lessons[index + 1][0] if index + 1 < len(lessons) else np.inf
        trained = _train_at(lines, picked, ask)
        if trained is not None:
            models.append((time, trained))
            for line in lines:
                _say(line, trained, (time, until))
        progress((index + 1) / len(lessons))
    return models


def _train_at(lines: Sequence[_Line], picked: Sequence[NDArray[np.int64]], ask: Ask) -> Trained | None:
    pairs = [(line, line.rows(cols)) for line, cols in zip(lines, picked, strict=True) if len(cols)]
    if not pairs:
        return None
    truths = np.concatenate([line.truths[rows] for line, rows in pairs])
    return train(join([take(line.seen, rows) for line, rows in pairs]), truths, ask.anchors)


def _say(line: _Line, trained: Trained, span: tuple[float, float]) -> None:
    rows = np.flatnonzero(line.asked & (line.times >= span[0]) & (line.times < span[1]) & np.isfinite(line.seen.now))
    if len(rows):
        line.bands[rows, :, BOOST] = trained.bands(take(line.seen, rows))


def _at(origin: float, lines: Sequence[_Line], models: Sequence[tuple[float, Trained]], ask: Ask) -> Iterator[Forecast]:
    started = [line for line in lines if line.grid.start <= origin]
    if not started:
        return
    trained = next((model for time, model in reversed(models) if time <= origin), None)
    columns = [int(np.floor((origin - line.grid.start) / ask.step_s + 1e-9)) for line in started]
    columns = [min(c, _latest(line.grid.values)) for c, line in zip(columns, started, strict=True)]
    track = _track([_gather(line, c, ask) for line, c in zip(started, columns, strict=True)], columns, ask)
    views = [_view(line, c, origin, (trained, ask)) for line, c in zip(started, columns, strict=True)]
    now = np.array([line.seen.now[line.row(c)] for line, c in zip(started, columns, strict=True)])
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
        return history, line.bands[line.row(column)]
    history = grid_of(grid.key, line.series.times, line.series.values, (origin, ask.step_s, None))
    values, last = history.values[None], np.array([len(history.values) - 1])
    bands = rule_bands(values, last, ask.step_s, ask.anchors)[0, 0]
    seen = describe(values, last, (ask.step_s, np.array([origin])), ask.anchors)
    boosted = trained.bands(seen)[0] if trained is not None else np.full_like(bands[:, 0], np.nan)
    return history, np.concatenate([bands, boosted[:, None]], axis=1)


_Part = tuple[Floats, Floats, NDArray[np.bool_]]


def _stride(ask: Ask) -> int:
    return max(1, round(DAY_S / ask.step_s / TRACK_PER_DAY))


def _back(ask: Ask) -> NDArray[np.int64]:
    """How many steps before an origin the moments of its record are, newest first."""
    return np.arange(0, max(2, round(TRACK_DAYS * DAY_S / ask.step_s)), _stride(ask))


def _gather(line: _Line, column: int, ask: Ask) -> _Part:
    """(m, a, e, q) bands, (m, a) truths and (m,) likeness of the moments before `column`, newest first; NaN: not yet known."""
    where = column - _back(ask)
    inside = (where >= 0) & (where < len(line.grid.values))
    rows = line.rows(np.clip(where, 0, len(line.grid.values) - 1))
    bands = np.where(inside[:, None, None, None], line.bands[rows], np.nan)
    due = where[:, None] + np.array(ask.anchors)[None, :] <= column
    alike = (line.seen.now[rows] == 0) == (line.seen.now[line.row(column)] == 0)
    return bands, np.where(inside[:, None] & due, line.truths[rows], np.nan), alike


def _track(parts: Sequence[_Part], columns: Sequence[int], ask: Ask) -> Track:
    per_day, stride, moments = DAY_S / ask.step_s, _stride(ask), len(parts[0][0])
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
