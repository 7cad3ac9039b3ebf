"""The hash chain over the ledger's records: each names the one before it, so none can be changed, dropped or slipped in.

`hash = SHA-256(previous hash, number, kind, time, body)`. The `chain` row holds both ends: `first` is the record before the
oldest one kept (retention cuts from there), `last` the newest, so that cutting off the end shows too.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

from sqlalchemy import Connection, insert, select, update

from aiops.codec import encode
from aiops.errors import Permanent
from aiops.store import schema

GENESIS = "0" * 64


class Record(NamedTuple):
    """One row of the chain. `kind` is `cycle`, `advance`, `order` or `lease`; `body` canonical JSON."""

    seq: int
    at: float
    kind: str
    body: bytes
    hash: str


def link(previous: str, seq: int, at: float, kind: str, body: bytes) -> str:
    """The hash of one record, hexadecimal."""
    return sha256(encode([previous, seq, kind, at]) + body).hexdigest()


def append(connection: Connection, at: float, kind: str, body: object) -> int:
    """Add one record inside the caller's write transaction; its number."""
    chain = schema.chain
    last_seq, last_hash = connection.execute(select(chain.c.last_seq, chain.c.last_hash)).one()
    raw = encode(body)
    row = Record(last_seq + 1, at, kind, raw, link(last_hash, last_seq + 1, at, kind, raw))
    connection.execute(insert(schema.record).values(row._asdict()))
    connection.execute(update(chain).values(last_seq=row.seq, last_hash=row.hash))
    return row.seq


def walk(connection: Connection) -> Iterator[Record]:
    """Every record kept, oldest first, each checked; Permanent names the first that does not fit."""
    ends = connection.execute(select(schema.chain)).one()
    seq, previous = ends.first_seq, ends.first_hash
    table = schema.record
    rows = connection.execution_options(yield_per=1000).execute(select(table).order_by(table.c.seq))
    for row in rows:
        record = Record(row.seq, row.at, row.kind, row.body, row.hash)
        if record.seq != seq + 1:
            raise Permanent(f"ledger: record {seq + 1} is missing")
        if record.hash != link(previous, record.seq, record.at, record.kind, record.body):
            raise Permanent(f"ledger: record {record.seq} ({record.kind}) was changed")
        seq, previous = record.seq, record.hash
        yield record
    if (seq, previous) != (ends.last_seq, ends.last_hash):
        raise Permanent(f"ledger: records after {seq} are missing, up to {ends.last_seq}")
