"""The store as plain dictionaries: the reference that the real ones are held against, and what tests and simulations use.

Nothing survives the process and nothing is fast; every rule is either written here in its plainest form or taken from the
same pure functions (`intake`, `matching`, `transitions`) that the SQL store uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aiops.action import Admission, Entry, EntryState, Order, Receipt, Verdict
from aiops.codec import encode, pack, unpack
from aiops.errors import Fenced, Permanent
from aiops.model import Finding, Forecast, Reservation
from aiops.ports import Message
from aiops.settings import StoreSettings
from aiops.snapshot import Decided, Snapshot
from aiops.store.intake import block_start
from aiops.store.memory_samples import Samples
from aiops.store.transitions import OPEN, advanced, after_pass, in_force, intent, live, sends


class _Records:
    """The `Records` part."""

    def __init__(self) -> None:
        super().__init__()
        self._forecasts: list[Forecast] = []
        self._foreseen: dict[str, Forecast] = {}
        self._diagnoses: list[tuple[float, tuple[Finding, ...]]] = []

    def put_forecasts(self, forecasts: Sequence[Forecast]) -> None:
        """See `Records.put_forecasts`."""
        self._forecasts += forecasts
        self._foreseen |= {one.target: one for one in sorted(forecasts, key=lambda one: one.made_at)}

    def forecasts(self, made_since: float = 0.0) -> tuple[Forecast, ...]:
        """See `Records.forecasts`."""
        return tuple(one for _, one in sorted(self._foreseen.items()) if one.made_at >= made_since)

    def forecast_history(self, target: str, since: float, until: float) -> tuple[Forecast, ...]:
        """See `Records.forecast_history`."""
        found = (one for one in self._forecasts if one.target == target and since <= one.made_at <= until)
        return tuple(sorted(found, key=lambda one: one.made_at))

    def put_findings(self, at: float, findings: Sequence[Finding]) -> None:
        """See `Records.put_findings`."""
        self._diagnoses.append((at, tuple(findings)))

    def findings(self) -> tuple[Finding, ...]:
        """See `Records.findings`."""
        return self._diagnoses[-1][1] if self._diagnoses else ()

    def diagnosed_at(self) -> float | None:
        """See `Records.diagnosed_at`."""
        return self._diagnoses[-1][0] if self._diagnoses else None

    def finding_history(self, since: float, until: float, limit: int = 1000) -> tuple[Finding, ...]:
        """See `Records.finding_history`."""
        seen = [one for at, findings in self._diagnoses if since <= at <= until for one in findings]
        latest: dict[str, Finding] = {}
        for one in reversed(seen):
            latest.setdefault(one.id, one)
        return tuple(latest.values())[:limit]


class _Lease:
    """The `Lease` part."""

    def __init__(self) -> None:
        super().__init__()
        self._holder, self._epoch, self._expires_at = "", 0, 0.0

    def acquire(self, holder: str, now: float, ttl_s: float) -> int | None:
        """See `Lease.acquire`."""
        lapsed = self._expires_at <= now
        if not lapsed and holder != self._holder:
            return None
        self._holder, self._epoch, self._expires_at = holder, self._epoch + lapsed, now + ttl_s
        return self._epoch

    def epoch(self) -> int:
        """See `Lease.epoch`."""
        return self._epoch

    def release(self, holder: str) -> None:
        """See `Lease.release`."""
        if holder == self._holder:
            self._expires_at = 0.0

    def _check_epoch(self, epoch: int) -> None:
        if epoch != self._epoch:
            raise Fenced(f"epoch {epoch} is over; the current one is {self._epoch}")


class _Ledger(_Lease):
    """The `Ledger` part; without a hash chain, for there is nothing that could be tampered with."""

    def __init__(self) -> None:
        super().__init__()
        self._cycles: dict[str, tuple[float, bytes, bytes]] = {}
        self._admissions: dict[str, tuple[Admission, str]] = {}
        self._entries: dict[str, Entry] = {}
        self._reservations: dict[str, Reservation] = {}
        self._records = 0

    def record(self, snapshot: Snapshot, decided: Decided) -> None:
        """See `Ledger.record`."""
        self._check_epoch(snapshot.epoch)
        moved = {one.id: advanced(self._entries[one.id], one.state, snapshot.now, one.verdict) for one in decided.transitions}
        again = {one.id for one in decided.admissions} & self._admissions.keys()
        if snapshot.id in self._cycles or again:
            raise Permanent(f"ledger: cycle {snapshot.id} was recorded before")
        self._entries |= moved  # nothing above has changed anything: all or nothing
        self._cycles[snapshot.id] = (snapshot.now, pack(snapshot), encode(decided))
        self._admissions |= {one.id: (one, snapshot.id) for one in decided.admissions}
        self._entries |= {one.id: intent(one, snapshot.epoch) for one in decided.admissions if one.permitted}
        for one in after_pass(self.reservations(), decided.reservations, snapshot.now):
            self._reservations[one.name] = one
        self._records += 1

    def advance(self, id: str, state: EntryState, at: float, result: Receipt | Verdict | None = None) -> None:
        """See `Ledger.advance`."""
        entry = advanced(self._entries[id], state, at, result)
        if sends(state, result):
            self._check_epoch(entry.epoch)
        self._entries[id] = entry
        self._records += 1

    def entries(self, since: float, only_open: bool = False, limit: int = 10_000) -> tuple[Entry, ...]:
        """See `Ledger.entries`."""
        still_open = [one for one in self._entries.values() if one.state in OPEN]
        closed = [one for one in self._entries.values() if one.state not in OPEN and one.changed_at > since]
        newest = sorted(closed, key=lambda one: one.changed_at, reverse=True)[: 0 if only_open else limit]
        return tuple(sorted(still_open + newest, key=lambda one: (one.admission.at, one.admission.id)))

    def cycle(self, id: str) -> tuple[Snapshot, bytes]:
        """See `Ledger.cycle`."""
        _, snapshot, decided = self._cycles[id]
        return unpack(Snapshot, snapshot), decided

    def cycles(self, since: float, until: float) -> tuple[str, ...]:
        """See `Ledger.cycles`."""
        return tuple(id for at, id in sorted((at, id) for id, (at, _, _) in self._cycles.items()) if since <= at <= until)

    def admissions(self, since: float, until: float, limit: int = 1000) -> tuple[Admission, ...]:
        """See `Ledger.admissions`."""
        found = [one for one, _ in self._admissions.values() if since <= one.at <= until]
        return tuple(sorted(found, key=lambda one: (-one.at, one.id))[:limit])

    def admission(self, id: str) -> tuple[Admission, str]:
        """See `Ledger.admission`."""
        return self._admissions[id]

    def reservations(self) -> tuple[Reservation, ...]:
        """See `Ledger.reservations`."""
        return live(self._reservations.values())

    def verify(self) -> int:
        """See `Ledger.verify`."""
        return self._records


class _Outbox:
    """The `Orders` and `Outbox` parts."""

    def __init__(self) -> None:
        super().__init__()
        self._orders: dict[str, Order] = {}
        self._messages: dict[str, Message] = {}
        self._delivered: set[str] = set()

    def put_order(self, order: Order) -> None:
        """See `Orders.put_order`."""
        self._orders.setdefault(order.id, order)

    def orders(self, now: float) -> tuple[Order, ...]:
        """See `Orders.orders`."""
        return in_force(self._orders.values(), now)

    def enqueue(self, messages: Sequence[Message]) -> None:
        """See `Outbox.enqueue`."""
        for one in messages:
            self._messages.setdefault(one.id, one)

    def due(self, now: float, limit: int = 100) -> tuple[Message, ...]:
        """See `Outbox.due`."""
        oldest: dict[tuple[str, str], Message] = {}
        for one in self._messages.values():
            if one.id not in self._delivered and not one.dead:
                oldest.setdefault((one.receiver, one.group), one)
        return tuple(one for one in oldest.values() if one.next_at <= now)[:limit]

    def settle(self, message: Message, delivered: bool) -> None:
        """See `Outbox.settle`."""
        known = self._messages.get(message.id)
        if known is None or message.id in self._delivered:
            return
        if delivered:
            self._delivered.add(message.id)
        self._messages[message.id] = replace(
            known, attempts=message.attempts, next_at=message.next_at, dead=message.dead, error=message.error
        )

    def dead_letters(self, limit: int = 100) -> tuple[Message, ...]:
        """See `Outbox.dead_letters`."""
        dead = [one for one in self._messages.values() if one.dead and one.id not in self._delivered]
        return tuple(reversed(dead))[:limit]


class MemoryStore(Samples, _Records, _Ledger, _Outbox):
    """The whole `Store` port in memory. One thread at a time."""

    def __init__(self, keep: StoreSettings | None = None) -> None:
        super().__init__()
        self._keep = keep or StoreSettings()
        self._state: dict[str, bytes] = {}

    def put_state(self, name: str, value: bytes) -> None:
        """See `Store.put_state`."""
        self._state[name] = value

    def state(self, name: str) -> bytes | None:
        """See `Store.state`."""
        return self._state.get(name)

    def prune(self, now: float) -> int:
        """See `Store.prune`; whole blocks of samples, and records by their own time."""
        samples, records = block_start(now - self._keep.samples), now - self._keep.records
        before = self._size()
        self._points = {
            key: kept for key, points in self._points.items() if (kept := {t: v for t, v in points.items() if t >= samples})
        }
        self._forecasts = [one for one in self._forecasts if one.made_at >= records]
        self._foreseen = {target: one for target, one in self._foreseen.items() if one.made_at >= records}
        self._diagnoses = [one for one in self._diagnoses[:-1] if one[0] >= records] + self._diagnoses[-1:]
        held = {one.id for one in self.orders(now)}
        self._orders = {id: one for id, one in self._orders.items() if id in held or one.at >= records}
        gone = {id for id in self._delivered if self._messages[id].created_at < records}
        self._delivered -= gone
        self._messages = {id: one for id, one in self._messages.items() if id not in gone}
        self._entries = {id: e for id, e in self._entries.items() if e.state in OPEN or e.changed_at >= records}
        return before - self._size()

    def _size(self) -> int:
        points = sum(len(points) for points in self._points.values())
        rows = (self._forecasts, self._diagnoses, self._orders, self._messages, self._entries)
        return points + sum(len(some) for some in rows)

    def close(self) -> None:
        """See `Store.close`."""
