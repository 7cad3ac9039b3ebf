"""Numbers for series keys: the `series` table and its cache. A number is never used again: a cache may miss, but not lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection, insert, select

from aiops.model import SeriesKey
from aiops.store import schema
from aiops.store.chunk import Ints
from aiops.store.intake import MAX_SERIES, key_of, key_text


@dataclass(slots=True)
class SeriesNames:
    """Keys and their numbers, valid for one `generation` of the table (pruning starts a new one)."""

    generation: int = -1
    seq: int = 0
    _by_key: dict[SeriesKey, int] = field(default_factory=dict)
    _by_metric: dict[str, dict[SeriesKey, int]] = field(default_factory=dict)

    def catch_up(self, connection: Connection) -> None:
        """Learn what other writers, or this one, have committed since."""
        rows = connection.execute(select(schema.series).where(schema.series.c.seq > self.seq).order_by(schema.series.c.seq))
        for seq, text in rows:
            key = key_of(text)
            self.seq = seq
            self._by_key[key] = self._by_metric.setdefault(key.metric, {})[key] = seq

    def numbered(self, connection: Connection, keys: Sequence[SeriesKey]) -> Ints:
        """(n,) numbers of `keys`, made up in this transaction for new ones; 0 where a key cannot be kept, or no more can."""
        ids = np.fromiter((self._by_key.get(key, 0) for key in keys), np.int64, len(keys))
        unknown = np.flatnonzero(ids == 0)
        if len(unknown):
            texts = {index: text for index in unknown.tolist() if (text := key_text(keys[index])) is not None}
            room = max(0, MAX_SERIES - len(self._by_key))
            numbers = _new_numbers(connection, list(dict.fromkeys(texts.values()))[:room])
            for index, text in texts.items():
                ids[index] = numbers.get(text, 0)
        return ids

    def matching(self, metric: str, test: Callable[[SeriesKey], bool]) -> dict[int, SeriesKey]:
        """Number to key of the series of one metric that pass `test`, by ascending number."""
        return {seq: key for key, seq in self._by_metric.get(metric, {}).items() if test(key)}

    def all(self, metric: str | None) -> tuple[SeriesKey, ...]:
        """Known keys, sorted; of one metric if given."""
        return tuple(sorted(self._by_key if metric is None else self._by_metric.get(metric, ())))


def _new_numbers(connection: Connection, texts: list[str]) -> dict[str, int]:
    if not texts:
        return {}
    rows = insert(schema.series).returning(schema.series.c.key, schema.series.c.seq)
    return {row.key: row.seq for row in connection.execute(rows, [{"key": text} for text in texts])}
