"""What was acknowledged is there: over kill -9, a full disk, two processes on one file, readers beside a writer."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from sqlalchemy import event, text

from aiops.action import EntryState, OrderKind
from aiops.errors import Fenced, Permanent, Temporary
from aiops.model import Batch, Query
from aiops.settings import Settings
from aiops.snapshot import Decided
from aiops.store.opening import open_store
from aiops.store.sql import SqlStore
from aiops.testing.examples import T0, admission, forecast, gpu, message, order, snapshot

# Appends and records for ever, and says after each that it was acknowledged. Samples are 20 minutes apart: sealing is hit too.
WRITER = """
import sys
from aiops.model import Batch
from aiops.settings import Settings
from aiops.snapshot import Decided
from aiops.store.opening import open_store
from aiops.testing.examples import T0, admission, forecast, gpu, message, snapshot

first, url = int(sys.argv[1]), sys.argv[2]
store = open_store(url, Settings())
epoch = store.acquire(sys.argv[3], T0 + 1e5 * first, 1e9) or store.epoch()
for i in range(first, first + 100000):
    store.append(Batch.of(T0 + 1200 * i, [(gpu(j), float(i * j)) for j in range(20)]))
    store.record(snapshot(f"c{i}", epoch, T0 + i), Decided(admissions=(admission(f"a{i}", T0 + i),)))
    store.enqueue([message(f"m{i}", group=f"g{i}")])
    print(i, flush=True)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/own.db" if request.param == "sqlite" else request.getfixturevalue("postgres").fresh()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = open_store(None, Settings(data_dir=tmp_path))
    yield opened
    opened.close()


def start(url: str, first: int, holder: str = "one") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(first), url, holder]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def killed_after(process: "subprocess.Popen[str]", acknowledged: int, more_s: float) -> int:
    """Number of the last round that was acknowledged before the process was killed at some point of a later one."""
    assert process.stdout is not None
    last = [int(process.stdout.readline()) for _ in range(acknowledged)][-1]
    time.sleep(more_s)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    with process.stdout as rest:
        return int((rest.read().split() or [last])[-1])


def test_kill_9_loses_nothing_that_was_acknowledged(url: str) -> None:
    first = 0
    for round in range(3):
        last = killed_after(start(url, first, f"life {round}"), 12, 0.003 * round)
        store = open_store(url, Settings())
        series = store.read(Query(metric="gpu_power_watts", window_s=1e9), T0 + 1e8)
        assert len(series) == 20
        for j, one in enumerate(sorted(series, key=lambda one: int(one.key.label("gpu") or 0))):
            rounds = (one.times - T0) / 1200
            assert set(range(first, last + 1)) <= set(rounds.astype(int).tolist())
            assert np.array_equal(one.values, rounds * j)
        cycles = set(store.cycles(0.0, 1e12))
        assert {f"c{i}" for i in range(first, last + 1)} <= cycles
        assert {one.admission.id[1:] for one in store.entries(0.0, limit=10**6)} == {id[1:] for id in cycles}
        assert {f"m{i}" for i in range(first, last + 1)} <= {one.id for one in store.due(1e12, limit=10**6)}
        assert store.verify() == len(cycles)
        store.close()
        first = last + 10


def test_two_processes_on_one_database_lose_nothing_and_tear_nothing(url: str) -> None:
    open_store(url, Settings()).close()
    both = [start(url, 0), start(url, 5000)]
    lasts = [killed_after(process, 10, 0.05) for process in both]
    store = open_store(url, Settings())
    cycles = set(store.cycles(0.0, 1e12))
    for first, last in zip((0, 5000), lasts, strict=True):
        assert {f"c{i}" for i in range(first, last + 1)} <= cycles
    assert store.verify() == len(cycles)
    series = store.read(Query(metric="gpu_power_watts", window_s=1e9), T0 + 1e8)
    assert all((np.diff(one.times) > 0).all() for one in series)
    store.close()


def test_a_writer_that_stands_still_does_not_hold_up_its_successor(postgres: object) -> None:
    url = postgres.fresh()  # type: ignore[attr-defined]
    stuck, next_one = open_store(url, Settings()), open_store(url, Settings())
    epoch = stuck.acquire("one", 0.0, 0.05) or 0
    with pytest.raises(Temporary), stuck._db.write() as connection:  # as a SIGSTOP inside the transaction would
        connection.execute(text("UPDATE lease SET holder = 'one'"))
        deadline = time.monotonic() + 30
        while next_one_epoch(next_one) is None:
            assert time.monotonic() < deadline
        connection.execute(text("SELECT 1"))
    with pytest.raises(Fenced):
        stuck.record(snapshot("c1", epoch), Decided(admissions=(admission("a1"),)))
    assert next_one.entries(0.0) == ()
    stuck.close()
    next_one.close()


def test_a_server_is_not_asked_forecast_by_forecast_while_all_other_writers_wait(postgres: object) -> None:
    # Given many forecasts in a store on a server
    store, one_by_one = open_store(postgres.fresh(), Settings()), list[str]()  # type: ignore[attr-defined]
    event.listen(store._db._writer, "do_executemany", lambda cursor, sql, rows, context: one_by_one.append(sql))
    store.put_forecasts([forecast(f"t{i}", T0) for i in range(1500)])
    # When newer ones take their place, then in a few statements, and all of them
    store.put_forecasts([forecast(f"t{i}", T0 + 300) for i in range(1500)])
    assert one_by_one == []
    assert [one.made_at for one in store.forecasts()] == [T0 + 300] * 1500
    assert len(store.forecast_history("t7", T0, T0 + 300)) == 2
    store.close()


