"""Growing a pool of nodes before the load is there: placeholder pods of a whole node each, which the autoscaler makes room for.

Their priority is below everybody's: real pods push them off the moment they come, and then nothing is left of them. A pool
shrinks by the autoscaler alone, once its nodes are empty; asking for fewer nodes only takes placeholders back. Where the
settings name a provisioning class, the nodes are asked for by a ProvisioningRequest instead (`provisioning`).
"""

from __future__ import annotations

from dataclasses import replace

from aiops.action import Outcome, ScalePool
from aiops.backends.kubernetes import account, picture, placeholders, provisioning
from aiops.backends.kubernetes.account import PoolRow
from aiops.backends.kubernetes.desk import Answer, Desk
from aiops.backends.kubernetes.kinds import NODES
from aiops.backends.kubernetes.records import NodeRecord, Reader


def change(desk: Desk, action: ScalePool, back: bool = False) -> Answer:
    """Ask for the pool to have `nodes` nodes; `back` takes an earlier request back. Raises Refused, NotSent, Lost."""
    found, promised = account.read(desk)
    row = promised.pools.get(action.pool)
    nodes = _members(desk, action.pool)
    if row is not None and desk.id in row.by:
        return _finish(desk, action, row, nodes) if row.by[0] == desk.id else (Outcome.ALREADY, "and changed again since")
    refused = None if back else _refusal(desk, action, nodes)
    if refused is not None:
        return refused
    new = PoolRow(nodes=action.nodes, by=account.named(desk.id, row.by if row else ()))
    late = account.keep(desk, found, replace(promised, pools={**promised.pools, action.pool: new}))
    if late is not None:
        return late
    outcome, detail = _finish(desk, action, new, nodes)
    return (Outcome.DONE if outcome is Outcome.ALREADY else outcome), detail


def present(desk: Desk, action: ScalePool) -> bool:
    """Whether the request stands: its placeholders are there, or the pool has the nodes."""
    row = account.read(desk)[1].pools.get(action.pool)
    if row is None or desk.id not in row.by:
        return False
    lacking = action.nodes - len(_members(desk, action.pool))
    if desk.settings.provisioning_class:
        return row.by[0] != desk.id or lacking <= 0 or not provisioning.given_up(desk, _name(action.pool, row))
    return row.by[0] != desk.id or placeholders.imposed(desk, _name(action.pool, row)) >= lacking


def _refusal(desk: Desk, action: ScalePool, nodes: tuple[NodeRecord, ...]) -> Answer | None:
    spec = desk.settings.pools.get(action.pool)
    if spec is None:
        return Outcome.FAILED, f"its owner lets nobody scale it: backend.kubernetes.pools.{action.pool} is not declared"
    if (str(len(nodes)), len(nodes)) != (action.version, action.was):
        return Outcome.STALE, f"pool {action.pool} has {len(nodes)} nodes, not {action.was}"
    if not spec.min <= action.nodes <= spec.max:
        return Outcome.FAILED, f"{action.nodes} nodes are outside of {spec.min}..{spec.max}"
    if action.nodes < action.was:
        return Outcome.FAILED, "a pool shrinks by its autoscaler, once a node is empty: drain the node"
    return None


def _members(desk: Desk, pool: str) -> tuple[NodeRecord, ...]:
    reader = Reader(desk.settings.gpu_resources)
    rows = tuple(reader.node(row) for row in desk.connection.get(NODES.path())["items"])
    return tuple(row for row in rows if picture.pool_of(desk.settings, row.meta.labels) == pool)


def _finish(desk: Desk, action: ScalePool, row: PoolRow, nodes: tuple[NodeRecord, ...]) -> Answer:
    claim = _claim(desk, action.pool, row, nodes)
    if claim is None:
        return Outcome.FAILED, f"nobody says how many GPUs a node of pool {action.pool} has: declare `gpus`"
    if desk.settings.provisioning_class:
        told = f"a ProvisioningRequest for {len(claim.rooms)} nodes"
        return provisioning.ask(desk, claim) or (Outcome.ALREADY, told)
    why = placeholders.impose(desk, claim)
    if why is not None:
        return Outcome.UNKNOWN, why
    mine = f"{placeholders.name_of('pool', action.pool)}-"
    stays = placeholders.withdraw(desk, lambda name: name.startswith(mine) and name != claim.name)
    return stays or (Outcome.ALREADY, f"{len(claim.rooms)} placeholders of a whole node each")


def _name(pool: str, row: PoolRow) -> str:
    return f"{placeholders.name_of('pool', pool)}-{placeholders.name_of('by', row.by[0])}"


def _claim(desk: Desk, pool: str, row: PoolRow, nodes: tuple[NodeRecord, ...]) -> placeholders.Claim | None:
    spec = desk.settings.pools.get(pool)
    gpus = max([node.gpus for node in nodes] + [spec.gpus if spec else 0])
    if not gpus:
        return None
    keys = [key for node in nodes[:1] for key in desk.settings.pool_labels if node.meta.labels.get(key) == pool]
    labels = {(keys or desk.settings.pool_labels)[0]: pool}
    room = placeholders.Room(resources={desk.settings.gpu_resources[0]: str(gpus)}, labels=labels)
    return placeholders.Claim(
        name=_name(pool, row), rooms=(room,) * max(0, row.nodes - len(nodes)),
        priority_class=desk.settings.headroom_priority_class, lives_s=desk.settings.headroom,
    )  # fmt: skip
