"""A leader that cannot see the cluster lets another daemon lead: once, and takes the lead up again where nobody does."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from test_daemon_ticks import Moody

from aiops.clock import ManualClock
from aiops.daemon import BLIND_S, Daemon
from aiops.killswitch import KillSwitch
from aiops.leadership import REST_S, TTL_S, Leadership
from aiops.loop import House, Memory
from aiops.ports import Backend
from aiops.settings import Settings
from aiops.store.memory import MemoryStore
from aiops.wiring import Parts


class Pair:
    """Two daemons with one store and one clock; each sees the cluster through eyes of its own."""

    def __init__(self, directory: Path) -> None:
        self.clock, self.store = ManualClock(wall=1.7e9, monotonic=50.0), MemoryStore()
        self.eyes = {name: Moody() for name in ("a", "b")}
        self.leads = {name: Leadership(self.store, self.clock, name) for name in ("a", "b")}
        self.daemons = {name: self._daemon(name, directory) for name in ("a", "b")}

    def _daemon(self, name: str, directory: Path) -> Daemon:
        house = House(
            store=self.store, backend=cast(Backend, self.eyes[name]), policies={}, clock=self.clock, modes={}, rules={},
            limits={}, halted=lambda: False, leads=self.leads[name].leads, announce=lambda snapshot, decided: None,
        )  # fmt: skip
        parts = SimpleNamespace(
            house=house, memory=Memory(), leadership=self.leads[name], store=self.store, kill=KillSwitch(directory / name)
        )
        return Daemon(Settings(), cast(Parts, parts), self.clock)

    def pass_time(self, seconds: float) -> list[str]:
        """Who leads at each second; at each, first `a` renews, then `b`, then both run a cycle."""
        told = []
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            for leadership in self.leads.values():
                leadership.renew()
            for daemon in self.daemons.values():
                daemon.cycle()
            told.append("".join(name for name in ("a", "b") if self.leads[name].leads()))
        return told


def test_a_blind_leader_is_replaced_and_stays_a_standby(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    assert set(pair.pass_time(3)) == {"a"}
    pair.eyes["a"].well = False
    told = pair.pass_time(30)
    assert told.index("b") <= BLIND_S + 2 and set(told[told.index("b") :]) == {"b"} and pair.store.epoch() == 2
    pair.eyes["a"].well = True
    assert set(pair.pass_time(30)) == {"b"}


def test_one_bad_look_changes_nothing(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.pass_time(3)
    for _ in range(5):
        pair.eyes["a"].well = False
        assert set(pair.pass_time(BLIND_S - 1)) == {"a"}
        pair.eyes["a"].well = True
        assert set(pair.pass_time(2)) == {"a"}
    assert pair.store.epoch() == 1


def test_where_nobody_can_see_each_gives_way_once(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.pass_time(3)
    for eyes in pair.eyes.values():
        eyes.well = False
    pair.pass_time(300)
    assert pair.store.epoch() == 3, "a, b, and a again: no more changes while it lasts"


def test_without_a_standby_it_leads_again_after_a_rest(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.leads["b"].renew = lambda: None  # type: ignore[method-assign]
    pair.pass_time(3)
    pair.eyes["a"].well = False
    told = pair.pass_time(BLIND_S + REST_S + TTL_S)
    assert told[-1] == "a" and "" in told and pair.store.epoch() == 2
    pair.eyes["a"].well = True
    pair.pass_time(1)
    assert pair.daemons["a"].ready


class Slow:
    """A store whose answer to a renewal comes when the daemon's other thread has given up the lead."""

    def __init__(self, store: MemoryStore) -> None:
        self.store, self.meanwhile = store, lambda: None

    def acquire(self, holder: str, now: float, ttl_s: float) -> int | None:
        epoch = self.store.acquire(holder, now, ttl_s)
        self.meanwhile()
        return epoch

    def epoch(self) -> int:
        return self.store.epoch()

    def release(self, holder: str) -> None:
        self.store.release(holder)


def test_a_renewal_that_was_on_its_way_does_not_lead_on_after_giving_way() -> None:
    clock, store = ManualClock(wall=1.7e9, monotonic=50.0), MemoryStore()
    slow = Slow(store)
    old, new = Leadership(slow, clock, "old"), Leadership(store, clock, "new")
    assert old.renew() == 1
    slow.meanwhile = old.give_way
    assert old.renew() is None and not old.leads()
    assert new.renew() == 2 and new.leads(), "the lease is free"


def test_a_renewal_that_took_the_lease_again_after_it_was_given_up_lets_it_go() -> None:
    clock, store = ManualClock(wall=1.7e9, monotonic=50.0), MemoryStore()
    slow = Slow(store)
    old, new = Leadership(slow, clock, "old"), Leadership(store, clock, "new")
    assert old.renew() == 1

    def given_up_first() -> None:
        old.give_way()
        store.acquire("old", clock.now(), TTL_S)  # the order in which the store saw the two: released, then taken

    slow.meanwhile = given_up_first
    assert old.renew() is None and not old.leads()
    assert new.renew() is not None and new.leads()
