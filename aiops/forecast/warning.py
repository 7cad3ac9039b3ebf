"""Early warning: what will run out within the horizon, with how much lead, and what has left its band, since when.

Turns forecasts into findings. A limit is crossed with the probability that the forecast's quantiles give it; the lead is the
time until that first becomes likely. Pure; knows neither store nor clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aiops.model import Cause, Evidence, Finding, Floats, Forecast, Series

LIKELY = 0.5
"""A warning is raised where crossing is more likely than not; below that, forecasts cry wolf."""

RUN = 3
"""Points in a row outside the 5-95 % band that make an anomaly: by chance one in 8,000, each side for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A bound on a forecast target: `subject` runs out when `target` rises above `value` (or falls below, `above` False)."""

    subject: str
    target: str
    value: float
    above: bool = True


def chance_beyond(forecast: Forecast, limit: Limit) -> Floats:
    """(h,) probability at each step that the target is beyond the limit, linear in the normal score between quantiles.

    Outside the outermost quantiles it is theirs: never 0 or 1, for nothing is known about the tails beyond them.
    """
    chances = np.empty(len(forecast.times))
    for h, column in enumerate(forecast.values.T):
        below = _share_below(column, forecast.quantiles, limit.value)
        chances[h] = 1 - below if limit.above else below
    return chances


def _share_below(column: Floats, quantiles: Floats, value: float) -> float:
    from scipy.stats import norm

    if value < column[0]:
        return float(quantiles[0])
    if value >= column[-1]:
        return float(quantiles[-1])
    scores = np.asarray(norm.ppf(quantiles))
    right = int(np.searchsorted(column, value, side="right"))
    low, high = column[right - 1], column[right]
    score = scores[right - 1] + (scores[right] - scores[right - 1]) * (value - low) / (high - low)
    return float(norm.cdf(score))


def exhaustions(forecasts: Iterable[Forecast], limits: Sequence[Limit], now: float) -> tuple[Finding, ...]:
    """A finding per limit that will likely be crossed within the forecast's horizon, most urgent first.

    Forecasts without a point after `now` are too old and say nothing. A refused forecast may still warn: a warning changes
    nothing, and its `evidence_against` says why it may not be acted upon.
    """
    newest = {f.target: f for f in forecasts}
    found = [_exhaustion(newest[limit.target], limit, now) for limit in limits if limit.target in newest]
    return tuple(sorted((f for f in found if f is not None), key=lambda f: (f.horizon_s or 0.0, f.id)))


def _exhaustion(forecast: Forecast, limit: Limit, now: float) -> Finding | None:
    ahead = forecast.times > now
    chances = np.where(ahead, chance_beyond(forecast, limit), 0.0)
    likely = np.flatnonzero(chances > LIKELY)
    if not len(likely):
        return None
    lead_s = float(forecast.times[likely[0]]) - now
    side = "above" if limit.above else "below"
    middle = float(forecast.at_quantile(0.5)[likely[0]])
    words = f"{limit.target} is expected {side} {limit.value:g} in {lead_s / 60:.0f} minutes ({chances.max():.0%} likely)"
    return Finding(
        id=f"exhaustion:{limit.subject}:{limit.target}",
        at=now,
        cause=Cause.EXHAUSTION,
        subject=limit.subject,
        score=float(chances.max()),
        confidence=float(chances.max()),
        horizon_s=lead_s,
        evidence_for=(Evidence(text=words, series=limit.target, value=middle, baseline=limit.value),),
        evidence_against=(Evidence(text=f"forecast by {forecast.model}: {forecast.refused}"),) if forecast.refused else (),
        summary=words,
    )


def anomalies(history: Mapping[str, Sequence[Forecast]], series: Iterable[Series], now: float) -> tuple[Finding, ...]:
    """A finding per series whose newest points all left the band that was forecast for them; `since` is the first of the run.

    `history` holds earlier forecasts by target, oldest first; each point is held against the newest forecast made before it.
    """
    found = []
    for one in series:
        sides = _sides(history.get(str(one.key), ()), one)
        run = _run(sides)
        if run >= RUN:
            found.append(_anomaly(one, sides, run, now))
    return tuple(sorted(found, key=lambda f: (-f.score, f.id)))


def _sides(forecasts: Sequence[Forecast], series: Series) -> list[tuple[float, float, int]]:
    """(time, value, side) of the points that were forecast: -1 below the band, 0 inside, 1 above."""
    points = {float(t): float(v) for t, v in zip(series.times, series.values, strict=True) if np.isfinite(v)}
    judged: dict[float, tuple[float, float, int]] = {}
    for forecast in forecasts:  # a later forecast's word replaces an earlier one's
        low, high = forecast.at_quantile(0.05), forecast.at_quantile(0.95)
        for h, time in enumerate(forecast.times):
            value = points.get(float(time))
            if value is not None:
                judged[float(time)] = (float(time), value, int(value > high[h]) - int(value < low[h]))
    return [judged[time] for time in sorted(judged)]


def _run(sides: Sequence[tuple[float, float, int]]) -> int:
    if not sides or sides[-1][2] == 0:
        return 0
    last, count = sides[-1][2], 0
    for _, _, side in reversed(sides):
        if side != last:
            break
        count += 1
    return count


def _anomaly(series: Series, sides: Sequence[tuple[float, float, int]], run: int, now: float) -> Finding:
    since, _, side = sides[-run]
    target, where = str(series.key), "above" if side > 0 else "below"
    words = f"{target} has been {where} its forecast band for {run} points"
    return Finding(
        id=f"anomaly:{target}",
        at=now,
        cause=Cause.ANOMALY,
        subject=target,
        score=1 - 0.05**run,
        confidence=1 - 0.05 ** (run - 1),
        since=since,
        evidence_for=(Evidence(text=words, series=target, value=sides[-1][1]),),
        summary=words,
    )
