"""What every implementation of the `Store` port must do: subclass `StoreConformance` and give it a `store` fixture.

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self, tmp_path): ...   # empty, keeps samples 1 day and records 2 days, judges leases by `now` as given

Stores that judge leases by a clock of their own override `lease_expires`.
"""

from __future__ import annotations

from aiops.action import (
    EntryState,
    OrderKind,
)
from aiops.model import (
    Batch,
)
from aiops.ports import Store
from aiops.snapshot import Decided
from aiops.testing.examples import DAY_S, T0, admission, finding, forecast, gpu, hold, message, order, snapshot
from aiops.testing.store_ledger import LeaseConformance
from aiops.testing.store_outbox import OutboxConformance
from aiops.testing.store_samples import RecordsConformance, SeriesConformance


class StoreConformance(SeriesConformance, RecordsConformance, LeaseConformance, OutboxConformance):
    """The whole port, and what retention may never take."""

    def test_pruning_takes_what_is_past_its_time_and_nothing_that_is_open(self, store: Store) -> None:
        epoch = self.lead(store)
        store.record(snapshot("c1", epoch), Decided(admissions=(admission("closed"),)))
        store.advance("closed", EntryState.FAILED, T0 + 1)
        store.record(snapshot("c2", epoch), Decided(admissions=(admission("open"),), reservations=(hold("h"),)))
        store.append(Batch.of(T0, [(gpu(0), 1.0)]))
        store.append(Batch.of(T0 + 4 * DAY_S, [(gpu(1), 1.0)]))
        store.put_forecasts([forecast("a", T0)])
        store.put_findings(T0, [finding("x", T0)])
        store.put_findings(T0 + 1, [])
        store.enqueue([message("1"), message("2", "b")])
        store.settle(message("1"), delivered=True)
        store.put_order(order("kill", OrderKind.KILL))
        store.put_order(order("spent", OrderKind.PAUSE, until=T0 + 1))
        assert store.prune(T0 + 4 * DAY_S) > 0
        assert store.keys() == (gpu(1),)
        assert [one.admission.id for one in store.entries(0.0)] == ["open"]
        assert store.reservations() == (hold("h"),)
        assert [one.id for one in store.due(T0)] == ["2"]
        assert [one.id for one in store.orders(T0)] == ["kill"]
        assert (store.forecasts(), store.forecast_history("a", 0, T0), store.finding_history(0, T0)) == ((), (), ())
        assert store.findings() == ()
        store.verify()
        assert store.prune(T0 + 4 * DAY_S) == 0
        assert store.append(Batch.of(T0 + 4 * DAY_S, [(gpu(0), 3.0)])) == 1
