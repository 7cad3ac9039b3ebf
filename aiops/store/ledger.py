"""The ledger in the database: what was seen, decided and done; appended in one transaction that checks the epoch.

Every event is a record of the hash chain. The tables beside it (`cycle`, `admission`, `entry`, `reservation`) are what queries
need; `verify` holds them against the chain.
"""

from __future__ import annotations

from hashlib import sha256

import orjson
from sqlalchemy import Connection, insert, select, update

from aiops.action import Admission, Entry, EntryState, Receipt, Verdict
from aiops.codec import decode, encode, pack, unpack
from aiops.errors import Fenced, Permanent
from aiops.model import Reservation
from aiops.snapshot import Decided, Snapshot
from aiops.store import chain, schema
from aiops.store.database import Database
from aiops.store.lease import current_epoch
from aiops.store.transitions import LIVE, OPEN, advanced, after_pass, intent, sends


class SqlLedger:
    """The `Ledger` part of the SQL store."""

    _db: Database

    def record(self, snapshot: Snapshot, decided: Decided) -> None:
        """Keep a cycle and everything decided in it, or nothing. See `Ledger.record`; Permanent for a cycle recorded before."""
        with self._db.write() as connection:
            _check_epoch(connection, snapshot.epoch)
            seen, concluded = pack(snapshot), encode(decided)
            body = {"id": snapshot.id, "epoch": snapshot.epoch, "snapshot": _sha(seen), "decided": _sha(concluded)}
            number = chain.append(connection, snapshot.now, "cycle", body)
            row = {"id": snapshot.id, "record": number, "at": snapshot.now, "snapshot": seen, "decided": concluded}
            connection.execute(insert(schema.cycle).values(row))
            for one in decided.transitions:
                _apply(connection, one.id, one.state, snapshot.now, one.verdict)
            _put_reservations(connection, decided.reservations, snapshot.now)
            _put_admissions(connection, snapshot, decided.admissions, number)

    def advance(self, id: str, state: EntryState, at: float, result: Receipt | Verdict | None = None) -> None:
        """Append a transition of one entry. See `Ledger.advance`.

        SENT without a result announces a call: it counts an attempt and is fenced. SENT with a Receipt keeps the answer.
        KeyError for an unknown entry, Permanent for a transition out of a terminal state.
        """
        with self._db.write() as connection:
            entry = _apply(connection, id, state, at, result)
            if sends(state, result):
                _check_epoch(connection, entry.epoch)
            body = {"id": id, "state": state, "result": result}
            chain.append(connection, at, "advance", body)

    def entries(self, since: float, only_open: bool = False, limit: int = 10_000) -> tuple[Entry, ...]:
        """All open entries, and unless `only_open` the newest `limit` closed ones changed after `since`; oldest first."""
        table = schema.entry
        still_open = select(table.c.at, table.c.id, table.c.body).where(table.c.open.is_(True))
        closed = select(table.c.at, table.c.id, table.c.body).where(table.c.open.is_(False), table.c.changed_at > since)
        with self._db.read() as connection:
            rows = list(connection.execute(still_open).all())
            if not only_open:
                rows += connection.execute(closed.order_by(table.c.changed_at.desc()).limit(limit)).all()
        return tuple(decode(Entry, body) for _, _, body in sorted(rows))

    def cycle(self, id: str) -> tuple[Snapshot, bytes]:
        """The recorded snapshot of a cycle and the canonical bytes of what was decided on it. KeyError if unknown or pruned."""
        with self._db.read() as connection:
            row = connection.execute(select(schema.cycle).where(schema.cycle.c.id == id)).one_or_none()
        if row is None or row.snapshot is None:
            raise KeyError(id)
        return unpack(Snapshot, row.snapshot), row.decided

    def cycles(self, since: float, until: float) -> tuple[str, ...]:
        """Ids of cycles recorded in [since, until], oldest first."""
        table = schema.cycle
        query = select(table.c.id).where(table.c.at.between(since, until)).order_by(table.c.at, table.c.id)
        with self._db.read() as connection:
            return tuple(connection.scalars(query))

    def admissions(self, since: float, until: float, limit: int = 1000) -> tuple[Admission, ...]:
        """Admissions made in [since, until], refusals included, newest first."""
        table = schema.admission
        query = select(table.c.body).where(table.c.at.between(since, until)).order_by(table.c.at.desc(), table.c.id)
        with self._db.read() as connection:
            return tuple(decode(Admission, body) for body in connection.scalars(query.limit(limit)))

    def admission(self, id: str) -> tuple[Admission, str]:
        """One admission and the id of its cycle. KeyError if unknown."""
        table = schema.admission
        with self._db.read() as connection:
            row = connection.execute(select(table.c.body, table.c.cycle).where(table.c.id == id)).one_or_none()
        if row is None:
            raise KeyError(id)
        return decode(Admission, row.body), row.cycle

    def reservations(self) -> tuple[Reservation, ...]:
        """Reservations that are not in a terminal state, sorted by name."""
        with self._db.read() as connection:
            return _live_reservations(connection)

    def verify(self) -> int:
        """Records whose chain was checked, and with them snapshots, decisions and entry states. See `Ledger.verify`."""
        checked, states = 0, dict[str, str]()
        with self._db.read() as connection:
            for record in chain.walk(connection):
                _verify_record(connection, record, states)
                checked += 1
            for id, body in connection.execute(select(schema.entry.c.id, schema.entry.c.body)):
                if id in states and decode(Entry, body).state != states[id]:
                    raise Permanent(f"ledger: entry {id} is not {states[id]}, as its records say")
        return checked


