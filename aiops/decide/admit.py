"""Permission: one visible list of gates, each a named reason to refuse. The first that objects, wins.

A dry run goes through every gate and spends its budget as if it acted; the mode comes last, so that observing and acting
tell the same story. An action that is sent once more goes through the same gates again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from aiops.action import Admission, Decision, Deny, Entry, target
from aiops.decide.budgets import alone, breaker, cooled, few_given_back, healthy_pool, seldom_evicted, within_blast_radius
from aiops.decide.gates import (
    allowed_to_act,
    approved,
    bounded,
    fresh,
    in_scope,
    killed,
    known,
    owned,
    paused,
    proven,
    room_left,
    sound,
    steady_clock,
    supported,
    unprotected,
    vacant,
)
from aiops.decide.holds import book
from aiops.decide.index import Index
from aiops.decide.limits import Limits
from aiops.decide.request import Refusal, Request, mode_of
from aiops.snapshot import Snapshot

Gate = Callable[[Request], Refusal]
Plan = tuple[str, str]  # policy and its name for the plan: no policy can break another's
GATES: tuple[Gate, ...] = (
    killed, paused, supported, sound, known, in_scope, bounded, owned, unprotected, vacant, fresh, steady_clock, healthy_pool,
    breaker, alone, cooled, seldom_evicted, within_blast_radius, few_given_back, proven, approved, room_left, allowed_to_act,
)  # fmt: skip
WATCHED = (Deny.OBSERVE_ONLY, Deny.ADVISE_ONLY)


def admit(snapshot: Snapshot, limits: Limits, decisions: Iterable[Decision]) -> tuple[Admission, ...]:
    """One admission per decision, in order; each sees what the ones before it were permitted or would have been.

    A plan of which one decision is refused is refused whole, and what its others would have spent is free for the rest.
    `snapshot.reservations` is the ledger that holds are booked in, after time has passed in it.
    """
    wishes, broken, index = tuple(decisions), dict[Plan, Admission](), Index(snapshot)
    while True:
        admissions = _in_order(index, limits, wishes, broken)
        refused = (a for a in admissions if a.decision.plan and a.denied and a.denied not in WATCHED)
        first = next((a for a in refused if _plan(a.decision) not in broken), None)
        if first is None:
            return admissions
        broken[_plan(first.decision)] = first


def _in_order(
    index: Index, limits: Limits, decisions: tuple[Decision, ...], broken: Mapping[Plan, Admission]
) -> tuple[Admission, ...]:
    """One pass over the gates; decisions of `broken` plans share the refusal that broke them and spend nothing."""
    admissions: list[Admission] = []
    spent: list[Decision] = []
    snapshot = index.snapshot
    ledger = snapshot.reservations
    for number, decision in enumerate(decisions):
        request = Request(decision=decision, index=index, limits=limits, earlier=tuple(spent), ledger=ledger)
        id, culprit = f"{snapshot.id}-{number}", broken.get(_plan(decision))
        denied, detail = (_shared(culprit, id) if culprit else refusal(request)) or (None, "")
        if denied is None or denied in WATCHED:
            spent.append(decision)
            ledger = book(ledger, decision.action, snapshot, limits).ledger
        mode = mode_of(request)
        admissions.append(Admission(id=id, at=snapshot.now, decision=decision, denied=denied, detail=detail, mode=mode))
    return tuple(admissions)


def _plan(decision: Decision) -> Plan:
    return decision.policy, decision.plan


def _shared(culprit: Admission, id: str) -> Refusal:
    """The refusal of a plan as its decision `id` tells it: the first one refused keeps its own words."""
    assert culprit.denied is not None
    if culprit.id == id:
        return culprit.denied, culprit.detail
    return culprit.denied, f"all or none: {culprit.decision.action.kind} on {target(culprit.decision.action)}: {culprit.detail}"


def still_permitted(index: Index, limits: Limits, entry: Entry) -> bool:
    """Whether an open entry may be sent once more now: every gate again, on this snapshot (I7)."""
    decision, id, ledger = entry.admission.decision, entry.admission.id, index.snapshot.reservations
    return refusal(Request(decision=decision, index=index, limits=limits, ledger=ledger, resends=id)) is None


def refusal(request: Request) -> Refusal:
    """The first gate's objection, or None."""
    return next((found for gate in GATES if (found := gate(request))), None)
