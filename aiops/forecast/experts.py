"""The simple rules as columns: bands of last value, last value by state, and yesterday, for many series and moments at once.

The ensemble weighs these against the global model. Bands are (s, m, anchors, quantiles) at `ERROR_QUANTILES`; NaN where a
rule has nothing to say. All causal: column `c` uses columns up to `c`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiops.forecast.features import DAY_S, SPREAD_SAMPLES, carry_forward, changes, rolling_quantiles, shifted
from aiops.model import Floats

LAST, STATE, SEASON, BOOST, PROPHET = range(5)
NAMES = ("last_value", "last_value_by_state", "seasonal_naive", "boosting", "prophet_ar")

ERRORS_DAYS = 3
"""Days of errors behind a band, as in `bands.RECENT_S`."""
STATE_DAYS = 7
"""Bursts are rare: their odds need a week."""


def rule_bands(values: Floats, cols: NDArray[np.int64], step_s: float, anchors: Sequence[int]) -> Floats:
    """(s, m, anchors, 3, q) bands of LAST, STATE and SEASON at the asked columns of (s, n) `values`."""
    day = max(2, round(DAY_S / step_s))
    filled = carry_forward(values)
    now = filled[:, cols][:, :, None]
    found = []
    for steps in anchors:
        errors = changes(values, steps)
        last = now + _window_quantiles(errors, cols, ERRORS_DAYS * day)
        state = now + _by_state(errors, filled, cols, (steps, STATE_DAYS * day))
        found.append(np.stack([last, state, _season(values, cols, day, steps)], axis=2))
    return np.stack(found, axis=2)


def _window_quantiles(errors: Floats, cols: NDArray[np.int64], width: int) -> Floats:
    where = cols[:, None] - np.arange(0, width, max(1, width // SPREAD_SAMPLES))[None, :]
    return rolling_quantiles(np.where((where >= 0)[None], errors[:, np.maximum(where, 0)], np.nan))


def _by_state(errors: Floats, filled: Floats, cols: NDArray[np.int64], span: tuple[int, int]) -> Floats:
    """Errors made from the same state, zero or busy, as now: a series that idles most of the time leaps from zero rarely."""
    steps, width = span
    idle = filled == 0
    if not idle.any():
        return np.full((*filled[:, cols].shape, 4), np.nan)
    was_idle = shifted(idle.astype(np.float64), steps)
    quiet = _window_quantiles(np.where(was_idle == 1, errors, np.nan), cols, width)
    busy = _window_quantiles(np.where(was_idle == 0, errors, np.nan), cols, width)
    ever = np.maximum.accumulate(idle, axis=1)[:, cols]  # by then: that it will idle one day is not known before
    return np.where(ever[:, :, None], np.where(idle[:, cols][:, :, None], quiet, busy), np.nan)


def _season(values: Floats, cols: NDArray[np.int64], day: int, steps: int) -> Floats:
    errors = changes(values, day)
    then = shifted(values, day - steps)[:, cols] if steps < day else np.full((len(values), len(cols)), np.nan)
    return then[:, :, None] + _window_quantiles(errors, cols, ERRORS_DAYS * day)
