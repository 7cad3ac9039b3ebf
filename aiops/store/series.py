"""Samples in the database: a blob per scrape, sealed into one chunk per series and two hours. Never a row per sample.

An appended batch is one `tick` row. Once a block of two hours is over, and stragglers have had their time, its ticks are
folded into chunks (`sealing.py`). A read takes both. What is kept in memory (`head.py`, `names.py`) are caches, brought up to
date inside each transaction, so that any number of processes may use one database.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from threading import RLock

import numpy as np
from sqlalchemy import Connection, bindparam, func, insert, select

from aiops.model import Batch, Floats, Query, Series, SeriesKey
from aiops.store import schema
from aiops.store.chunk import Ints, pack_tick, unpack_tick
from aiops.store.database import Database
from aiops.store.head import Head, merged
from aiops.store.intake import LATE_S, block_start, first_of_each, fresh, plausible
from aiops.store.matching import windowed
from aiops.store.names import SeriesNames
from aiops.store.sealing import Columns, seal, sealed_columns

# Built once: making a statement takes SQLAlchemy longer than SQLite takes to answer it.
_GENERATIONS = select(schema.generation)
_NEW_TICKS = select(schema.tick).where(schema.tick.c.seq > bindparam("known")).order_by(schema.tick.c.seq)


class SqlSeries:
    """The `SeriesStore` part of the SQL store."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._cache = RLock()  # of head and names; never held while waiting for the turn to write
        self._head = Head()
        self._names = SeriesNames()
        self._counts: Counter[str] = Counter()
        self._block = -np.inf

    def append(self, *batches: Batch) -> int:
        """Keep batches durably, in one transaction; the number of samples that are new. See `SeriesStore.append`."""
        try:
            with self._db.write() as connection, self._cache:
                taken = [(self._take(connection, batch), batch.time) for batch in batches]
        except BaseException:
            self._forget()  # the caches have seen what was then undone
            raise
        with self._cache:
            for counts, _ in taken:
                self._counts += counts  # only now: what was not committed was not counted
        self._seal_behind([time for counts, time in taken if counts["accepted"]])
        return sum(counts["accepted"] for counts, _ in taken)

    def _seal_behind(self, times: Sequence[float]) -> None:
        """Once a sample of a new block is kept, fold the blocks before it."""
        if times and block_start(newest := max(times)) != self._block:
            seal(self._db, newest)
            self._block = block_start(newest)

    def _take(self, connection: Connection, batch: Batch) -> Counter[str]:
        """What became of one batch's samples, by the words of `intake.py`."""
        batch, counts = plausible(batch)
        self._catch_up(connection)
        if batch.time < self._head.newest - LATE_S:
            counts["late"] += len(batch.keys)
        elif batch.keys:
            counts += self._insert(connection, batch)
        return counts

    def _forget(self) -> None:
        with self._cache:
            self._head, self._names = Head(), SeriesNames()

    def read(self, query: Query, now: float) -> tuple[Series, ...]:
        """Matching series, sorted by key. See `SeriesStore.read`; UserError for a pattern that is none."""
        with self._db.read() as connection:
            with self._cache:
                self._catch_up(connection)
                wanted = self._names.matching(query)
                parts = self._open_columns(np.array(sorted(wanted), np.int64))
            for id, columns in sealed_columns(connection, list(wanted), block_start(now - query.window_s), now).items():
                parts[id] = columns + parts[id]
        found = (windowed(wanted[id], *merged(columns), query, now) for id, columns in parts.items())
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.key))

    def keys(self, metric: str | None = None) -> tuple[SeriesKey, ...]:
        """Known series keys, sorted; of one metric if given."""
        with self._db.read() as connection, self._cache:
            self._catch_up(connection)
            return self._names.all(metric)

    def stats(self) -> Mapping[str, int]:
        """Samples that this process handed in, by what became of them; the words are those of `intake.py`."""
        with self._cache:
            return dict(self._counts)

    def _insert(self, connection: Connection, batch: Batch) -> Counter[str]:
        ids = self._names.numbered(connection, batch.keys)
        kept = ids > 0
        counts = Counter(refused_series=int((~kept).sum()))
        ids, values, twice = first_of_each(ids[kept], batch.values[kept])
        new, known = fresh(values, self._known(connection, batch.time, ids))
        ids, values = ids[new], values[new]
        if len(ids):
            connection.execute(insert(schema.tick).values(time=batch.time, data=pack_tick(ids, values)))
        return counts + twice + known + Counter(accepted=len(ids))

    def _known(self, connection: Connection, time: float, ids: Ints) -> Floats:
        """(n,) values stored for `ids` at exactly `time`, NaN where none is."""
        known = self._head.at(time, ids)
        block = block_start(time)
        for id, columns in sealed_columns(connection, ids.tolist(), block, block).items():
            for times, values in columns:
                known[ids == id] = [*values[times == time], *known[ids == id]][:1]
        return known

    def _open_columns(self, ids: Ints) -> defaultdict[int, Columns]:
        parts: defaultdict[int, Columns] = defaultdict(list)
        for id, times, values in self._head.columns(ids):
            parts[id].append((times, values))
        return parts

    def _catch_up(self, connection: Connection) -> None:
        """Bring the caches to what this transaction sees; what another process sealed or pruned empties them first."""
        now = {row.name: row.value for row in connection.execute(_GENERATIONS)}
        if now["series"] != self._names.generation:
            self._names = SeriesNames(now["series"])
        if now["tick"] != self._head.generation:
            self._head = Head(now["tick"])
            last = connection.scalar(select(func.max(schema.axis.c.start)))
            self._head.newest = -np.inf if last is None else last
        self._names.catch_up(connection)
        for seq, time, data in connection.execute(_NEW_TICKS, {"known": self._head.seq}):
            self._head.add(seq, time, *unpack_tick(data))
