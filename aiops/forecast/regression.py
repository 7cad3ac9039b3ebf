"""One gradient-boosted quantile model for all series: direct per horizon, on scaled differences to the last value.

Learns what many series have in common (how far they fall back after a burst, what a morning looks like) and is therefore
useful before a series has much history of its own. Deterministic: seeded, one thread, no early stopping.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aiops.forecast.bands import settle_band, stretch
from aiops.forecast.features import DAY_S, ERROR_QUANTILES, Described, describe
from aiops.forecast.panel import times_of
from aiops.model import Floats
from aiops.ports import Grid

ROUNDS, RATE, LEAVES, LEAF_POINTS, COLUMNS = 120, 0.05, 12, 100, 0.3
"""Small trees on a third of the features each: on seven public sets as good as deeper ones in half the time, and calmer."""

MAX_ROWS = 20_000
MIN_ROWS = 400
TRAIN_DAYS = 28

NEAR_STEPS = 6
"""Half an hour of five-minute steps: every one of them has a model of its own."""

DENSE_SERIES = 1000
"""Up to here a model for every near step is affordable: it doubles what learning and speaking cost."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What was learnt: per anchor and quantile a fitted tree ensemble, and the features that were never known."""

    anchors: tuple[int, ...]
    models: tuple[tuple[Any, ...], ...]
    dead: tuple[NDArray[np.bool_], ...]

    def bands(self, described: Described) -> Floats:
        """(rows, anchors, q) quantiles at `ERROR_QUANTILES`, in the series' own unit."""
        found = []
        for index, models in enumerate(self.models):
            rows = np.where(self.dead[index][None, :], np.float32(0), described.rows(index))
            scaled = np.stack([model.predict(rows) for model in models], axis=1)
            found.append(described.now[:, None] + np.sort(scaled, axis=1) * described.scale[:, None])
        return np.stack(found, axis=1)


