"""Holding GPUs for an owner: a row in the account, and placeholder pods that keep everybody else off.

A hold is made before its capacity is free (the victims of a preemption still run), so its placeholders may wait; what a
hold may bind is a node's GPUs less what other holds bind there. Its term is also the placeholders' own deadline: it ends
without any daemon. A renewal is the next fence. Once the placeholders have the room that the owner's waiting pods need, they
leave it to them (`leave`, called by `finishing`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aiops.action import ConfirmHold, HoldCapacity, Outcome, ReleaseHold
from aiops.backends.kubernetes import account, bandwidth, placeholders
from aiops.backends.kubernetes.account import Account, HoldRow
from aiops.backends.kubernetes.desk import Answer, Desk, Place
from aiops.backends.kubernetes.kinds import NODES
from aiops.backends.kubernetes.records import NodeRecord, Reader

PREFIX = "hold-"
"""Begins the name of every claim of a hold."""
HoldAction = HoldCapacity | ConfirmHold | ReleaseHold


def change(desk: Desk, action: HoldAction) -> Answer:
    """Grant, confirm or release a hold. Raises Refused, NotSent, Lost."""
    found, promised = account.read(desk)
    row = promised.holds.get(action.hold)
    if row is not None and desk.id in row.by:
        return _finish(desk, promised, action.hold) if row.by[0] == desk.id else (Outcome.ALREADY, "and changed again since")
    if isinstance(action, HoldCapacity):
        new: HoldRow | Answer = _granted(desk, promised, action)
    else:
        new = _moved(desk, row, action)
    if not isinstance(new, HoldRow):
        return new
    after = replace(promised, holds={**promised.holds, action.hold: new})
    refused = account.keep(desk, found, after)
    if refused is not None:
        return refused
    outcome, detail = _finish(desk, after, action.hold)
    return (Outcome.DONE, "") if outcome is Outcome.ALREADY else (outcome, detail)


def present(desk: Desk, action: HoldAction) -> bool:
    """Whether the action changed the hold, and its placeholders are as it left them."""
    row = account.read(desk)[1].holds.get(action.hold)
    if row is None or desk.id not in row.by:
        return False
    if row.by[0] != desk.id or not row.live(desk.now) or row.yielded:
        return True
    return placeholders.imposed(desk, _name(action.hold, row)) >= len(_bearing(row))


def _granted(desk: Desk, promised: Account, action: HoldCapacity) -> HoldRow | Answer:
    known = promised.holds.get(action.hold)
    if known is not None and known.live(desk.now) and known.owner != action.owner:
        return Outcome.STALE, f"hold {action.hold} is {known.owner}'s"
    if known is not None and action.fence <= known.fence:
        return Outcome.STALE, f"hold {action.hold} was granted with fence {known.fence}"
    if action.starts_at is not None and action.starts_at > desk.now:
        return Outcome.FAILED, "a hold that begins later is kept in aiops's own ledger; nothing to do here yet"
    if not action.nodes or len(set(action.nodes)) != len(action.nodes):
        return Outcome.STALE, "names no node, or one of them twice"
    row = HoldRow(
        owner=action.owner, fence=action.fence, nodes=action.nodes, gpus=action.gpus, cpu_cores=action.cpu_cores,
        bandwidth_bytes_per_s=dict(action.bandwidth_bytes_per_s), expires_at=desk.now + action.ttl_s,
        by=account.named(desk.id, known.by if known else ()),
    )  # fmt: skip
    others = promised.without(action.hold)
    return _no_room(desk, others, row) or bandwidth.no_room(desk, others, row.bandwidth_bytes_per_s, action.owner) or row


def _moved(desk: Desk, row: HoldRow | None, action: ConfirmHold | ReleaseHold) -> HoldRow | Answer:
    if row is None or row.fence != action.fence or not row.live(desk.now):
        return Outcome.STALE, f"hold {action.hold} with fence {action.fence} is not live"
    by = account.named(desk.id, row.by)
    return replace(row, active=True, by=by) if isinstance(action, ConfirmHold) else replace(row, released=True, by=by)


def _no_room(desk: Desk, others: Account, row: HoldRow) -> Answer | None:
    """STALE where a node is gone, shut, or bound by other holds to more than it has left."""
    for name in row.nodes:
        node = _node(desk, name)
        if node is None or not node.ready or node.unschedulable:
            return Outcome.STALE, f"node {name} is not there or takes no work"
        bound = [one for one in others.holds.values() if one.live(desk.now) and name in one.nodes]
        if sum(one.on(name) for one in bound) + row.on(name) > node.usable:
            return (
                Outcome.STALE,
                f"node {name} has {node.usable} GPUs, and other holds bind {sum(one.on(name) for one in bound)}",
            )
        if sum(one.cpu_cores / len(one.nodes) for one in bound) + row.cpu_cores / len(row.nodes) > node.cpu_cores:
            return Outcome.STALE, f"node {name} has not {row.cpu_cores / len(row.nodes):g} cores that no other hold binds"
    return None


def _node(desk: Desk, name: str) -> NodeRecord | None:
    found = desk.find(Place(NODES, "", name))
    return None if found is None else Reader(desk.settings.gpu_resources).node(found)


def _finish(desk: Desk, promised: Account, hold: str) -> Answer:
    """Placeholders as the account wants them: this hold's made, those of no live hold evicted."""
    row = promised.holds[hold]
    if row.live(desk.now) and not row.yielded:
        why = placeholders.impose(desk, _claim(desk, hold, row))
        if why is not None:
            return Outcome.UNKNOWN, f"held in the account only; {why}"
    live = claims(promised, desk.now)
    stays = placeholders.withdraw(desk, lambda name: name.startswith(PREFIX) and name not in live)
    return stays or (Outcome.ALREADY, "the account names this action")


