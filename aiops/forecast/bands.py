"""Small pure pieces that every model shares: error quantiles, order, sign, and what counts as the last known value.

Arrays of quantiles are (q, steps) with quantiles ascending. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiops.forecast.features import ERROR_QUANTILES
from aiops.model import Floats
from aiops.ports import Grid

RECENT_S = 3 * 86400.0
"""Errors of the last three days make a band: two of a working week's days, and what the naive rules are scored with."""

QUANTILE_ARRAY: Floats = np.array(ERROR_QUANTILES)
MEDIAN = ERROR_QUANTILES.index(0.5)


def known(values: Floats) -> tuple[float, int]:
    """The last finite value and how many steps ago it was. ValueError if there is none."""
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        raise ValueError("no known value")
    return float(values[finite[-1]]), int(len(values) - 1 - finite[-1])


def error_quantiles(errors: Floats, quantiles: Floats) -> Floats:
    """(q,) empirical quantiles of the finite errors; zeros where there are none."""
    finite = errors[np.isfinite(errors)]
    return np.quantile(finite, quantiles) if len(finite) else np.zeros(len(quantiles))


def lagged_errors(values: Floats, lag: int, window: int) -> Floats:
    """Errors of 'the value `lag` steps ago still holds' over the last `window` points; may be empty, may hold NaN."""
    recent = values[-(window + lag) :] if window else values
    return recent[lag:] - recent[:-lag]


def settle_band(band: Floats, history: Floats) -> Floats:
    """The band made legal: ascending over quantiles, and never negative where the history never was."""
    ordered = np.sort(band, axis=0)
    return np.maximum(ordered, 0.0) if np.nanmin(history) >= 0 else ordered


def stretch(band: Floats, history: Grid, ahead: tuple[Sequence[int], int]) -> Floats:
    """(steps, q) from a band (anchors, q) at `ERROR_QUANTILES`; `ahead` is (anchors, steps), exact at the anchors.

    Between them the median moves linearly from anchor to anchor and the width follows that of the last value's own errors,
    which is what the series itself says about how uncertainty grows.
    """
    anchors, steps = ahead
    last, _ = known(history.values)
    window = int(RECENT_S / history.step_s)
    own = np.stack([error_quantiles(lagged_errors(history.values, h, window), QUANTILE_ARRAY) for h in range(1, steps + 1)])
    spread = np.abs(own - own[:, [MEDIAN]])
    middle = np.interp(np.arange(1, steps + 1), [0, *anchors], [last, *band[:, MEDIAN]])
    out = np.empty((steps, band.shape[1]))
    for h in range(1, steps + 1):
        index = int(np.searchsorted(anchors, h))
        at = anchors[index] - 1
        ratio = np.where(spread[at] > 0, spread[h - 1] / np.where(spread[at] > 0, spread[at], 1.0), h / anchors[index])
        width = band[index] - band[index, MEDIAN]
        out[h - 1] = band[index] if anchors[index] == h else middle[h - 1] + width * np.clip(ratio, 0.0, 1.5)
    return np.sort(out, axis=1)
