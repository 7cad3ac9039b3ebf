"""Early warning: what will run out within the horizon, with how much lead, and what has left its band, since when.

Turns forecasts into findings. A limit is crossed with the probability that the forecast's quantiles give to being beyond it at
any step until then (`aiops.forecast.crossing`); the lead is the time until that first becomes likely. Pure; knows neither store
nor clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aiops.forecast.crossing import crossed_by, scores_below, scores_standing
from aiops.forecast.gate import COVERAGE
from aiops.model import Cause, Evidence, Finding, Floats, Forecast
from aiops.ports import Grid

LIKELY = 0.5
"""A warning is raised where crossing is more likely than not; below that, forecasts cry wolf."""

CLEAR = 0.05
"""Of the upper spread: how far the median of a level that stands must move to say anything (made ones moved up to 2 %)."""

SILENT = "no recent point"
"""The gate's word for a series that is heard no more: of a card that was taken out nothing is known, and nothing runs out."""

RUN = 3
"""Points in a row outside the 5-95 % band that make an anomaly."""

TRUSTED = COVERAGE - 0.1
"""Coverage from which a band may accuse: scaling asks for more, but here points must be out by a band's width as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A bound on a forecast target: `subject` runs out when `target` rises above `value` (or falls below, `above` False).

    `newest` is the target's newest value where that is known.
    """

    subject: str
    target: str
    value: float
    above: bool = True
    newest: float | None = None

    @property
    def crossed(self) -> bool:
        """Beyond the limit already, as far as is known."""
        return self.newest is not None and (self.newest > self.value if self.above else self.newest < self.value)

    @property
    def standing(self) -> bool:
        """Exactly at the limit, as demand is at its capacity in a cluster that is full: nothing has been crossed."""
        return self.newest == self.value


def chance_beyond(forecast: Forecast, limit: Limit) -> Floats:
    """(h,) probability at each step that the target is beyond the limit then, linear in the normal score between quantiles.

    Outside the outermost quantiles it is theirs: never 0 or 1, for nothing is known about the tails beyond them.
    """
    from scipy.special import ndtr

    values, quantiles, value = _upwards(forecast, limit)
    return _known(1 - ndtr(scores_below(values, quantiles, value)), quantiles)


def chance_crossed(forecast: Forecast, limit: Limit, now: float) -> Floats:
    """(h,) probability that the target is beyond the limit at this or any earlier step after `now`; 0 for steps before.

    Where the steps' chances together cannot make it likely it is not followed through: their sum, capped, is returned. For a
    target that stands at its limit only quantiles that are clearly beyond it count: it may go on standing there.
    """
    from scipy.special import ndtr

    values, quantiles, value = _upwards(forecast, limit)
    ahead, middle = forecast.times > now, int(np.argmin(np.abs(quantiles - 0.5)))
    values, spread = values[:, ahead], (values[-1] - values[middle])[ahead]
    below = scores_below(values, quantiles, value)
    if limit.standing:
        below = np.maximum(below, scores_standing(values, quantiles, value + CLEAR * spread))
    together = np.cumsum(1 - ndtr(below))
    if together.size and together[-1] > LIKELY:
        together = crossed_by(below, spread)
    chances = np.zeros(len(ahead))
    chances[ahead] = _known(together, quantiles)
    return chances


def _upwards(forecast: Forecast, limit: Limit) -> tuple[Floats, Floats, float]:
    """(q, h) values, their quantiles and the limit, turned over where falling below it is what counts."""
    if limit.above:
        return forecast.values, forecast.quantiles, limit.value
    return -forecast.values[::-1], 1 - forecast.quantiles[::-1], -limit.value


def _known(chances: Floats, quantiles: Floats) -> Floats:
    return np.clip(chances, 1 - quantiles[-1], 1 - quantiles[0])


