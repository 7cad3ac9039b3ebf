"""The short form of the crash campaign, and proof that its judgement sees what it is there to see."""

import argparse
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from crash import campaign, judge, settings

from aiops.codec import decode
from aiops.snapshot import Decided
from aiops.store.opening import open_store


@pytest.fixture(scope="module")
def survivor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A daemon's data directory after twelve kills at random times, and peace."""
    place = tmp_path_factory.mktemp("campaign")
    _, killed, found = campaign(place, argparse.Namespace(kills=12, seconds=120.0, seed=7, sweep=False))
    assert killed == 12 and found.cycles > 10 and found.effects > 10
    return place


@pytest.fixture
def place(survivor: Path, tmp_path: Path) -> Iterator[Path]:
    yield Path(shutil.copytree(survivor, tmp_path / "copy", ignore=shutil.ignore_patterns("units", "lock")))


@pytest.mark.slow
def test_twelve_kills_double_nothing_and_lose_nothing(place: Path) -> None:
    assert judge(place).clean


@pytest.mark.slow
def test_an_effect_done_twice_is_seen(place: Path) -> None:
    path = place / "local/effects.jsonl"
    last = next(line for line in reversed(path.read_bytes().splitlines()) if orjson.loads(line)["what"] == "done")
    path.write_bytes(path.read_bytes() + last + b"\n")
    assert judge(place).twice == 1


@pytest.mark.slow
def test_a_change_that_nobody_recorded_is_seen(place: Path) -> None:
    path = place / "local/state.json"
    state = orjson.loads(path.read_bytes())
    state["services"]["web"]["version"] += 1
    path.write_bytes(orjson.dumps(state))
    assert judge(place).uncounted == 1


@pytest.mark.slow
def test_an_effect_without_an_intent_breaks_an_invariant(place: Path) -> None:
    path = place / "local/effects.jsonl"
    rows = [{"id": "1-0-0", "what": what, "at": 1e9, "kind": "cordon", "target": "node/n1"} for what in ("begin", "done")]
    path.write_bytes(path.read_bytes() + b"".join(orjson.dumps(row) + b"\n" for row in rows))
    assert {violation.rule for violation in judge(place).violations} >= {"I2"}


@pytest.mark.slow
def test_an_intent_that_stays_open_is_seen(place: Path) -> None:
    store = open_store(None, settings(place))
    cycles = ((seen, decode(Decided, raw)) for seen, raw in map(store.cycle, store.cycles(0.0, 1e12)))
    seen, decided = next(one for one in cycles if any(a.permitted for a in one[1].admissions))
    epoch = store.acquire("test", 2e9, 1e9) or 0
    forgotten = replace(next(a for a in decided.admissions if a.permitted), id="forgotten")
    store.record(replace(seen, id="late", now=2e9, epoch=epoch), Decided(admissions=(forgotten,)))
    store.close()
    assert judge(place).open == 1
