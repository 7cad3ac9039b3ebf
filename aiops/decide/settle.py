"""Judge open actions by what a read of the cluster proved (safety.md I3, I4, I19).

Unknown is not failed: an action is sent again only when a read proved its effect absent, by the leader that intended it, and
while it would still be admitted. Nothing stays open beyond its deadline.
"""

from __future__ import annotations

from aiops.action import Effect, Entry, EntryState, Outcome, Verdict
from aiops.decide.limits import Limits
from aiops.snapshot import Snapshot, Transition

OPEN = (EntryState.INTENT, EntryState.SENT)


def settle(snapshot: Snapshot, limits: Limits) -> tuple[tuple[Transition, ...], tuple[Entry, ...]]:
    """Transitions of the open entries that can be judged now, and the open entries that may be sent once more."""
    transitions, again = [], []
    for entry in (e for e in snapshot.history if e.state in OPEN):
        effect = snapshot.effects.get(entry.admission.id, Effect.UNREADABLE)
        state, detail = judge(entry, effect, snapshot.now)
        if state is not None:
            verdict = Verdict(id=entry.admission.id, at=snapshot.now, effect=effect, detail=detail)
            transitions.append(Transition(id=entry.admission.id, state=state, verdict=verdict))
        elif resendable(entry, effect, snapshot.epoch, limits):
            again.append(entry)
    return tuple(transitions), tuple(again)


def judge(entry: Entry, effect: Effect, now: float) -> tuple[EntryState | None, str]:
    """The next state of an open entry, or None while it is too early to tell; and why in words."""
    if effect is Effect.PRESENT:
        return EntryState.CONFIRMED, entry.admission.decision.expect or "the effect is there"
    if now < entry.expires_at:
        return None, ""
    if effect is Effect.UNREADABLE:
        return EntryState.NEEDS_HUMAN, "the target could not be read until the deadline"
    if entry.attempts == 0:
        return EntryState.EXPIRED, "never sent before its deadline"
    return EntryState.FAILED, f"sent {entry.attempts} times, but the effect is absent at the deadline"


def resendable(entry: Entry, effect: Effect, epoch: int, limits: Limits) -> bool:
    """True where sending again cannot act twice: proven absent, same leader, and the last answer was no promise."""
    promised = entry.receipt is not None and entry.receipt.outcome in (Outcome.DONE, Outcome.ALREADY)
    return effect is Effect.ABSENT and entry.epoch == epoch and not promised and entry.attempts < limits.attempts
