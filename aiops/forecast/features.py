"""What the global model sees of a series at a point in time: level, lags, spread, calendar, and its own recent habits.

Everything is causal (column `c` depends on columns up to `c` only, bit for bit, which is what the leak check tests) and
scaled by the series' own recent h-step movement, so that one model serves requests, bytes and GPUs alike. Shapes: `values`
(s, n) are s series on one grid, NaN where unknown; features come out as (s * m, f) for the m asked columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.model import Floats

DAY_S, HOUR_S = 86400.0, 3600.0
LAGS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 24, 36)
LEVELS = (0.1, 0.25, 0.5)
"""Smoothing factors of the exponential means: from an hour's memory to ten minutes' at five-minute steps."""
DAILY_NEEDS, WEEKLY_NEEDS = 2.0, 14.0
"""Days of history before time of day and day of week are shown to a model (policy rule 3)."""
TINY = 1e-9
SPREAD_SAMPLES = 288
ERROR_QUANTILES = (0.05, 0.5, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Described:
    """Features of m columns of s series, row r = series * m + column.

    `shared` (s*m, f); `ahead` one (s*m, g) per anchor; `now` (s*m,) the last known values; `scale` (s*m,) positive.
    """

    shared: Floats
    ahead: tuple[Floats, ...]
    now: Floats
    scale: Floats

    def rows(self, anchor: int) -> Floats:
        """(s*m, f+g) what the model of one anchor sees."""
        return np.hstack([self.shared, self.ahead[anchor]]).astype(np.float32)


def describe(values: Floats, cols: NDArray[np.int64], beat: tuple[float, Floats], anchors: Sequence[int]) -> Described:
    """Features of (s, n) `values` at (m,) `cols` for each of `anchors` steps ahead; `beat` is (step_s, local seconds (m,))."""
    step_s, local_s = beat
    view = _View(values, cols, step_s)
    scale = _scale(view, max(anchors))
    shared = [*_levels(view, scale), *_spreads(view, scale), *_habits(view, scale), *_clock(view, local_s)]
    ahead = tuple(np.stack([f.ravel() for f in _ahead(view, scale, h)], axis=1) for h in anchors)
    stacked = np.stack([np.broadcast_to(f, scale.shape).ravel() for f in shared], axis=1)
    return Described(stacked, ahead, view.now.ravel(), scale.ravel())


class _View:
    """The asked columns of a panel, and rolling sums up to them."""

    def __init__(self, values: Floats, cols: NDArray[np.int64], step_s: float) -> None:
        self.values, self.cols = values, cols
        self.filled = carry_forward(values)
        self.day, self.hour = max(2, round(DAY_S / step_s)), max(1, round(HOUR_S / step_s))
        self.now = self.filled[:, cols]
        known = np.isfinite(self.filled)
        first = np.where(known.any(axis=1), known.argmax(axis=1), values.shape[1])
        self.age = np.maximum(cols[None, :] - first[:, None], 0)

    def lag(self, array: Floats, steps: int) -> Floats:
        """(s, m) `array` that many steps before each column; NaN before the start, and after the column: not yet known."""
        where = self.cols - steps
        told = (where >= 0) & (steps >= 0)
        return np.where(told[None, :], array[:, np.where(told, where, 0)], np.nan)

    def mean(self, array: Floats, window: int) -> Floats:
        """(s, m) mean of the known values in the window that ends at each column."""
        known = np.isfinite(array)
        return self.total(array, window) / np.where((count := self.total(known.astype(np.float64), window)) > 0, count, np.nan)

    def total(self, array: Floats, window: int) -> Floats:
        """(s, m) sum of the known values in the window that ends at each column."""
        sums = np.cumsum(np.nan_to_num(array, posinf=0.0, neginf=0.0), axis=1)
        before = self.cols - window
        return sums[:, self.cols] - np.where((before >= 0)[None, :], sums[:, np.maximum(before, 0)], 0.0)

    def extremes(self, array: Floats, width: int) -> tuple[Floats, Floats]:
        """(s, m) the greatest and least known values of the window that ends at each column; NaN where there is none.

        By sliding over the columns in question: all windows laid out would be a day times the moments, 22 GiB by the second.
        """
        from scipy.ndimage import maximum_filter1d

        if not len(self.cols):
            return np.empty((len(array), 0)), np.empty((len(array), 0))
        first = max(0, int(self.cols.min()) - width + 1)
        part, at, last = array[:, first : int(self.cols.max()) + 1], self.cols - first, (width - 1) // 2
        slid = [
            maximum_filter1d(
                np.where(np.isnan(part), -np.inf, sign * part), width, axis=1, mode="constant", cval=-np.inf, origin=last
            )
            for sign in (1.0, -1.0)
        ]
        most, least = (np.where(np.isneginf(one[:, at]), np.nan, one[:, at]) for one in slid)
        return most, -least

    def window(self, array: Floats, width: int, stride: int = 1) -> Floats:
        """(s, m, k) the values at every `stride`-th step back from each column, NaN before the start."""
        where = self.cols[:, None] - np.arange(0, width, stride)[None, :]
        return np.where((where >= 0)[None], array[:, np.maximum(where, 0)], np.nan)


def carry_forward(values: Floats) -> Floats:
    """Gaps filled with the last known value; leading gaps stay NaN."""
    where = np.where(np.isfinite(values), np.arange(values.shape[1])[None, :], 0)
    return np.take_along_axis(values, np.maximum.accumulate(where, axis=1), axis=1)


def shifted(array: Floats, steps: int) -> Floats:
    """`array` moved `steps` later along time (negative: earlier); NaN flows in."""
    out = np.full_like(array, np.nan)
    if 0 <= steps < array.shape[1]:
        out[:, steps:] = array[:, : array.shape[1] - steps]
    elif -array.shape[1] < steps < 0:
        out[:, :steps] = array[:, -steps:]
    return out


def changes(values: Floats, steps: int) -> Floats:
    """(s, n) what 'the value `steps` ago still holds' got wrong at each column."""
    return values - shifted(values, steps)


def smooth(values: Floats, factor: float) -> Floats:
    """(s, n) exponential mean of gap-free rows; leading NaN counts as the first known value."""
    from scipy.signal import lfilter

    known = np.isfinite(values)
    first = np.take_along_axis(values, known.argmax(axis=1)[:, None], axis=1)
    dense = np.nan_to_num(np.where(known, values, first))
    return np.asarray(lfilter([factor], [1, factor - 1], dense, axis=1, zi=(1 - factor) * dense[:, :1])[0])


def rolling_quantiles(view_window: Floats) -> Floats:
    """(s, m, q) of (s, m, k) windows; NaN where nothing is known. Sorted once: nanquantile is ten times slower."""
    ordered = np.sort(view_window, axis=2)  # NaN last
    count = np.isfinite(ordered).sum(axis=2)
    where = np.array(ERROR_QUANTILES)[None, None, :] * np.maximum(count - 1, 0)[:, :, None]
    low = np.floor(where).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(count - 1, 0)[:, :, None])
    below, above = np.take_along_axis(ordered, low, axis=2), np.take_along_axis(ordered, high, axis=2)
    return np.asarray(below + (above - below) * (where - low))


def _scale(view: _View, steps: int) -> Floats:
    move = np.abs(changes(view.values, steps))
    level = view.mean(np.abs(view.values), view.day)
    scale = 0.5 * view.mean(move, view.day) + 0.5 * view.mean(move, 3 * view.day) + 0.01 * level + TINY
    return np.where(np.isfinite(scale), scale, 1.0)


def _levels(view: _View, scale: Floats) -> list[Floats]:
    windows = (3, 6, view.hour, 2 * view.hour, 4 * view.hour, 8 * view.hour, view.day)
    lags = [(view.lag(view.filled, k) - view.now) / scale for k in LAGS]
    means = [(view.mean(view.values, w) - view.now) / scale for w in windows]
    return lags + means + [(smooth(view.filled, a)[:, view.cols] - view.now) / scale for a in LEVELS]


def _spreads(view: _View, scale: Floats) -> list[Floats]:
    step = np.abs(changes(view.values, 1))
    found = [view.mean(step, w) / scale for w in (6, 2 * view.hour, view.day)]
    for width in (view.hour, 4 * view.hour, view.day):
        found += [(edge - view.now) / scale for edge in view.extremes(view.filled, width)]
    level = view.mean(np.abs(view.values), view.day) + TINY
    return [
        *found,
        np.log(np.abs(view.now) / level + 1e-3),
        np.log(scale / level + 1e-6),
        np.log(view.mean(step, view.day) / scale + 1e-6),
    ]


def _habits(view: _View, scale: Floats) -> list[Floats]:
    """How often it is zero or still, how long since it moved, and whether steps reverse or go on."""
    step = changes(view.values, 1)
    known = np.isfinite(view.values)
    zero, still = np.where(known, view.values == 0, np.nan), np.where(np.isfinite(step), step == 0, np.nan)
    moved = np.where(np.nan_to_num(step) != 0, np.arange(step.shape[1])[None, :], -1)
    last = np.maximum.accumulate(moved, axis=1)[:, view.cols]
    since = np.log1p(np.where(last >= 0, view.cols[None, :] - last, np.nan))
    hourly = changes(view.values, view.hour)
    reversal = [view.total(d * shifted(d, 1), view.day) / (view.total(d * d, view.day) + TINY) for d in (step, hourly)]
    return [zero[:, view.cols], view.mean(zero, view.day), view.mean(still, 6), view.mean(still, view.day), since, *reversal]


def _clock(view: _View, local_s: Floats) -> list[Floats]:
    days = view.age / view.day
    angle = 2 * np.pi * (local_s % DAY_S) / DAY_S
    daily = [np.where(days >= DAILY_NEEDS, f[None, :], np.nan) for f in (np.sin(angle), np.cos(angle), local_s % DAY_S)]
    weekday = np.floor(local_s / DAY_S + 3) % 7  # 1970-01-01 was a Thursday
    return [*daily, np.where(days >= WEEKLY_NEEDS, weekday[None, :], np.nan), np.log(np.minimum(days, 28.0) + 0.1)]


def _ahead(view: _View, scale: Floats, steps: int) -> list[Floats]:
    """Of one horizon: what happened `steps` after this moment yesterday, last week and on average; what errors were usual."""
    centred = _centred(view.values)
    found: list[Floats] = []
    for season in (view.day, 7 * view.day):
        found.append((view.lag(view.values, season - steps) - view.lag(view.values, season)) / scale)
        found.append((view.lag(centred, season - steps) - view.lag(centred, season)) / scale)
        found.append((view.lag(centred, season - steps) - view.now) / scale)
    then = np.stack([view.lag(centred, k * view.day - steps) for k in range(1, 8)])
    moves = then - np.stack([view.lag(centred, k * view.day) for k in range(1, 8)])
    found += [_known_mean(moves) / scale, (_known_mean(then) - view.now) / scale]
    near = [view.lag(view.values, k * view.day - steps + e) for k in (1, 2, 3) for e in (-1, 0, 1)]
    found.append((np.fmax.reduce(near) - view.now) / scale)
    found += [
        (view.lag(view.values, k - steps) - view.lag(view.values, k)) / scale for k in (view.hour, 2 * view.hour) if k >= steps
    ]
    found += _reversions(view, scale, steps, centred)
    window = view.window(changes(view.values, steps), 3 * view.day, max(1, 3 * view.day // SPREAD_SAMPLES))
    return found + [q / scale for q in np.moveaxis(rolling_quantiles(window), 2, 0)]


def _centred(values: Floats) -> Floats:
    """Mean of five points around each; knows two points of the future, so it is used a season back only."""
    stack = np.stack([shifted(values, k) for k in range(-2, 3)])
    return _known_mean(stack)


def _known_mean(stack: Floats) -> Floats:
    count = np.isfinite(stack).sum(axis=0)
    return np.where(count > 0, np.nansum(stack, axis=0) / np.maximum(count, 1), np.nan)


def _reversions(view: _View, scale: Floats, steps: int, centred: Floats) -> list[Floats]:
    """Two-day slopes of the h-step change on the distance from a level (or on yesterday's change), and what they say now."""
    change = changes(view.values, steps)
    hour, day = (_trailing_mean(view.values, w) - view.values for w in (view.hour, view.day))
    yesterday = shifted(centred, view.day - steps) - shifted(centred, view.day)
    found = []
    for cause in (smooth(view.filled, 0.25) - view.filled, hour, day, yesterday):
        x = shifted(cause, steps)
        both = np.isfinite(x) & np.isfinite(change)
        x, y = np.where(both, x, 0.0), np.where(both, change, 0.0)
        slope = view.total(x * y, 2 * view.day) / (view.total(x * x, 2 * view.day) + TINY)
        found += [slope, slope * cause[:, view.cols] / scale]
    return found


def _trailing_mean(values: Floats, window: int) -> Floats:
    known = np.isfinite(values)
    sums, counts = np.cumsum(np.where(known, values, 0.0), axis=1), np.cumsum(known, axis=1, dtype=np.float64)
    sums[:, window:], counts[:, window:] = (
        sums[:, window:] - sums[:, :-window].copy(),
        counts[:, window:] - counts[:, :-window].copy(),
    )
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
