"""Nodes, replicas and their cold starts as events in virtual time: the one world that policies and baselines share.

Knows nothing of who scales it, nor of load: it keeps what was ordered, what is placed and what is ready, and when that
changed. The k-th start of a service takes equally long in every run of one seed, whoever ordered it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from aiops.model import Floats
from aiops.sim.cluster.nodes import STARTS_KEPT, NodeGroup, drawn
from aiops.sim.cluster.scenario import NodePool, PoolSpec, ServiceSpec


@dataclass(slots=True)
class Replica:
    """One replica: `node` None while nothing has room for it."""

    number: int
    ordered_at: float
    node: str | None = None
    due: float = 0.0
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
    wanted: list[tuple[float, int]] = field(default_factory=list)
    placed: int = 0
    ready: int = 0


class World:
    """All fleets on all nodes. Time only goes forward: `advance` before anything else at a new time."""

    def __init__(self, pools: Iterable[PoolSpec], services: Iterable[ServiceSpec], seed: int) -> None:
        specs = [pool if isinstance(pool, NodePool) else NodePool(**pool.model_dump()) for pool in pools]
        self.groups = {spec.name: NodeGroup.of(spec, seed) for spec in specs}
        self.fleets = {spec.name: Fleet(spec) for spec in services}
        self._events: list[tuple[float, int, str, Replica | float]] = []
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
            at, _, name, started = heapq.heappop(self._events)
            if isinstance(started, float):
                self.groups[name].arrive(at, started)
                self._fill(at)
            elif not started.gone and started.due == at:
                fleet = self.fleets[name]
                started.ready = True
                fleet.start_s.append(at - started.ordered_at)
                self._note(fleet, at)

    def scale_pool(self, pool: str, nodes: int, now: float, remove: tuple[str, ...] = ()) -> None:
        """Set the number of nodes of a pool: new ones take their time, those that go (`remove`) must be idle."""
        for at in self.groups[pool].order(nodes, remove, now):
            self._push(at, pool, float(now))

    def evict(self, node: str, now: float) -> None:
        """Take every replica off a node; each starts anew where there is room, and its place stays empty."""
        pool = next(group for group in self.groups.values() if node in group.free)
        left = pool.free.pop(node)
        for fleet in self.fleets.values():
            moved = [replica for replica in fleet.replicas if replica.node == node]
            for replica in moved:
                left += fleet.spec.gpus_per_replica
                replica.node, replica.ready, replica.ordered_at = None, False, now
                self._place(fleet, replica)
                self._start(fleet, replica, now)
            if moved:
                self._note(fleet, now)
        pool.free[node] = left

    def nodes_of(self, service: str) -> tuple[str, ...]:
        """Nodes with a replica of the service, by name."""
        return tuple(sorted({replica.node for replica in self.fleets[service].replicas if replica.node is not None}))

    def waiting(self, pool: str) -> list[int]:
        """GPUs of each replica that no node of the pool has room for."""
        mine = [fleet for fleet in self.fleets.values() if fleet.spec.pool == pool and fleet.spec.gpus_per_replica]
        return [fleet.spec.gpus_per_replica for fleet in mine for replica in fleet.replicas if replica.node is None]

    def on(self, node: str) -> list[int]:
        """GPUs of each replica on a node."""
        every = [(fleet.spec.gpus_per_replica, replica) for fleet in self.fleets.values() for replica in fleet.replicas]
        return [gpus for gpus, replica in every if replica.node == node]

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
        free = self.groups[fleet.spec.pool].free
        fits = [(left, name) for name, left in free.items() if left >= gpus]
        if fits:
            _, replica.node = min(fits)
            free[replica.node] -= gpus

    def _start(self, fleet: Fleet, replica: Replica, now: float) -> None:
        if replica.node is None:
            return
        replica.due = now + drawn(self._draws[fleet.spec.name], fleet.spec.cold_start)
        self._push(replica.due, fleet.spec.name, replica)

    def _push(self, at: float, name: str, started: Replica | float) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, name, started))

    def _remove(self, fleet: Fleet, replica: Replica) -> None:
        replica.gone = True
        fleet.replicas.remove(replica)
        if replica.node is not None and fleet.spec.gpus_per_replica:
            self.groups[fleet.spec.pool].free[replica.node] += fleet.spec.gpus_per_replica

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
        fleet.wanted.append((now, len(fleet.replicas)))


def per_second(fleet: Fleet, start: float, seconds: int) -> tuple[Floats, Floats]:
    """(n,) placed and (n,) ready replicas at `start`, `start` + 1 s, ..."""
    times = np.array([at for at, _, _ in fleet.changes])
    index = np.searchsorted(times, start + np.arange(seconds), side="right") - 1
    placed, ready = (np.array([change[i] for change in fleet.changes], dtype=np.float64)[index] for i in (1, 2))
    return placed, ready


def per_second_ordered(fleet: Fleet, start: float, seconds: int) -> tuple[Floats, Floats]:
    """(n,) replicas ordered and (n,) placed at `start`, `start` + 1 s, ..."""
    times = np.array([at for at, _ in fleet.wanted])
    index = np.searchsorted(times, start + np.arange(seconds), side="right") - 1
    return np.array([count for _, count in fleet.wanted], dtype=np.float64)[index], per_second(fleet, start, seconds)[0]
