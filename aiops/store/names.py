"""Numbers for series keys: the `series` table and its cache. A number is never used again: a cache may miss, but not lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection, bindparam, insert, select

from aiops.model import Matcher, Query, SeriesKey
from aiops.store import schema
from aiops.store.chunk import Ints
from aiops.store.intake import MAX_SERIES, key_of, key_text
from aiops.store.matching import selector

Selection = tuple[str, tuple[Matcher, ...]]
_NEW_SERIES = select(schema.series).where(schema.series.c.seq > bindparam("known")).order_by(schema.series.c.seq)
_REMEMBERED = 256  # selections; policies and forecasts have a few dozen, the rest is people looking around


@dataclass(slots=True)
class SeriesNames:
    """Keys and their numbers, valid for one `generation` of the table (pruning starts a new one)."""

    generation: int = -1
    seq: int = 0
    _by_key: dict[SeriesKey, int] = field(default_factory=dict)
    _by_metric: dict[str, dict[SeriesKey, int]] = field(default_factory=dict)
    _selected: dict[Selection, dict[int, SeriesKey]] = field(default_factory=dict)
    _latest: tuple[Sequence[SeriesKey], Ints] = ((), np.empty(0, np.int64))

    def catch_up(self, connection: Connection) -> None:
        """Learn what other writers, or this one, have committed since."""
        for seq, text in connection.execute(_NEW_SERIES, {"known": self.seq}):
            key = key_of(text)
            self.seq = seq
            self._by_key[key] = self._by_metric.setdefault(key.metric, {})[key] = seq
            self._selected.clear()

    def numbered(self, connection: Connection, keys: Sequence[SeriesKey]) -> Ints:
        """(n,) numbers of `keys`, made up in this transaction for new ones; 0 where a key cannot be kept, or no more can."""
        if keys is self._latest[0]:
            return self._latest[1]
        ids = np.fromiter((self._by_key.get(key, 0) for key in keys), np.int64, len(keys))
        unknown = np.flatnonzero(ids == 0)
        if not len(unknown):
            self._latest = keys, ids
        else:
            texts = {index: text for index in unknown.tolist() if (text := key_text(keys[index])) is not None}
            room = max(0, MAX_SERIES - len(self._by_key))
            numbers = _new_numbers(connection, list(dict.fromkeys(texts.values()))[:room])
            for index, text in texts.items():
                ids[index] = numbers.get(text, 0)
        return ids

    def matching(self, query: Query) -> dict[int, SeriesKey]:
        """Number to key of the series that a query selects, by ascending number; UserError for a pattern that is none.

        Remembered until a new series comes: the loop asks the same questions every cycle.
        """
        selection = query.metric, query.matchers
        if selection not in self._selected:
            test, keys = selector(query), self._by_metric.get(query.metric, {})
            if len(self._selected) >= _REMEMBERED:
                self._selected.clear()
            self._selected[selection] = {seq: key for key, seq in keys.items() if test(key)}
        return self._selected[selection]

    def all(self, metric: str | None) -> tuple[SeriesKey, ...]:
        """Known keys, sorted; of one metric if given."""
        return tuple(sorted(self._by_key if metric is None else self._by_metric.get(metric, ())))


def _new_numbers(connection: Connection, texts: list[str]) -> dict[str, int]:
    if not texts:
        return {}
    rows = insert(schema.series).returning(schema.series.c.key, schema.series.c.seq)
    return {row.key: row.seq for row in connection.execute(rows, [{"key": text} for text in texts])}
