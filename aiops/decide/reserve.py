"""The ledger of capacity and bandwidth: holds in two phases, fenced, renewable, capped; never more than there is.

    hold (atomic over nodes, GPUs, cores and links) -> confirm (with its fence) -> ACTIVE -> release
      `-- expires after its term unless renewed, never past its hard cap; a late confirm is refused by its fence

Pure functions over a tuple of reservations; the loop's cycles move it, no timer does. What a backend must do to impose a
reservation is not its business. Invariant (checked at every instant, `fits`): what is held and active is within capacity, on
every node, over the cluster, and on every link and all its parents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from aiops.action import Deny, HoldCapacity
from aiops.model import Cluster, HoldState, Reservation

Ledger = tuple[Reservation, ...]
LIVE = (HoldState.HELD, HoldState.ACTIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What there is to promise: GPUs and cores per node, bytes per second per link with its parent."""

    gpus: Mapping[str, int] = field(default_factory=dict)
    cpu_cores: Mapping[str, float] = field(default_factory=dict)
    links: Mapping[str, float] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)

    def path(self, link: str) -> Iterator[str]:
        """The link and all above it; ends where a broken declaration goes in circles."""
        seen: set[str] = set()
        while link and link not in seen:
            seen.add(link)
            yield link
            link = self.parents.get(link, "")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The ledger after an operation, and why it was refused (None: it was not)."""

    ledger: Ledger
    denied: Deny | None = None
    detail: str = ""


def capacity(cluster: Cluster, oversubscription: Mapping[str, float] | None = None) -> Capacity:
    """Capacity of a cluster; links of a kind in `oversubscription` may be promised that many times over."""
    times = oversubscription or {}
    return Capacity(
        gpus={node.name: sum(gpu.healthy for gpu in node.gpus) for node in cluster.nodes},
        cpu_cores={node.name: node.cpu_cores for node in cluster.nodes},
        links={link.name: link.capacity_bytes_per_s * times.get(link.kind, 1.0) for link in cluster.links},
        parents={link.name: link.parent for link in cluster.links},
    )


def hold(ledger: Ledger, asked: Reservation, room: Capacity, now: float) -> Outcome:
    """Grant `asked` whole or not at all; idempotent by name and fence.

    Holds that only a forecast made, of lower priority, give way (`CANCELLED`), the lowest first. Refused: INVALID for a
    name that is live under another fence or owner, or an old fence; NO_CAPACITY where it does not fit.
    """
    known = find(ledger, asked.name)
    if known is not None and known.state in LIVE:
        same = (known.fence, known.owner) == (asked.fence, asked.owner)
        return Outcome(ledger) if same else Outcome(ledger, Deny.INVALID, f"{asked.name} is held under fence {known.fence}")
    if known is not None and asked.fence <= known.fence:
        return Outcome(ledger, Deny.INVALID, f"fence {asked.fence} of {asked.name} is over; it was at {known.fence}")
    others = tuple(one for one in ledger if one.name != asked.name)
    yielding = sorted((one for one in others if _yields(one, asked)), key=lambda one: (one.priority, one.name))
    for count in range(len(yielding) + 1):
        gone = {one.name for one in yielding[:count]}
        trial = tuple(replace(one, state=HoldState.CANCELLED) if one.name in gone else one for one in others)
        over = excess((*trial, asked), room, now)
        if not over:
            return Outcome(_sorted((*trial, asked)))
    return Outcome(ledger, Deny.NO_CAPACITY, over)


def grant(ledger: Ledger, asked: Iterable[Reservation], room: Capacity, now: float) -> tuple[Ledger, dict[str, Deny | None]]:
    """Holds in order of priority: needs before forecasts, then priority, then name; and what became of each."""
    answers: dict[str, Deny | None] = {}
    for one in sorted(asked, key=lambda one: (bool(one.from_forecast), -one.priority, one.name)):
        done = hold(ledger, one, room, now)
        ledger, answers[one.name] = done.ledger, done.denied
    return ledger, answers


def confirm(ledger: Ledger, name: str, fence: int, now: float) -> Outcome:
    """Second phase. Refused (INVALID) unless the hold is live, not past its term, and under this very fence."""
    known = find(ledger, name)
    if known is None or known.fence != fence or known.state not in LIVE:
        return Outcome(ledger, Deny.INVALID, f"no live hold {name!r} under fence {fence}")
    if known.state is HoldState.HELD and known.expires_at <= now:
        return Outcome(ledger, Deny.INVALID, f"{name} expired {now - known.expires_at:.0f} s ago")
    return Outcome(_put(ledger, replace(known, state=HoldState.ACTIVE)))


def renew(ledger: Ledger, name: str, fence: int, now: float, term_s: float) -> Outcome:
    """Extend a live hold to `now + term_s`, never past its hard cap and never shorter than it was."""
    known = find(ledger, name)
    if known is None or known.fence != fence or known.state is not HoldState.HELD or known.expires_at <= now:
        return Outcome(ledger, Deny.INVALID, f"no live hold {name!r} under fence {fence}")
    return Outcome(_put(ledger, replace(known, expires_at=min(known.hard_cap_at, max(known.expires_at, now + term_s)))))


def release(ledger: Ledger, name: str, fence: int) -> Outcome:
    """Give capacity back; a repeat changes nothing, another fence is refused."""
    known = find(ledger, name)
    if known is None or known.fence != fence:
        return Outcome(ledger, Deny.INVALID, f"no hold {name!r} under fence {fence}")
    return Outcome(_put(ledger, replace(known, state=HoldState.RELEASED)) if known.state in LIVE else ledger)


def step(ledger: Ledger, now: float, forecasts: frozenset[str] = frozenset()) -> Ledger:
    """What time alone does: holds past their term expire, reservations past their end are released, and a hold whose
    forecast is no longer among `forecasts` is cancelled.
    """
    return tuple(replace(one, state=_after(one, now, forecasts)) for one in ledger)


def _after(one: Reservation, now: float, forecasts: frozenset[str]) -> HoldState:
    if one.state is HoldState.HELD and one.expires_at <= now:
        return HoldState.EXPIRED
    if one.state is HoldState.HELD and one.from_forecast and one.from_forecast not in forecasts:
        return HoldState.CANCELLED
    return HoldState.RELEASED if one.state in LIVE and one.ends_at is not None and one.ends_at <= now else one.state


def excess(ledger: Ledger, room: Capacity, now: float) -> str:
    """What is promised beyond capacity at any instant from `now` on, in words; '' where everything fits."""
    live = [one for one in ledger if one.state in LIVE]
    moments = sorted({now} | {start(one) for one in live if start(one) > now})
    for moment in moments:
        over = _excess_at([one for one in live if start(one) <= moment < end(one)], room)
        if over:
            return over
    return ""


def start(one: Reservation) -> float:
    """When it begins to take capacity; what was asked for at once has begun, even where the clock stepped back since."""
    return -math.inf if one.starts_at is None else one.starts_at


def end(one: Reservation) -> float:
    """When it gives capacity back; a hold may yet be confirmed, so its term is not its end."""
    return math.inf if one.ends_at is None else one.ends_at


def _excess_at(live: list[Reservation], room: Capacity) -> str:
    used, ceilings = usage(live, room), _ceilings(room)
    for what, amount in sorted(used.items()):
        most = ceilings.get(what, 0.0)  # what is not there has no room
        if amount > most * (1 + 1e-12):
            return f"{amount:.6g} promised on {' '.join(what)}, {most:.6g} there"
    return ""


def usage(live: Iterable[Reservation], room: Capacity) -> dict[tuple[str, str], float]:
    """Sum per dimension: `("gpus", node)`, `("cores", node)`, `("link", name)`, and `""` for the whole cluster.

    A reservation spreads evenly over the nodes it names (gangs are regular; a remainder counts in full on each).
    """
    used: dict[tuple[str, str], float] = {}

    def add(what: str, where: str, amount: float) -> None:
        used[what, where] = used.get((what, where), 0.0) + amount

    for one in live:
        add("gpus", "", one.gpus)
        add("cores", "", one.cpu_cores)
        for node in one.nodes:
            add("gpus", node, math.ceil(one.gpus / len(one.nodes)))
            add("cores", node, one.cpu_cores / len(one.nodes))
        for link, rate in one.bandwidth_bytes_per_s.items():
            for name in room.path(link):
                add("link", name, rate)
    return used


def _ceilings(room: Capacity) -> dict[tuple[str, str], float]:
    per_node = {("gpus", n): float(v) for n, v in room.gpus.items()} | {("cores", n): v for n, v in room.cpu_cores.items()}
    whole = {("gpus", ""): float(sum(room.gpus.values())), ("cores", ""): sum(room.cpu_cores.values())}
    return per_node | whole | {("link", n): v for n, v in room.links.items()}


def _yields(one: Reservation, asked: Reservation) -> bool:
    """Only what a forecast wished for gives way, to a real need or to a more important forecast."""
    lower = not asked.from_forecast or one.priority < asked.priority
    return one.state is HoldState.HELD and bool(one.from_forecast) and lower


def requested(action: HoldCapacity, now: float, cap_s: float, priority: int = 0, forecast: str = "") -> Reservation:
    """The reservation that an admitted `HoldCapacity` asks for."""
    first = now if action.starts_at is None else max(now, action.starts_at)
    return Reservation(
        name=action.hold, owner=action.owner, state=HoldState.HELD, fence=action.fence, created_at=now,
        expires_at=min(first + action.ttl_s, first + cap_s), hard_cap_at=first + cap_s, nodes=action.nodes, gpus=action.gpus,
        cpu_cores=action.cpu_cores, bandwidth_bytes_per_s=action.bandwidth_bytes_per_s, priority=priority,
        starts_at=action.starts_at, from_forecast=forecast,
    )  # fmt: skip


def find(ledger: Ledger, name: str) -> Reservation | None:
    """The reservation of this name in any state."""
    return next((one for one in ledger if one.name == name), None)


def _put(ledger: Ledger, changed: Reservation) -> Ledger:
    return _sorted((*(one for one in ledger if one.name != changed.name), changed))


def _sorted(ledger: Iterable[Reservation]) -> Ledger:
    return tuple(sorted(ledger, key=lambda one: one.name))
