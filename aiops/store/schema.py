"""The tables, the same on SQLite and PostgreSQL. Migrations build them; a test holds the two equal.

Samples: `series` names a key, `tick` holds one scrape as a blob until its two hours are over, then `chunk` holds one series'
values of those hours and `axis` their times, which most series share. Everything else is a row per thing, with the value's
canonical bytes in `body` and beside it only the columns that a query selects on.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, LargeBinary, MetaData, Table, Text

HEAD = "0001"  # the newest migration: what this version of aiops reads and writes

metadata = MetaData()
_Seq = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers only an INTEGER key by itself


def _table(name: str, *columns: Column[object] | Index) -> Table:
    # AUTOINCREMENT: a number is never used again, so that a reader who knows "all up to n" misses nothing
    return Table(name, metadata, *columns, sqlite_autoincrement=True)


def _seq() -> Column[object]:
    return Column("seq", _Seq, primary_key=True, autoincrement=True)


def _key(name: str) -> Column[object]:
    return Column(name, Text, primary_key=True)


def _column(name: str, kind: object, nullable: bool = False) -> Column[object]:
    return Column(name, kind, nullable=nullable)  # type: ignore[arg-type]


series = _table("series", _seq(), Column("key", Text, nullable=False, unique=True))
tick = _table("tick", _seq(), _column("time", Double), _column("data", LargeBinary))
axis = _table("axis", _seq(), _column("start", Double), _column("data", LargeBinary), Index("ix_axis_start", "start"))
chunk = Table(
    "chunk",
    metadata,
    Column("series", _Seq, primary_key=True, autoincrement=False),
    Column("start", Double, primary_key=True),
    _column("axis", _Seq),
    _column("data", LargeBinary),
)
generation = _table("generation", _key("name"), _column("value", BigInteger))

forecast = _table(
    "forecast",
    _seq(),
    _column("target", Text),
    _column("made_at", Double),
    _column("body", LargeBinary),
    Index("ix_forecast_target_made_at", "target", "made_at"),
)
newest_forecast = _table("newest_forecast", _key("target"), _column("made_at", Double), _column("body", LargeBinary))
diagnosis = _table("diagnosis", _seq(), _column("at", Double))
finding = _table(
    "finding",
    _seq(),
    _column("diagnosis", _Seq),
    _column("at", Double),
    _column("id", Text),
    _column("body", LargeBinary),
    Index("ix_finding_diagnosis", "diagnosis"),
    Index("ix_finding_at", "at"),
)

record = Table(
    "record",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=False),
    _column("at", Double),
    _column("kind", Text),
    _column("body", LargeBinary),
    _column("hash", Text),
)
chain = Table(
    "chain",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _column("first_seq", BigInteger),
    _column("first_hash", Text),
    _column("last_seq", BigInteger),
    _column("last_hash", Text),
)
cycle = _table(
    "cycle",
    _key("id"),
    _column("record", _Seq),
    _column("at", Double),
    _column("snapshot", LargeBinary, nullable=True),
    _column("decided", LargeBinary),
    Index("ix_cycle_at", "at"),
    Index("ix_cycle_record", "record"),
)
admission = _table(
    "admission",
    _key("id"),
    _column("record", _Seq),
    _column("cycle", Text),
    _column("at", Double),
    _column("body", LargeBinary),
    Index("ix_admission_at", "at"),
    Index("ix_admission_record", "record"),
)
entry = _table(
    "entry",
    _key("id"),
    _column("record", _Seq),
    _column("open", Boolean),
    _column("at", Double),
    _column("changed_at", Double),
    _column("body", LargeBinary),
    Index("ix_entry_open_changed_at", "open", "changed_at"),
)
reservation = _table(
    "reservation",
    _key("name"),
    _column("open", Boolean),
    _column("changed_at", Double),
    _column("body", LargeBinary),
)
lease = Table(
    "lease",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _column("holder", Text),
    _column("epoch", BigInteger),
    _column("expires_at", Double),
)

operator_order = _table(
    "operator_order",
    _seq(),
    Column("id", Text, nullable=False, unique=True),
    _column("at", Double),
    _column("body", LargeBinary),
)
message = _table(
    "message",
    _seq(),
    Column("id", Text, nullable=False, unique=True),
    _column("receiver", Text),
    _column("grp", Text),
    _column("state", Text),
    _column("body", LargeBinary),
    _column("created_at", Double),
    _column("attempts", Integer),
    _column("next_at", Double),
    _column("error", Text),
    Index("ix_message_state_receiver_grp", "state", "receiver", "grp"),
)
state = _table("state", _key("name"), _column("value", LargeBinary))
