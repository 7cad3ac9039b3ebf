"""The hash chain shows every kind of tampering; retention does not look like tampering."""

from collections.abc import Callable
from pathlib import Path

import pytest
from private_postgres import Cluster
from sqlalchemy import text

from aiops.action import EntryState, OrderKind
from aiops.errors import Permanent
from aiops.settings import Settings, StoreSettings
from aiops.snapshot import Decided
from aiops.store.opening import open_store
from aiops.store.sql import SqlStore
from aiops.testing.examples import T0, admission, order, snapshot

KEEP = StoreSettings(samples=3600.0, records=7200.0)
Fill = Callable[[], SqlStore]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SqlStore:
    url = f"sqlite:///{tmp_path}/own.db"
    if request.param == "postgresql":
        cluster: Cluster = request.getfixturevalue("postgres")
        url = cluster.fresh()
    opened = open_store(url, Settings(store=KEEP))
    request.addfinalizer(opened.close)
    epoch = opened.acquire("one", T0, 1e6) or 0
    for i in range(6):
        opened.record(
            snapshot(f"c{i}", epoch, T0 + 3600 * i), Decided(admissions=(admission(f"a{i}", T0 + 3600 * i),) if i % 2 else ())
        )
    opened.advance("a1", EntryState.SENT, T0 + 3601)
    opened.advance("a1", EntryState.FAILED, T0 + 3602)
    opened.put_order(order("o", OrderKind.KILL))
    return opened


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE record SET body = CAST('{}' AS BLOB) WHERE kind = 'advance'", "was changed"),
        ("UPDATE record SET at = at + 1 WHERE seq = 2", "record 2 (cycle) was changed"),
        ("UPDATE record SET kind = 'cycle' WHERE kind = 'order'", "was changed"),
        ("DELETE FROM record WHERE seq = 3", "record 3 is missing"),
        ("DELETE FROM record WHERE seq >= 8", "records after 7 are missing"),
        ("DELETE FROM record WHERE seq = 1", "record 1 is missing"),
        ("UPDATE cycle SET decided = snapshot WHERE id = 'c0'", "what cycle c0 decided was changed"),
        ("UPDATE cycle SET snapshot = decided WHERE id = 'c0'", "the snapshot of cycle c0 was changed"),
        ("UPDATE cycle SET snapshot = NULL WHERE id = 'c1'", "cycle c1"),
        ("DELETE FROM cycle WHERE id = 'c4'", "cycle c4 of record 5 is missing"),
    ],
)
def test_what_was_changed_behind_our_back_is_named(store: SqlStore, statement: str, says: str) -> None:
    assert store.verify() == 9
    if not store._db.sqlite:
        statement = statement.replace("CAST('{}' AS BLOB)", "convert_to('{}', 'UTF8')")
    with store._db.write() as connection:
        connection.execute(text(statement))
    with pytest.raises(Permanent) as caught:
        store.verify()
    assert says in str(caught.value)


def test_an_entry_that_says_other_than_its_records_is_named(store: SqlStore) -> None:
    with store._db.write() as connection:
        body = connection.scalar(text("SELECT body FROM entry WHERE id = 'a1'"))
        connection.execute(text("UPDATE entry SET body = :b WHERE id = 'a1'"), {"b": body.replace(b'"failed"', b'"confirmed"')})
    with pytest.raises(Permanent, match="entry a1 is not failed"):
        store.verify()


def test_retention_cuts_the_chain_at_its_old_end_only(store: SqlStore) -> None:
    store.advance("a3", EntryState.FAILED, T0 + 4 * 3600)
    store.advance("a5", EntryState.FAILED, T0 + 5 * 3600)
    assert store.prune(T0 + 5 * 3600) > 0
    assert store.cycles(0.0, 1e12) == ("c3", "c4", "c5")
    assert 0 < store.verify() < 11
    with pytest.raises(KeyError):
        store.cycle("c0")
    epoch = store.epoch()
    store.record(snapshot("c6", epoch, T0 + 6 * 3600), Decided())
    store.verify()


def test_uneventful_snapshots_go_first_and_eventful_ones_stay_explainable(store: SqlStore) -> None:
    store.prune(T0 + 6 * 3600)
    with pytest.raises(KeyError):
        store.cycle("c4")
    assert store.cycle("c5")[0].id == "c5"
    store.verify()
