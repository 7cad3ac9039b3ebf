"""Small pure pieces that every model shares: error quantiles, order, sign, and what counts as the last known value.

Arrays of quantiles are (q, steps) with quantiles ascending. Knows no model.
"""

from __future__ import annotations

import numpy as np

from aiops.model import Floats

RECENT_S = 3 * 86400.0
"""Errors of the last three days make a band: two of a working week's days, and what the naive rules are scored with."""


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
