"""Folding ticks into chunks, and reading chunks: the shape in which samples stay.

Sealing computes outside the write transaction (seconds, for many series) and commits only if nobody else sealed or pruned in
between. It merges with a chunk that is already there, so a late tick costs one more sealing and is never lost. Times of a block
are stored once per distinct column (`axis`), because all series of a scrape share them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from aiops.model import Floats
from aiops.store import schema
from aiops.store.chunk import pack_times, pack_values, unpack_tick, unpack_times, unpack_values
from aiops.store.database import Database
from aiops.store.head import Head, merged
from aiops.store.intake import block_start

Columns = list[tuple[Floats, Floats]]
Id = TypeVar("Id")
GRACE_S = 600.0  # an agent that lost its network for ten minutes still finds its block open
_IN_ONE_QUERY = 10_000  # numbers in one IN list: SQLite takes 32,766 parameters, PostgreSQL 65,535
_axis, _chunk = schema.axis.c, schema.chunk.c
_AXES = select(_axis.seq, _axis.data).where(_axis.start.between(bindparam("first"), bindparam("last")))
_CHUNKS = (
    select(_chunk.series, _chunk.axis, _chunk.data)
    .where(_chunk.start.between(bindparam("first"), bindparam("last")), _chunk.series.in_(bindparam("ids", expanding=True)))
    .order_by(_chunk.series, _chunk.start)
)


def seal(db: Database, time: float) -> int:
    """Fold every tick of the blocks that were over `GRACE_S` before `time`; number of chunks written."""
    with db.read() as connection:
        generation = tick_generation(connection)
        ticks = connection.execute(select(schema.tick).where(schema.tick.c.time < block_start(time - GRACE_S))).all()
        if not ticks:
            return 0
        chunks = {block: _folded(connection, block, group) for block, group in _by_block(ticks).items()}
    with db.write() as connection:
        if tick_generation(connection) != generation:
            return 0  # another process was faster
        for block, columns in chunks.items():
            _write(connection, block, columns)
        for some in portions([tick.seq for tick in ticks]):
            connection.execute(delete(schema.tick).where(schema.tick.c.seq.in_(some)))
        next_generation(connection, "tick")
    return sum(len(columns) for columns in chunks.values())


def sealed_columns(connection: Connection, ids: Sequence[int], first: float, last: float) -> dict[int, Columns]:
    """Per series number the (times, values) of its chunks that start in [first, last], oldest first."""
    span = {"first": first, "last": last}
    axes = {seq: unpack_times(data) for seq, data in connection.execute(_AXES, span)}
    found: defaultdict[int, Columns] = defaultdict(list)
    for some in portions(ids) if axes else ():
        for id, on, data in connection.execute(_CHUNKS, {**span, "ids": some}):
            found[id].append((axes[on], unpack_values(data)))
    return found


def tick_generation(connection: Connection) -> int:
    """Grows with each sealing or pruning: what was read of ticks and chunks before it is no longer the whole."""
    generation = schema.generation.c
    return int(connection.execute(select(generation.value).where(generation.name == "tick")).scalar_one())


def next_generation(connection: Connection, name: str) -> None:
    """Tell all caches of `tick` or `series` to start afresh."""
    generation = schema.generation
    connection.execute(update(generation).where(generation.c.name == name).values(value=generation.c.value + 1))


def _by_block(ticks: Iterable[Row[Any]]) -> dict[float, Head]:
    """Ticks, read column-wise, per block."""
    heads: defaultdict[float, Head] = defaultdict(Head)
    for tick in ticks:
        heads[block_start(tick.time)].add(tick.seq, tick.time, *unpack_tick(tick.data))
    return heads


def _folded(connection: Connection, block: float, head: Head) -> dict[int, tuple[bytes, bytes]]:
    """Series number -> (packed times, packed values), merged with the chunk that is already there."""
    ids = head.ids()
    parts = sealed_columns(connection, ids.tolist(), block, block)
    for id, times, values in head.columns(ids):
        parts.setdefault(id, []).append((times, values))
    packed_times: dict[bytes, bytes] = {}
    columns = {}
    for id, several in parts.items():
        times, values = merged(several)
        raw = times.tobytes()
        if raw not in packed_times:
            packed_times[raw] = pack_times(times)
        columns[id] = packed_times[raw], pack_values(values)
    return columns


def _write(connection: Connection, block: float, columns: dict[int, tuple[bytes, bytes]]) -> None:
    chunk = schema.chunk
    for some in portions(list(columns)):
        connection.execute(delete(chunk).where(chunk.c.start == block, chunk.c.series.in_(some)))
    axes = {
        data: connection.execute(insert(schema.axis).values(start=block, data=data).returning(schema.axis.c.seq)).scalar_one()
        for data in dict.fromkeys(times for times, _ in columns.values())
    }
    rows = [
        {"series": id, "start": block, "axis": axes[times], "data": values} for id, (times, values) in sorted(columns.items())
    ]
    connection.execute(insert(chunk), rows)


def portions(ids: Sequence[Id]) -> Iterable[Sequence[Id]]:
    """Ids in lists that one query can take."""
    return (ids[at : at + _IN_ONE_QUERY] for at in range(0, len(ids), _IN_ONE_QUERY))
