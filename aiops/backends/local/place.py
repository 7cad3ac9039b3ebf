"""Which node and GPU slots a unit gets: pure, over what is declared and what the state says is taken.

A unit in STOPPING keeps its slots until its processes are gone: a slot is never given twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aiops.backends.local.holds import owned_by
from aiops.backends.local.state import HoldRecord, Phase, State
from aiops.model import Node, NodeState


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What a unit asks for. `nodes` and `gpus` narrow the choice where not empty; `owner` may use its own holds."""

    owner: str
    gpus: int = 0
    gpu_type: str = ""
    cpu_cores: float = 0.0
    memory_bytes: float = 0.0
    nodes: tuple[str, ...] = ()
    on_gpus: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a unit goes."""

    nodes: tuple[str, ...]
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One claim on nodes: what a unit has, or will have within this plan."""

    nodes: tuple[str, ...]
    gpus: tuple[str, ...]
    cpu_cores: float
    memory_bytes: float
    owner: str = ""
    since: float = 0.0


def taken(state: State, leaving: bool = True) -> tuple[Taken, ...]:
    """Claims of all units in the state; those that are stopping too, unless `leaving` is False."""
    units = [unit for unit in state.units.values() if leaving or unit.phase is not Phase.STOPPING]
    return tuple(
        Taken(
            nodes=u.nodes, gpus=u.gpus, cpu_cores=u.cpu_cores, memory_bytes=u.memory_bytes, owner=u.owner, since=u.spawned_at
        )
        for u in units
    )  # fmt: skip


def choose(want: Want, nodes: Iterable[Node], claims: Iterable[Taken], holds: Iterable[HoldRecord] = ()) -> Place | None:
    """The fullest node that fits, by name among equals; several nodes only where no single one is large enough; else None."""
    claims, holds = tuple(claims), tuple(holds)
    usable = [node for node in nodes if _may_use(node, want)]
    free = {node.name: _free_gpus(node, want, claims, holds) for node in usable}
    fits = [node for node in usable if len(free[node.name]) >= want.gpus and _room(node, want, claims, holds)]
    if fits:
        best = min(fits, key=lambda node: (len(free[node.name]), node.name))
        return Place(nodes=(best.name,), gpus=free[best.name][: want.gpus])
    if want.gpus <= max((len(node.gpus) for node in usable), default=0):
        return None  # one node is large enough: waiting for it beats spreading
    return _spread(want, usable, free)


def _spread(want: Want, usable: list[Node], free: dict[str, tuple[str, ...]]) -> Place | None:
    chosen: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    for node in sorted(usable, key=lambda node: (-len(free[node.name]), node.name)):
        part = free[node.name][: want.gpus - len(chosen)]
        if part:
            chosen, names = chosen + part, (*names, node.name)
    return Place(nodes=names, gpus=chosen) if len(chosen) == want.gpus and chosen else None


def _may_use(node: Node, want: Want) -> bool:
    named = not want.nodes or node.name in want.nodes
    return node.state is NodeState.READY and named and node.name not in want.exclude


def _free_gpus(node: Node, want: Want, claims: tuple[Taken, ...], holds: tuple[HoldRecord, ...]) -> tuple[str, ...]:
    used = {gpu for claim in claims for gpu in claim.gpus}
    fits = [gpu for gpu in node.gpus if gpu.healthy and gpu.uuid not in used and want.gpu_type in ("", gpu.model)]
    free = [gpu.uuid for gpu in fits if not want.on_gpus or gpu.uuid in want.on_gpus]
    others = [hold for hold in holds if node.name in hold.nodes and not owned_by(hold, want.owner)]
    held = sum(max(0, -(-hold.gpus // len(hold.nodes)) - _drawn(hold, node, claims)) for hold in others)
    return tuple(free[: max(0, len(free) - held)])


def _drawn(hold: HoldRecord, node: Node, claims: tuple[Taken, ...]) -> int:
    """GPUs of the node that the hold's owner took since it was granted: what it has is not held for it a second time."""
    mine = [claim for claim in claims if owned_by(hold, claim.owner) and claim.since >= hold.since]
    return sum(gpu.uuid in claim.gpus for claim in mine for gpu in node.gpus)


def _room(node: Node, want: Want, claims: tuple[Taken, ...], holds: tuple[HoldRecord, ...]) -> bool:
    here = [claim for claim in claims if node.name in claim.nodes]
    bound = [hold for hold in holds if node.name in hold.nodes and not owned_by(hold, want.owner)]
    bound = [hold for hold in bound if not any(owned_by(hold, claim.owner) and claim.since >= hold.since for claim in here)]
    cores = sum(claim.cpu_cores / len(claim.nodes) for claim in here) + want.cpu_cores
    cores += sum(hold.cpu_cores / len(hold.nodes) for hold in bound)
    memory = sum(claim.memory_bytes / len(claim.nodes) for claim in here) + want.memory_bytes
    return cores <= node.cpu_cores + 1e-9 and memory <= node.memory_bytes + 1.0
