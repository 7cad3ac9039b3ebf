"""The one frozen value that a decision may depend on.

Everything `decide` and the policies look at is in here; what is not in here cannot influence a decision. That is what
makes a decision replayable: the snapshot is stored, and deciding again on it must give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiops.action import Admission, Decision, Effect, Entry, EntryState, Mode, Order, Verdict
from aiops.model import Cluster, Finding, Forecast, Query, Reservation, Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a policy wants to find in its snapshot: series by query; whether a missing one makes inputs incomplete."""

    query: Query
    required: bool = True
    max_age_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The world as one cycle saw it.

    `series` holds, per query text (`query_id`), every matching series. `forecasts` and `findings` are the newest ones.
    `diagnosed_at` is when the diagnosis that gave the findings was made (None: never): no findings is no all-clear then.
    `history` has all open ledger entries and those closed within the longest cooldown or budget window. `effects` is what
    `Backend.probe` read this cycle for each open entry, by admission id. `orders` are the
    operator's orders in force. `census` is the most nodes seen per pool in the last hour. `wall_step_s` is how far
    the wall clock jumped against the monotonic one in the last hour, all jumps added up without sign. `breaker_at` is when the
    breaker tripped, as the last cycle recorded it. `rules` are the policies' own validated
    settings as plain data, `modes` how far each may go, `limits` the safety limits of `decide/admit.py` as plain data;
    `version` is the code that decided.
    """

    id: str
    now: float
    epoch: int
    cluster: Cluster
    due: tuple[str, ...] = ()
    series: Mapping[str, tuple[Series, ...]] = field(default_factory=dict)
    forecasts: tuple[Forecast, ...] = ()
    findings: tuple[Finding, ...] = ()
    diagnosed_at: float | None = None
    reservations: tuple[Reservation, ...] = ()
    history: tuple[Entry, ...] = ()
    effects: Mapping[str, Effect] = field(default_factory=dict)
    orders: tuple[Order, ...] = ()
    census: Mapping[str, int] = field(default_factory=dict)
    wall_step_s: float = 0.0
    breaker_at: float | None = None
    modes: Mapping[str, Mode] = field(default_factory=dict)
    rules: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    supports: tuple[str, ...] = ()
    version: str = ""

    def forecast(self, target: str) -> Forecast | None:
        """Newest forecast of `target` (a series key's text), whether or not it may be acted upon."""
        return next((f for f in self.forecasts if f.target == target), None)

    def of(self, query: Query) -> tuple[Series, ...]:
        """Series that a declared query found; empty where it found none or was not declared."""
        return self.series.get(query_id(query), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """An open entry that `settle` judged: its next state, and the verdict that led there."""

    id: str
    state: EntryState
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Everything that one pass of the pure core concluded; equal snapshots give equal bytes of this.

    `admissions` answers each decision, in order, refusals included. `resend` names open entries whose effect a read proved
    absent and that may be sent once more. `reservations` are all that are live after this pass or ended in it. `notes` are
    policies' records of doing nothing ("web: within tolerance"); `failed` are policies that raised, with the error.
    `breaker_at` is when the breaker tripped (None: it has not, or a person reset it); the loop keeps it, so that it stays
    tripped however long that takes.
    """

    decisions: tuple[Decision, ...] = ()
    admissions: tuple[Admission, ...] = ()
    transitions: tuple[Transition, ...] = ()
    resend: tuple[str, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    notes: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    breaker_at: float | None = None


def query_id(query: Query) -> str:
    """Stable text of a query: its key in `Snapshot.series`."""
    inner = ",".join(f'{m.label}{m.op.value}"{m.value}"' for m in query.matchers)
    return f"{query.metric}{{{inner}}}[{query.window_s:g}s:{query.step_s:g}s]"
