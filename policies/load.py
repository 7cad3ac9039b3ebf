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

LEVEL_S = 300.0
"""The level from which a load surges is its mean over this long: HPA's stabilisation window."""

PAST_S = 3600.0
"""How far back surges are remembered: an hour has some 300 samples, and what was usual yesterday is the forecast's business."""

SURGES = 30
"""Moments below which nobody can tell what surges are usual."""

LARGEST = 5.0
"""A load near zero surges by any factor; what multiplies more than this is no surge but a start."""

STEP_TO_SIGMA = 0.5 * np.sqrt(np.pi)
"""The mean absolute difference of two draws of a normal distribution, times this, is its standard deviation."""


def reactive(series: Series, now: float, by: tuple[float, float, float]) -> tuple[Floats, Floats]:
    """The load as a scaler should see it: (n,) times of samples since `now - window_s`, and (n,) load at each, per second.

    `by` is (window_s, average_s, burst). At each sample it is the mean of the last `average_s`; where the newest sample stands
    more than `burst` standard deviations above the minute before it, that sample itself, for a mean would hide it for half
    its length. The deviation is that of neighbouring samples, so that a trend is not taken for noise.
    """
    window_s, average_s, burst = by
    times, values = known(series, now)
    load, index = means(times, values, average_s), np.arange(len(times))
    first, total = np.searchsorted(times, times - BEFORE_S, side="right"), running(values)
    before = (total[index] - total[first]) / np.maximum(index - first, 1)
    stands_out = (index > first) & (values - before > burst * noise(times, values, now))
    load = np.where(stands_out, np.maximum(load, values), load)
    inside = times > now - window_s
    return times[inside], load[inside]


def surges(series: Series, now: float, by: tuple[float, float]) -> tuple[Floats, float]:
    """(n,) level at each sample up to `now`, and by what factor the load usually surges above it within a start-up.

    `by` is (lead_s, quantile). The factor is the quantile, over the last hour, of the largest sample of the coming `lead_s`
    over the level: a replica that is ordered when the load shows it comes too late for that. At least 1, and 1 where too
    little is known.
    """
    lead_s, quantile = by
    times, values = known(series, now)
    level = means(times, values, LEVEL_S)
    if len(times) < SURGES:
        return level, 1.0
    after = np.arange(1, len(times) + 1)
    until = np.searchsorted(times, times + max(lead_s, 1.0), side="right")
    spans = np.column_stack([after, until]).ravel()
    most = np.maximum.reduceat(np.append(values, [-np.inf, -np.inf]), spans)[::2]
    usable = (times >= times[0] + LEVEL_S) & (times + lead_s <= now) & (until > after) & (level > 0)
    if usable.sum() < SURGES:
        return level, 1.0
    return level, float(np.clip(np.quantile(most[usable] / level[usable], quantile), 1.0, LARGEST))


def known(series: Series, now: float) -> tuple[Floats, Floats]:
    """(n,) times and (n,) values of the finite samples up to `now`."""
    kept = np.isfinite(series.values) & (series.times <= now)
    return series.times[kept], series.values[kept]


def means(times: Floats, values: Floats, window_s: float) -> Floats:
    """(n,) mean of the samples in (time - window_s, time] at each of (n,) times."""
    total, last = running(values), np.arange(1, len(values) + 1)
    first = np.searchsorted(times, times - window_s, side="right")
    return np.asarray((total[last] - total[first]) / (last - first))


def running(values: Floats) -> Floats:
    """(n + 1,) sums of the first 0, 1, .. n values."""
    return np.concatenate([[0.0], np.cumsum(values)])


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
