"""The nodes of one pool in virtual time: ordered, started, given back. Part of the world; knows nothing of who scales it.

The k-th start of a pool takes equally long in every run of one seed, whoever ordered it. A node is paid for from its order on.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from aiops.model import Floats
from aiops.sim.cluster.scenario import ColdStart, NodePool

P90_SCORE = 1.2815515655446004
"""The 90 % quantile of the standard normal: what turns P50 and P90 into a log-normal."""

STARTS_KEPT = 50


@dataclass(slots=True)
class NodeGroup:
    """One pool: idle GPUs of each node that is there, how many are starting, and every change as (time, ordered, there)."""

    spec: NodePool
    draws: np.random.Generator
    free: dict[str, int] = field(default_factory=dict)
    starting: int = 0
    made: int = 0
    version: int = 0
    start_s: deque[float] = field(default_factory=lambda: deque(maxlen=STARTS_KEPT))
    changes: list[tuple[float, int, int]] = field(default_factory=list)
    orders: list[tuple[float, int, int]] = field(default_factory=list)

    @classmethod
    def of(cls, spec: NodePool, seed: int) -> NodeGroup:
        """The pool as it begins, all its nodes there."""
        group = cls(spec, np.random.default_rng([seed, crc32(b"pool " + spec.name.encode())]))
        for _ in range(spec.nodes):
            group.add()
        group.note(-math.inf)
        return group

    @property
    def size(self) -> int:
        """Nodes that are there or on their way."""
        return len(self.free) + self.starting

    def add(self) -> None:
        """One node more is there, under a name that no other ever had."""
        self.free[f"{self.spec.name}-{self.made:03d}"] = self.spec.gpus
        self.made += 1

    def idle(self, node: str) -> bool:
        """Whether a node is there and nothing is on it."""
        return self.free.get(node) == self.spec.gpus

    def order(self, nodes: int, remove: tuple[str, ...], now: float) -> list[float]:
        """Change the size; the moments at which the new nodes will be there. The nodes that go must be idle."""
        before, begun = self.size, []
        for node in remove:
            assert self.idle(node), f"{node} is in use"
            del self.free[node]
        for _ in range(nodes - self.size):
            self.starting += 1
            begun.append(now + drawn(self.draws, self.spec.node_start))
        if self.size != before:
            self.version += 1
            self.orders.append((now, before, self.size))
        self.note(now)
        return begun

    def arrive(self, now: float, ordered_at: float) -> None:
        """A node that was starting is there."""
        self.starting -= 1
        self.start_s.append(now - ordered_at)
        self.add()
        self.note(now)

    def note(self, now: float) -> None:
        """Write the present down."""
        self.changes.append((now, self.size, len(self.free)))


def drawn(draws: np.random.Generator, cold: ColdStart) -> float:
    """Seconds that one start takes: log-normal between its median and its 90 % quantile."""
    return cold.p50 * math.exp(math.log(cold.p90 / cold.p50) / P90_SCORE * float(draws.standard_normal()))


def ordered(group: NodeGroup, start: float, seconds: int) -> Floats:
    """(n,) nodes that are paid for at `start`, `start` + 1 s, ..."""
    times = np.array([at for at, _, _ in group.changes])
    index = np.searchsorted(times, start + np.arange(seconds), side="right") - 1
    return np.array([size for _, size, _ in group.changes], dtype=np.float64)[index]
