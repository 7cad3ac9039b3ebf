"""What a cycle concluded -> the outbox -> the receivers: the glue between the loop's last step and the notify modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import structlog

from aiops.model import Batch, SeriesKey
from aiops.notify.alert import from_decisions, from_findings
from aiops.notify.deliver import deliver_due, queue_notices
from aiops.ports import Notifier, Store
from aiops.settings import Route
from aiops.snapshot import Decided, Snapshot

RECENT_S = 3600.0  # ledger entries that changed within this time are still worth an alert
log = structlog.get_logger("aiops.notify")


class Announcer:
    """Routes alerts into the outbox and delivers from it; without a route it does nothing."""

    def __init__(self, store: Store, route: Route | None, notifiers: Mapping[str, Notifier]) -> None:
        """`notifiers` by `receiver/integration`."""
        self._store, self._route, self._notifiers = store, route, notifiers
        self._failed: Counter[SeriesKey] = Counter()

    def announce(self, snapshot: Snapshot, decided: Decided) -> None:
        """Queue what this cycle found and decided; durable on return."""
        if self._route is None:
            return
        entries = self._store.entries(snapshot.now - RECENT_S)
        alerts = from_findings(snapshot.findings, self._route.min_confidence)
        alerts += from_decisions(decided.admissions, entries, snapshot.now)
        receiver = self._route.receiver
        integrations = sorted(n.partition("/")[2] for n in self._notifiers if n.partition("/")[0] == receiver)
        queue_notices(self._store, alerts, self._route, integrations, snapshot.now)

    def deliver(self, now: float) -> None:
        """One pass over what is due; failures are counted as samples, dead letters are logged."""
        delivery = deliver_due(self._store, self._notifiers, now)
        for letter in delivery.dead:
            log.error("notification given up", id=letter.id, receiver=letter.receiver, error=letter.error)
        if delivery.failed:
            self._failed.update(delivery.counts())
            self._store.append(Batch.of(now, [(key, float(n)) for key, n in self._failed.items()]))
