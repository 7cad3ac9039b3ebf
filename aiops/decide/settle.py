"""Judge open actions by what a read of the cluster proved (safety.md I3, I4, I19).

Unknown is not failed: an action is sent again only when a read proved its effect absent, by the leader that intended it, and
while it would still be admitted. Nothing stays open beyond its deadline. An action that was left half done is put back
once; putting back is itself an action under all rules, and is never put back in turn.
"""

from __future__ import annotations

from dataclasses import replace

from aiops.action import Decision, Effect, Entry, EntryState, Outcome, Restorable, Rollback, ScaleService, Verdict
from aiops.decide.admit import still_permitted
from aiops.decide.index import OPEN, Index
from aiops.decide.limits import Limits
from aiops.snapshot import Snapshot, Transition


def settle(snapshot: Snapshot, limits: Limits) -> tuple[tuple[Transition, ...], tuple[str, ...]]:
    """Transitions of the open entries that can be judged now, and ids of open entries that may be sent once more."""
    transitions, again, index = [], [], Index(snapshot)
    now = snapshot.now - abs(snapshot.wall_step_s)  # a clock that jumped ahead ends no deadline early (I15)
    for entry in (e for e in snapshot.history if e.state in OPEN):
        effect = snapshot.effects.get(entry.admission.id, Effect.UNREADABLE)
        state, detail = judge(entry, effect, now)
        if state is not None:
            verdict = Verdict(id=entry.admission.id, at=snapshot.now, effect=effect, detail=detail)
            transitions.append(Transition(id=entry.admission.id, state=state, verdict=verdict))
        elif resendable(entry, effect, snapshot.epoch, limits) and still_permitted(index, limits, entry):
            again.append(entry.admission.id)
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
    if isinstance(entry.admission.decision.action, Rollback):
        return EntryState.NEEDS_HUMAN, "putting back what it was did not work either"
    return EntryState.FAILED, f"sent {entry.attempts} times, but the effect is absent at the deadline"


def resendable(entry: Entry, effect: Effect, epoch: int, limits: Limits) -> bool:
    """True where sending again cannot act twice: proven absent, same leader, and the last answer was no promise."""
    promised = entry.receipt is not None and entry.receipt.outcome in (Outcome.DONE, Outcome.ALREADY)
    return effect is Effect.ABSENT and entry.epoch == epoch and not promised and entry.attempts < limits.attempts


def rollbacks(snapshot: Snapshot, transitions: tuple[Transition, ...]) -> tuple[Decision, ...]:
    """A decision to put back every action that failed in this very pass and visibly left its target half changed."""
    failed = {t.id for t in transitions if t.state is EntryState.FAILED}
    wishes = []
    for entry in (e for e in snapshot.history if e.admission.id in failed):
        decision, id = entry.admission.decision, entry.admission.id
        restored = before(decision, snapshot)
        if restored is not None:
            reason = f"{id} was left half done: back to what it was before"
            undo = Rollback(of=id, action=restored)
            wishes.append(replace(decision, action=undo, reason=reason, expect="as before", inputs_at=None, plan=""))
    return tuple(wishes)


def before(decision: Decision, snapshot: Snapshot) -> Restorable | None:
    """The action that restores what a half-done action changed; None where nothing is visibly changed.

    Only services are put back: what a half-scaled pool or an unconfirmed limit left behind cannot be seen in a `Cluster`.
    """
    action = decision.action
    if not isinstance(action, ScaleService):
        return None
    seen = next((s for s in snapshot.cluster.services if s.name == action.service and s.uid == action.uid), None)
    if seen is None or not min(action.was, action.replicas) < seen.replicas < max(action.was, action.replicas):
        return None
    return replace(action, version=seen.version, replicas=action.was, was=seen.replicas)
