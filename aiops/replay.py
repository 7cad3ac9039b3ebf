"""Decide again on what was recorded, and compare byte for byte.

A cycle's snapshot carries everything that its decision depended on, the policies' own settings included. So replay
needs the store and nothing else: no cluster, no clock, no configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from aiops.codec import encode
from aiops.decide.core import decide
from aiops.ports import Ledger, Policy
from aiops.snapshot import Decided, Snapshot

Builder = Callable[[str, Mapping[str, object]], Policy]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One cycle decided again: recorded and fresh bytes, and whether they are equal."""

    id: str
    snapshot: Snapshot
    decided: Decided
    recorded: bytes
    fresh: bytes

    @property
    def equal(self) -> bool:
        """True where deciding again gave the recorded bytes."""
        return self.recorded == self.fresh


def replay_cycle(ledger: Ledger, id: str, build: Builder) -> Replayed:
    """Rebuild one recorded cycle and decide again; `build` makes a policy from its recorded settings. KeyError if unknown."""
    snapshot, recorded = ledger.cycle(id)
    policies = {name: build(name, section) for name, section in snapshot.rules.items()}
    decided = decide(snapshot, policies)
    return Replayed(id=id, snapshot=snapshot, decided=decided, recorded=recorded, fresh=encode(decided))


def replay(ledger: Ledger, since: float, until: float, build: Builder) -> Iterator[Replayed]:
    """Every recorded cycle in [since, until], oldest first, decided again."""
    for id in ledger.cycles(since, until):
        yield replay_cycle(ledger, id, build)


def first_difference(one: bytes, two: bytes, around: int = 60) -> str:
    """Where two canonical texts part, with some text around it on both sides; empty when they are equal."""
    if one == two:
        return ""
    at = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    start = max(0, at - around)
    return f"at byte {at}: recorded …{one[start : at + around].decode()}… but now …{two[start : at + around].decode()}…"
