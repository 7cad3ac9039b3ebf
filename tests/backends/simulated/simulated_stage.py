"""The simulated cluster of services and nodes as the conformance suite wants it: one service, time by hand.

World and backend are one thing here, in one process: nothing can come between them, so that a daemon's restart, an unreadable
cluster and an object made anew under an old name have nothing to stand for. Those rows say so and are skipped.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aiops.action import Admission, Receipt
from aiops.model import Cluster
from aiops.sim.cluster.backend import SimBackend
from aiops.sim.cluster.load import Loads
from aiops.sim.cluster.scenario import ColdStart, NodePool, ServiceSpec
from aiops.sim.cluster.world import World
from aiops.testing.backend import ReplyLost

POOL = NodePool(name="p", nodes=2, gpus=8, min_nodes=1, max_nodes=4, node_start=ColdStart(p50=100.0, p90=100.0))
WEB = ServiceSpec(
    name="web", pool="p", gpus_per_replica=4, capacity=10.0, max_replicas=4, slo=2.0, cold_start=ColdStart(p50=20, p90=20)
)  # fmt: skip


class Losing:
    """Before a backend in the order of its bases: its effects are had; the next answer is lost."""

    loses = False

    def apply(self, admission: Admission, now: float) -> Receipt:
        receipt = super().apply(admission, now)
        if self.loses:
            self.loses = False
            raise ReplyLost("on its way")
        return receipt


class LosingServices(Losing, SimBackend):
    """The simulated services' backend, whose next answer may be lost."""


class SimulatedStage:
    """Implements `aiops.testing.backend.Stage`."""

    PATIENCE_S = 300

    def __init__(self) -> None:
        self.world, self.time = World([POOL], [WEB], 1), 0.0
        self.world.seed_ready("web", 1, self.time)
        self.backend = LosingServices(self.world, Loads(start=0.0, rates={"web": np.ones(3600)}, per_request={"web": 1.0}))

    def now(self) -> float:
        return self.time

    def until(self, holds: Callable[[Cluster], bool]) -> Cluster:
        for _ in range(self.PATIENCE_S):
            seen = self.backend.observe(self.time)
            if holds(seen):
                return seen
            self.time += 1.0
            self.world.advance(self.time)
        raise AssertionError(f"not within {self.PATIENCE_S} s: {seen.services} {seen.jobs}")

    def restart(self) -> None:
        pytest.skip("the simulated cluster lives in its backend: there is no daemon to restart")

    def lose_next_reply(self) -> None:
        self.backend.loses = True

    def recreate(self, service: str) -> None:
        pytest.skip("nobody makes services anew in the simulated cluster")

    def blind(self) -> None:
        pytest.skip("the simulated cluster can always be read")

    def effects(self) -> tuple[str, ...]:
        return tuple(effect.id for effect in self.backend.effects)