def _check_epoch(connection: Connection, epoch: int) -> None:
    current = current_epoch(connection)
    if epoch != current:
        raise Fenced(f"epoch {epoch} is over; the current one is {current}")


def _put_admissions(connection: Connection, snapshot: Snapshot, admissions: tuple[Admission, ...], number: int) -> None:
    for one in admissions:
        row = {"id": one.id, "record": number, "at": one.at}
        connection.execute(insert(schema.admission).values(row | {"cycle": snapshot.id, "body": encode(one)}))
        if one.permitted:
            entry = intent(one, snapshot.epoch)
            values = {"open": True, "changed_at": entry.changed_at, "body": encode(entry)}
            connection.execute(insert(schema.entry).values(row | values))


def _apply(
    connection: Connection, id: str, state: EntryState, at: float, result: Receipt | Verdict | None
) -> Entry:  # inside the caller's transaction
    table = schema.entry
    body = connection.scalar(select(table.c.body).where(table.c.id == id))
    if body is None:
        raise KeyError(id)
    entry = advanced(decode(Entry, body), state, at, result)
    values = {"open": entry.state in OPEN, "changed_at": at, "body": encode(entry)}
    connection.execute(update(table).where(table.c.id == id).values(values))
    return entry


def _live_reservations(connection: Connection) -> tuple[Reservation, ...]:
    table = schema.reservation
    bodies = connection.scalars(select(table.c.body).where(table.c.open.is_(True)).order_by(table.c.name))
    return tuple(sorted((decode(Reservation, body) for body in bodies), key=lambda one: one.name))


def _put_reservations(connection: Connection, decided: tuple[Reservation, ...], now: float) -> None:
    table = schema.reservation
    for one in after_pass(_live_reservations(connection), decided, now):
        values = {"open": one.state in LIVE, "changed_at": now, "body": encode(one)}
        changed = connection.execute(update(table).where(table.c.name == one.name).values(values))
        if not changed.rowcount:
            connection.execute(insert(table).values(name=one.name, **values))


def _verify_record(connection: Connection, record: chain.Record, states: dict[str, str]) -> None:
    body = orjson.loads(record.body)
    if record.kind == "advance":
        states[body["id"]] = body["state"]
    if record.kind != "cycle":
        return
    row = connection.execute(select(schema.cycle).where(schema.cycle.c.id == body["id"])).one_or_none()
    if row is None:
        raise Permanent(f"ledger: cycle {body['id']} of record {record.seq} is missing")
    if _sha(row.decided) != body["decided"]:
        raise Permanent(f"ledger: what cycle {body['id']} decided was changed after record {record.seq}")
    decided = decode(Decided, row.decided)
    pruned = row.snapshot is None and not decided.admissions  # retention drops only the snapshots of uneventful cycles
    if not pruned and (row.snapshot is None or _sha(row.snapshot) != body["snapshot"]):
        raise Permanent(f"ledger: the snapshot of cycle {body['id']} was changed after record {record.seq}")
    states |= {one.id: EntryState.INTENT for one in decided.admissions if one.permitted}
    states |= {one.id: one.state for one in decided.transitions}


def _sha(data: bytes) -> str:
    return sha256(data).hexdigest()
