"""Rolling-origin evaluation: how each model would have done, on truths that it had not seen.

Scores are per series and horizon: WAPE, absolute error relative to last value and to seasonal naive on the same origins
(MASE in its relative form), pinball loss at the quantile in use relative to the last value's, coverage of the 5-95 % band, and
how many of the rises over a tenth the quantile in use covered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aiops.model import Floats, Forecast, Series

RISE = 0.1
"""A truth more than a tenth above the value at the origin is a rise, as in the public scorer."""

Key = tuple[str, str, float]
"""Model, series, horizon in seconds."""


@dataclass(frozen=True, slots=True)
class Score:
    """Errors of one model on one series at one horizon; ratios are NaN where the naive rule made no error."""

    model: str
    series: str
    horizon_s: float
    origins: int
    mean_error: float
    wape: float
    mase_last: float
    mase_season: float
    pinball: float
    pinball_last: float
    coverage: float
    rises: int
    rises_covered: float


@dataclass(frozen=True, slots=True)
class _Hit:
    truth: float
    rose: bool
    middle: float
    low: float
    high: float
    top: float


def spread_origins(series: Sequence[Series], count: int, reach_s: float) -> list[float]:
    """At most `count` times of rows, evenly over the newer half of the file, each with `reach_s` of future after it."""
    times = np.unique(np.concatenate([s.times for s in series]))
    first, last = times[0], times[-1]
    wanted = np.linspace(first + 0.5 * (last - first), last - reach_s, count)
    return sorted({float(t) for t in times[np.maximum(np.searchsorted(times, wanted, side="right") - 1, 0)]})


def score(runs: Mapping[str, Iterable[Forecast]], series: Sequence[Series], horizons_s: Sequence[float]) -> list[Score]:
    """Scores of every model in `runs` (it must hold last_value and seasonal_naive), by model, series, horizon.

    Only origins and horizons with a row at exactly that time count, the same ones for every model.
    """
    truths = {str(s.key): dict(zip(s.times.round(3).tolist(), s.values.tolist(), strict=True)) for s in series}
    hits: dict[Key, dict[float, _Hit]] = defaultdict(dict)
    for model, made in runs.items():
        for forecast in made:
            for horizon in horizons_s:
                hit = _hit(forecast, horizon, truths[forecast.target])
                if hit is not None:
                    hits[model, forecast.target, horizon][forecast.made_at] = hit
    return [_score(key, hits) for key in sorted(hits)]


def _hit(forecast: Forecast, horizon: float, truth: Mapping[float, float]) -> _Hit | None:
    at = round(forecast.made_at + horizon, 3)
    value, step = truth.get(at, np.nan), int(np.argmin(np.abs(forecast.times - at)))
    if not np.isfinite(value) or abs(forecast.times[step] - at) > 0.5:
        return None
    low, middle, high, top = (float(forecast.at_quantile(q)[step]) for q in (0.05, 0.5, 0.9, 0.95))
    now = truth.get(round(forecast.made_at, 3), np.nan)
    return _Hit(value, bool(value > now + RISE * abs(now) + 1e-9), middle, low, high, top)


def _score(key: Key, hits: Mapping[Key, Mapping[float, _Hit]]) -> Score:
    model, series, horizon = key
    mine = hits[key]
    last, season = hits.get(("last_value", series, horizon), {}), hits.get(("seasonal_naive", series, horizon), {})
    error = _errors(mine.values())
    size = sum(abs(h.truth) for h in mine.values())
    pinball = float(np.mean([_pinball(h) for h in mine.values()]))
    naive = float(np.mean([_pinball(last[t]) for t in mine if t in last] or [np.nan]))
    inside = [h.low - 1e-9 <= h.truth <= h.top + 1e-9 for h in mine.values()]
    rises = [h.high >= h.truth for h in mine.values() if h.rose]
    return Score(
        model=model,
        series=series,
        horizon_s=horizon,
        origins=len(mine),
        mean_error=float(error.mean()),
        wape=_ratio(error.sum(), size),
        mase_last=_ratio(error.sum(), _errors(last[t] for t in mine if t in last).sum()),
        mase_season=_ratio(error.sum(), _errors(season[t] for t in mine if t in season).sum()),
        pinball=pinball,
        pinball_last=_ratio(pinball, naive),
        coverage=float(np.mean(inside)),
        rises=len(rises),
        rises_covered=float(np.mean(rises)) if rises else float("nan"),
    )


def _errors(hits: Iterable[_Hit]) -> Floats:
    return np.array([abs(h.truth - h.middle) for h in hits])


def _pinball(hit: _Hit) -> float:
    error = hit.truth - hit.high
    return max(0.9 * error, -0.1 * error)


def _ratio(value: float, by: float) -> float:
    return float(value / by) if by > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class Overall:
    """One model at one horizon over all series: ratios of sums, so that large series weigh more; coverage over origins."""

    model: str
    horizon_s: float
    series: int
    origins: int
    mase_last: float
    pinball_last: float
    coverage: float
    rises: int
    rises_covered: float


def overall(scores: Sequence[Score], runs: Iterable[str]) -> list[Overall]:
    """Per model and horizon, in the order of `runs`."""
    by: dict[tuple[str, float], list[Score]] = defaultdict(list)
    for one in scores:
        by[one.model, one.horizon_s].append(one)
    order = {model: place for place, model in enumerate(runs)}
    return [_overall(key, by[key], by["last_value", key[1]]) for key in sorted(by, key=lambda k: (k[1], order.get(k[0], 99)))]


def _overall(key: tuple[str, float], mine: Sequence[Score], last: Sequence[Score]) -> Overall:
    weight = np.array([s.origins for s in mine], dtype=np.float64)
    naive = {s.series: s for s in last}
    pin = sum(s.pinball for s in mine), sum(naive[s.series].pinball for s in mine if s.series in naive)
    error = sum(s.mean_error for s in mine), sum(naive[s.series].mean_error for s in mine if s.series in naive)
    coverage = float((weight * [s.coverage for s in mine]).sum() / weight.sum())
    rises = sum(s.rises for s in mine)
    covered = _ratio(sum(s.rises * s.rises_covered for s in mine if s.rises), rises)
    return Overall(key[0], key[1], len(mine), int(weight.sum()), _ratio(*error), _ratio(*pin), coverage, rises, covered)
