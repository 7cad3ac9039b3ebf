"""Who to stop so that a waiting job fits: the set that loses least.

Knows nodes, jobs and costs; not who may be stopped, nor how one is stopped: that is `preempt.py`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiops.model import Cluster, HoldState, Job, JobState, NodeState, Reservation
from aiops.snapshot import Snapshot
from policies.cores import STAYING, Left, add, carries, unused

SEARCH = 5_000  # cheapest sets looked at before the greedy choice: 12 candidates exhaustively, 0.1 s


@dataclass(frozen=True, slots=True)
class Victim:
    """A job or a whole gang that may be stopped, and what that would lose."""

    jobs: tuple[Job, ...]
    lost_gpu_s: float

    @property
    def name(self) -> str:
        """Stable name for ties and records."""
        return self.jobs[0].gang or self.jobs[0].id


def free_gpus(cluster: Cluster) -> dict[str, float]:
    """Free healthy GPUs per node that takes work; a service's replicas are taken to be spread evenly over its nodes."""
    free = {n.name: float(sum(g.healthy for g in n.gpus)) for n in cluster.nodes if n.state is NodeState.READY}
    for job in cluster.jobs:
        if job.state in (JobState.RUNNING, JobState.STARTING, JobState.STOPPING, JobState.SUSPENDED):
            _add(free, job, -1.0)
    for service in cluster.services:
        for name in service.nodes:
            if name in free:
                part = max(service.replicas, service.ready) * service.gpus_per_replica / len(service.nodes)
                free[name] -= min(part, max(0.0, free[name]))  # not all that are wanted need be there
    return free


def with_leaving(free: Mapping[str, float], waiting: Job, snapshot: Snapshot) -> dict[str, float]:
    """What will be free for `waiting` once those that are stopping have left, less what is held for others."""
    return leaving(less_held(free, waiting, begun(snapshot)), snapshot.cluster)


def leaving(free: Mapping[str, float], cluster: Cluster) -> dict[str, float]:
    """The same once those that are stopping have left."""
    coming = dict(free)
    for job in cluster.jobs:
        if job.state is JobState.STOPPING:
            _add(coming, job, 1.0)
    return coming


def less_held(free: Mapping[str, float], waiting: Job, holds: Iterable[Reservation]) -> dict[str, float]:
    """The same without what is held for others than `waiting`."""
    left = dict(free)
    for one in holds:
        for node in one.nodes if one.owner.removeprefix("job/") != waiting.id else ():
            if node in left:
                left[node] -= one.gpus / len(one.nodes)
    return left


def unheld(snapshot: Snapshot) -> dict[str, float]:
    """Free GPUs per node that are not held for anybody."""
    free = free_gpus(snapshot.cluster)
    for one in begun(snapshot):
        for node in one.nodes:
            if node in free:
                free[node] = max(0.0, free[node] - one.gpus / len(one.nodes))
    return free


def begun(snapshot: Snapshot) -> list[Reservation]:
    """Live reservations that take capacity now: at once, or since the time that they were made for.

    What a job that runs has is not held for it a second time.
    """
    there = {job.id for job in snapshot.cluster.jobs if job.state in STAYING}
    mine = (one for one in snapshot.reservations if one.owner.removeprefix("job/") not in there)
    live = (one for one in mine if one.state in (HoldState.HELD, HoldState.ACTIVE))
    return [one for one in live if one.starts_at is None or one.starts_at <= snapshot.now]


def _add(free: dict[str, float], job: Job, sign: float) -> None:
    for node in job.nodes:
        if node in free:
            free[node] += sign * job.gpus / len(job.nodes)


