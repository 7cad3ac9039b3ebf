"""Which running jobs to move so that a node becomes free for one that waits, and whether that is worth it (policy.md 12).

Two reasons: free GPUs lie scattered and no node has enough (defragmentation), or a node promised more cores or memory than it
has (overfull). Knows costs and places; the handshake and the plan are `rebalance.py`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from aiops.model import Cluster, Job, JobState, Node
from policies.handshake import Terms, lost
from policies.placing import Floor
from policies.shares import able, evicted

MOST = 3  # jobs moved for one waiting job: more is a migration project, not a rebalance


@dataclass(frozen=True, slots=True)
class Move:
    """A running job and where it would go on."""

    job: Job
    to_nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clearing:
    """Moves that make room on a node, and the GPU-seconds that they cost."""

    node: str
    moves: tuple[Move, ...]
    disruption: float

    @property
    def names(self) -> str:
        """Who moves, for people."""
        return ", ".join(move.job.id for move in self.moves)


def movable(cluster: Cluster, now: float, min_runtime_s: float, evictions_per_day: int) -> list[Job]:
    """Jobs that may be moved: on one node, stoppable at a checkpoint, on their own queue's share, not young, no gang, and not
    evicted as often today as anybody may be.
    """
    return [
        job
        for job in cluster.jobs
        if job.state is JobState.RUNNING and len(job.nodes) == 1 and able(job) and not (job.protected or job.lender or job.gang)
        and job.started_at is not None and now - job.started_at >= min_runtime_s and evicted(job, now) < evictions_per_day
    ]  # fmt: skip


def defragment(waiting: Job, floor: Floor, jobs: Sequence[Job], now: float) -> Clearing | None:
    """The cheapest way to free one node for `waiting`; None where it needs several nodes or no few moves suffice."""
    on: dict[str, list[Job]] = {}
    for job in jobs:
        on.setdefault(job.nodes[0], []).append(job)
    sizes = floor.of_type(waiting.gpu_type)
    large = (node for node, size in sizes.items() if size >= waiting.gpus)
    found = [one for node in large for one in _ways(node, on.get(node, ()), (waiting, floor), now)]
    for disruption, node, _, some in sorted(found, key=lambda one: one[:3]):  # the first that finds places is the cheapest
        if moves := rehoused(some, floor, node):
            return Clearing(node, moves, disruption)
    return None


Way = tuple[float, str, str, tuple[Job, ...]]


def _ways(node: str, jobs: Sequence[Job], fit: tuple[Job, Floor], now: float) -> Iterator[Way]:
    """Every few jobs of a node that free what `fit`'s job is short of on it: what that costs, the node, their names, they."""
    waiting, floor = fit
    costs = {job.id: cost(job, now) for job in jobs}
    for some in few(sorted(jobs, key=lambda job: (costs[job.id], job.id))):
        if floor.emptied(node, some).carries(node, waiting):
            yield sum(costs[job.id] for job in some), node, ", ".join(job.id for job in largest(some)), some


def few(jobs: Sequence[Job]) -> Iterator[tuple[Job, ...]]:
    """Every set of up to MOST of the eight cheapest."""
    return (some for count in range(1, MOST + 1) for some in combinations(jobs[:8], count))


def largest(jobs: Sequence[Job]) -> list[Job]:
    """The order in which places are looked for."""
    return sorted(jobs, key=lambda job: (-job.gpus, job.id))


def rehoused(some: Sequence[Job], floor: Floor, away_from: str) -> tuple[Move, ...]:
    """Where these jobs go on, largest first; () where one of them finds no place."""
    left = floor.without({away_from})
    moves = []
    for job in largest(some):
        nodes = left.place(job)
        if nodes is None:
            return ()
        left.take(job, nodes)
        moves.append(Move(job, nodes))
    return tuple(moves)


def overfull(cluster: Cluster) -> list[tuple[Node, list[Job], str]]:
    """Nodes whose jobs asked for more cores or memory than there are, with those jobs and the excess in words."""
    found = []
    on: dict[str, list[Job]] = {}
    for job in cluster.jobs:
        for name in job.nodes if job.state is JobState.RUNNING else ():
            on.setdefault(name, []).append(job)
    for node in cluster.nodes:
        jobs = on.get(node.name, [])
        cores = sum(job.cpu_cores / len(job.nodes) for job in jobs)
        memory = sum(job.memory_bytes / len(job.nodes) for job in jobs)
        if 0 < node.cpu_cores < cores - 1e-9:
            found.append((node, jobs, f"{cores:g} cores asked of {node.cpu_cores:g}"))
        elif 0 < node.memory_bytes < memory:
            found.append((node, jobs, f"{memory / 2**30:.0f} GiB asked of {node.memory_bytes / 2**30:.0f}"))
    return found


def relieve(node: Node, jobs: Sequence[Job], may_move: Sequence[Job], floor: Floor, now: float) -> Clearing | None:
    """The cheapest few of those of its jobs that may move whose leaving brings an overfull node back within what it has."""
    cores = sum(job.cpu_cores / len(job.nodes) for job in jobs) - (node.cpu_cores or math.inf)
    memory = sum(job.memory_bytes / len(job.nodes) for job in jobs) - (node.memory_bytes or math.inf)
    found = []
    for some in few(sorted((job for job in may_move if node.name in job.nodes), key=lambda job: (cost(job, now), job.id))):
        enough = sum(job.cpu_cores for job in some) >= cores and sum(job.memory_bytes for job in some) >= memory
        moves = rehoused(some, floor, node.name) if enough else ()
        if moves:
            found.append(Clearing(node.name, moves, sum(cost(job, now) for job in some)))
    return min(found, key=lambda one: (one.disruption, one.names), default=None)


def cost(job: Job, now: float) -> float:
    """GPU-seconds that a move loses: work since the last checkpoint, and the restart."""
    return lost(job, now, -math.inf, Terms())
