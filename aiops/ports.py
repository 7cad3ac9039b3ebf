"""The verbs: every seam of the house as a Protocol, on one page.

An implementation is found by entry point (groups `aiops.collectors .forecasters .diagnosers .policies .backends
.notifiers`); ours use the same door as a third party's. `aiops.testing` has a conformance suite for each. Methods say
what they guarantee; what they raise is in `errors.py`. On failure give nothing rather than half.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from aiops.action import Admission, Decision, Effect, Entry, EntryState, Order, Receipt, Verdict
from aiops.model import Batch, Cluster, Finding, Floats, Forecast, Query, Reservation, Series, SeriesKey
from aiops.snapshot import Decided, Need, Snapshot


class Collector(Protocol):
    """One source of samples. Thin: no threads, no sleeping, no store, no schedule."""

    name: ClassVar[str]

    def collect(self, now: float) -> Batch:
        """Read the source once; every sample carries time `now`.

        Raises NoData where the source does not exist on this host, Temporary where it exists but cannot be read. A part
        that is broken (a lost GPU) is a sample that says so, not an exception.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """One series on a regular grid: `values` (n,) at `start + i * step_s`, NaN where nothing is known."""

    key: SeriesKey
    start: float
    step_s: float
    values: Floats

    @property
    def end(self) -> float:
        """Time of the last grid point."""
        return self.start + self.step_s * (len(self.values) - 1)


class Forecaster(Protocol):
    """A forecasting model: pure, seeded, deterministic. Only the past is ever in its hands."""

    name: ClassVar[str]

    def fit(self, panel: Sequence[Grid]) -> Fitted:
        """Learn from all series at once (or from each). Never raises for odd data: constant, all-zero, short, gappy."""
        ...


class Fitted(Protocol):
    """What a model learnt; plain data that can be sent to another process."""

    def predict(self, history: Grid, steps: int, quantiles: Floats) -> Floats:
        """(q, steps) finite, non-crossing quantiles for the `steps` grid points after `history.end`.

        `history` may extend beyond what was fitted. Raises ValueError where this model has nothing to say about this series.
        """
        ...


class Diagnoser(Protocol):
    """Turns telemetry and a declared graph into findings. Pure."""

    name: ClassVar[str]

    def needs(self) -> Sequence[Query]:
        """Series that it wants to see, by query."""
        ...

    def diagnose(
        self,
        cluster: Cluster,
        series: Sequence[Series],
        now: float,
        known: Sequence[Finding] = (),
        forecasts: Sequence[Forecast] = (),
    ) -> Sequence[Finding]:
        """Findings that hold at `now`, best first; empty when all is well; `Cause.UNKNOWN` is a legal answer.

        `known` are the findings of the last hour: what still holds keeps its id and its first `since`, however long it
        lasts, and the time in which a fault was at work is not what is usual. `forecasts` are those of the last hour for
        series that are given: what they foresaw is no anomaly, what they did not is one.
        """
        ...


class Policy(Protocol):
    """One rule. Pure: no client, clock, log or memory; the same snapshot gives the same decisions."""

    name: ClassVar[str]
    every_s: ClassVar[float]

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Policy:
        """Build from this policy's own configuration section; ConfigError(where, key, expected) if it is wrong."""
        ...

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        """Series that the policy wants to see in its next snapshot of this cluster."""
        ...

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        """Wishes, most important first, stable in order; a plain string is a note on why nothing is wished for a target.

        Budgets, cooldowns, modes are `admit`'s business, not its own.
        """
        ...


