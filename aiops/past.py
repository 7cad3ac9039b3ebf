"""What forecasts learn from: the watched series on one grid, kept between refreshes so that only what is new is read.

Gauges are the mean of each step: a sample every ten seconds is noise, the load of five minutes is not, and thirty samples
say more than the last of them. Counters are the rate over each step, under a name of their own. A cache that may be lost;
it knows the store's port and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from aiops.foresight import Plan
from aiops.metrics import Kind, find
from aiops.model import Floats, Query, Series, SeriesKey
from aiops.ports import Grid, SeriesStore

LONGEST_GAP = 2.0
"""Steps between two readings of a counter beyond which the rate in between is not known."""

LATE = 1
"""Steps read again: what was measured as one ended may have been written after it was read."""

Kept = dict[SeriesKey, Floats]


class Past:
    """Owns the grids. Values are right-aligned: the last is that of the grid point at the last `grids` call's end."""

    def __init__(self, shelf: SeriesStore, plan: Plan) -> None:
        self.shelf, self.plan = shelf, plan
        self._kept: dict[Query, Kept] = {}
        self._end: float | None = None

    def grids(self, now: float, queries: Sequence[Query]) -> list[Grid]:
        """Every series that the queries find, sorted by key, up to the last whole step; windows and steps are the plan's."""
        step_s = self.plan.step_s
        end = float(np.floor(now / step_s) * step_s)
        if self._end is None or not 0 <= end - self._end <= self.plan.history_s:
            self._kept = {}
        found: Kept = {}
        for query in dict.fromkeys(queries):
            found |= self._read(query, now, end)
        self._kept = {query: self._kept[query] for query in dict.fromkeys(queries)}
        self._end = end
        return [
            Grid(key=key, start=end - step_s * (len(found[key]) - 1), step_s=step_s, values=found[key]) for key in sorted(found)
        ]

    def _read(self, query: Query, now: float, end: float) -> Kept:
        kept = self._kept.get(query)
        if kept is not None and self._end is not None:
            since = self._end - (LATE + LONGEST_GAP) * self.plan.step_s  # a counter's rate needs the reading before
            new = self.shelf.read(replace(query, window_s=now - since, step_s=0.0), now)
            if all(foreseen_as(one.key) in kept for one in new):
                self._kept[query] = self._longer(kept, new, end)
                return self._kept[query]
        read = self.shelf.read(replace(query, window_s=self.plan.history_s, step_s=0.0), now)
        window = (end, self.plan.step_s, self.plan.history_s)
        self._kept[query] = {foreseen_as(one.key): on_grid(one, window) for one in read}
        return self._kept[query]

    def _longer(self, kept: Kept, new: Sequence[Series], end: float) -> Kept:
        """The kept grids up to `end`: the last step again and new ones at the right, the oldest gone at the left."""
        assert self._end is not None
        step_s = self.plan.step_s
        added, most = round((end - self._end) / step_s) + LATE, round(self.plan.history_s / step_s)
        fresh = {foreseen_as(one.key): on_grid(one, (end, step_s, (added + LONGEST_GAP) * step_s)) for one in new}
        silent = np.full(added, np.nan)
        tails = {key: np.concatenate([silent, fresh.get(key, silent)])[-added:] for key in kept}
        return {key: np.concatenate([values[:-LATE], tails[key]])[-most:] for key, values in kept.items()}


def is_counter(metric: str) -> bool:
    """Whether values only grow: by the catalogue, or by Prometheus' naming where it does not know the metric."""
    row = find(metric)
    return row.kind is Kind.COUNTER if row is not None else metric.endswith("_total")


def foreseen_as(key: SeriesKey) -> SeriesKey:
    """The target under which a series is forecast: its own key, or of a counter that of its rate, `..._per_s`."""
    return SeriesKey(key.metric.removesuffix("_total") + "_per_s", key.labels) if is_counter(key.metric) else key


def on_grid(series: Series, window: tuple[float, float, float]) -> Floats:
    """(n,) means (of a counter: rates) per step, the last ending at `window` = (end, step_s, longest_s); NaN where unknown.

    A step is open at its start and closed at its end. Points after the end are never looked at.
    """
    end, step_s, longest_s = window
    known = np.isfinite(series.values) & (series.times <= end)
    times, values = series.times[known], series.values[known]
    weights = np.ones(len(times))
    if is_counter(series.key.metric):
        weights = np.diff(times)
        grown = np.diff(values)
        values = np.where(grown < 0, values[1:], grown)  # it started again from nothing
        near = (weights > 0) & (weights <= LONGEST_GAP * step_s)
        times, values, weights = times[1:][near], values[near], weights[near]
    back = np.floor((end - times) / step_s + 1e-9).astype(np.int64)
    inside = back < round(longest_s / step_s)
    back, values, weights = back[inside], values[inside], weights[inside]
    n = int(back.max()) + 1 if len(back) else 1
    total = np.bincount(n - 1 - back, weights=values, minlength=n)
    amount = np.bincount(n - 1 - back, weights=weights, minlength=n)
    return np.asarray(np.where(amount > 0, total / np.where(amount > 0, amount, 1.0), np.nan))
