"""The reference store, keeping only what a simulation needs: hours of samples, the newest forecasts, cycles with decisions."""

from __future__ import annotations

from collections.abc import Sequence

from aiops.action import Entry
from aiops.model import Forecast, SeriesKey
from aiops.snapshot import Decided, Snapshot
from aiops.store.memory import MemoryStore
from aiops.store.transitions import advanced, after_pass, intent

SAMPLES_S = 3600.0


class SimStore(MemoryStore):
    """A MemoryStore that does not serialise each cycle: a simulated hour has 360 of them."""

    def __init__(self) -> None:
        super().__init__()
        self.cycles_decided: list[tuple[Snapshot, Decided]] = []

    def _put(self, key: SeriesKey, time: float, value: float) -> str:
        answer = super()._put(key, time, value)
        points = self._points.get(key, {})
        while points and (oldest := next(iter(points))) < time - SAMPLES_S:
            del points[oldest]
        return answer

    def put_forecasts(self, forecasts: Sequence[Forecast]) -> None:
        """See `Records.put_forecasts`; older ones are dropped."""
        super().put_forecasts(forecasts)
        self._forecasts = list(self._foreseen.values())

    def record(self, snapshot: Snapshot, decided: Decided) -> None:
        """See `Ledger.record`."""
        self._check_epoch(snapshot.epoch)
        for one in decided.transitions:
            self._entries[one.id] = advanced(self._entries[one.id], one.state, snapshot.now, one.verdict)
        self._entries |= {one.id: intent(one, snapshot.epoch) for one in decided.admissions if one.permitted}
        for reservation in after_pass(self.reservations(), decided.reservations, snapshot.now):
            self._reservations[reservation.name] = reservation
        if decided.admissions or decided.transitions or decided.resend:
            self.cycles_decided.append((snapshot, decided))

    def ledger(self) -> tuple[Entry, ...]:
        """Every entry ever made, in its latest state."""
        return tuple(self._entries.values())