@dataclass(frozen=True, slots=True)
class Room:
    """Where a waiting job could go: size, free GPUs and cores of every node that suits it; on one node, or on whole nodes."""

    job: Job
    sizes: Mapping[str, int]
    free: Mapping[str, float]
    left: Left

    @classmethod
    def of(cls, job: Job, free: Mapping[str, float], cluster: Cluster) -> Room:
        """Room for `job` given the free GPUs per node; nodes without a GPU of its type do not count."""
        sizes = {n.name: sum(g.healthy for g in n.gpus if job.gpu_type in ("", g.model)) for n in cluster.nodes}
        usable = {name: size for name, size in sizes.items() if size > 0 and name in free}
        return cls(job, usable, {name: free[name] for name in usable}, unused(cluster))

    @property
    def one_node(self) -> bool:
        """Whether any node is large enough alone; if so the job is not spread."""
        return any(size >= self.job.gpus for size in self.sizes.values())

    def usable(self, name: str) -> int:
        """GPUs of a node for a job on whole nodes: all of them or none."""
        size = self.sizes[name]
        return size if self.free[name] >= size - 1e-9 and self._carries(name) else 0

    def alone(self, name: str) -> bool:
        """Whether the job fits on this node."""
        return self.free[name] >= self.job.gpus - 1e-9 and self._carries(name)

    def _carries(self, name: str) -> bool:
        """Whether a node has the cores and memory for as much of the job as its GPUs are for."""
        return carries(self.left, name, self.job, min(1.0, self.sizes[name] / self.job.gpus))

    def lacks(self, victim: Victim) -> bool:
        """Whether a victim has anything that the job needs: GPUs of a node that suits it, or cores that are short there."""
        here = ((job, name) for job in victim.jobs for name in job.nodes if name in self.sizes)
        return any(job.gpus > 0 or not self._carries(name) for job, name in here)

    def whole(self) -> int:
        """GPUs on nodes that are entirely free."""
        return sum(self.usable(name) for name in self.sizes)

    def enough(self) -> bool:
        """Whether the job can start now."""
        return any(self.alone(name) for name in self.sizes) if self.one_node else self.whole() >= self.job.gpus

    def after(self, victims: Iterable[Victim]) -> Room:
        """The room once these have gone."""
        free, cores = dict(self.free), dict(self.left)
        for victim in victims:
            for job in victim.jobs:
                _add(free, job, 1.0)
                add(cores, job, 1.0)
        return Room(self.job, self.sizes, free, cores)


def fits(job: Job, free: Mapping[str, float], cluster: Cluster) -> bool:
    """Whether the job can start: on one node if any node is large enough for it, else on whole nodes."""
    return Room.of(job, free, cluster).enough()


def cheapest(room: Room, victims: Sequence[Victim]) -> tuple[Victim, ...] | None:
    """The set of victims of least total loss after which the room's job fits, or None. Exact up to `SEARCH` sets, then greedy.

    Sets are generated in order of their cost (Lawler's scheme on sorted items), so the first that suffices is the optimum;
    ties go by name, so that replay is exact.
    """
    useful = (victim for victim in victims if room.lacks(victim))
    ranked = sorted(useful, key=lambda victim: (victim.lost_gpu_s, victim.name))
    if not ranked or not room.after(ranked).enough():
        return None
    one_node, whole = room.one_node, room.whole()
    heap: list[tuple[float, tuple[int, ...]]] = [(ranked[0].lost_gpu_s, (0,))]
    for _ in range(SEARCH):
        if not heap:
            break
        cost, chosen = heapq.heappop(heap)
        picked = [ranked[i] for i in chosen]
        if _suffices(room, picked, one_node, whole):
            return _without_needless(room, picked, one_node, whole)
        following = chosen[-1] + 1
        if following < len(ranked):
            more = ranked[following].lost_gpu_s
            heapq.heappush(heap, (cost + more, (*chosen, following)))
            heapq.heappush(heap, (cost - picked[-1].lost_gpu_s + more, (*chosen[:-1], following)))
    return _greedy(ranked, room)


def _without_needless(room: Room, picked: list[Victim], one_node: bool, whole: int) -> tuple[Victim, ...]:
    """Who costs nothing may be in the cheapest set for nothing."""
    for victim in tuple(picked):
        rest = [one for one in picked if one is not victim]
        picked = rest if rest and _suffices(room, rest, one_node, whole) else picked
    return tuple(picked)


def _suffices(room: Room, picked: Sequence[Victim], one_node: bool, whole: int) -> bool:
    """As `room.after(picked).enough()`, but looks only at the nodes that the picked ones free."""
    touched = {node for victim in picked for job in victim.jobs for node in job.nodes if node in room.sizes}
    here = {node: room.free[node] for node in touched}
    then = Room(room.job, room.sizes, here, {node: room.left[node] for node in touched}).after(picked)
    if one_node:
        return any(then.alone(node) for node in touched)
    return whole + sum(then.usable(node) - room.usable(node) for node in touched) >= room.job.gpus


def _greedy(ranked: list[Victim], room: Room) -> tuple[Victim, ...]:
    """Everyone, less the dearest who turn out not to be needed: a set from which nobody can be spared."""
    needed: list[Victim] = []
    then, one_node = room.after(ranked), room.one_node
    free, cores = dict(then.free), then.left
    then = Room(room.job, room.sizes, free, cores)  # both change below: nodes by the thousand are not copied per victim
    whole = then.whole()
    for victim in reversed(ranked):
        nodes = {node for job in victim.jobs for node in job.nodes if node in free}
        before = sum(then.usable(node) for node in nodes)
        for job in victim.jobs:
            _add(free, job, -1.0)
            add(cores, job, -1.0)
        lost = before - sum(then.usable(node) for node in nodes)
        if then.enough() if one_node else whole - lost >= room.job.gpus:
            whole -= lost
        else:
            needed.append(victim)
            for job in victim.jobs:
                _add(free, job, 1.0)
                add(cores, job, 1.0)
    return tuple(reversed(needed))
