"""From several bands and their record to one honest band.

Weighing: per series, horizon and quantile, experts by their recent pinball loss relative to the last value's, shrunk
towards what holds for the whole panel; an expert that loses gets nothing. Then split-conformal shifts (Vovk; here rolling,
recency-weighted and per quantile, as in Gibbs & Candes' adaptive variant) move each quantile to where the recent truths
say it belongs. Arrays: s series, m past moments, a anchors, e experts, q quantiles (`ERROR_QUANTILES`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.forecast.bands import MEDIAN
from aiops.forecast.experts import LAST, SEASON, STATE
from aiops.forecast.features import ERROR_QUANTILES
from aiops.model import Floats

Q = np.array(ERROR_QUANTILES)
HALF_LIFE_DAYS = 2.0
"""Weight of past moments halves in two days: long enough for a verdict, short enough to follow a change of habits."""

SHRINK = 15.0
"""Independent moments that a series must add before its own record outweighs the panel's."""

SHARPNESS = np.array([20.0, 25.0, 20.0, 20.0])
"""How hard a better record is preferred, per quantile: 5 % better is 1:3, 20 % better all but decides."""

OWN_DAYS = 4.0
"""Days of own data until the ensemble trusts anything but the last value in full: measured on series of unseen kinds."""

SHIFT_SHRINK = 40.0

TIE = 0.05
"""How much worse than seasonal naive is still as good: where a load repeats itself exactly, that rule *is* the best forecast,
and nothing can beat it; without this, the most foreseeable loads of all were left to the reactive rule."""

HIGH = ERROR_QUANTILES.index(0.9)
RISE, REGULAR = 0.1, 0.1
"""A rise of over a tenth; where those come at over a tenth of all moments, an exact 0.9 quantile may miss a rise each time."""

CAUTION = 0.25
"""How much farther from the median the 0.9 quantile is then served, half way to the 0.95 quantile at most: the loss is flat
there (up to 3 % more), what it covers is not (5-10 points more of the rises). The frontier is in docs/forecasting.md."""

LAST_FAVOUR, REST_FAVOUR = 10.0, 20.0
"""How much more credible another rule must be before an idle series' answer is not the last value, or not zero."""


@dataclass(frozen=True, slots=True)
class Track:
    """What the experts said at past moments and what came: `bands` (s, m, a, e, q), `truths` (s, m, a), NaN where unknown.

    `alike` (s, m) marks moments at which the series was in today's state, zero or busy. `ages_days` (m,) is how long ago each
    moment was, `overlap` (a,) how many moments one outcome touches, `own_days` (s,) how much history each series has.
    """

    bands: Floats
    truths: Floats
    alike: NDArray[np.bool_]
    ages_days: Floats
    overlap: Floats
    own_days: Floats

    def older(self) -> Track:
        """The older half of the moments."""
        return self._part(self.ages_days > np.median(self.ages_days))

    def newer(self) -> Track:
        """The newer half of the moments."""
        return self._part(self.ages_days <= np.median(self.ages_days))

    def _part(self, keep: NDArray[np.bool_]) -> Track:
        bands, truths, alike = self.bands[:, keep], self.truths[:, keep], self.alike[:, keep]
        return Track(bands, truths, alike, self.ages_days[keep], self.overlap, self.own_days)

    def recency(self) -> Floats:
        """(s, m) weights of the moments: recent ones, in today's state."""
        return np.where(self.alike, 0.5 ** (self.ages_days / HALF_LIFE_DAYS)[None, :], 0.0)


def pinball(truth: Floats, band: Floats) -> Floats:
    """Pinball loss of quantiles on the last axis of `band`; `truth` has one axis less."""
    error = truth[..., None] - band
    return np.maximum(Q * error, (Q - 1) * error)


def weigh(track: Track) -> Floats:
    """(s, a, e, q) weights of the experts, summing to one over e; without a record everything is the last value."""
    loss = pinball(track.truths[:, :, :, None], track.bands)
    both = np.isfinite(loss) & np.isfinite(loss[:, :, :, [LAST]])
    weight = np.where(both, track.recency()[:, :, None, None, None], 0.0)
    mine = (np.where(both, loss, 0.0) * weight).sum(axis=1)
    last = (np.where(both, loss[:, :, :, [LAST]], 0.0) * weight).sum(axis=1)
    moments = weight.sum(axis=1) / track.overlap[None, :, None, None]
    own = _log_ratio(mine, last)
    scale = np.where(last > 0, last / np.maximum(weight.sum(axis=1), 1e-12), np.nan)
    relative = np.clip(np.where(last > 0, mine / np.where(last > 0, last, 1.0), np.nan), 0.0, 3.0)
    pooled = _pool(relative, np.where(np.isfinite(scale), moments, 0.0))
    belief = (moments * own + SHRINK * pooled[None]) / (moments + SHRINK)
    trust = np.minimum(1.0, track.own_days / OWN_DAYS)[:, None, None, None]
    score = -SHARPNESS * trust * belief
    score = np.where(moments > 0, score + np.log(np.maximum(trust, 1e-9)), -np.inf)
    score[:, :, LAST] = 0.0
    score -= score.max(axis=2, keepdims=True)
    weights = np.exp(score)
    weights[weights < 1e-3] = 0.0
    return np.asarray(weights / weights.sum(axis=2, keepdims=True))


