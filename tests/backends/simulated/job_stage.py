"""The simulated cluster of jobs as the conformance suite wants it: two nodes, a job that runs and one that waits, time by hand.

As with services (`simulated_stage.py`), world and backend are one thing in one process: no daemon restarts, all can be read.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiops.action import Admission, Receipt
from aiops.model import Cluster
from aiops.sim.baselines.jobs import SCHEDULERS
from aiops.sim.jobs.backend import JobBackend
from aiops.sim.jobs.scenario import JobScenario
from aiops.sim.jobs.trace import Submitted
from aiops.sim.jobs.world import World
from aiops.testing.backend import ReplyLost

SCENARIO = {
    "name": "two nodes",
    "pools": [{"name": "p", "nodes": 2, "gpus": 8, "gpu_type": "h200"}],
    "queues": [{"name": "train", "quota": 16}],
    "jobs": {"checkpoint_interval": 600.0},
}
JOBS = (
    Submitted(id="train1", submit=0.0, gpus=8, duration_s=90_000.0, queue="train", interval_s=600.0),
    Submitted(id="wide", submit=1.0, gpus=16, duration_s=90_000.0, queue="train"),
)


class Losing(JobBackend):
    """Its effects are had; the next answer is lost."""

    loses = False

    def apply(self, admission: Admission, now: float) -> Receipt:
        receipt = super().apply(admission, now)
        if self.loses:
            self.loses = False
            raise ReplyLost("on its way")
        return receipt


class JobStage:
    """Implements `aiops.testing.backend.Stage`."""

    def __init__(self) -> None:
        self.world, self.time = World(JobScenario(**SCENARIO), JOBS, SCHEDULERS["fifo"]()), 0.0
        self.world.advance(self.time)
        self.backend = Losing(self.world)

    def now(self) -> float:
        return self.time

    def until(self, holds: Callable[[Cluster], bool]) -> Cluster:
        for _ in range(2000):
            seen = self.backend.observe(self.time)
            if holds(seen):
                return seen
            self.time += 1.0
            self.world.advance(self.time)
        raise AssertionError(f"not within 2000 s: {seen.jobs}")

    def restart(self) -> None:
        pytest.skip("the simulated cluster lives in its backend: there is no daemon to restart")

    def lose_next_reply(self) -> None:
        self.backend.loses = True

    def recreate(self, service: str) -> None:
        """Never called: there are no services."""

    def blind(self) -> None:
        pytest.skip("the simulated cluster can always be read")

    def effects(self) -> tuple[str, ...]:
        return tuple(effect.id for effect in self.backend.effects)