class Backend(Protocol):
    """One cluster. The only thing that has effects on anything outside aiops."""

    name: ClassVar[str]
    supports: frozenset[str]
    """Kinds of action (`Action.kind`) that `apply` carries out; others are answered UNSUPPORTED by name."""

    def observe(self, now: float) -> Cluster:
        """The whole cluster as it is, or Unreadable; never a part, never from a cache older than one cycle."""
        ...

    def apply(self, admission: Admission, now: float) -> Receipt:
        """Carry out an admitted action, at most once per admission id over restarts: a repeat is ALREADY.

        Checks the action's precondition (identity, version) at the moment of effect and answers STALE without effect if it
        no longer holds. UNKNOWN where the answer was lost. Never raises for anything the cluster does.
        """
        ...

    def probe(self, admission: Admission, now: float) -> Effect:
        """Read the target and say whether the action's effect is there; no effect of its own. UNREADABLE if in doubt."""
        ...

    def close(self) -> None:
        """Let go of connections; services and jobs go on."""
        ...


@runtime_checkable
class Supervises(Protocol):
    """A backend that itself keeps processes running needs a look more often than a cycle comes."""

    def supervise(self, now: float) -> object:
        """One step of supervision, in milliseconds; no decision and no admitted action."""
        ...

    def stand_down(self) -> None:
        """Another daemon leads: let go of what only one may hold, so that it can supervise; processes go on. Repeatable."""
        ...


@runtime_checkable
class Finishes(Protocol):
    """A backend some of whose actions take several writes: what a daemon that died has begun must not stay half done."""

    def finish(self, now: float) -> Sequence[str]:
        """End what admitted actions began, or put it back, and begin nothing; what was ended, in words. Repeatable.

        Called by the leader only, never while halted. Raises Temporary where something could not be ended yet.
        """
        ...


@runtime_checkable
class Announces(Protocol):
    """A backend whose cluster has a place where people look up who leads."""

    def announce(self, holder: str, epoch: int, now: float) -> bool:
        """Show that `holder` leads with `epoch`, never over a newer epoch; False where it could not. Fences nobody."""
        ...


class Notifier(Protocol):
    """One kind of receiver of alerts."""

    name: ClassVar[str]

    def send(self, message: Message) -> None:
        """Deliver once. Raises Temporary to be tried again with backoff, Permanent to be dead-lettered."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One notification in the outbox; `id` stays the same over retries, `group` keeps order, `body` is sent verbatim."""

    id: str
    group: str
    receiver: str
    body: bytes
    created_at: float
    attempts: int = 0
    next_at: float = 0.0
    dead: bool = False
    error: str = ""


# -- the store ---------------------------------------------------------------------------------------------------------


class SeriesStore(Protocol):
    """Samples: batches in, arrays out; never a row object per sample."""

    def append(self, *batches: Batch) -> int:
        """Keep batches durably, all or none; samples accepted. Repeats are idempotent; another value at a known (key, time)
        is refused and counted. Out-of-order batches within the open window are accepted, older ones refused and counted.
        """
        ...

    def read(self, query: Query, now: float) -> tuple[Series, ...]:
        """Matching series over (now - window_s, now], sorted by key; series without a point in the window are left out."""
        ...

    def keys(self, metric: str | None = None) -> tuple[SeriesKey, ...]:
        """Known series keys, sorted; of one metric if given."""
        ...


class Records(Protocol):
    """Forecasts and findings: results that were computed beside the loop."""

    def put_forecasts(self, forecasts: Sequence[Forecast]) -> None:
        """Keep; the last ones put, of those the newest per target, are what `forecasts` returns: a clock may have gone back."""
        ...

    def forecasts(self, made_since: float = 0.0) -> tuple[Forecast, ...]:
        """Newest forecast per target, sorted by target."""
        ...

    def forecast_history(self, target: str, since: float, until: float) -> tuple[Forecast, ...]:
        """All forecasts of one target made in [since, until], oldest first."""
        ...

    def put_findings(self, at: float, findings: Sequence[Finding]) -> None:
        """Keep the result of one diagnosis; an empty one matters too: it ends what was open."""
        ...

    def findings(self) -> tuple[Finding, ...]:
        """Findings of the newest diagnosis."""
        ...

    def diagnosed_at(self) -> float | None:
        """When the newest diagnosis was made; None before the first: no findings then means nobody has looked."""
        ...

    def finding_history(self, since: float, until: float, limit: int = 1000) -> tuple[Finding, ...]:
        """Latest state of every finding id seen in [since, until], newest first."""
        ...