def claims(promised: Account, now: float) -> frozenset[str]:
    """Names of the placeholders' claims of all holds that bind capacity at `now`, and have not left it to their owners."""
    rows = ((name, promised.holds[name]) for name in promised.live(now))
    return frozenset(_name(name, row) for name, row in rows if not row.yielded)


def owed(promised: Account, now: float) -> Iterator[tuple[str, str, str]]:
    """Name, owner and placeholders' claim of every hold that could be left to its owner."""
    for name in promised.live(now):
        row = promised.holds[name]
        if not row.yielded:
            yield name, row.owner, _name(name, row)


def leave(desk: Desk, hold: str, claim: str) -> Answer | None:
    """Leave a hold's room to its owner; None where the hold is another by now. Raises Refused, NotSent, Lost.

    First in the account, so that nobody makes new placeholders; who dies in between leaves the eviction to the next look.
    """
    found, promised = account.read(desk)
    row = promised.holds.get(hold)
    if row is None or row.yielded or _name(hold, row) != claim:
        return None
    after = replace(promised, holds={**promised.holds, hold: replace(row, yielded=True)})
    return (
        account.keep(replace(desk, id=row.by[0]), found, after) or placeholders.withdraw(desk, lambda name: name == claim)
        or (Outcome.DONE, f"the room of hold {hold} is left to {row.owner}")
    )  # fmt: skip


def _name(hold: str, row: HoldRow) -> str:
    return placeholders.name_of("hold", hold, row.fence, row.active)


def _bearing(row: HoldRow) -> tuple[str, ...]:
    """The nodes on which it binds anything."""
    return tuple(name for name in row.nodes if row.on(name) or row.cpu_cores)


def _claim(desk: Desk, hold: str, row: HoldRow) -> placeholders.Claim:
    rooms = []
    for name in _bearing(row):
        resources = {desk.settings.gpu_resources[0]: str(row.on(name))} if row.on(name) else {}
        if row.cpu_cores:
            resources["cpu"] = f"{round(1000 * row.cpu_cores / len(row.nodes))}m"
        rooms.append(placeholders.Room(resources=resources, node=name))
    return placeholders.Claim(
        name=_name(hold, row), rooms=tuple(rooms), priority_class=desk.settings.hold_priority_class,
        lives_s=None if row.active else row.expires_at - desk.now,
    )  # fmt: skip
