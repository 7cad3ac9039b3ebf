"""Where a job goes: on the fullest node that has room, else on whole nodes; by what bounds its speed (policy.md 31).

A communication-bound job is not spread over racks; a compute-bound one prefers the fastest pool, a memory-bound one the
largest accelerator memory. The convention of sizes is that of `victims.py`. Capacity is subtracted as a plan grows (14).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from aiops.model import Cluster, Job, Node, Pool, TaskClass
from policies.cores import Left, add, carries, unused

ROUNDING = 1e-9


@dataclass(slots=True)
class Floor:
    """Nodes and what is free on them for the plan in the making."""

    nodes: Mapping[str, Node]
    pools: Mapping[str, Pool]
    free: dict[str, float]
    sizes: dict[str, dict[str, int]]
    left: Left

    @classmethod
    def of(cls, cluster: Cluster, free: Mapping[str, float]) -> Floor:
        """The floor of a cluster with this much free; nodes that take no work are not in `free`."""
        nodes = {node.name: node for node in cluster.nodes if node.name in free}
        return cls(nodes, {pool.name: pool for pool in cluster.pools}, dict(free), {}, unused(cluster))

    def copy(self) -> Floor:
        """The same floor, to plan on."""
        return replace(self, free=dict(self.free), left=dict(self.left))

    def without(self, names: Collection[str]) -> Floor:
        """A floor to plan on that lacks these nodes."""
        sizes = {kind: {one: size for one, size in counts.items() if one not in names} for kind, counts in self.sizes.items()}
        return replace(self.copy(), nodes={one: node for one, node in self.nodes.items() if one not in names}, sizes=sizes)

    def emptied(self, name: str, jobs: Iterable[Job]) -> Floor:
        """One node of this floor once these jobs have left it."""
        there = replace(self, free={name: self.free[name]}, left={name: self.left[name]})
        for job in jobs:
            there.give_back(job)
        return there

    def of_type(self, gpu_type: str) -> dict[str, int]:
        """Healthy GPUs of a type on each node that has any."""
        if gpu_type not in self.sizes:
            counts = {
                name: sum(gpu.healthy and gpu_type in ("", gpu.model) for gpu in node.gpus) for name, node in self.nodes.items()
            }
            self.sizes[gpu_type] = {name: count for name, count in counts.items() if count}
        return self.sizes[gpu_type]

    def place(self, job: Job) -> tuple[str, ...] | None:
        """Nodes for the job, or None where it does not fit."""
        sizes = self.of_type(job.gpu_type)
        if any(size >= job.gpus for size in sizes.values()):
            fitting = [name for name in sizes if self.carries(name, job)]
            return (min(fitting, key=lambda name: (self.mismatch(job, name), self.free[name], name)),) if fitting else None
        blocks = self.blocks(job)
        return min(blocks, key=lambda names: (len(names), self.mismatch(job, names[0]), names)) if blocks else None

    def carries(self, name: str, job: Job) -> bool:
        """Whether the job fits on this node alone."""
        return self.free[name] >= job.gpus - ROUNDING and carries(self.left, name, job)

    def blocks(self, job: Job) -> list[tuple[str, ...]]:
        """Sets of empty nodes that would do for a job that needs several: side by side in each rack, and over racks.

        A communication-bound job is offered no set over racks where racks are known.
        """
        sizes = self.of_type(job.gpu_type)
        racks: dict[str, list[str]] = {}
        empty = (n for n in sizes if self.free[n] >= sizes[n] - ROUNDING)
        roomy = (n for n in empty if carries(self.left, n, job, min(1.0, sizes[n] / job.gpus)))
        for name in sorted(roomy, key=lambda n: (-sizes[n], n)):
            racks.setdefault(self.nodes[name].rack, []).append(name)
        found = [block for _, names in sorted(racks.items()) for block in blocks(names, sizes, job.gpus)]
        if found or (job.task_class is TaskClass.COMMUNICATION and set(racks) != {""}):
            return found
        return blocks([name for names in racks.values() for name in names], sizes, job.gpus)

    def take(self, job: Job, nodes: tuple[str, ...]) -> None:
        """Count these nodes' GPUs, cores and memory as the job's."""
        for name in nodes:
            self.free[name] -= job.gpus / len(nodes)
        add(self.left, job, -1.0, nodes)

    def give_back(self, job: Job) -> None:
        """Count what a running job has as free."""
        for name in job.nodes:
            if name in self.free:
                self.free[name] += job.gpus / len(job.nodes)
        add(self.left, job, 1.0)

    def mismatch(self, job: Job, node: str) -> float:
        """How badly a node suits what bounds the job, lower is better; 0 where nothing is known."""
        pool = self.pools.get(self.nodes[node].pool)
        match job.task_class:
            case TaskClass.COMPUTE:
                return -(pool.compute_tflops or 0.0) if pool else 0.0
            case TaskClass.MEMORY:
                return -max((gpu.memory_bytes or 0.0 for gpu in self.nodes[node].gpus), default=0.0)
            case TaskClass.COMMUNICATION:
                return 0.0 if pool and pool.interconnect else 1.0
            case TaskClass.UNKNOWN:
                return 0.0


def blocks(names: list[str], sizes: Mapping[str, int], gpus: int) -> list[tuple[str, ...]]:
    """Disjoint runs of these nodes, in order, each just enough for `gpus` GPUs that count evenly on them."""
    found, taken = [], list[str]()
    for name in names:
        taken.append(name)
        if sum(sizes[one] for one in taken) >= gpus:
            if all(sizes[one] >= gpus / len(taken) for one in taken):
                found.append(tuple(sorted(taken)))
            taken = []
    return found
