"""What the daemon tells the interface about itself: the part of the picture that is not in the store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorState:
    """One collector: whether its last attempt succeeded, when it last did, how long it took, and what was wrong."""

    name: str
    ok: bool
    last_success_at: float | None = None
    seconds: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The daemon's own state. `reason` says in one sentence why it is not ready; `halted` is the kill switch's truth."""

    ready: bool
    reason: str = ""
    leader: bool = False
    halted: bool = False
    last_cycle_at: float | None = None
    last_cycle_s: float | None = None
    collectors: tuple[CollectorState, ...] = ()
