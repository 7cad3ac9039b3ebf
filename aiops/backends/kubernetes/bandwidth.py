"""Guarantees and caps on links: accounted, never enforced, for no Kubernetes API imposes them on a running pod.

What is promised on a link and on all its parents stays within their capacity, holds included. Who owns a pod may read the
account and obey it; where the CNI limits pods by annotation, it does so for pods that start later, not for these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aiops.action import LimitBandwidth, Outcome, ReleaseBandwidth, ReserveBandwidth
from aiops.backends.kubernetes import account
from aiops.backends.kubernetes.account import Account, ShareRow
from aiops.backends.kubernetes.declare import LinkSpec
from aiops.backends.kubernetes.desk import Answer, Desk

LinkAction = ReserveBandwidth | ReleaseBandwidth | LimitBandwidth


def change(desk: Desk, action: LinkAction) -> Answer:
    """Write the promise, or say why not. Raises Refused, NotSent, Lost."""
    if action.link not in desk.settings.links:
        return Outcome.STALE, f"link {action.link} is not declared"
    found, promised = account.read(desk)
    key = f"{action.link} {action.owner}"
    row = _rows(promised, action).get(key)
    if row is not None and desk.id in row.by:
        return Outcome.ALREADY, "the account names this action"
    refused = _refusal(desk, promised, action, row)
    if refused is not None:
        return refused
    rate = 0.0 if isinstance(action, ReleaseBandwidth) else action.bytes_per_s
    new = ShareRow(link=action.link, owner=action.owner, bytes_per_s=rate, by=account.named(desk.id, row.by if row else ()))
    if isinstance(action, LimitBandwidth):
        after = replace(promised, caps={**promised.caps, key: new})
    else:
        after = replace(promised, shares={**promised.shares, key: new})
    return account.keep(desk, found, after) or (Outcome.DONE, "accounted, not enforced")


def present(desk: Desk, action: LinkAction) -> bool:
    """Whether the account has the promise by this very action."""
    row = _rows(account.read(desk)[1], action).get(f"{action.link} {action.owner}")
    return row is not None and desk.id in row.by


def no_room(desk: Desk, others: Account, wanted: Mapping[str, float], owner: str) -> Answer | None:
    """STALE where a link, or one above it, has too little left for `wanted` beside what is promised to others than `owner`."""
    links = desk.settings.links
    for link, rate in wanted.items():
        if link not in links:
            return Outcome.STALE, f"link {link} is not declared"
        for name in lineage(link, links):
            taken = _promised(desk, others, name, owner)
            if taken + rate > links[name].capacity:
                return Outcome.STALE, f"{name} has {links[name].capacity - taken:g} bytes/s left, not {rate:g}"
    return None


def lineage(name: str, links: Mapping[str, LinkSpec]) -> tuple[str, ...]:
    """A link and all its parents, upwards; a loop ends where it began."""
    out: list[str] = []
    while name in links and name not in out:
        out.append(name)
        name = links[name].parent
    return tuple(out)


def _promised(desk: Desk, promised: Account, link: str, owner: str) -> float:
    links = desk.settings.links
    shares = [
        row.bytes_per_s or 0.0 for row in promised.shares.values() if link in lineage(row.link, links) and row.owner != owner
    ]
    held = [
        rate
        for name in promised.live(desk.now)
        for below, rate in promised.holds[name].bandwidth_bytes_per_s.items()
        if link in lineage(below, links) and promised.holds[name].owner != owner
    ]
    return sum(shares) + sum(held)


def _refusal(desk: Desk, promised: Account, action: LinkAction, row: ShareRow | None) -> Answer | None:
    now = row.bytes_per_s if row is not None else None
    match action:
        case ReserveBandwidth():
            return no_room(desk, promised, {action.link: action.bytes_per_s}, action.owner)
        case ReleaseBandwidth():
            return None if now else (Outcome.STALE, f"{action.owner} has no guarantee on {action.link}")
        case LimitBandwidth():
            return None if now == action.was else (Outcome.STALE, f"cap is {now}, not {action.was}")


def _rows(promised: Account, action: LinkAction) -> Mapping[str, ShareRow]:
    return promised.caps if isinstance(action, LimitBandwidth) else promised.shares
