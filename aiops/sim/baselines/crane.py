"""Crane's DSP prediction feeding an HPA: the last period repeated with a margin, its maximum over the next hour.

Periods are one day or seven days, nothing else. The margin is chosen from 0.01..0.20 by an asymmetric error: under-predicting
by the share e costs -ln(1 - e) / ln 1.25, over-predicting by e costs e. HPA then scales on the larger of metric and prediction.
"""

from __future__ import annotations

import numpy as np

from aiops.model import Floats
from aiops.sim.baselines.hpa import METRIC_S
from aiops.sim.baselines.seen import Seen

STEP_S = 60
DAY = 86400 // STEP_S
AHEAD = 3600 // STEP_S
MARGINS = np.arange(1, 21) / 100
WORST = 0.999
"""A prediction of zero is an infinite error by the formula; this much is bad enough."""


class Dsp:
    """The prediction: fitted once an hour on whole minutes of the past."""

    def __init__(self) -> None:
        self._fitted_at = -np.inf
        self._period, self._margin = 0, 0.0

    def __call__(self, seen: Seen) -> float:
        """The metric for HPA: the load now, or the predicted maximum of the next hour if that is more."""
        now = seen.mean(METRIC_S)
        minutes = len(seen.rates) // STEP_S
        if seen.now - self._fitted_at >= 3600:
            self._fit(by_minute(seen.rates, minutes), seen.now)
        if not self._period:
            return now
        start = minutes - self._period
        ahead = seen.rates[start * STEP_S : (start + AHEAD) * STEP_S].reshape(-1, STEP_S).mean(axis=1)
        return max(now, float(ahead.max()) * (1 + self._margin))

    def _fit(self, history: Floats, now: float) -> None:
        """The period and margin that would have done best on the last period."""
        self._fitted_at, best = now, np.inf
        for period in (DAY, 7 * DAY):
            if len(history) >= 2 * period:
                actual, before = history[-period:], history[-2 * period : -period]
                for margin in MARGINS:
                    error = cost(actual, before * (1 + margin))
                    if error < best:
                        best, self._period, self._margin = error, period, float(margin)


def cost(actual: Floats, predicted: Floats) -> float:
    """Mean asymmetric error over the points with a load."""
    busy = actual > 0
    if not busy.any():
        return 0.0
    short = (actual[busy] - predicted[busy]) / actual[busy]
    return float(np.where(short > 0, -np.log(1 - np.clip(short, 0, WORST)) / np.log(1.25), -short).mean())


def by_minute(rates: Floats, minutes: int) -> Floats:
    """(minutes,) means of whole minutes from the first second on."""
    return np.asarray(rates[: minutes * STEP_S].reshape(minutes, STEP_S).mean(axis=1))
