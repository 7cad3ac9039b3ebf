"""The world through the product's own ports: a Backend whose effects are the world's, and a Collector that reads its load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from aiops.action import Admission, Effect, Outcome, Receipt, ScaleService
from aiops.decide.check import EffectRecord
from aiops.model import Batch, Cluster, Floats, Gpu, Node, NodeState, Pool, SeriesKey, Service
from aiops.sim.cluster.latency import Meter
from aiops.sim.cluster.load import Loads
from aiops.sim.cluster.scenario import PoolSpec, Stall
from aiops.sim.cluster.stall import slowed
from aiops.sim.cluster.world import Fleet, World

SCRAPE_S = 10
ARRIVALS, IN_FLIGHT = "service_requests_per_second", "service_requests_in_flight"
EPOCH = 1


def load_key(service: str, stalls: Iterable[Stall] = ()) -> SeriesKey:
    """The series that a service's demand is measured in: requests received, or in flight if a stall inflates it."""
    in_flight = any(stall.in_flight and stall.service == service for stall in stalls)
    return SeriesKey.of(IN_FLIGHT if in_flight else ARRIVALS, service=service)


def latency_key(service: str) -> SeriesKey:
    """The series that a service's answers are timed in."""
    return SeriesKey.of("service_request_seconds", service=service)


class SimBackend:
    """One simulated cluster; `effects` is its own log of what was done to it, for the invariants."""

    name: ClassVar[str] = "simulated"
    supports: frozenset[str] = frozenset({"scale_service"})

    def __init__(
        self,
        world: World,
        loads: Loads,
        seen: Mapping[str, Floats] | None = None,
        stalls: tuple[Sequence[Stall], float] = ((), 0.0),
    ) -> None:
        self.world, self.loads, self.seen, self.stalls = world, loads, seen or loads.rates, stalls
        self.effects: list[EffectRecord] = []
        self._applied: set[str] = set()
        self._meters = {
            name: Meter((fleet.spec.capacity, loads.per_request[name], fleet.spec.latency))
            for name, fleet in world.fleets.items()
        }
        self._nodes = tuple(node for pool in world.pools for node in nodes_of(pool))
        self._pools = tuple(
            Pool(name=p.name, gpu_type=p.gpu_type, nodes=p.nodes, min_nodes=p.nodes, max_nodes=p.nodes) for p in world.pools
        )

    def collect(self, now: float) -> Batch:
        """The mean load and the mean time to answer of each service since the last scrape."""
        end = int(now - self.loads.start)
        read: dict[SeriesKey, float] = {}
        stalls, start = self.stalls
        for name, rates in self.loads.rates.items():
            span = slice(max(0, end - SCRAPE_S), end)
            read[SeriesKey.of(ARRIVALS, service=name)] = float(rates[span].mean())
            read[load_key(name, stalls)] = float(self.seen[name][span].mean())
            if rates[span].any():  # nobody asked: nobody was answered
                slower = slowed(stalls, name, now - start)
                read[latency_key(name)] = self._meters[name].read(rates[span], self.world.fleets[name].ready, slower)
        return Batch.of(now, read.items())

    def observe(self, now: float) -> Cluster:
        """See `Backend.observe`."""
        services = tuple(service_of(fleet, self.stalls[0]) for fleet in self.world.fleets.values())
        return Cluster(at=now, backend=self.name, nodes=self._nodes, pools=self._pools, services=services)

    def apply(self, admission: Admission, now: float) -> Receipt:
        """See `Backend.apply`."""
        action = admission.decision.action
        if admission.id in self._applied:
            return Receipt(id=admission.id, outcome=Outcome.ALREADY)
        if not isinstance(action, ScaleService):
            return Receipt(id=admission.id, outcome=Outcome.UNSUPPORTED, detail=f"the simulator cannot {action.kind}")
        fleet = self.world.fleets.get(action.service)
        if fleet is None or (action.uid, action.version) != (fleet.spec.name, str(fleet.version)):
            return Receipt(id=admission.id, outcome=Outcome.STALE, detail=f"{action.service} has changed")
        self._applied.add(admission.id)
        self.world.scale(action.service, action.replicas, now)
        target = f"service/{action.service}"
        self.effects.append(
            EffectRecord(id=admission.id, kind=action.kind, target=target, at=now, elapsed=now, epoch=EPOCH, leader_epoch=EPOCH)
        )
        return Receipt(id=admission.id, outcome=Outcome.DONE)

    def probe(self, admission: Admission, now: float) -> Effect:
        """See `Backend.probe`."""
        action = admission.decision.action
        fleet = self.world.fleets.get(action.service) if isinstance(action, ScaleService) else None
        if fleet is None or not isinstance(action, ScaleService):
            return Effect.UNREADABLE
        return Effect.PRESENT if len(fleet.replicas) == action.replicas else Effect.ABSENT

    def close(self) -> None:
        """See `Backend.close`: there is nothing to let go."""


def nodes_of(pool: PoolSpec) -> tuple[Node, ...]:
    """A pool's nodes, all ready: services alone break none."""
    return tuple(
        Node(name=name, uid=name, pool=pool.name, state=NodeState.READY, gpus=gpus_of(name, pool))
        for name in (f"{pool.name}-{i:03d}" for i in range(pool.nodes))
    )


def gpus_of(node: str, pool: PoolSpec) -> tuple[Gpu, ...]:
    """A node's GPUs."""
    return tuple(Gpu(uuid=f"{node}/{i}", index=i, model=pool.gpu_type) for i in range(pool.gpus))


def service_of(fleet: Fleet, stalls: Iterable[Stall] = ()) -> Service:
    """A fleet as the core sees it."""
    spec = fleet.spec
    return Service(
        name=spec.name,
        uid=spec.name,
        version=str(fleet.version),
        pool=spec.pool,
        replicas=len(fleet.replicas),
        ready=fleet.ready,
        min_replicas=spec.min_replicas,
        max_replicas=spec.max_replicas,
        load=load_key(spec.name, stalls),
        target=spec.right_load,
        gpus_per_replica=spec.gpus_per_replica,
        start_s=tuple(np.round(fleet.start_s, 3).tolist()),
        latency=latency_key(spec.name),
        slo_s=spec.slo,
    )
