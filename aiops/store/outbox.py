"""Orders in and notifications out, in the database: what must reach the other side even if we fall in between."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Row, func, insert, select, update

from aiops.action import Order
from aiops.codec import decode, encode
from aiops.ports import Message
from aiops.store import chain, schema
from aiops.store.database import Database
from aiops.store.transitions import in_force

WAITING, DEAD, DELIVERED = "waiting", "dead", "delivered"


class SqlOrders:
    """The `Orders` part of the SQL store."""

    _db: Database

    def put_order(self, order: Order) -> None:
        """Keep durably, with its audit record in the same transaction; an id that is known is left as it is."""
        table = schema.operator_order
        with self._db.write() as connection:
            if connection.scalar(select(table.c.seq).where(table.c.id == order.id)) is None:
                connection.execute(insert(table).values(id=order.id, at=order.at, body=encode(order)))
                chain.append(connection, order.at, "order", order)

    def orders(self, now: float) -> tuple[Order, ...]:
        """Orders in force at `now`, in the order in which they were received."""
        table = schema.operator_order
        with self._db.read() as connection:
            bodies = connection.scalars(select(table.c.body).order_by(table.c.seq)).all()
        return in_force((decode(Order, body) for body in bodies), now)


class SqlOutbox:
    """The `Outbox` part of the SQL store. A delivered message stays as a marker, so that its id is not sent twice."""

    _db: Database

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Keep durably; a known id, also a delivered one, is left as it is."""
        table = schema.message
        with self._db.write() as connection:
            for one in messages:
                if connection.scalar(select(table.c.seq).where(table.c.id == one.id)) is None:
                    row = {"id": one.id, "receiver": one.receiver, "grp": one.group, "body": one.body}
                    connection.execute(insert(table).values(row | {"created_at": one.created_at} | _progress(one, False)))

    def due(self, now: float, limit: int = 100) -> tuple[Message, ...]:
        """Messages to be tried now: the oldest waiting one of each group and receiver, if its `next_at` has come."""
        table = schema.message
        oldest = select(func.min(table.c.seq)).where(table.c.state == WAITING).group_by(table.c.receiver, table.c.grp)
        query = select(table).where(table.c.seq.in_(oldest), table.c.next_at <= now).order_by(table.c.seq).limit(limit)
        with self._db.read() as connection:
            return tuple(_message(row) for row in connection.execute(query))

    def settle(self, message: Message, delivered: bool) -> None:
        """Delivered messages leave; others are kept with their new `attempts`, `next_at`, `dead`, `error`."""
        table = schema.message
        values = _progress(message, delivered) | ({"body": b""} if delivered else {})
        with self._db.write() as connection:
            connection.execute(update(table).where(table.c.id == message.id, table.c.state != DELIVERED).values(values))

    def dead_letters(self, limit: int = 100) -> tuple[Message, ...]:
        """Messages given up on, newest first."""
        table = schema.message
        query = select(table).where(table.c.state == DEAD).order_by(table.c.seq.desc()).limit(limit)
        with self._db.read() as connection:
            return tuple(_message(row) for row in connection.execute(query))


def _progress(message: Message, delivered: bool) -> dict[str, object]:
    state = DELIVERED if delivered else DEAD if message.dead else WAITING
    return {"state": state, "attempts": message.attempts, "next_at": message.next_at, "error": message.error}


def _message(row: Row[tuple[object, ...]]) -> Message:
    return Message(
        id=row.id,
        group=row.grp,
        receiver=row.receiver,
        body=row.body,
        created_at=row.created_at,
        attempts=row.attempts,
        next_at=row.next_at,
        dead=row.state == DEAD,
        error=row.error,
    )
