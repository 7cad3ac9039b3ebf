"""The pure core on one page: settle what is open, ask the due policies, admit what they wish.

It sees one frozen Snapshot and nothing else. Live, in simulation and in replay it is this function that decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from aiops.action import Admission, Decision, EntryState, OrderKind, Rollback
from aiops.decide.admit import admit
from aiops.decide.budgets import tripped_at
from aiops.decide.holds import book, pass_time
from aiops.decide.index import Index
from aiops.decide.limits import Limits
from aiops.decide.settle import rollbacks, settle
from aiops.model import Job, Node, Reservation, Service
from aiops.ports import Policy
from aiops.snapshot import Decided, Snapshot, Transition

T = TypeVar("T", Job, Node, Service)


def decide(snapshot: Snapshot, policies: Mapping[str, Policy]) -> Decided:
    """Everything that follows from a snapshot; equal snapshots give equal bytes."""
    limits = Limits.from_settings(snapshot.limits, "snapshot")
    transitions, resend = settle(snapshot, limits)
    settled = after(snapshot, transitions)
    settled = replace(settled, breaker_at=tripped_at(settled, limits), reservations=pass_time(settled, limits))
    undo = rollbacks(snapshot, transitions)
    wishes, notes, failed = ask(marked(snapshot, limits), policies)
    decisions = (*undo, *wishes)
    admissions = admit(settled, limits, decisions)
    undone = {a.decision.action.of for a in admissions if a.permitted and isinstance(a.decision.action, Rollback)}
    return Decided(
        decisions=decisions,
        admissions=admissions,
        transitions=tuple(replace(t, state=EntryState.ROLLED_BACK) if t.id in undone else t for t in transitions),
        resend=resend,
        reservations=booked(settled, limits, admissions),
        notes=notes,
        failed=failed,
        breaker_at=settled.breaker_at,
    )


def booked(snapshot: Snapshot, limits: Limits, admissions: tuple[Admission, ...]) -> tuple[Reservation, ...]:
    """The ledger with every permitted hold, confirmation and release in it."""
    ledger = snapshot.reservations
    for admission in admissions:
        if admission.permitted:
            ledger = book(ledger, admission.decision.action, snapshot, limits).ledger
    return ledger


def after(snapshot: Snapshot, transitions: tuple[Transition, ...]) -> Snapshot:
    """The snapshot as it is once these transitions are recorded: what admission counts on."""
    judged = {t.id: t.state for t in transitions}
    history = tuple(
        replace(e, state=judged[e.admission.id], changed_at=snapshot.now) if e.admission.id in judged else e
        for e in snapshot.history
    )
    return replace(snapshot, history=history)


def marked(snapshot: Snapshot, limits: Limits) -> Snapshot:
    """The snapshot with all that is protected marked so, by whatever name: policies plan around what would be refused.

    A job that an operator paused is left alone as if it were.
    """
    paused = {order.target.removeprefix("job/") for order in snapshot.orders if order.kind is OrderKind.PAUSE}
    names, cluster = Index(snapshot).protected | set(limits.protected), snapshot.cluster
    if not names and not paused:
        return snapshot
    free = (names.isdisjoint((one.id, one.name, one.tenant, *one.nodes)) and one.id not in paused for one in cluster.jobs)
    jobs = (one if left else mark(one) for one, left in zip(cluster.jobs, free, strict=True))
    nodes = (mark(one) if one.name in names else one for one in cluster.nodes)
    services = (mark(one) if one.name in names else one for one in cluster.services)
    return replace(snapshot, cluster=replace(cluster, jobs=tuple(jobs), nodes=tuple(nodes), services=tuple(services)))


def mark(one: T) -> T:
    """The same, protected."""
    return one if one.protected else replace(one, protected=True)


def ask(snapshot: Snapshot, policies: Mapping[str, Policy]) -> tuple[tuple[Decision, ...], tuple[str, ...], tuple[str, ...]]:
    """Wishes, notes and failures of the due policies; one that raises or speaks for another costs only its own wishes."""
    decisions: list[Decision] = []
    notes: list[str] = []
    failed: list[str] = []
    for name in snapshot.due:
        try:
            answers = list(policies[name].decide(snapshot))
            alien = [a for a in answers if not isinstance(a, str) and not (isinstance(a, Decision) and a.policy == name)]
            if alien:  # modes and budgets go by the policy's name: nobody may use another's
                raise ValueError(f"not a decision of its own: {str(alien[0])[:80]}")
        except Exception as error:  # the wall around one policy
            failed.append(f"{name}: {type(error).__name__}: {error}")
            continue
        decisions += (answer for answer in answers if isinstance(answer, Decision))
        notes += (f"{name}: {answer}" for answer in answers if isinstance(answer, str))
    return tuple(decisions), tuple(notes), tuple(failed)
