"""The pure core on one page: settle what is open, ask the due policies, admit what they wish.

It sees one frozen Snapshot and nothing else. Live, in simulation and in replay it is this function that decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aiops.action import Decision
from aiops.decide.admit import admit
from aiops.decide.limits import Limits
from aiops.decide.settle import settle
from aiops.ports import Policy
from aiops.snapshot import Decided, Snapshot


def decide(snapshot: Snapshot, policies: Mapping[str, Policy]) -> Decided:
    """Everything that follows from a snapshot; equal snapshots give equal bytes."""
    limits = Limits.from_settings(snapshot.limits, "snapshot")
    transitions, again = settle(snapshot, limits)
    decisions, notes, failed = ask(snapshot, policies)
    judged = {t.id: t.state for t in transitions}
    history = tuple(replace(e, state=judged.get(e.admission.id, e.state)) for e in snapshot.history)
    admissions = admit(replace(snapshot, history=history), limits, decisions)
    return Decided(
        decisions=decisions,
        admissions=admissions,
        transitions=transitions,
        resend=tuple(entry.admission.id for entry in again),
        reservations=snapshot.reservations,
        notes=notes,
        failed=failed,
    )


def ask(snapshot: Snapshot, policies: Mapping[str, Policy]) -> tuple[tuple[Decision, ...], tuple[str, ...], tuple[str, ...]]:
    """Wishes, notes and failures of the due policies; one that raises costs only its own wishes."""
    decisions: list[Decision] = []
    notes: list[str] = []
    failed: list[str] = []
    for name in snapshot.due:
        try:
            answers = list(policies[name].decide(snapshot))
        except Exception as error:  # the wall around one policy
            failed.append(f"{name}: {type(error).__name__}: {error}")
            continue
        decisions += (answer for answer in answers if isinstance(answer, Decision))
        notes += (f"{name}: {answer}" for answer in answers if isinstance(answer, str))
    return tuple(decisions), tuple(notes), tuple(failed)
