"""Invariants of the record: once, intended, read before resent, judged, led, stopped, one at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from aiops.action import Effect, EntryState, Mode, OrderKind, Rollback, target
from aiops.decide.limits import LONGEST_S, Limits
from aiops.decide.trace import OPEN, Trace

Broken = Iterator[tuple[str, str]]
GRACE_S = 120.0  # how long after its deadline an entry may wait for the next cycle's look


def once(trace: Trace, limits: Limits) -> Broken:
    """I1: at most one effect per decision."""
    for id, count in Counter(effect.id for effect in trace.effects).items():
        if count > 1:
            yield id, f"{count} effects of one decision"


def intended(trace: Trace, limits: Limits) -> Broken:
    """I2, I8: every effect was permitted and recorded before, on that very object."""
    wished = {a.id: a for _, a in trace.permitted()}
    recorded = {entry.admission.id for entry in trace.entries}
    for effect in trace.effects:
        admission = wished.get(effect.id)
        if admission is None or effect.id not in recorded:
            yield effect.id, "an effect without a recorded intent"
        elif (effect.kind, effect.target) != (admission.decision.action.kind, target(admission.decision.action)):
            yield effect.id, f"intended for {target(admission.decision.action)}, done to {effect.target}"


def ended(trace: Trace, limits: Limits) -> Broken:
    """I3: every intent has a deadline and ends by it; while the clock is in doubt, by as much later (I15)."""
    doubt_s = trace.cycles[-1][0].wall_step_s if trace.cycles else 0.0
    for entry in trace.entries:
        if not 0 < entry.expires_at - entry.admission.at <= LONGEST_S:
            yield entry.admission.id, "an intent without a deadline"
        elif entry.state in OPEN and trace.now > entry.expires_at + GRACE_S + doubt_s:
            yield entry.admission.id, f"still {entry.state.value} {trace.now - entry.expires_at:.0f} s after its deadline"


def read_first(trace: Trace, limits: Limits) -> Broken:
    """I4: sent again only after a read proved it absent, not endlessly; unreadable is not failed."""
    again: Counter[str] = Counter()
    for seen, decided in trace.cycles:
        again.update(decided.resend)
        for id in decided.resend:
            if seen.effects.get(id) is not Effect.ABSENT:
                yield id, "sent again without proof that its effect is absent"
        for one in decided.transitions:
            if one.state is EntryState.FAILED and one.verdict and one.verdict.effect is not Effect.ABSENT:
                yield one.id, "judged failed without proof"
    for entry in trace.entries:
        if entry.attempts > min(limits.attempts, 1 + again[entry.admission.id]):
            yield entry.admission.id, f"sent {entry.attempts} times"


def led(trace: Trace, limits: Limits) -> Broken:
    """I16: only the leader's daemon has effects, and the epoch never goes back."""
    newest = 0
    for effect in trace.effects:
        if effect.epoch != effect.leader_epoch or effect.epoch < newest:
            yield effect.id, f"an effect of epoch {effect.epoch} while epoch {max(newest, effect.leader_epoch)} leads"
        newest = max(newest, effect.epoch)


def stopped(trace: Trace, limits: Limits) -> Broken:
    """I17: nothing is decided or sent again under a kill switch, nothing on what is paused."""
    by_id = {entry.admission.id: entry.admission for entry in trace.entries}
    for seen, decided in trace.cycles:
        sent = [a for a in decided.admissions if a.permitted] + [by_id[id] for id in decided.resend if id in by_id]
        kill = any(order.kind is OrderKind.KILL for order in seen.orders)
        pauses = {order.target for order in seen.orders if order.kind is OrderKind.PAUSE}
        for admission in sent:
            names = {"", "*", admission.decision.policy, target(admission.decision.action)}
            if kill or names & pauses:
                yield admission.id, "sent although an operator had stopped it"


def observing(trace: Trace, limits: Limits) -> Broken:
    """I18: effects only of policies that were set, or ordered, to act."""
    for seen, admission in trace.permitted():
        policy = admission.decision.policy
        ordered = [o.target for o in seen.orders if o.kind is OrderKind.SET_MODE and o.target.partition("=")[0] == policy]
        mode = ordered[-1].partition("=")[2] if ordered else seen.modes.get(policy, Mode.OBSERVE)
        if mode != Mode.ACT:
            yield admission.id, f"{policy} was only to {mode}"


def judged(trace: Trace, limits: Limits) -> Broken:
    """I19: what ended has a verdict or an answer; at most one rollback, and none of a rollback."""
    undone: Counter[str] = Counter()
    kinds = {entry.admission.id: entry.admission.decision.action.kind for entry in trace.entries}
    for entry in trace.entries:
        action = entry.admission.decision.action
        if entry.state not in OPEN and entry.verdict is None and entry.receipt is None:
            yield entry.admission.id, f"{entry.state.value} without a verdict"
        if isinstance(action, Rollback):
            undone[action.of] += 1
            if kinds.get(action.of) == "rollback":
                yield entry.admission.id, "a rollback of a rollback"
    yield from ((id, f"rolled back {count} times") for id, count in undone.items() if count > 1)


def one_at_a_time(trace: Trace, limits: Limits) -> Broken:
    """I20: on one target the next action is permitted only after the one before has ended; in the order of the cycles."""
    by_id = {entry.admission.id: entry for entry in trace.entries}
    busy: dict[str, str] = {}
    for _, decided in trace.cycles:
        over = {one.id for one in decided.transitions}
        busy = {name: id for name, id in busy.items() if id not in over}
        for admission in (a for a in decided.admissions if a.permitted and a.id in by_id):
            name, entry = target(admission.decision.action), by_id[admission.id]
            if name in busy:
                yield admission.id, "permitted while another action on its target was open"
            if entry.state in OPEN or entry.verdict is not None:  # else the cluster refused it there and then
                busy[name] = admission.id
