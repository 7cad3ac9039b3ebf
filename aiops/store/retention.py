"""What goes when its time is over. Open entries, live reservations, undelivered messages and orders in force never go."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select, update

from aiops.action import Order
from aiops.codec import decode
from aiops.settings import StoreSettings
from aiops.store import schema
from aiops.store.chunk import unpack_tick
from aiops.store.intake import block_start
from aiops.store.outbox import DELIVERED
from aiops.store.sealing import next_generation, portions
from aiops.store.transitions import in_force


def prune(connection: Connection, keep: StoreSettings, now: float) -> int:
    """Delete what is past its retention, inside the caller's write transaction; rows deleted."""
    before = now - keep.records
    return (
        _samples(connection, block_start(now - keep.samples))
        + _ledger(connection, before, now - keep.samples)
        + _orders(connection, before, now)
        + _delete(connection, schema.forecast, schema.forecast.c.made_at < before)
        + _delete(connection, schema.newest_forecast, schema.newest_forecast.c.made_at < before)
        + _delete(connection, schema.finding, schema.finding.c.at < before)
        + _diagnoses(connection, before)
        + _delete(connection, schema.message, (schema.message.c.state == DELIVERED) & (schema.message.c.created_at < before))
        + _delete(
            connection, schema.reservation, schema.reservation.c.open.is_(False) & (schema.reservation.c.changed_at < before)
        )
    )


def _delete(connection: Connection, table: Table, condition: ColumnElement[bool]) -> int:
    return connection.execute(delete(table).where(condition)).rowcount


def _samples(connection: Connection, before: float) -> int:
    """Whole blocks that start before `before`, and the names of series of which nothing is left."""
    gone = (
        _delete(connection, schema.chunk, schema.chunk.c.start < before)
        + _delete(connection, schema.axis, schema.axis.c.start < before)
        + _delete(connection, schema.tick, schema.tick.c.time < before)
    )
    if gone:
        next_generation(connection, "tick")
        _nameless(connection)
    return gone


def _nameless(connection: Connection) -> None:
    series, chunk = schema.series, schema.chunk
    sealed = select(chunk.c.series).where(chunk.c.series == series.c.seq).exists()
    unsealed = {int(id) for data in connection.scalars(select(schema.tick.c.data)) for id in unpack_tick(data)[0]}
    unused = [seq for seq in connection.scalars(select(series.c.seq).where(~sealed)) if seq not in unsealed]
    for some in portions(unused):
        connection.execute(delete(series).where(series.c.seq.in_(some)))
    next_generation(connection, "series")


def _ledger(connection: Connection, before: float, snapshots_before: float) -> int:
    """A prefix of the chain that holds nothing open and nothing young, with the rows that belong to it."""
    record, entry, chain = schema.record, schema.entry, schema.chain
    cycle, admission = schema.cycle, schema.admission
    bare = ~select(admission.c.id).where(admission.c.record == cycle.c.record).exists()
    connection.execute(
        update(cycle).where(cycle.c.at < snapshots_before, cycle.c.snapshot.is_not(None), bare).values(snapshot=None)
    )
    young = connection.scalar(select(record.c.seq).where(record.c.at >= before).order_by(record.c.seq).limit(1))
    held = connection.scalar(select(func.min(entry.c.record)).where(entry.c.open.is_(True)))
    last = connection.execute(select(chain.c.last_seq)).scalar_one()
    first = min(young or last, held or last, last)  # the newest record always stays: the chain must have an end
    cut = connection.execute(
        select(record.c.seq, record.c.hash).where(record.c.seq < first).order_by(record.c.seq.desc()).limit(1)
    )
    end = cut.one_or_none()
    if end is None:
        return 0
    connection.execute(update(chain).values(first_seq=end.seq, first_hash=end.hash))
    return sum(_delete(connection, table, condition) for table, condition in (
        (record, record.c.seq < first),
        (cycle, cycle.c.record < first),
        (admission, admission.c.record < first),
        (entry, (entry.c.record < first) & (entry.c.changed_at < before)),
    ))  # fmt: skip


def _orders(connection: Connection, before: float, now: float) -> int:
    """Spent orders in the prefix that is old: an UNKILL never goes before the KILL that it ended."""
    table = schema.operator_order
    rows = connection.execute(select(table.c.seq, table.c.at, table.c.body).order_by(table.c.seq)).all()
    orders = {row.seq: decode(Order, row.body) for row in rows}
    young = min((row.seq for row in rows if row.at >= before), default=float("inf"))
    held = {one.id for one in in_force(orders.values(), now)}
    spent = [seq for seq, order in orders.items() if seq < young and order.id not in held]
    return sum(_delete(connection, table, table.c.seq.in_(some)) for some in portions(spent))


def _diagnoses(connection: Connection, before: float) -> int:
    newest = connection.scalar(select(func.max(schema.diagnosis.c.seq)))  # an empty newest one says that all is well
    return _delete(connection, schema.diagnosis, (schema.diagnosis.c.at < before) & (schema.diagnosis.c.seq != newest))
