"""What the daemon says of itself, and how it ends: with fakes for the cluster and the clock."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from aiops import daemon as subject
from aiops.clock import ManualClock
from aiops.daemon import LAPSE_S, Daemon
from aiops.errors import Unreadable
from aiops.killswitch import KillSwitch
from aiops.leadership import Leadership
from aiops.loop import House, Memory
from aiops.model import Cluster, Pool, Query
from aiops.ports import Backend
from aiops.settings import read
from aiops.store.memory import MemoryStore
from aiops.ticker import BESIDE_S, CLOCK_STEP_S, DRAIN_S, drain, wait
from aiops.wiring import Parts


class Moody:
    """A cluster that can be looked at while `well`."""

    name = "moody"
    supports: frozenset[str] = frozenset()
    well = True

    def observe(self, now: float) -> Cluster:
        if not self.well:
            raise Unreadable("scheduler does not answer")
        return Cluster(at=now, backend="moody", pools=(Pool(name="a", gpu_type="H100"),))


class Full(MemoryStore):
    """A store that can be written while there is `room`."""

    room = True

    def acquire(self, holder: str, now: float, ttl_s: float) -> int | None:
        if not self.room:
            raise Unreadable("database or disk is full")
        return super().acquire(holder, now, ttl_s)


@pytest.fixture
def moody() -> Moody:
    return Moody()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall=1.7e9, monotonic=50.0)


@pytest.fixture
def daemon(moody: Moody, clock: ManualClock, tmp_path: Path) -> Iterator[Daemon]:
    store = Full()
    leadership = Leadership(store, clock, "me")
    kill = KillSwitch(tmp_path / "kill")
    house = House(
        store=store, backend=cast(Backend, moody), policies={}, clock=clock, modes={}, rules={}, limits={},
        halted=kill.engaged, leads=leadership.leads, announce=lambda snapshot, decided: None,
    )  # fmt: skip
    parts = SimpleNamespace(house=house, memory=Memory(), leadership=leadership, kill=kill, store=store)
    yield Daemon(read(None), cast(Parts, parts), clock)


def tick(daemon: Daemon, clock: ManualClock, seconds: float = 0.0) -> None:
    clock.advance(seconds)
    daemon.lease()
    daemon.cycle()


def test_a_first_cycle_that_abstains_is_not_ready_and_says_why(daemon: Daemon, moody: Moody, clock: ManualClock) -> None:
    moody.well = False
    tick(daemon, clock)
    assert not daemon.status().ready
    assert "scheduler does not answer" in daemon.status().reason
    moody.well = True
    tick(daemon, clock, 10.0)
    assert daemon.status().ready
    assert daemon.status().reason == ""


def test_readiness_outlasts_one_abstention_and_not_a_minute_of_them(daemon: Daemon, moody: Moody, clock: ManualClock) -> None:
    tick(daemon, clock)
    moody.well = False
    tick(daemon, clock, 10.0)
    assert daemon.status().ready
    tick(daemon, clock, LAPSE_S)
    assert not daemon.status().ready


def test_a_cycle_stores_demand_and_one_that_abstains_stores_nothing(daemon: Daemon, moody: Moody, clock: ManualClock) -> None:
    query = Query(metric="pool_gpus_demanded", window_s=3600.0)
    tick(daemon, clock)
    moody.well = False
    tick(daemon, clock, 10.0)
    (series,) = daemon.parts.store.read(query, clock.now())
    assert (str(series.key), series.values.tolist()) == ('pool_gpus_demanded{pool="a"}', [0.0])


def test_a_tick_that_raises_is_survived_and_no_longer_busy(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        assert daemon.busy == {"scrape"}
        raise RuntimeError("a defect")

    monkeypatch.setattr(daemon, "scrape", broken)
    daemon.jobs()["scrape"][0]()
    assert daemon.busy == set()


class Running(ManualClock):
    """A clock that moves on by half a second whenever it is asked."""

    def elapsed(self) -> float:
        self.advance(0.5)
        return super().elapsed()


@pytest.mark.parametrize(
    ("busy", "at_least", "at_most"),
    [
        pytest.param(set(), 0.0, 1.0, id="nothing runs"),
        pytest.param({"forecast"}, BESIDE_S, BESIDE_S + 2.0, id="a fit of minutes can be made again"),
        pytest.param({"forecast", "cycle"}, DRAIN_S, DRAIN_S + 2.0, id="an effect under way is waited for"),
    ],
)
def test_the_drain_waits_as_long_as_what_runs_is_worth(busy: set[str], at_least: float, at_most: float) -> None:
    clock = Running(wall=0.0, monotonic=0.0)
    drain(busy, clock)
    assert at_least <= ManualClock.elapsed(clock) <= at_most


class Script(threading.Event):
    """A stop signal that lets the waiting go round once for each step, each of which moves the world."""

    def __init__(self, *steps: Callable[[], None]) -> None:
        super().__init__()
        self.steps = list(steps)

    def wait(self, timeout: float | None = None) -> bool:
        if not self.steps:
            return True
        self.steps.pop(0)()
        return False


def test_the_ticker_is_woken_when_the_wall_clock_steps_and_not_when_it_is_slewed(clock: ManualClock) -> None:
    woken: list[float] = []
    moves = (lambda: clock.advance(1.0), lambda: clock.step_wall(-3600.0), lambda: clock.step_wall(CLOCK_STEP_S / 2))
    wait(Script(*moves, lambda: clock.advance(1.0)), clock, lambda: woken.append(clock.now()), lambda: 1)
    assert woken == [1.7e9 + 1.0 - 3600.0]


def test_the_ticker_is_woken_when_this_daemon_comes_to_lead_and_not_when_another_does(clock: ManualClock) -> None:
    epochs: list[int | None] = [None]
    woken: list[int | None] = []
    moves = [lambda new=new: epochs.append(new) for new in (None, 3, 3, None, 5)]
    wait(Script(*moves), clock, lambda: woken.append(epochs[-1]), lambda: epochs[-1])
    assert woken == [3, 5]


def test_the_kill_signal_engages_the_switch_where_its_file_cannot_be_written(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path / "missing" / "kill")
    subject._halt(switch)
    assert switch.engaged()


class Keeper(Moody):
    """A cluster whose processes need a look every second, by one daemon at a time."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def supervise(self, now: float) -> None:
        self.calls.append("supervise")

    def stand_down(self) -> None:
        self.calls.append("stand down")


def test_a_daemon_that_lost_its_lead_lets_go_of_the_processes(daemon: Daemon, clock: ManualClock) -> None:
    keeper = Keeper()
    daemon.parts = cast(Parts, SimpleNamespace(leadership=daemon.parts.leadership, house=SimpleNamespace(backend=keeper)))
    daemon.lease()
    daemon.supervise()
    clock.advance(30.0)  # suspended: the lease ran out meanwhile
    daemon.supervise()
    assert keeper.calls == ["supervise", "stand down"]


def test_a_daemon_that_cannot_renew_its_lease_is_no_standby(daemon: Daemon, clock: ManualClock) -> None:
    store = cast(Full, daemon.parts.store)
    tick(daemon, clock)
    store.room = False
    tick(daemon, clock, 30.0)
    assert not daemon.status().ready
    assert daemon.status().reason == "cannot lead: database or disk is full"
    store.room = True
    tick(daemon, clock, 10.0)
    assert daemon.status().ready
    assert store.acquire("another", clock.now() + 60.0, 60.0)
    tick(daemon, clock, 70.0)
    assert (daemon.status().ready, daemon.status().reason) == (True, "standby: another daemon leads")
