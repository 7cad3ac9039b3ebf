"""What may become of a ledger entry, of reservations and of orders: pure rules, shared by every store.

INTENT -> SENT -> CONFIRMED | FAILED | ROLLED_BACK | EXPIRED | NEEDS_HUMAN
   `-----------^  SENT -> SENT counts another attempt, or keeps what the cluster answered
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from aiops.action import Admission, Entry, EntryState, Order, OrderKind, Receipt, Verdict
from aiops.errors import Permanent
from aiops.model import HoldState, Reservation

OPEN = frozenset({EntryState.INTENT, EntryState.SENT})
LIVE = frozenset({HoldState.HELD, HoldState.ACTIVE})


def intent(admission: Admission, epoch: int) -> Entry:
    """The first state of a permitted admission; it expires `within_s` after it was admitted."""
    return Entry(
        admission=admission,
        state=EntryState.INTENT,
        epoch=epoch,
        expires_at=admission.at + admission.decision.within_s,
        changed_at=admission.at,
    )


def sends(state: EntryState, result: Receipt | Verdict | None) -> bool:
    """True where a transition announces a call to the cluster, which only the current leader may make."""
    return state is EntryState.SENT and result is None


def advanced(entry: Entry, state: EntryState, at: float, result: Receipt | Verdict | None = None) -> Entry:
    """The entry after one transition; Permanent for one that the diagram above does not have."""
    if entry.state not in OPEN or state is EntryState.INTENT:
        raise Permanent(f"ledger: {entry.admission.id} cannot go from {entry.state.value} to {state.value}")
    return replace(
        entry,
        state=state,
        changed_at=at,
        attempts=entry.attempts + sends(state, result),
        receipt=result if isinstance(result, Receipt) else entry.receipt,
        verdict=result if isinstance(result, Verdict) else entry.verdict,
    )


def closed(reservation: Reservation, now: float) -> Reservation:
    """A live reservation that the core no longer lists: it expired, or it was released."""
    expired = reservation.state is HoldState.HELD and reservation.expires_at <= now
    return replace(reservation, state=HoldState.EXPIRED if expired else HoldState.RELEASED)


def in_force(orders: Iterable[Order], now: float) -> tuple[Order, ...]:
    """Orders that hold at `now`, of all `orders` in the order in which they were received.

    UNKILL ends every KILL, UNPAUSE the PAUSE of the same target; a newer SILENCE, SET_MODE or RESET_BREAKER replaces the
    older one of its target. Approvals stand side by side, for a big action needs two. Receipt decides, not `at`: an
    operator's clock may be off.
    """
    held: list[Order] = []
    for order in orders:
        held = [other for other in held if not _ended_by(other, order)]
        held.append(order)
    undo = (OrderKind.UNKILL, OrderKind.UNPAUSE)
    return tuple(o for o in held if o.kind not in undo and (o.until is None or o.until > now))


def _ended_by(held: Order, order: Order) -> bool:
    match order.kind:
        case OrderKind.UNKILL:
            return held.kind is OrderKind.KILL
        case OrderKind.UNPAUSE:
            return held.kind is OrderKind.PAUSE and held.target == order.target
        case OrderKind.SILENCE | OrderKind.SET_MODE | OrderKind.RESET_BREAKER:
            return held.kind is order.kind and held.target == order.target
        case _:
            return False


def live(reservations: Iterable[Reservation]) -> tuple[Reservation, ...]:
    """Those that are in no terminal state, sorted by name."""
    return tuple(sorted((one for one in reservations if one.state in LIVE), key=lambda one: one.name))


def after_pass(known: Sequence[Reservation], decided: Sequence[Reservation], now: float) -> tuple[Reservation, ...]:
    """What one pass of the core changes about reservations: its own, and the end of live ones that it no longer lists."""
    listed = {one.name for one in decided}
    return (*decided, *(closed(one, now) for one in live(known) if one.name not in listed))