class Ledger(Protocol):
    """The append-only record of what was seen, decided and done. Durable on return (fsync); hash-chained."""

    def record(self, snapshot: Snapshot, decided: Decided) -> None:
        """One transaction, conditional on `snapshot.epoch` being the current epoch.

        Keeps the snapshot and everything decided (transitions and reservations applied), and an INTENT per permitted
        admission, expiring `within_s` after it. Raises Fenced if the epoch is another; then nothing was written.
        """
        ...

    def advance(self, id: str, state: EntryState, at: float, result: Receipt | Verdict | None = None) -> None:
        """Append a transition of one entry. Raises Fenced if the entry's epoch is no longer current when going to SENT."""
        ...

    def entries(self, since: float, only_open: bool = False, limit: int = 10_000) -> tuple[Entry, ...]:
        """All open entries, and unless `only_open` those changed after `since`; oldest first."""
        ...

    def cycle(self, id: str) -> tuple[Snapshot, bytes]:
        """The recorded snapshot of a cycle and the canonical bytes of what was decided on it. KeyError if unknown."""
        ...

    def cycles(self, since: float, until: float) -> tuple[str, ...]:
        """Ids of cycles recorded in [since, until], oldest first."""
        ...

    def admissions(self, since: float, until: float, limit: int = 1000) -> tuple[Admission, ...]:
        """Admissions, refusals included, newest first."""
        ...

    def admission(self, id: str) -> tuple[Admission, str]:
        """One admission and the id of its cycle. KeyError if unknown."""
        ...

    def reservations(self) -> tuple[Reservation, ...]:
        """Reservations that are not in a terminal state."""
        ...

    def verify(self) -> int:
        """Number of records whose hash chain was checked; Permanent names the first that does not fit."""
        ...


class Orders(Protocol):
    """What operators told the daemon; written by API and CLI, read by the next cycle."""

    def put_order(self, order: Order) -> None:
        """Keep durably, audited before the caller is answered."""
        ...

    def orders(self, now: float) -> tuple[Order, ...]:
        """Orders in force at `now`, oldest first."""
        ...


class Outbox(Protocol):
    """Notifications that must not be lost: at least once, in order per group."""

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Keep durably; a known id is left as it is."""
        ...

    def due(self, now: float, limit: int = 100) -> tuple[Message, ...]:
        """Messages to be tried now: the oldest undelivered of each group whose `next_at` has come."""
        ...

    def settle(self, message: Message, delivered: bool) -> None:
        """Delivered messages leave; others are kept with their new `attempts`, `next_at`, `dead`, `error`."""
        ...

    def dead_letters(self, limit: int = 100) -> tuple[Message, ...]:
        """Messages given up on, newest first."""
        ...


class Lease(Protocol):
    """Leadership with a fencing epoch that strictly grows."""

    def acquire(self, holder: str, now: float, ttl_s: float) -> int | None:
        """The epoch if `holder` now leads (taking over an expired lease raises it by one), else None."""
        ...

    def epoch(self) -> int:
        """The current epoch."""
        ...

    def release(self, holder: str) -> None:
        """Give the lease up early, so that a standby need not wait."""
        ...


class Store(SeriesStore, Records, Ledger, Orders, Outbox, Lease, Protocol):
    """Everything that survives a restart."""

    def put_state(self, name: str, value: bytes) -> None:
        """Keep a small named blob durably (calibration state, notification groups); the last one wins."""
        ...

    def state(self, name: str) -> bytes | None:
        """A named blob, or None."""
        ...

    def prune(self, now: float) -> int:
        """Delete what is past its retention; never an open entry or an undelivered message. Rows deleted."""
        ...

    def close(self) -> None:
        """Finish writes and let go."""
        ...
