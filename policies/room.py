"""What a pool of nodes has, what is asked of it, and what could be given back: the arithmetic of `pools`.

Knows the cluster's picture and the reservations; nothing of series, forecasts or actions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from aiops.demand import kept
from aiops.model import Cluster, HoldState, Job, JobState, Node, NodeState, Pool, Reservation

PLACELESS = (JobState.QUEUED, JobState.HELD, JobState.DONE, JobState.FAILED, JobState.CANCELLED)
"""States in which a job holds no GPU."""

OVER = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
"""States in which it is on no node, whatever nodes it names; of one that waits, a part may be placed already."""

LIVE = (HoldState.HELD, HoldState.ACTIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One pool: GPUs of a node, nodes that take work (those on their way among them), and those that are on and take none.

    `kept` are GPUs of work on cordoned nodes: it runs on where it is, and asks for no node. `blind` names a service or a
    running job of which nobody tells where it is: what is empty cannot be seen then.
    """

    gpus_per_node: int
    usable: int
    idle_on: int
    starting: int
    kept: float = 0.0
    blind: str = ""

    @classmethod
    def of(cls, pool: Pool, cluster: Cluster) -> Room:
        """As the picture shows it; nodes that are off count for nothing but their size."""
        members = members_of(pool, cluster)
        sizes = [len(node.gpus) for node in members if node.gpus]
        on = [node for node in members if node.state is not NodeState.OFF]
        ready = sum(node.state is NodeState.READY for node in on)
        starting = max(0, pool.nodes - len(on))
        services = (one for one in cluster.services if one.pool == pool.name and max(one.replicas, one.ready) and not one.nodes)
        jobs = (job for job in cluster.jobs if job.state not in (*PLACELESS, JobState.STOPPING) and not job.nodes)
        hidden = [*(one.name for one in services), *(job.id for job in jobs)]
        return cls(
            gpus_per_node=min(sizes, default=0),
            usable=ready + starting,
            idle_on=len(on) - ready,
            starting=starting,
            kept=kept(cluster)[pool.name],
            blind=next(iter(sorted(hidden)), ""),
        )


def members_of(pool: Pool, cluster: Cluster) -> list[Node]:
    """The pool's nodes, by name."""
    return sorted((node for node in cluster.nodes if node.pool == pool.name), key=lambda node: node.name)


def empty(pool: Pool, cluster: Cluster, reservations: Iterable[Reservation]) -> tuple[str, ...]:
    """Nodes that may go, last name first: given back by their pool, taking work, with none on them, promised to nobody."""
    busy = {name for job in cluster.jobs if job.state not in OVER for name in job.nodes}
    busy |= {name for service in cluster.services for name in service.nodes}
    busy |= {name for one in reservations if one.state in LIVE for name in one.nodes}
    free = (n for n in members_of(pool, cluster) if n.removable and not n.protected and n.state is NodeState.READY)
    return tuple(node.name for node in free if node.name not in busy)[::-1]


def promised(pool: Pool, cluster: Cluster, reservations: Iterable[Reservation], until: float) -> float:
    """GPUs of the pool that reservations hold before `until` for somebody who does not already ask for them.

    A reservation that names no nodes counts in the only pool with GPUs, and nowhere where there are several.
    """
    asking = {f"{kind}{name}" for job in cluster.jobs for name in (job.id, job.name) for kind in ("", "job/")}
    mine = {node.name for node in members_of(pool, cluster)}
    alone = {node.pool for node in cluster.nodes if node.gpus} <= {pool.name}
    total = 0.0
    for one in reservations:
        begins = one.starts_at if one.starts_at is not None else -math.inf
        if one.state not in LIVE or one.owner in asking or begins > until:
            continue
        share = len(mine.intersection(one.nodes)) / len(one.nodes) if one.nodes else float(alone)
        total += share * one.gpus
    return total


def short(pool: Pool, cluster: Cluster, room: Room) -> int:
    """Nodes wanting for waiting jobs that fit the pool's idle GPUs in sum and not in place: first fit, largest first.

    As the cluster-autoscaler estimates it; where replicas cannot be seen, nothing is known of places.
    """
    if room.blind or not room.gpus_per_node:
        return 0
    free = places(pool, cluster) + [room.gpus_per_node] * room.starting
    have = len(free)
    for job in sorted(fitting(pool, cluster, room), key=lambda job: (-job.gpus, job.id)):
        left = job.gpus
        while left > 0:
            part = min(left, room.gpus_per_node)
            best = min((i for i, gpus in enumerate(free) if gpus >= part), key=lambda i: free[i], default=None)
            if best is None:
                free.append(room.gpus_per_node)
                best = len(free) - 1
            free[best] -= part
            left -= part
    return len(free) - have


def fitting(pool: Pool, cluster: Cluster, room: Room) -> list[Job]:
    """Jobs that would start on this pool if there were room.

    Who names no GPU type counts where there is only one pool with GPUs; who asks for more than the pool may ever have, waits
    for nothing.
    """
    alone = {node.pool for node in cluster.nodes if node.gpus} <= {pool.name}
    most = pool.max_nodes * room.gpus_per_node
    queued = (job for job in cluster.jobs if job.state is JobState.QUEUED and 0 < job.gpus <= most)
    return [job for job in queued if (job.gpu_type == pool.gpu_type if job.gpu_type else alone)]


def places(pool: Pool, cluster: Cluster) -> list[int]:
    """Idle GPUs of each node that takes work; a job's are spread evenly over its nodes, a service's nodes count as full."""
    held: dict[str, float] = {}
    for job in cluster.jobs:
        for name in job.nodes if job.state not in PLACELESS else ():
            held[name] = held.get(name, 0.0) + job.gpus / len(job.nodes)
    served = {name for service in cluster.services if service.gpus_per_replica for name in service.nodes}
    ready = [node for node in members_of(pool, cluster) if node.state is NodeState.READY]
    free = {n.name: 0.0 if n.name in served else sum(g.healthy for g in n.gpus) - held.get(n.name, 0.0) for n in ready}
    return [max(0, math.floor(gpus + 1e-9)) for gpus in free.values()]