def train(described: Described, truths: Floats, anchors: Sequence[int]) -> Trained | None:
    """Fit on (rows,) described moments and their (rows, anchors) truths, NaN where unknown. None with too few rows."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    fitted, dead = [], []
    with threadpool_limits(1):
        for index in range(len(anchors)):
            target = (truths[:, index] - described.now) / described.scale
            keep = np.isfinite(target)
            if keep.sum() < MIN_ROWS:
                return None
            rows = described.rows(index)[keep]
            empty = np.asarray(~np.isfinite(rows).any(axis=0))
            rows[:, empty] = 0.0  # the binning of an all-NaN column raises
            models = [
                HistGradientBoostingRegressor(
                    loss="quantile",
                    quantile=q,
                    max_iter=ROUNDS,
                    learning_rate=RATE,
                    max_leaf_nodes=LEAVES,
                    min_samples_leaf=min(LEAF_POINTS, int(keep.sum()) // 20),
                    max_features=COLUMNS,
                    max_bins=127,
                    early_stopping=False,
                    random_state=0,
                ).fit(rows, target[keep])
                for q in ERROR_QUANTILES
            ]
            fitted.append(tuple(models))
            dead.append(empty)
    return Trained(tuple(anchors), tuple(fitted), tuple(dead))


def anchors_for(steps: int, series: int = 1) -> tuple[int, ...]:
    """The horizons that get models of their own; between them bands are stretched.

    The nearest steps are what a scaler acts upon, and a square rise is whole at one step and absent at the one before: a line
    drawn between two models smears it over both. A large panel has models for the next step, half way and the end only.
    """
    near = min(steps, NEAR_STEPS) if series <= DENSE_SERIES else 1
    return tuple(sorted({*range(1, near + 1), max(1, (steps + 1) // 2), steps}))


@dataclass(frozen=True, slots=True)
class BoostedPanel:
    """A trained model that speaks for any series, seen before or not."""

    trained: Trained | None

    def predict(self, history: Grid, steps: int, quantiles: Floats) -> Floats:
        """(q, steps); ValueError where too little was learnt, for longer horizons than learnt, or without a last value."""
        if self.trained is None or steps > self.trained.anchors[-1]:
            raise ValueError("too little to learn from" if self.trained is None else "horizon longer than learnt")
        values = history.values[None, :]
        column = np.array([len(history.values) - 1])
        seen = describe(values, column, (history.step_s, np.array([history.end])), self.trained.anchors)
        if not np.isfinite(seen.now).all():
            raise ValueError("no known value")
        band = stretch(self.trained.bands(seen)[0], history, (self.trained.anchors, steps))
        return settle_band(at_quantiles(band, quantiles), history.values)


@dataclass(frozen=True, slots=True)
class Boosting:
    """The global model alone, for `steps` ahead."""

    name: ClassVar[str] = "boosting"
    steps: int = 6

    def fit(self, panel: Sequence[Grid]) -> BoostedPanel:
        """Learn from all series at once, at most `MAX_ROWS` moments of the last `TRAIN_DAYS` days."""
        anchors = anchors_for(self.steps, len(panel))
        total = sum(len(grid.values) for grid in panel)
        parts = [_moments(grid, anchors, max(1, total // MAX_ROWS)) for grid in panel if len(grid.values) > 2 * anchors[-1]]
        if not parts:
            return BoostedPanel(None)
        return BoostedPanel(train(join([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), anchors))


def _moments(grid: Grid, anchors: Sequence[int], stride: int) -> tuple[Described, Floats]:
    n = len(grid.values)
    first = max(0, n - round(TRAIN_DAYS * DAY_S / grid.step_s))
    cols = np.arange(first + (n - first) % stride, n - anchors[0], stride)
    seen = describe(grid.values[None, :], cols, (grid.step_s, times_of(grid)[cols]), anchors)
    return seen, truths_at(grid.values[None, :], cols, anchors).reshape(len(cols), len(anchors))


def truths_at(values: Floats, cols: NDArray[np.int64], anchors: Sequence[int]) -> Floats:
    """(s, m, anchors) the values `anchors` steps after each column; NaN beyond the end."""
    where = cols[:, None] + np.array(anchors)[None, :]
    return np.where((where < values.shape[1])[None], values[:, np.minimum(where, values.shape[1] - 1)], np.nan)


def join(parts: Sequence[Described]) -> Described:
    """Several described sets, one after another."""
    ahead = tuple(np.concatenate(group) for group in zip(*(p.ahead for p in parts), strict=True))
    shared, now, scale = (np.concatenate([getattr(p, f) for p in parts]) for f in ("shared", "now", "scale"))
    return Described(shared, ahead, now, scale)


def take(described: Described, rows: NDArray[Any]) -> Described:
    """The selected rows of a described set."""
    return Described(
        described.shared[rows], tuple(a[rows] for a in described.ahead), described.now[rows], described.scale[rows]
    )


def at_quantiles(band: Floats, quantiles: Floats) -> Floats:
    """(asked, steps) from (steps, 4) at `ERROR_QUANTILES`: linear in the normal score, so that tails go on outwards."""
    from scipy.stats import norm

    own, asked = np.asarray(norm.ppf(ERROR_QUANTILES)), np.asarray(norm.ppf(np.clip(quantiles, 1e-4, 1 - 1e-4)))
    piece = np.clip(np.searchsorted(own, asked) - 1, 0, len(own) - 2)
    share = (asked - own[piece]) / (own[piece + 1] - own[piece])
    found = band[:, piece] + (band[:, piece + 1] - band[:, piece]) * share[None, :]
    exact = np.abs(asked[:, None] - own[None, :]) < 1e-12  # an asked quantile that was learnt is given untouched
    hit = exact.any(axis=1)
    found[:, hit] = band[:, exact.argmax(axis=1)[hit]]
    return np.asarray(found.T)
