"""Leadership in the database: one row, changed by one conditional statement; its epoch only grows and fences old leaders."""

from __future__ import annotations

from sqlalchemy import Connection, case, or_, select, update

from aiops.store import schema
from aiops.store.database import Database


class SqlLease:
    """The `Lease` part of the SQL store."""

    _db: Database

    def acquire(self, holder: str, now: float, ttl_s: float) -> int | None:
        """The epoch if `holder` leads after this call, else None.

        Its own live lease is renewed at the same epoch; a lapsed one, its own too, is taken at the next: what happened in
        the gap is unknown. PostgreSQL judges by the server's clock, SQLite by `now`, for there both daemons share a host.
        """
        lease = schema.lease.c
        with self._db.write() as connection:
            time = self._db.now(connection, now)
            lapsed = lease.expires_at <= time
            claim = (
                update(schema.lease)
                .where(or_(lease.holder == holder, lapsed))
                .values(holder=holder, epoch=lease.epoch + case((lapsed, 1), else_=0), expires_at=time + ttl_s)
                .returning(lease.epoch)
            )
            return connection.execute(claim).scalar_one_or_none()

    def epoch(self) -> int:
        """The current epoch; 0 before anybody led."""
        with self._db.read() as connection:
            return current_epoch(connection)

    def release(self, holder: str) -> None:
        """Give the lease up early; another holder's lease is left alone."""
        given_up = update(schema.lease).where(schema.lease.c.holder == holder).values(expires_at=0.0)
        with self._db.write() as connection:
            connection.execute(given_up)


def current_epoch(connection: Connection) -> int:
    """The epoch, as the caller's transaction sees it."""
    return int(connection.execute(select(schema.lease.c.epoch)).scalar_one())
