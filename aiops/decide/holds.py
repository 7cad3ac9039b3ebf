"""What a cycle does to the reservation ledger: time passes, owners end, admitted actions take their place.

Binds the pure ledger of `reserve.py` to snapshots and actions. Two-phase holds live by cycles: while the victims of a
preemption that is bound to a hold are in flight, the hold is renewed, so that what they free cannot go to another.
"""

from __future__ import annotations

from dataclasses import replace

from aiops import traffic
from aiops.action import (
    Action,
    ConfirmHold,
    Deny,
    EntryState,
    HoldCapacity,
    Preempt,
    ReleaseBandwidth,
    ReleaseHold,
    ReserveBandwidth,
)
from aiops.decide.limits import Limits
from aiops.decide.reserve import (
    LIVE,
    Capacity,
    Ledger,
    Outcome,
    capacity,
    confirm,
    hold,
    release,
    renew,
    requested,
    step,
    usage,
)  # fmt: skip
from aiops.model import HoldState, JobState, Reservation
from aiops.snapshot import Snapshot

RENEW_S = 30.0  # the term of a two-phase hold (policy.md 21); renewed while victims drain, to the hard cap
TERMINAL = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
OPEN = (EntryState.INTENT, EntryState.SENT)


def pass_time(snapshot: Snapshot, limits: Limits) -> Ledger:
    """The ledger at the start of this cycle: renewed where victims drain, expired, withdrawn, or its owner has ended."""
    now = snapshot.now - abs(snapshot.wall_step_s)  # a clock that jumped ahead ends no hold early (I15)
    ledger = snapshot.reservations
    for name in sorted(_bound(snapshot)):
        known = next((one for one in ledger if one.name == name), None)
        if known is not None:
            ledger = renew(ledger, name, known.fence, now, RENEW_S).ledger
    ended = {job.id for job in snapshot.cluster.jobs if job.state in TERMINAL}
    for one in ledger:
        if one.owner.removeprefix("job/") in ended:
            ledger = release(ledger, one.name, one.fence).ledger
    trusted = frozenset(forecast.target for forecast in snapshot.forecasts if forecast.refused is None)
    return step(ledger, now, trusted)


def _bound(snapshot: Snapshot) -> set[str]:
    """Holds that a preemption in flight frees capacity for."""
    actions = [e.admission.decision.action for e in snapshot.history if e.state in OPEN]
    return {action.bind_to for action in actions if isinstance(action, Preempt) and action.bind_to}


def room(snapshot: Snapshot, limits: Limits) -> Capacity:
    """What there is to promise in this snapshot: on a link, what measured traffic (P95) leaves, not its nominal speed.

    Traffic of those who already hold a guarantee is not counted twice: only what goes beyond all guarantees takes room.
    """
    whole = capacity(snapshot.cluster, limits.oversubscription)
    promised = usage((one for one in snapshot.reservations if one.state in LIVE), whole)
    measured = traffic.uses(snapshot)
    links = dict(whole.links)
    for name, seen in measured.items():
        mine = promised.get(("link", name), 0.0)
        beyond = max(0.0, seen.p95 - mine) if seen is not None else 0.0
        links[name] = max(min(mine, links[name]), links[name] - beyond)
    return replace(whole, links=links)


def book(ledger: Ledger, action: Action, snapshot: Snapshot, limits: Limits) -> Outcome:
    """The ledger with an admitted action in it, or the reason why it cannot be; other actions leave it as it is."""
    now = snapshot.now
    match action:
        case HoldCapacity():
            return hold(ledger, requested(action, now, limits.hold_cap_s), room(snapshot, limits), now)
        case ConfirmHold():
            return confirm(ledger, action.hold, action.fence, now)
        case ReleaseHold():
            return release(ledger, action.hold, action.fence)
        case ReserveBandwidth():
            return _guarantee(ledger, action, snapshot, limits)
        case ReleaseBandwidth():
            known = next((one for one in ledger if one.name == f"{action.link}/{action.owner}"), None)
            return Outcome(ledger) if known is None else release(ledger, known.name, known.fence)
        case _:
            return Outcome(ledger)


def _guarantee(ledger: Ledger, action: ReserveBandwidth, snapshot: Snapshot, limits: Limits) -> Outcome:
    """A guarantee is active at once; a new rate replaces the old one, whole or not at all."""
    name, now = f"{action.link}/{action.owner}", snapshot.now
    asked = Reservation(
        name=name, owner=action.owner, state=HoldState.ACTIVE, fence=int(now), created_at=now, expires_at=now, hard_cap_at=now,
        bandwidth_bytes_per_s={action.link: action.bytes_per_s},
    )  # fmt: skip
    done = hold(tuple(one for one in ledger if one.name != name), asked, room(snapshot, limits), now)
    return done if done.denied is None else Outcome(ledger, Deny.NO_CAPACITY, done.detail)