def _log_ratio(mine: Floats, last: Floats) -> Floats:
    """log(mine / last): 0 where both are nothing, infinite where only the last value was right all along."""
    even = np.where(mine > 0, np.inf, 0.0)
    ratio = np.where(last > 0, mine / np.where(last > 0, last, 1.0), 1.0)
    return np.where(last > 0, np.log(np.maximum(ratio, 1e-3)), even)


def _pool(relative: Floats, weight: Floats) -> Floats:
    known = np.isfinite(relative) & (weight > 0)
    total = np.where(known, weight, 0.0).sum(axis=0)
    mean = np.where(known, relative * weight, 0.0).sum(axis=0) / np.maximum(total, 1e-12)
    return np.where(total > 0, np.log(np.maximum(mean, 1e-3)), 0.0)


def blend(bands: Floats, weights: Floats) -> Floats:
    """(..., a, q) weighted mean over experts of (..., a, e, q); one that is silent now leaves its weight to the others."""
    known = np.isfinite(bands) & (weights > 0)
    share = np.where(known, weights, 0.0)
    total = share.sum(axis=-2)
    mixed = np.where(known, bands * share, 0.0).sum(axis=-2) / np.where(total > 0, total, 1.0)
    return np.sort(np.where(total > 0, mixed, bands[..., LAST, :]), axis=-1)


def shifts(track: Track, weights: Floats) -> Floats:
    """(s, a, q) what to add to each blended quantile: the recency-weighted quantile of what it missed by, shrunk to 0.

    The median is left alone: a shift there follows noise and costs absolute error.
    """
    missed = track.truths[..., None] - blend(track.bands, weights[:, None])
    weight = np.where(np.isfinite(missed), track.recency()[:, :, None, None], 0.0)
    order = np.argsort(np.where(np.isfinite(missed), missed, np.inf), axis=1)
    ranked = np.take_along_axis(np.nan_to_num(missed), order, axis=1)
    climbed = np.cumsum(np.take_along_axis(weight, order, axis=1), axis=1)
    total = climbed[:, -1:]
    where = np.minimum((climbed < Q * total).sum(axis=1, keepdims=True), missed.shape[1] - 1)
    found = np.take_along_axis(ranked, where, axis=1)[:, 0]
    moments = total[:, 0] / track.overlap[None, :, None]
    return np.asarray(found * moments / (moments + SHIFT_SHRINK) * (Q != 0.5))


@dataclass(frozen=True, slots=True)
class Settled:
    """One band per series and anchor (s, a, q), the weights behind it (s, a, e, q), and its record (s,)."""

    bands: Floats
    weights: Floats
    skill: Floats
    coverage: Floats


