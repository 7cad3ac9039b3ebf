"""`aiops explain` and `aiops replay` on a real store: the same bytes, or a difference that is shown and exit status 1."""

import io
from pathlib import Path

import pytest
from sqlalchemy import text

from aiops.action import Mode
from aiops.cli import load, replay
from aiops.cli.top import render
from aiops.clock import ManualClock
from aiops.errors import InputError, UserError
from aiops.loop import House, Memory, run_cycle
from aiops.model import Batch, Cluster, Query, SeriesKey, Service
from aiops.ports import Backend, Store
from aiops.settings import read
from aiops.store.opening import open_store
from policies.prescale import Prescale

NOW = 1.7e9
LOAD = SeriesKey.of("service_requests_per_second", service="web")


class Watched:
    """A cluster of one service that only looks."""

    name = "watched"
    supports = frozenset({"scale_service"})

    def observe(self, now: float) -> Cluster:
        web = Service(
            name="web", uid="u", version="1", pool="p", replicas=2, ready=2, min_replicas=1, max_replicas=9,
            load=LOAD, target=10.0,
        )  # fmt: skip
        return Cluster(at=now, backend="watched", services=(web,))

    def apply(self, admission: object, now: float) -> None:
        raise AssertionError("an observing policy has no effect")

    probe = apply

    def close(self) -> None:
        pass


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Path, str]:
    """A data directory with three recorded cycles, and the id of a decision in it."""
    store: Store = open_store(None, read(None, {"data_dir": tmp_path / "data"}))
    clock = ManualClock(wall=NOW, monotonic=50.0)
    house = House(
        store=store, backend=cast_backend(Watched()), policies={"prescale": Prescale()}, clock=clock,
        modes={"prescale": Mode.OBSERVE}, rules={"prescale": {}}, limits={}, halted=lambda: False, leads=lambda: True,
        announce=lambda snapshot, decided: None,
    )  # fmt: skip
    epoch = store.acquire("me", clock.now(), 1e6)
    assert epoch
    memory = Memory()
    for _ in range(3):
        clock.advance(30.0)
        store.append(Batch.of(clock.now(), [(LOAD, 55.0)]))
        run_cycle(house, memory, clock.now(), epoch)
    (admission, *_) = store.admissions(0.0, 1e12)
    store.close()
    return tmp_path / "data", admission.id


def cast_backend(backend: object) -> Backend:
    return backend  # type: ignore[return-value]


def test_every_recorded_cycle_is_replayed_equal(recorded: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.replay(data_dir=recorded[0]) == 0
    assert "3 cycles replayed, 3 equal, 0 different" in capsys.readouterr().out


def test_a_decision_explains_itself_from_its_recorded_inputs(
    recorded: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay.explain(recorded[1], data_dir=recorded[0]) == 0
    said = capsys.readouterr().out
    for words in ("web: 2 -> 6", "load 55", "forecast not used: no forecast", "observe_only", "equal, byte for byte"):
        assert words in said


def test_a_record_that_was_altered_is_shown_as_a_difference(
    recorded: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(None, read(None, {"data_dir": recorded[0]}))
    with store._db.write() as connection:
        row = connection.execute(text("SELECT id, decided FROM cycle ORDER BY at LIMIT 1")).one()
        altered = bytes(row.decided).replace(b"2 -> 6", b"2 -> 7")
        connection.execute(text("UPDATE cycle SET decided = :d WHERE id = :i"), {"d": altered, "i": row.id})
    store.close()
    assert replay.replay(data_dir=recorded[0]) == 1
    assert "recorded" in capsys.readouterr().out


def test_a_window_of_time_can_be_replayed_alone(recorded: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.replay(since=str(NOW + 31.0), until=str(NOW + 61.0), data_dir=recorded[0]) == 0
    assert "1 cycles replayed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("since", "until", "says"),
    [
        ("yesterday", None, "--from: expected ISO 8601"),
        ("nan", None, "--from: expected a moment"),
        (None, "inf", "--to: expected a moment"),
        ("1e300000", None, "expected a moment"),
        ("200", "100", "is after"),
    ],
)
def test_a_window_that_is_none_is_refused(recorded: tuple[Path, str], since: str | None, until: str | None, says: str) -> None:
    with pytest.raises(UserError, match=says):
        replay.replay(since=since, until=until, data_dir=recorded[0])


def test_imported_history_can_be_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "history.csv"
    source.write_text('time,series,value\n1000,"m{a=""1""}",1.5\n1060,"m{a=""1""}",2.5\n1060,"m{a=""1""}",3.5\n')
    load.load(source, data_dir=tmp_path / "data")
    assert "2 samples of 1 series read, 2 kept, 1 repeated in the file" in capsys.readouterr().out
    store = open_store(None, read(None, {"data_dir": tmp_path / "data"}))
    (found,) = store.read(Query(metric="m", window_s=1000.0), 1100.0)
    assert found.values.tolist() == [1.5, 3.5]
    store.close()


def test_a_name_that_no_series_has_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = tmp_path / "history.csv"
    source.write_text("time,series,value\n1000,not a name,1.5\n")
    with pytest.raises(InputError, match="expected metric"):
        load.load(source, data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_top_shows_what_is_missing_as_missing() -> None:
    from rich.console import Console

    node = {"name": "n1", "pool": "p", "state": "ready", "gpus": [], "reason": None}
    pages = {"nodes": {"items": [node]}, "services": {"items": []}, "jobs": {"items": []}, "findings": {"items": []}}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render({**pages, "cluster": {}}))
    shown = console.export_text()
    assert "n1" in shown
    assert "N/A" in shown
    assert "jobs" not in shown
