"""The chance that a forecast has crossed a limit by each of its steps, not only that it is beyond it at one of them.

Each step's quantiles say how likely the target is beyond the limit *then*. How likely it is beyond *at any time until then*
also depends on how much the steps' errors have in common: a volume that fills is late everywhere or nowhere, while noise around
a level tries anew at each step. That is read from how the forecast's own spread grows: errors of an AR(1) have the variance
sum_{k<h} phi^(2k) at step h (Box & Jenkins, Time Series Analysis, 5.1), and the correlation phi sd_h / sd_(h+1) between steps.
Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiops.model import Floats

EDGE, CELLS = 8.0, 161
"""The latent normal score is followed on cells of a tenth of a deviation; beyond eight deviations there is nothing."""

TIED = 0.99
"""The most that neighbouring steps share: above it the transition is narrower than a cell, and nothing differs any more."""


def scores_below(values: Floats, quantiles: Floats, limit: float) -> Floats:
    """(h,) normal score of the share of (q, h) `values` at or below `limit`, linear between and beyond the quantiles.

    Beyond the outermost it goes on as between the last two; where those are the same value, to the end of the scale.
    """
    from scipy.stats import norm

    at = np.asarray(norm.ppf(quantiles))
    return np.array([_score(column, at, limit) for column in values.T])


def _score(column: Floats, at: Floats, limit: float) -> float:
    right = int(np.clip(np.searchsorted(column, limit, side="right"), 1, len(column) - 1))
    low, high = column[right - 1], column[right]
    if high <= low:
        return EDGE if limit >= high else -EDGE
    return float(np.clip(at[right - 1] + (at[right] - at[right - 1]) * (limit - low) / (high - low), -EDGE, EDGE))


def scores_standing(values: Floats, quantiles: Floats, limits: Floats) -> Floats:
    """(h,) normal score of the lowest of (q, h) `values` beyond the (h,) `limits`: the least chance that the quantiles give.

    A target that stands where it is has a mass there, up to somewhere below the next quantile; between them nothing is known.
    """
    from scipy.stats import norm

    beyond = values > limits
    level = np.where(beyond.any(axis=0), quantiles[beyond.argmax(axis=0)], 1.0)
    return np.asarray(np.clip(norm.ppf(level), -EDGE, EDGE))


def persistence(spread: Floats) -> float:
    """Phi in [0, 1]: how much of an error is still there a step later, from the (h,) `spread`'s growth from first to last step.

    A spread that does not grow is noise (0), one that grows like the root of the steps a random walk (1).
    """
    steps, first, last = len(spread), spread[0], spread[-1]
    if last >= first * np.sqrt(steps):
        return 1.0
    growth = (last / first) ** 2
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if (middle ** np.arange(steps)).sum() < growth else (low, middle)
    return float(np.sqrt(low))


def crossed_by(below: Floats, spread: Floats) -> Floats:
    """(h,) chance that the score was above its bound `below` (h,) at this step or an earlier one; never falls.

    A Gaussian Markov chain with standard normal steps, correlated as `persistence` of the (h,) `spread` says.
    """
    from scipy.special import ndtr

    edges = np.linspace(-EDGE, EDGE, CELLS + 1)
    centre, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    mass = np.diff(ndtr(edges))
    phi = persistence(spread)
    chances = np.empty(len(below))
    for h, bound in enumerate(below):
        if h:
            shared = phi * min(spread[h - 1], spread[h]) / spread[h] if spread[h] > 0 else phi
            mass = mass @ _step(min(shared, TIED), edges, centre)
        mass = mass * np.clip((bound - edges[:-1]) / width, 0.0, 1.0)
        chances[h] = 1.0 - mass.sum()
    return chances


def _step(shared: float, edges: Floats, centre: Floats) -> NDArray[np.float64]:
    """(from, to) chances between cells for a correlation of `shared`."""
    from scipy.special import ndtr

    cells = np.diff(ndtr((edges[None, :] - shared * centre[:, None]) / np.sqrt(1 - shared**2)), axis=1)
    return np.asarray(cells)
