"""Kubernetes' cluster-autoscaler (its defaults), for pools of whole-node GPUs.

Scan 10 s. Grows by as many nodes as first fit of the waiting replicas needs beyond what is on its way. A node is unneeded
where less than half of it is used and what is on it fits elsewhere; after 10 minutes of that, and 10 minutes after the last
growth, it goes: up to ten empty ones at a time, else one that has work, which starts anew elsewhere. Nothing goes while
something waits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

HALF = 0.5
"""scale-down-utilization-threshold"""
UNNEEDED_S = 600.0
"""scale-down-unneeded-time"""
AFTER_ADD_S = 600.0
"""scale-down-delay-after-add"""
EMPTY_AT_ONCE = 10
"""max-empty-bulk-delete; nodes with work go one at a time (max-drain-parallelism)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One pool at `now`: GPUs of a node, bounds, idle GPUs and replicas of each node, nodes on their way, who waits."""

    now: float
    gpus: int
    low: int
    high: int
    free: Mapping[str, int]
    on: Mapping[str, Sequence[int]]
    starting: int
    waiting: Sequence[int]

    @property
    def size(self) -> int:
        """Nodes there or on their way."""
        return len(self.free) + self.starting


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be done: the size wanted, the idle nodes that go for it, and the one whose work is moved first."""

    nodes: int
    remove: tuple[str, ...] = ()
    drain: str = ""


class ClusterAutoscaler:
    """One autoscaler of one pool; it remembers since when a node has been unneeded."""

    period_s: ClassVar[int] = 10

    def __init__(self) -> None:
        self._unneeded: dict[str, float] = {}
        self._added_at = -math.inf

    def change(self, group: Group) -> Change:
        """What it does at this scan."""
        lacking = bins(group.waiting, [*group.free.values(), *[group.gpus] * group.starting], group.gpus)
        if lacking:
            self._added_at = group.now
        if lacking or group.waiting or group.starting:
            self._unneeded.clear()
            return Change(nodes=min(group.size + lacking, max(group.high, group.size)))
        idle = [name for name in sorted(group.free) if unneeded(name, group)]
        self._unneeded = {name: self._unneeded.get(name, group.now) for name in idle}
        ripe = [name for name in idle if group.now - self._unneeded[name] >= UNNEEDED_S]
        most = group.size - group.low
        if not ripe or most <= 0 or group.now - self._added_at < AFTER_ADD_S:
            return Change(nodes=group.size)
        empty = [name for name in ripe if group.free[name] == group.gpus][: min(most, EMPTY_AT_ONCE)]
        drain = "" if empty else ripe[0]
        gone = tuple(empty) if empty else (drain,)
        return Change(nodes=group.size - len(gone), remove=gone, drain=drain)


def unneeded(node: str, group: Group) -> bool:
    """Less than half is used, and what is on it fits the other nodes."""
    if (group.gpus - group.free[node]) / group.gpus >= HALF:
        return False
    others = [gpus for name, gpus in group.free.items() if name != node]
    return bins(group.on.get(node, ()), others, group.gpus) == 0


def bins(waiting: Sequence[int], free: Sequence[int], gpus: int) -> int:
    """New nodes of `gpus` that first fit, largest first, opens for what does not fit the `free` ones."""
    room = list(free)
    for part in sorted(waiting, reverse=True):
        place = next((i for i, left in enumerate(room) if left >= part), None)
        if place is None:
            room.append(gpus)
            place = len(room) - 1
        room[place] -= part
    return len(room) - len(free)