def next_one_epoch(store: SqlStore) -> int | None:
    try:
        return store.acquire("two", 0.0, 60.0)
    except Temporary:
        return None


def test_a_server_that_drops_its_sessions_is_temporary_and_then_well_again(postgres: object) -> None:
    store = open_store(postgres.fresh(), Settings())  # type: ignore[attr-defined]
    drop = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()")
    store.put_state("a", b"1")
    with pytest.raises(Temporary), store._db.write() as connection:
        connection.execute(drop)
    assert store.state("a") == b"1"
    store.put_state("a", b"2")
    assert store.state("a") == b"2"
    store.close()


def test_clock_skew_between_two_daemons_on_a_server_does_not_matter(postgres: object) -> None:
    url = postgres.fresh()  # type: ignore[attr-defined]
    one, two = open_store(url, Settings()), open_store(url, Settings())
    assert one.acquire("one", 0.0, 60.0) == 1
    assert two.acquire("two", 1e10, 60.0) is None  # it believes that centuries have passed
    one.close()
    two.close()


def test_a_full_disk_is_temporary_and_tears_nothing(store: SqlStore) -> None:
    epoch = store.acquire("one", T0, 1e9) or 0
    store.record(snapshot("c0", epoch), Decided(admissions=(admission("a0"),)))
    with store._db.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    with store._db._writer.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 20}")
    kept = []
    with pytest.raises(Temporary, match="full"):
        for i in range(1, 10000):
            store.append(Batch.of(T0 + i, [(gpu(j), np.sin(i * j + 0.5)) for j in range(100)]))
            kept.append(i)
    for act in (
        lambda: store.record(snapshot("c1", epoch), Decided(notes=("x" * 200_000,))),
        lambda: store.put_state("s", os.urandom(200_000)),
    ):
        with pytest.raises(Temporary, match="full"):
            act()
    assert store.verify() == 1
    assert store.state("s") is None
    (first, *_) = store.read(Query(metric="gpu_power_watts", window_s=1e6), T0 + 1e5)
    assert first.times.tolist() == [T0 + i for i in kept]
    with store._db._writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1073741823")
    store.record(snapshot("c1", epoch), Decided())
    assert store.append(Batch.of(T0 + len(kept) + 1, [(gpu(0), 1.0)])) == 1
    with store._db.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def test_readers_beside_a_writer_always_see_whole_ticks(store: SqlStore) -> None:
    done, seen, wrong = Event(), [0], []
    query = Query(metric="gpu_power_watts", window_s=1e9)

    def read() -> None:
        while not done.is_set():
            found = store.read(query, T0 + 1e8)
            lengths = {len(one.times) for one in found}
            if len(lengths) > 1 or any(not np.array_equal(one.values, one.times) for one in found):
                wrong.append(lengths)
            seen[0] += 1

    threads = [Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(60):  # 600 s apart: five sealings happen under the readers' eyes
        store.append(Batch.of(T0 + 600 * i, [(gpu(j), T0 + 600 * i) for j in range(10)]))
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert seen[0] > 3


def test_a_reader_in_another_process_follows_sealing_and_pruning(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    writer, reader = open_store(None, settings), open_store(None, settings)
    query = Query(metric="gpu_power_watts", window_s=1e9)
    for i in range(30):
        writer.append(Batch.of(T0 + 1200 * i, [(gpu(0), float(i))]))
        (one,) = reader.read(query, T0 + 1e8)
        assert one.values.tolist() == [float(k) for k in range(i + 1)]
    late = T0 + 40 * 86400
    writer.append(Batch.of(late, [(gpu(0), 1.0)]))
    writer.prune(late)
    (one,) = reader.read(query, T0 + 1e8)
    assert one.times.tolist() == [late]
    writer.append(Batch.of(late + 40 * 86400, [(gpu(1), 1.0)]))
    writer.prune(late + 40 * 86400)
    assert [one.key for one in reader.read(query, T0 + 1e8)] == [gpu(1)]
    reader.append(Batch.of(late + 40 * 86400, [(gpu(0), 2.0)]))  # a new number for a name that was forgotten
    assert len(writer.read(query, T0 + 1e8)) == 2
    writer.close()
    reader.close()


def test_another_process_that_holds_the_file_makes_us_wait_and_not_fail_at_once(store: SqlStore, tmp_path: Path) -> None:
    other = open_store(None, Settings(data_dir=tmp_path))
    held, go = Event(), Event()

    def hold() -> None:
        with other._db.write():
            held.set()
            go.wait(10)

    thread = Thread(target=hold)
    thread.start()
    held.wait(10)
    late = Thread(target=store.put_order, args=(order("o", OrderKind.KILL),))
    late.start()
    assert [one.id for one in store.orders(T0)] == []  # readers are never held up
    go.set()
    thread.join()
    late.join()
    assert [one.id for one in store.orders(T0)] == ["o"]
    other.close()


def test_a_failed_record_leaves_nothing_behind(store: SqlStore) -> None:
    epoch = store.acquire("one", T0, 1e9) or 0
    store.record(snapshot("c0", epoch), Decided(admissions=(admission("a0"),)))
    with pytest.raises(Permanent):
        store.record(snapshot("c1", epoch), Decided(admissions=(admission("a1"), admission("a0"))))
    assert (store.cycles(0.0, 1e12), store.verify()) == (("c0",), 1)
    assert [one.state for one in store.entries(0.0)] == [EntryState.INTENT]
    store.enqueue([message("m")])