def exhaustions(forecasts: Iterable[Forecast], limits: Sequence[Limit], now: float) -> tuple[Finding, ...]:
    """A finding per limit that will likely be crossed within the forecast's horizon, most urgent first.

    Forecasts without a point after `now` are too old and say nothing. A refused forecast may still warn: a warning changes
    nothing, and its `evidence_against` says why it may not be acted upon; one of a silent series says nothing. The horizon is
    zero where it is crossed already.
    """
    newest = {f.target: f for f in forecasts if f.refused != SILENT}
    found = [_exhaustion(newest[limit.target], limit, now) for limit in limits if limit.target in newest]
    return tuple(sorted((f for f in found if f is not None), key=lambda f: (f.horizon_s or 0.0, f.id)))


def _exhaustion(forecast: Forecast, limit: Limit, now: float) -> Finding | None:
    staying = np.where(forecast.times > now, chance_beyond(forecast, limit), 0.0)
    chances = staying if limit.crossed else chance_crossed(forecast, limit, now)
    likely = np.flatnonzero(chances > LIKELY)
    if not len(likely):
        return None
    lead_s = 0.0 if limit.crossed else float(forecast.times[likely[0]]) - now
    middle = float(forecast.at_quantile(0.5)[likely[0]])
    words = _expected(limit, lead_s, float(chances.max()))
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


def _expected(limit: Limit, lead_s: float, chance: float) -> str:
    side, minutes = "above" if limit.above else "below", round(lead_s / 60)
    if limit.crossed:
        return f"{limit.target} is {limit.newest:g}, {side} {limit.value:g} already, and will likely stay so ({chance:.0%})"
    when = "within a minute" if minutes <= 1 else f"in {minutes} minutes"
    return f"{limit.target} is expected {side} {limit.value:g} {when} ({chance:.0%} likely)"


def anomalies(before: Mapping[str, Forecast], grids: Iterable[Grid], now: float) -> tuple[Finding, ...]:
    """A finding per series whose newest points all left, on one side, the band forecast before the first of them.

    `before` holds by target a forecast made at least `RUN` steps before the grids' end: one made since would follow the
    departure and call it normal. `since` is the first point outside. At 15 minutes the errors of a wandering series hang
    together, so that three in a row are little news; hence also, on average, as far out again as the band is wide on that
    side. A band that was never judged, or that misses its coverage by 10 points, accuses nobody.
    """
    found = []
    for grid in grids:
        forecast = before.get(str(grid.key))
        if forecast is not None and (forecast.coverage or 0.0) >= TRUSTED:
            outside = _outside(forecast, grid)
            if outside is not None:
                found.append(_anomaly(grid, outside, now))
    return tuple(sorted(found, key=lambda f: (-f.score, f.id)))


def _outside(forecast: Forecast, grid: Grid) -> tuple[int, float] | None:
    """(run, how many band widths out) of the newest points; negative widths below the band; None where not all are out."""
    steps = np.round((grid.end - forecast.made_at) / grid.step_s).astype(int) - np.arange(RUN)
    if not (steps.min() >= 1 and steps.max() <= len(forecast.times) and len(grid.values) > steps.max()):
        return None
    values = grid.values[-1 : -RUN - 1 : -1]
    low, middle, high = (forecast.at_quantile(q)[steps - 1] for q in (0.05, 0.5, 0.95))
    for sign, edge in ((1.0, high), (-1.0, low)):
        past = sign * (values - edge)
        if (past > 0).all():  # NaN is not outside
            width = np.maximum(sign * (edge - middle), 1e-9 * (1 + np.abs(middle)))
            far = float(np.mean(past / width))
            return (RUN, sign * far) if far >= 1.0 else None
    return None


def _anomaly(grid: Grid, outside: tuple[int, float], now: float) -> Finding:
    run, far = outside
    target, where = str(grid.key), "above" if far > 0 else "below"
    words = f"{target} has been {where} its forecast band for {run} points, by {abs(far):.1f} times the band's width"
    return Finding(
        id=f"anomaly:{target}",
        at=now,
        cause=Cause.ANOMALY,
        subject=target,
        score=1 - 0.5 ** abs(far),
        confidence=1 - 0.5 ** abs(far),
        since=grid.end - (run - 1) * grid.step_s,
        evidence_for=(Evidence(text=words, series=target, value=float(grid.values[-1])),),
        summary=words,
    )
