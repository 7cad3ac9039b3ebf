"""The machine room: nodes, what is free on them, and what is held for whom. Knows nothing of queues or of time's course.

The convention of `policies/victims.py` holds here too: a job goes on one node if any node is large enough for it, else on
whole nodes; its GPUs count evenly on its nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aiops.model import Gpu, Node, NodeState
from aiops.sim.jobs.scenario import JobPool

ROUNDING = 1e-9


@dataclass(slots=True)
class Hold:
    """GPUs on nodes that are kept for one owner; `bound` are the runs whose leaving fills it."""

    owner: str
    nodes: tuple[str, ...]
    gpus: int
    fence: int
    ttl_s: float
    expires_at: float
    bound: set[str] = field(default_factory=set)

    @property
    def each(self) -> float:
        """GPUs per node."""
        return self.gpus / len(self.nodes)


class Floor:
    """Free GPUs per node, less what is held for others."""

    def __init__(self, pools: Iterable[JobPool]) -> None:
        self.nodes = {node.name: node for pool in pools for node in nodes_of(pool)}
        self.sizes = {name: len(node.gpus) for name, node in self.nodes.items()}
        self.free: dict[str, float] = {name: float(size) for name, size in self.sizes.items()}
        self.holds: dict[str, Hold] = {}
        self._by_type: dict[str, tuple[str, ...]] = {}

    def take(self, nodes: tuple[str, ...], gpus: int) -> None:
        """Give these nodes' GPUs to a job; asserts that they are there."""
        for name in nodes:
            self.free[name] -= gpus / len(nodes)
            assert self.free[name] > -1e-6, f"{name} is given twice"

    def leave(self, nodes: tuple[str, ...], gpus: int) -> None:
        """Take them back."""
        for name in nodes:
            self.free[name] += gpus / len(nodes)
            assert self.free[name] < self.sizes[name] + 1e-6, f"{name} is taken back twice"

    def room(self, owner: str) -> Mapping[str, float]:
        """Free GPUs per node for this owner."""
        others = [hold for hold in self.holds.values() if hold.owner != owner]
        if not others:
            return self.free
        left = dict(self.free)
        for hold in others:
            for name in hold.nodes:
                left[name] -= hold.each
        return left

    def place(self, gpus: int, gpu_type: str, free: Mapping[str, float]) -> tuple[str, ...] | None:
        """Where a job of this size goes: the fullest node that has room, else whole nodes, of one rack if possible."""
        names = self.of_type(gpu_type)
        if any(self.sizes[name] >= gpus for name in names):
            fitting = [(free[name], name) for name in names if free[name] >= gpus - ROUNDING]
            return (min(fitting)[1],) if fitting else None
        return self._whole(gpus, [name for name in names if self.sizes[name] and free[name] >= self.sizes[name] - ROUNDING])

    def _whole(self, gpus: int, empty: list[str]) -> tuple[str, ...] | None:
        racks: dict[str, list[str]] = {}
        for name in empty:
            racks.setdefault(self.nodes[name].rack, []).append(name)
        enough = [taken for _, names in sorted(racks.items()) if (taken := self._first(gpus, names))]
        return min(enough, key=len) if enough else self._first(gpus, empty)

    def _first(self, gpus: int, names: list[str]) -> tuple[str, ...] | None:
        """The fewest of these empty nodes, largest first, that together have enough."""
        taken: list[str] = []
        for name in sorted(names, key=lambda name: (-self.sizes[name], name)):
            if sum(self.sizes[one] for one in taken) >= gpus:
                break
            taken.append(name)
        enough = sum(self.sizes[one] for one in taken) >= gpus
        each = gpus / len(taken) if taken else 0.0
        return tuple(sorted(taken)) if enough and all(self.sizes[one] >= each for one in taken) else None

    def of_type(self, gpu_type: str) -> tuple[str, ...]:
        """Nodes whose GPUs are of this type, all where it is ''."""
        if gpu_type not in self._by_type:
            kinds = {name: node.gpus[0].model if node.gpus else "" for name, node in self.nodes.items()}
            self._by_type[gpu_type] = tuple(name for name, kind in kinds.items() if gpu_type in ("", kind))
        return self._by_type[gpu_type]


def nodes_of(pool: JobPool) -> tuple[Node, ...]:
    """A pool's nodes, all ready, rack by rack."""
    named = [(f"{pool.name}-{i:04d}", f"{pool.name}-r{i // pool.rack}" if pool.rack else pool.name) for i in range(pool.nodes)]
    return tuple(
        Node(
            name=name, uid=name, pool=pool.name, state=NodeState.READY, rack=rack,
            gpus=tuple(Gpu(uuid=f"{name}/{i}", index=i, model=pool.gpu_type) for i in range(pool.gpus)),
        )
        for name, rack in named
    )  # fmt: skip
