"""Nodes, replicas and their cold starts as events in virtual time: the one world that policies and baselines share.

Knows nothing of who scales it, nor of load: it keeps what was ordered, what is placed and what is ready, and when that
changed. The k-th start of a service takes equally long in every run of one seed, whoever ordered it.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from aiops.model import Floats
from aiops.sim.cluster.scenario import PoolSpec, ServiceSpec

P90_SCORE = 1.2815515655446004
"""The 90 % quantile of the standard normal: what turns P50 and P90 into a log-normal."""

STARTS_KEPT = 50


@dataclass(slots=True)
class Replica:
    """One replica: `node` None while nothing has room for it."""

    number: int
    ordered_at: float
    node: str | None = None
    ready: bool = False
    gone: bool = False


@dataclass(slots=True)
class Fleet:
    """One service: its replicas in the order they were ordered, and every change as (time, placed, ready)."""

    spec: ServiceSpec
    replicas: list[Replica] = field(default_factory=list)
    version: int = 0
    started: int = 0
    start_s: deque[float] = field(default_factory=lambda: deque(maxlen=STARTS_KEPT))
    changes: list[tuple[float, int, int]] = field(default_factory=list)
    orders: list[tuple[float, int, int]] = field(default_factory=list)
    placed: int = 0
    ready: int = 0


class World:
    """All fleets on all nodes. Time only goes forward: `advance` before anything else at a new time."""

    def __init__(self, pools: Iterable[PoolSpec], services: Iterable[ServiceSpec], seed: int) -> None:
        self.pools = tuple(pools)
        self.fleets = {spec.name: Fleet(spec) for spec in services}
        self._free = {pool.name: {f"{pool.name}-{i:03d}": pool.gpus for i in range(pool.nodes)} for pool in self.pools}
        self._events: list[tuple[float, int, str, Replica]] = []
        self._count = 0
        self._draws = {name: np.random.default_rng([seed, crc32(name.encode())]) for name in sorted(self.fleets)}

    def seed_ready(self, service: str, replicas: int, now: float) -> None:
        """Begin with `replicas` that are ready, as far as there is room."""
        fleet = self.fleets[service]
        for _ in range(replicas):
            replica = self._order(fleet, now)
            replica.ready = replica.node is not None
        self._note(fleet, now)

    def advance(self, now: float) -> None:
        """Let everything happen that is due by `now`."""
        while self._events and self._events[0][0] <= now:
            at, _, service, replica = heapq.heappop(self._events)
            if not replica.gone:
                fleet = self.fleets[service]
                replica.ready = True
                fleet.start_s.append(at - replica.ordered_at)
                self._note(fleet, at)

    def scale(self, service: str, replicas: int, now: float) -> None:
        """Set the number of replicas: new ones start cold where there is room; starting ones go before ready ones."""
        fleet = self.fleets[service]
        before = len(fleet.replicas)
        if replicas == before:
            return
        fleet.version += 1
        fleet.orders.append((now, before, replicas))
        for _ in range(replicas - before):
            replica = self._order(fleet, now)
            self._start(fleet, replica, now)
        if replicas < before:
            leaving = sorted(fleet.replicas, key=lambda r: (r.node is None, not r.ready, r.number))[replicas:]
            for replica in leaving:
                self._remove(fleet, replica)
            self._fill(now)
        self._note(fleet, now)

    def _order(self, fleet: Fleet, now: float) -> Replica:
        replica = Replica(number=fleet.started, ordered_at=now)
        fleet.started += 1
        fleet.replicas.append(replica)
        self._place(fleet, replica)
        return replica

    def _place(self, fleet: Fleet, replica: Replica) -> None:
        """Best fit: the node with the least room that still has enough, by name where equal."""
        gpus = fleet.spec.gpus_per_replica
        if not gpus:
            replica.node = fleet.spec.pool
            return
        free = self._free[fleet.spec.pool]
        fits = [(left, name) for name, left in free.items() if left >= gpus]
        if fits:
            _, replica.node = min(fits)
            free[replica.node] -= gpus

    def _start(self, fleet: Fleet, replica: Replica, now: float) -> None:
        if replica.node is None:
            return
        cold = fleet.spec.cold_start
        sigma = math.log(cold.p90 / cold.p50) / P90_SCORE
        took = cold.p50 * math.exp(sigma * float(self._draws[fleet.spec.name].standard_normal()))
        self._count += 1
        heapq.heappush(self._events, (now + took, self._count, fleet.spec.name, replica))

    def _remove(self, fleet: Fleet, replica: Replica) -> None:
        replica.gone = True
        fleet.replicas.remove(replica)
        if replica.node is not None and fleet.spec.gpus_per_replica:
            self._free[fleet.spec.pool][replica.node] += fleet.spec.gpus_per_replica

    def _fill(self, now: float) -> None:
        """Start what waited for room."""
        for name in sorted(self.fleets):
            fleet = self.fleets[name]
            for replica in [r for r in fleet.replicas if r.node is None]:
                self._place(fleet, replica)
                if replica.node is None:
                    break
                self._start(fleet, replica, now)
                self._note(fleet, now)

    def _note(self, fleet: Fleet, now: float) -> None:
        fleet.placed = sum(r.node is not None for r in fleet.replicas)
        fleet.ready = sum(r.ready for r in fleet.replicas)
        fleet.changes.append((now, fleet.placed, fleet.ready))


def per_second(fleet: Fleet, start: float, seconds: int) -> tuple[Floats, Floats]:
    """(n,) placed and (n,) ready replicas at `start`, `start` + 1 s, ..."""
    times = np.array([at for at, _, _ in fleet.changes])
    index = np.searchsorted(times, start + np.arange(seconds), side="right") - 1
    placed, ready = (np.array([change[i] for change in fleet.changes], dtype=np.float64)[index] for i in (1, 2))
    return placed, ready
