"""What a run left behind, as the invariants are checked on: recorded cycles, ledger entries, and the cluster's own effect log.

Knows nothing of how decisions are made: what is checked must not be checked by the code that it checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aiops.action import Admission, Entry, EntryState
from aiops.snapshot import Decided, Snapshot

OPEN = (EntryState.INTENT, EntryState.SENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectRecord:
    """One effect as the cluster itself logged it: for which admission, on what, when by the wall and by a steady clock.

    `epoch` is that of the daemon which caused it; `leader_epoch` the one current at that moment.
    """

    id: str
    kind: str
    target: str
    at: float
    elapsed: float
    epoch: int
    leader_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken invariant: which (`I1` ... `I30` of safety.md), by what, and how."""

    rule: str
    id: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a caller of a changing route got, when: `asked` and `told` are the bodies, `order` what it made, or ''."""

    at: float
    caller: str
    key: str
    asked: str
    status: int
    told: str = ""
    order: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An order as it lies durably in the audit, and when it was written."""

    id: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """A notice that was put into the outbox; `done` where it is no longer tried."""

    id: str
    group: str
    done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What was seen at the doors of a run, each in the order in which it happened; samples are (key, time, value)."""

    answers: tuple[Answer, ...] = ()
    orders: tuple[Kept, ...] = ()
    notices: tuple[Noticed, ...] = ()
    received: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()
    acknowledged: tuple[tuple[str, float, float], ...] = ()
    readable: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A whole run: cycles oldest first, entries in their latest state, effects in order; `now` is when it was looked at.

    `again` decides on a snapshot as the run did, and `doors` is what was seen outside the ledger: who has them, passes them.
    """

    cycles: tuple[tuple[Snapshot, Decided], ...]
    entries: tuple[Entry, ...]
    effects: tuple[EffectRecord, ...]
    now: float
    again: Callable[[Snapshot], Decided] | None = None
    doors: Doors = Doors()

    def permitted(self) -> Iterator[tuple[Snapshot, Admission]]:
        """Every permission with the snapshot that it was given on, oldest first."""
        return ((seen, a) for seen, decided in self.cycles for a in decided.admissions if a.permitted)

    def sent(self) -> Iterator[tuple[EffectRecord, Snapshot, Admission]]:
        """Every effect that has a permission, with it."""
        by_id = {a.id: (seen, a) for seen, a in self.permitted()}
        return ((effect, *by_id[effect.id]) for effect in self.effects if effect.id in by_id)
