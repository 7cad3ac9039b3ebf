"""The world through the product's own ports: a Backend whose effects are the world's, and a Collector that reads its load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from aiops.action import Admission, Effect, Outcome, Receipt, ScalePool, ScaleService, target
from aiops.decide.check import EffectRecord
from aiops.model import Batch, Cluster, Floats, Gpu, Node, NodeState, Pool, SeriesKey, Service
from aiops.sim.cluster.latency import Meter
from aiops.sim.cluster.load import Loads
from aiops.sim.cluster.nodes import NodeGroup
from aiops.sim.cluster.scenario import PoolSpec, Stall
from aiops.sim.cluster.stall import slowed
from aiops.sim.cluster.world import Fleet, World

SCRAPE_S = 10
POOL_GPUS, POOL_DEMAND = "pool_gpus", "pool_gpus_demanded"
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
    supports: frozenset[str] = frozenset({"scale_service", "scale_pool"})

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
        self._seen: dict[str, tuple[tuple[int, int], tuple[Node, ...]]] = {}

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
        for group in (one for one in self.world.groups.values() if one.spec.elastic):
            read |= demand_of(group, self.world)
        return Batch.of(now, read.items())

    def observe(self, now: float) -> Cluster:
        """See `Backend.observe`."""
        groups = self.world.groups
        services = tuple(
            service_of(fleet, self.stalls[0], self.world.nodes_of(name) if groups[fleet.spec.pool].spec.elastic else ())
            for name, fleet in self.world.fleets.items()
        )
        nodes = tuple(node for group in groups.values() for node in self._nodes(group))
        pools = tuple(pool_of(group) for group in groups.values())
        return Cluster(at=now, backend=self.name, nodes=nodes, pools=pools, services=services)

    def _nodes(self, group: NodeGroup) -> tuple[Node, ...]:
        """A group's nodes, made anew only when they have changed: there may be thousands."""
        state, known = (group.version, group.made), self._seen.get(group.spec.name)
        if known is None or known[0] != state:
            spec, removable = group.spec, group.spec.elastic
            known = (state, tuple(node_of(name, spec, removable) for name in sorted(group.free)))
            self._seen[spec.name] = known
        return known[1]

    def apply(self, admission: Admission, now: float) -> Receipt:
        """See `Backend.apply`."""
        action = admission.decision.action
        if not admission.permitted:
            return Receipt(id=admission.id, outcome=Outcome.FAILED, detail="denied")
        if admission.id in self._applied:
            return Receipt(id=admission.id, outcome=Outcome.ALREADY)
        match action:
            case ScaleService():
                why = self._scale_service(action, now)
            case ScalePool():
                why = self._scale_pool(action, now)
            case _:
                return Receipt(id=admission.id, outcome=Outcome.UNSUPPORTED, detail=f"the simulator cannot {action.kind}")
        if why:
            return Receipt(id=admission.id, outcome=Outcome.STALE, detail=why)
        self._applied.add(admission.id)
        self.effects.append(
            EffectRecord(
                id=admission.id, kind=action.kind, target=target(action), at=now, elapsed=now, epoch=EPOCH, leader_epoch=EPOCH
            )
        )
        return Receipt(id=admission.id, outcome=Outcome.DONE)

    def _scale_service(self, action: ScaleService, now: float) -> str:
        fleet = self.world.fleets.get(action.service)
        if fleet is None or (action.uid, action.version) != (fleet.spec.name, str(fleet.version)):
            return f"{action.service} has changed"
        self.world.scale(action.service, action.replicas, now)
        return ""

    def _scale_pool(self, action: ScalePool, now: float) -> str:
        group = self.world.groups.get(action.pool)
        if group is None or (action.version, action.was) != (str(group.version), group.size):
            return f"pool {action.pool} has changed"
        if not group.spec.low <= action.nodes <= group.spec.high:
            return f"pool {action.pool} has {group.spec.low}..{group.spec.high} nodes"
        busy = [name for name in action.remove if not group.idle(name)]
        if busy or not len(set(action.remove)) == len(action.remove) == max(0, action.was - action.nodes):
            return f"work runs on {', '.join(busy)}" if busy else "a shrinking pool must name exactly the nodes that go"
        self.world.scale_pool(action.pool, action.nodes, now, action.remove)
        return ""

    def probe(self, admission: Admission, now: float) -> Effect:
        """See `Backend.probe`."""
        action = admission.decision.action
        if isinstance(action, ScalePool) and action.pool in self.world.groups:
            group = self.world.groups[action.pool]
            there = group.size == action.nodes and not group.free.keys() & set(action.remove)
            return Effect.PRESENT if there else Effect.ABSENT
        fleet = self.world.fleets.get(action.service) if isinstance(action, ScaleService) else None
        if fleet is None or not isinstance(action, ScaleService):
            return Effect.UNREADABLE
        return Effect.PRESENT if len(fleet.replicas) == action.replicas else Effect.ABSENT

    def close(self) -> None:
        """See `Backend.close`: there is nothing to let go."""


def node_of(name: str, pool: PoolSpec, removable: bool = False) -> Node:
    """One node, ready: services alone break none."""
    return Node(name=name, uid=name, pool=pool.name, state=NodeState.READY, gpus=gpus_of(name, pool), removable=removable)


def pool_of(group: NodeGroup) -> Pool:
    """A group as the core sees it; nodes on their way are counted."""
    spec = group.spec
    return Pool(
        name=spec.name,
        gpu_type=spec.gpu_type,
        nodes=group.size,
        min_nodes=spec.low,
        max_nodes=spec.high,
        version=str(group.version),
        start_s=tuple(np.round(group.start_s, 3).tolist()),
    )


def demand_of(group: NodeGroup, world: World) -> dict[SeriesKey, float]:
    """GPUs that a pool has on nodes, and that its services were promised: what the daemon stores each cycle."""
    name = group.spec.name
    mine = [fleet for fleet in world.fleets.values() if fleet.spec.pool == name]
    asked = sum(len(fleet.replicas) * fleet.spec.gpus_per_replica for fleet in mine)
    return {
        SeriesKey.of(POOL_GPUS, pool=name): float(len(group.free) * group.spec.gpus),
        SeriesKey.of(POOL_DEMAND, pool=name): float(asked),
    }


def gpus_of(node: str, pool: PoolSpec) -> tuple[Gpu, ...]:
    """A node's GPUs."""
    return tuple(Gpu(uuid=f"{node}/{i}", index=i, model=pool.gpu_type) for i in range(pool.gpus))


def service_of(fleet: Fleet, stalls: Iterable[Stall] = (), nodes: tuple[str, ...] = ()) -> Service:
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
        nodes=nodes,
    )
