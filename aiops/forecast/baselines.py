"""The simple rules that every other model must beat: last value, the same time yesterday, last week's next 30 minutes.

All of them carry the empirical quantiles of their own past errors, per horizon, so that they are honest bands and not only
points. At 15-30 minutes the last value is a very strong rule; it is also what everything falls back to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from aiops.forecast.bands import RECENT_S, error_quantiles, known, lagged_errors, settle_band
from aiops.model import Floats
from aiops.ports import Grid

DAY_S = 86400.0
WEEK_S = 7 * DAY_S


@dataclass(frozen=True, slots=True)
class LastValue:
    """The last known value stays; its h-step differences of the last three days are the band. It needs no fit."""

    name: ClassVar[str] = "last_value"

    def fit(self, panel: Sequence[Grid]) -> LastValue:
        """Nothing to learn."""
        return self

    def predict(self, history: Grid, steps: int, quantiles: Floats) -> Floats:
        """(q, steps) last value plus error quantiles; ValueError where no value is known."""
        last, age = known(history.values)
        window, until = int(RECENT_S / history.step_s), history.values[: len(history.values) - age]
        most = max(steps, len(until) // 2)  # a level that is `age` steps old has had that much longer to change
        most = max(1, min(most, len(until) - 1))
        errors = [_changes(until, min(h + age, most), window) for h in range(1, steps + 1)]
        band = last + np.stack([error_quantiles(e, quantiles) for e in errors], axis=1)
        return settle_band(band, history.values)


def _changes(values: Floats, lag: int, window: int) -> Floats:
    """Errors of a lag; where points lie farther apart than it there are none, and those of the next lag with points count."""
    errors = lagged_errors(values, lag, window)
    apart = np.diff(np.flatnonzero(np.isfinite(values)))
    if np.isfinite(errors).any() or not len(apart):
        return errors
    usual = int(np.median(apart))
    return lagged_errors(values, -(-lag // usual) * usual, window)


@dataclass(frozen=True, slots=True)
class SeasonalNaive:
    """The same time one season (a day by default) earlier, with the quantiles of that rule's own errors."""

    name: ClassVar[str] = "seasonal_naive"
    season_s: float = DAY_S

    def fit(self, panel: Sequence[Grid]) -> SeasonalNaive:
        """Nothing to learn."""
        return self

    def predict(self, history: Grid, steps: int, quantiles: Floats) -> Floats:
        """(q, steps) last season's values plus error quantiles; ValueError with less than a season or a gap there."""
        lag = max(1, round(self.season_s / history.step_s))
        if steps > lag or len(history.values) < lag:
            raise ValueError("less than one season of history")
        before = history.values[len(history.values) - lag :][:steps]
        if not np.isfinite(before).all():
            raise ValueError("a gap one season ago")
        errors = lagged_errors(history.values, lag, int(RECENT_S / history.step_s))
        return settle_band(before[None, :] + error_quantiles(errors, quantiles)[:, None], history.values)


class WeeklyNaive(SeasonalNaive):
    """The same time one week earlier."""

    name: ClassVar[str] = "seasonal_naive_week"

    def __init__(self) -> None:
        super().__init__(WEEK_S)


@dataclass(frozen=True, slots=True)
class LastWeekMax:
    """The Mimir rule: the greatest value of last week's next 30 minutes; it can only raise the last value."""

    name: ClassVar[str] = "last_week_max"
    ahead_s: float = 1800.0

    def fit(self, panel: Sequence[Grid]) -> LastWeekMax:
        """Nothing to learn."""
        return self

    def predict(self, history: Grid, steps: int, quantiles: Floats) -> Floats:
        """(q, steps): the last value up to the median, the rule's value above; ValueError with under a week of history."""
        last, _ = known(history.values)
        lag, ahead = round(WEEK_S / history.step_s), max(1, round(self.ahead_s / history.step_s))
        then = history.values[len(history.values) - lag :][:ahead] if len(history.values) >= lag else np.empty(0)
        if not np.isfinite(then).any():
            raise ValueError("nothing known of last week's next 30 minutes")
        rows = np.where(quantiles > 0.5, max(last, float(np.nanmax(then))), last)
        return np.repeat(rows[:, None], steps, axis=1)