def settle_idle(weights: Floats, bands: Floats, now: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Weights for series that are idle (zero) now, and (s, a, q) whether the quantile is a point mass that must not move.

    From zero the experts' tails lie orders of magnitude apart and their mean is nobody's opinion: the winner takes all, the
    last value favoured. Where more than the quantile's share of outcomes from zero were zero again, zero is the answer.
    """
    idle = (now == 0)[:, None, None] & np.isfinite(bands[:, :, STATE])
    rest = idle & (bands[:, :, STATE] == 0)
    handicap = weights.copy()
    handicap[:, :, LAST] *= LAST_FAVOUR
    handicap[:, :, STATE] *= np.where(rest, REST_FAVOUR, 1.0)
    sole = np.arange(weights.shape[2])[None, None, :, None] == handicap.argmax(axis=2)[:, :, None, :]
    return np.where(idle[:, :, None, :], sole, weights), rest


def settle(track: Track, bands: Floats, now: Floats) -> Settled:
    """Blend and calibrate the (s, a, e, q) `bands` of now, when the values are (s,) `now`, by the track.

    Skill and coverage are of moments that the weights they are judged with did not see.
    """
    if track.bands.shape[1] < 2:
        return unjudged(bands)
    seasonal, skill, coverage = _record(track, np.isfinite(bands[:, :, SEASON]))
    weights, rest = settle_idle(_with_season(weigh(track), seasonal), bands, now)
    moved = np.where(rest, 0.0, shifts(track, weights))
    honest = np.sort(blend(bands, weights) + moved, axis=-1)
    return Settled(cautious(honest, rising(track) & ~rest[:, :, HIGH]), weights, skill, coverage)


def rising(track: Track) -> NDArray[np.bool_]:
    """(s, a) whether rises over a tenth came at more than a tenth of the past moments, recent ones counting more."""
    now = track.bands[:, :, :, LAST, MEDIAN]
    known = np.isfinite(track.truths) & np.isfinite(now)
    weight = np.where(known, track.recency()[:, :, None], 0.0)
    rose = track.truths > now + RISE * np.abs(now)
    return np.asarray((weight * rose).sum(axis=1) > REGULAR * weight.sum(axis=1))


def cautious(bands: Floats, regular: NDArray[np.bool_]) -> Floats:
    """(..., q) the bands with the 0.9 quantile raised by `CAUTION` where rises are `regular` (...).

    The other quantiles, and with them the coverage of the 5-95 % band, stay.
    """
    middle, high, top = (bands[..., q] for q in (MEDIAN, HIGH, HIGH + 1))
    raised = high + np.minimum(CAUTION * (high - middle), (top - high) / 2)
    out = bands.copy()
    out[..., HIGH] = np.where(regular, raised, high)
    return out


def _with_season(weights: Floats, seasonal: NDArray[np.bool_]) -> Floats:
    """The weights, but seasonal naive alone where (s, a, q) `seasonal` says so."""
    alone = np.arange(weights.shape[2])[None, None, :, None] == SEASON
    return np.where(seasonal[:, :, None, :], alone, weights)


def unjudged(bands: Floats) -> Settled:
    """What a series without any record gets: the last value's band, and neither skill nor coverage."""
    series, anchors, experts, quantiles = bands.shape
    weights = np.zeros((series, anchors, experts, quantiles))
    weights[:, :, LAST] = 1.0
    unknown = np.full(series, np.nan)
    return Settled(bands[:, :, LAST], weights, unknown, unknown)


def _record(track: Track, repeats: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """(s, a, q) where seasonal naive replaces the blend, (s,) skill at the 0.9 quantile, and coverage.

    Each half of the record is judged by the other: two days alone scatter so much that honest bands are refused. The rule
    itself speaks where the blend did worse than it by more than a tie (one missed rise is enough) and where it has something
    to say now, as (s, a, q) `repeats` tells: a load that repeats itself is the last one to leave to the reactive rule. Skill is
    against the better of last value and seasonal naive, a tie with the latter counting as a win (`TIE`).
    """
    folds = (track.older(), track.newer()), (track.newer(), track.older())
    weights = [weigh(calibrating) for calibrating, _ in folds]
    rule = [_with_season(one, np.ones_like(repeats)) for one in weights]
    seasonal = repeats & (_loss(folds, weights) > (1 + TIE) * _loss(folds, rule))
    truths, bands = np.concatenate([judged.truths for _, judged in folds], axis=1), _crossed(folds, weights, seasonal)
    naives = np.concatenate([judged.bands[:, :, :, [LAST, SEASON]] for _, judged in folds], axis=1)
    mine, naive = _mean(pinball(truths, bands)[..., HIGH]), pinball(truths[:, :, :, None], naives)[..., HIGH]
    best = np.fmin.reduce(np.stack([_mean(naive[..., 0]), (1 + TIE) * _mean(naive[..., 1])]))
    skill = np.where(best > 0, 1 - mine / np.where(best > 0, best, 1.0), np.where(mine > 0, -1.0, 0.0))
    slack = 1e-9 * (1 + np.abs(truths))
    inside = (truths >= bands[..., 0] - slack) & (truths <= bands[..., 3] + slack)
    coverage = _mean(np.where(np.isfinite(truths), inside, np.nan))
    return seasonal, np.where(np.isfinite(mine), skill, np.nan), coverage


_Folds = Sequence[tuple[Track, Track]]
"""Pairs of what calibrates and what is judged."""


def _crossed(folds: _Folds, weights: Sequence[Floats], seasonal: NDArray[np.bool_]) -> Floats:
    """(s, m, a, q) as served at the judged moments of all folds, one after the other."""
    return np.concatenate(
        [
            cautious(_calibrated(by, judged, _with_season(weight, seasonal)), rising(by)[:, None])
            for (by, judged), weight in zip(folds, weights, strict=True)
        ],
        axis=1,
    )


def _calibrated(older: Track, newer: Track, weights: Floats) -> Floats:
    """(s, m, a, q) what the weights, calibrated on one part, say at the moments of another."""
    return np.sort(blend(newer.bands, weights[:, None]) + shifts(older, weights)[:, None], axis=-1)


def _loss(folds: _Folds, weights: Sequence[Floats]) -> Floats:
    """(s, a, q) mean pinball loss at the judged moments, as calibrated; NaN where no outcome is known."""
    pairs = zip(folds, weights, strict=True)
    loss = np.concatenate([pinball(judged.truths, _calibrated(by, judged, w)) for (by, judged), w in pairs], axis=1)
    known = np.isfinite(loss)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, loss, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _mean(array: Floats) -> Floats:
    known = np.isfinite(array)
    count = known.sum(axis=(1, 2))
    return np.where(count > 0, np.where(known, array, 0.0).sum(axis=(1, 2)) / np.maximum(count, 1), np.nan)
