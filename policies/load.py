"""What a service's load is now and was lately, and what a forecast says of the time that a new replica takes to start.

Pure arithmetic on series and forecasts, for `prescale`. Knows nothing of replicas or actions.
"""

from __future__ import annotations

import numpy as np

from aiops.model import Floats, Forecast, Series

BEFORE_S = 60.0
"""A burst is told from what the minute before it was."""

NOISE_S = 300.0
"""How far back the ordinary difference between two samples is measured."""

FEWEST = 6
"""Samples below which nobody can tell noise from a burst."""

STEP_TO_SIGMA = 0.5 * np.sqrt(np.pi)
"""The mean absolute difference of two draws of a normal distribution, times this, is its standard deviation."""


def reactive(series: Series, now: float, by: tuple[float, float, float]) -> tuple[Floats, Floats]:
    """The load as a scaler should see it: (n,) times of samples since `now - window_s`, and (n,) load at each, per second.

    `by` is (window_s, average_s, burst). At each sample it is the mean of the last `average_s`; where the newest sample stands
    more than `burst` standard deviations above the minute before it, that sample itself, for a mean would hide it for half
    its length. The deviation is that of neighbouring samples, so that a trend is not taken for noise.
    """
    window_s, average_s, burst = by
    known = np.isfinite(series.values)
    times, values = series.times[known], series.values[known]
    ends = np.flatnonzero((times > now - window_s) & (times <= now))
    sigma = noise(times, values, now)
    load = np.empty(len(ends))
    for place, end in enumerate(ends):
        first, since = np.searchsorted(times, (times[end] - average_s, times[end] - BEFORE_S), side="right")
        load[place] = values[first : end + 1].mean()
        if end > since and values[end] - values[since:end].mean() > burst * sigma:
            load[place] = max(load[place], values[end])
    return times[ends], load


def noise(times: Floats, values: Floats, now: float) -> float:
    """Standard deviation of (n,) samples around their own course, by neighbours; infinite where too few are known.

    The newest sample is left out: it is the one that is judged.
    """
    lately = values[:-1][times[:-1] > now - NOISE_S]
    return float(np.abs(np.diff(lately)).mean() * STEP_TO_SIGMA) if len(lately) >= FEWEST else np.inf


def covered(times: Floats, now: float, window_s: float, gap_s: float) -> float:
    """Share of (now - window_s, now] without a gap of more than `gap_s` between (n,) samples."""
    gaps = np.diff(np.concatenate([[now - window_s], times, [now]]))
    return 1.0 - float(gaps[gaps > gap_s].sum()) / window_s


def distrust(forecast: Forecast | None, now: float, max_age_s: float) -> str:
    """Why a forecast must not be used, '' where it may."""
    if forecast is None:
        return "no forecast"
    if forecast.refused is not None:
        return forecast.refused
    if not 0 <= now - forecast.made_at <= max_age_s:
        return f"forecast is {now - forecast.made_at:.0f} s old"
    if not len(forecast.times) or forecast.times[-1] <= now:
        return "forecast has come to its end"
    return "" if np.isfinite(forecast.values).all() and (forecast.values >= 0).all() else "forecast is absurd"


def demand(forecast: Forecast, now: float, lead_s: float, quantile: float) -> float:
    """Largest forecast demand in [now, now + lead]: a point is the mean of the step that ends at its time, not a moment.

    A line between the points would smear a square rise over a whole step and meet it half a step late.
    """
    ends = forecast.times
    starts = np.concatenate([[forecast.made_at], ends[:-1]])
    reached = (ends > now) & (starts <= now + lead_s)
    return float(forecast.at_quantile(quantile)[reached].max())


def lead(start_s: tuple[float, ...], default: tuple[float, int], period_s: float) -> tuple[float, str]:
    """Seconds to look ahead, and where the figure comes from: measured P90 start-up plus one loop period.

    `default` is (seconds, starts needed before the measurement is used).
    """
    default_s, needed = default
    if len(start_s) < needed:
        return default_s, f"default, {len(start_s)} starts measured"
    return float(np.quantile(start_s, 0.9)) + period_s, f"P90 of {len(start_s)} starts"
