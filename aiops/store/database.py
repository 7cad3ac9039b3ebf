"""One database, SQLite or PostgreSQL: how to read it, how to write it, and what its failures mean to us.

There is one writer at a time, on both. SQLite: one writing connection per process, BEGIN IMMEDIATE (a deferred transaction
that turns into a writer fails at once with SQLITE_BUSY_SNAPSHOT, whatever the timeout), and a lock file around each write, so
that over all processes one connection commits and checkpoints (WAL-reset corruption bug of SQLite 3.7.0-3.51.2).
PostgreSQL: a transaction-scoped advisory lock; the server ends the session of a writer that stands still inside its
transaction (SIGSTOP, a lost host), so that a standby gets on. A write that returned is on disk.
"""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool, StaticPool

from aiops.clock import SystemClock
from aiops.errors import AiopsError, Permanent, Temporary

WAIT_S = 5.0  # for another writer: half a tick, so that a blocked cycle still ends within its own tick
_STALLED_S = 5  # a PostgreSQL writer that stands still for so long inside a transaction loses its session
_LOCK_KEY = 0x61696F7073  # "aiops": the advisory lock of all writers of one database
_TRY_AGAIN = (
    "08",
    "40",
    "53",
    "55",
    "57",
    "58",
    "25P03",
)  # SQLSTATE classes: connection, conflict, resources, not ready, operator


class Database:
    """Connections to one database. Any thread may read; writes take turns."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.sqlite = url.get_backend_name() == "sqlite"
        self._turn = RLock()
        self._lock_path = Path(f"{url.database}.lock") if self.sqlite else None
        self._reader = _sqlite_engine(url, "BEGIN") if self.sqlite else _postgres_engine(url)
        self._writer = _sqlite_engine(url, "BEGIN IMMEDIATE") if self.sqlite else self._reader

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one moment; raises Temporary or Permanent."""
        try:
            with self._reader.begin() as connection:
                yield connection
        except (DBAPIError, OSError) as error:
            raise translated(error) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The only write transaction at this moment; committed durably on leaving, undone on an exception."""
        try:
            with self._turn, self._file_locked(), self._writer.begin() as connection:
                if not self.sqlite:
                    connection.execute(select(func.pg_advisory_xact_lock(_LOCK_KEY)))
                yield connection
        except (DBAPIError, OSError) as error:
            raise translated(error) from error

    def now(self, connection: Connection, given: float) -> float:
        """The time that leases are judged by: the server's own where there is one, whatever the daemons' clocks say."""
        if self.sqlite:
            return given
        return float(connection.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0.0)

    def close(self) -> None:
        """Let go of all connections; the last one out folds the write-ahead log back into the file."""
        self._reader.dispose()
        with self._turn, self._file_locked():
            self._writer.dispose()

    @contextmanager
    def _file_locked(self) -> Iterator[None]:
        if self._lock_path is None:
            yield
            return
        with self._lock_path.open("a") as file:
            _wait_for(file.fileno())
            yield  # closing the file ends the lock, and so does the death of the process


def _wait_for(file: int) -> None:
    clock = SystemClock()
    deadline = clock.elapsed() + WAIT_S
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.elapsed() > deadline:
                raise Temporary(f"the database is being written by another process for more than {WAIT_S:g} s") from None
            time.sleep(0.002)


def _sqlite_engine(url: URL, begin: str) -> Engine:
    writes = begin != "BEGIN"
    options = {"poolclass": StaticPool} if writes else {"poolclass": QueuePool, "pool_size": 4, "max_overflow": 12}
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": WAIT_S}, **options)

    def connect(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # pysqlite must not open transactions by itself
        for pragma in _pragmas(writes):
            connection.execute(f"PRAGMA {pragma}")

    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", start)
    return engine


def _pragmas(writes: bool) -> tuple[str, ...]:
    if not writes:  # readers never checkpoint: see the module's first paragraph
        return ("query_only = ON", "wal_autocheckpoint = 0")
    return ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "journal_size_limit = 67108864")


def _postgres_engine(url: URL) -> Engine:
    engine = create_engine(url, pool_size=5, max_overflow=15, pool_pre_ping=True, connect_args={"timeout": 10})
    engine.dialect.use_insertmanyvalues_wo_returning = True  # pg8000 asks the server row by row, while all writers wait

    def connect(connection: object, _: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        cursor.execute(f"SET lock_timeout = '{WAIT_S:g}s'")
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{_STALLED_S}s'")
        cursor.execute("SET synchronous_commit = on")  # off lost the last tick at every kill
        connection.commit()  # type: ignore[attr-defined]

    event.listen(engine, "connect", connect)
    return engine


def translated(error: DBAPIError | OSError) -> AiopsError:
    """What a driver's error means to us: worth another try, or a person's business. The one place that knows."""
    if isinstance(error, OSError):  # a socket that broke under the driver, a lock file on a full disk
        return Temporary(f"database: {error}")
    cause = error.orig
    details = cause.args[0] if cause is not None and cause.args else ""
    if isinstance(details, dict):  # pg8000 gives the server's answer as fields: C is the SQLSTATE, M the message
        text, code = str(details.get("M", details)), str(details.get("C", ""))
        return (Temporary if code.startswith(_TRY_AGAIN) else Permanent)(f"database: {text}")
    text = f"database: {details or type(cause).__name__}"
    lasting = "no such" in text or "malformed" in text or "readonly" in text
    passing = isinstance(error, OperationalError) or error.connection_invalidated or "InterfaceError" in type(error).__name__
    return Temporary(text) if passing and not lasting else Permanent(text)
