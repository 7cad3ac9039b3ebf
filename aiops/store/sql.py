"""The store on SQLite or PostgreSQL: the parts of the `Store` port, over one `Database`."""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from aiops.settings import StoreSettings
from aiops.store import schema
from aiops.store.database import Database
from aiops.store.lease import SqlLease
from aiops.store.ledger import SqlLedger
from aiops.store.outbox import SqlOrders, SqlOutbox
from aiops.store.records import SqlRecords
from aiops.store.retention import prune
from aiops.store.series import SqlSeries


class SqlStore(SqlSeries, SqlRecords, SqlLedger, SqlOrders, SqlOutbox, SqlLease):
    """Everything that survives a restart; made by `open_store`."""

    def __init__(self, db: Database, keep: StoreSettings) -> None:
        super().__init__(db)
        self._keep = keep

    def put_state(self, name: str, value: bytes) -> None:
        """Keep a small named blob durably; the last one wins."""
        table = schema.state
        with self._db.write() as connection:
            connection.execute(delete(table).where(table.c.name == name))
            connection.execute(insert(table).values(name=name, value=value))

    def state(self, name: str) -> bytes | None:
        """A named blob, or None."""
        table = schema.state
        with self._db.read() as connection:
            return connection.scalar(select(table.c.value).where(table.c.name == name))

    def prune(self, now: float) -> int:
        """Delete what is past its retention; rows deleted. See `Store.prune`."""
        with self._db.write() as connection:
            return prune(connection, self._keep, now)

    def damage(self) -> tuple[str, ...]:
        """What SQLite's own integrity check finds wrong with the file; PostgreSQL looks after its files itself."""
        if not self._db.sqlite:
            return ()
        with self._db.read() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check(10)").scalars().all()
        return tuple(line for line in found if line != "ok")

    def close(self) -> None:
        """Finish writes and let go."""
        self._db.close()
