"""Kill switch and leadership: who may send an effect, and who must not any more."""

from pathlib import Path

import pytest

from aiops.clock import ManualClock
from aiops.errors import Temporary
from aiops.killswitch import KillSwitch
from aiops.leadership import MARGIN_S, TTL_S, Leadership


def test_the_kill_switch_holds_over_a_restart_because_the_file_stays(tmp_path: Path) -> None:
    KillSwitch(tmp_path / "kill").set(True)
    assert KillSwitch(tmp_path / "kill").engaged()


def test_a_file_laid_by_hand_engages_it(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path / "kill")
    assert not switch.engaged()
    (tmp_path / "kill").touch()
    assert switch.engaged()


def test_it_engages_in_memory_even_where_the_file_cannot_be_written(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path / "no" / "such" / "folder" / "kill")
    with pytest.raises(OSError, match="No such file"):
        switch.set(True)
    assert switch.engaged()


def test_releasing_needs_flag_and_file_gone(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path / "kill")
    switch.set(True)
    switch.set(False)
    assert not switch.engaged()
    assert not (tmp_path / "kill").exists()


class OneLease:
    """A lease table of one row; `down` makes the store unreachable."""

    def __init__(self) -> None:
        self.holder: str | None = None
        self.until = 0.0
        self.number = 0
        self.down = False

    def acquire(self, holder: str, now: float, ttl_s: float) -> int | None:
        if self.down:
            raise Temporary("database is gone")
        if self.holder != holder and now < self.until:
            return None
        self.number += self.holder != holder
        self.holder, self.until = holder, now + ttl_s
        return self.number

    def epoch(self) -> int:
        return self.number

    def release(self, holder: str) -> None:
        if self.holder == holder:
            self.until = 0.0


def test_the_old_leader_stops_sending_before_the_lease_can_be_taken() -> None:
    lease, clock = OneLease(), ManualClock(wall=1000.0)
    old, new = Leadership(lease, clock, "a"), Leadership(lease, clock, "b")
    assert old.renew() == 1
    for _ in range(200):
        clock.advance(0.1)
        if new.renew() is not None:
            break
        assert not new.leads()
    assert not old.leads()
    assert new.epoch == 2


def test_a_holder_that_was_suspended_does_not_send_even_if_the_wall_clock_went_back() -> None:
    lease, clock = OneLease(), ManualClock(wall=1000.0)
    old = Leadership(lease, clock, "a")
    old.renew()
    clock.advance(60.0)
    clock.step_wall(-3600.0)
    assert not old.leads()


def test_an_unreachable_store_keeps_the_leader_only_within_its_margin() -> None:
    lease, clock = OneLease(), ManualClock(wall=1000.0)
    leader = Leadership(lease, clock, "a")
    leader.renew()
    lease.down = True
    clock.advance(TTL_S - MARGIN_S - 0.5)
    assert leader.renew() == 1
    clock.advance(1.0)
    assert leader.renew() is None
    assert not leader.leads()


def test_a_released_lease_is_taken_at_once() -> None:
    lease, clock = OneLease(), ManualClock(wall=1000.0)
    old, new = Leadership(lease, clock, "a"), Leadership(lease, clock, "b")
    old.renew()
    old.release()
    assert new.renew() == 2


def test_giving_up_the_lease_does_not_fail_the_drain_when_the_store_is_gone() -> None:
    lease, clock = OneLease(), ManualClock(wall=1000.0)
    leader = Leadership(lease, clock, "a")
    leader.renew()
    lease.release = lambda holder: (_ for _ in ()).throw(Temporary("database is gone"))  # type: ignore[method-assign]
    leader.release()
    assert not leader.leads()
