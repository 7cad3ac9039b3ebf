"""Who may end what a dead daemon began: the leader only, not while halted, and only where a policy may act."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from aiops.action import Mode
from aiops.clock import ManualClock
from aiops.daemon import Daemon
from aiops.killswitch import KillSwitch
from aiops.leadership import Leadership
from aiops.settings import read
from aiops.store.memory import MemoryStore
from aiops.wiring import Parts


class Unfinished:
    """A backend that has something to end."""

    def __init__(self) -> None:
        self.ended = 0

    def finish(self, now: float) -> Sequence[str]:
        self.ended += 1
        return ("a move",)


@pytest.mark.parametrize(
    ("leads", "halted", "modes", "ended", "why"),
    [
        (True, False, {"preempt": Mode.ACT}, 1, "all is well"),
        (False, False, {"preempt": Mode.ACT}, 0, "another daemon leads"),
        (True, True, {"preempt": Mode.ACT}, 0, "the kill switch stops every effect"),
        (True, False, {"preempt": Mode.ADVISE}, 0, "nothing here may act any more"),
        (True, False, {}, 0, "a fresh install only observes"),
    ],
)
def test_what_was_begun_is_ended_by_who_may_act(
    tmp_path: Path, leads: bool, halted: bool, modes: dict[str, Mode], ended: int, why: str
) -> None:
    clock, store, backend = ManualClock(wall=1.7e9, monotonic=50.0), MemoryStore(), Unfinished()
    if not leads:
        Leadership(store, clock, "other").renew()
    leadership, kill = Leadership(store, clock, "me"), KillSwitch(tmp_path / "kill")
    leadership.renew()
    kill.set(halted)
    house = SimpleNamespace(backend=backend, halted=kill.engaged, modes=modes)
    daemon = Daemon(read(None), cast(Parts, SimpleNamespace(house=house, leadership=leadership)), clock)
    daemon.supervise()
    assert backend.ended == ended, why
