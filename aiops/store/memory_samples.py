"""The samples of the reference store, as plain dictionaries: point by point, every rule in its plainest form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from aiops.model import Batch, Query, Series, SeriesKey
from aiops.store.intake import LATE_S, MAX_SERIES, key_text, plausible
from aiops.store.matching import selector, windowed


class Samples:
    """The `SeriesStore` part."""

    def __init__(self) -> None:
        super().__init__()
        self._points: dict[SeriesKey, dict[float, float]] = {}
        self._newest = -np.inf
        self._counts: Counter[str] = Counter()

    def append(self, *batches: Batch) -> int:
        """See `SeriesStore.append`."""
        return sum(self._append(batch) for batch in batches)

    def _append(self, batch: Batch) -> int:
        batch, counts = plausible(batch)
        if batch.time < self._newest - LATE_S:
            counts["late"] += len(batch.keys)
        else:
            counts.update(self._put(key, batch.time, float(value)) for key, value in zip(batch.keys, batch.values, strict=True))
        self._counts += counts
        return counts["accepted"]

    def _put(self, key: SeriesKey, time: float, value: float) -> str:
        if key not in self._points and (key_text(key) is None or len(self._points) >= MAX_SERIES):
            return "refused_series"
        points = self._points.setdefault(key, {})
        if time in points:
            return "duplicate" if points[time] == value else "conflict"
        points[time] = value
        self._newest = max(self._newest, time)
        return "accepted"

    def read(self, query: Query, now: float) -> tuple[Series, ...]:
        """See `SeriesStore.read`."""
        test = selector(query)
        found = []
        for key in filter(test, self.keys(query.metric)):
            times = np.array(sorted(self._points[key]), np.float64)
            values = np.array([self._points[key][time] for time in times], np.float64)
            found.append(windowed(key, times, values, query, now))
        return tuple(series for series in found if series is not None)

    def keys(self, metric: str | None = None) -> tuple[SeriesKey, ...]:
        """See `SeriesStore.keys`."""
        return tuple(sorted(key for key in self._points if metric in (None, key.metric)))

    def stats(self) -> Mapping[str, int]:
        """Samples handed in, by what became of them; the words are those of `intake.py`."""
        return dict(self._counts)
