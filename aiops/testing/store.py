"""What every implementation of the `Store` port must do: subclass `StoreConformance` and give it a `store` fixture.

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self, tmp_path): ...   # empty, keeps samples 1 day and records 2 days, judges leases by `now` as given

Stores that judge leases by a clock of their own override `lease_expires`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from aiops.action import (
    Admission,
    Decision,
    Deny,
    Effect,
    EntryState,
    Order,
    OrderKind,
    Outcome,
    Receipt,
    ScaleService,
    Verdict,
)
from aiops.codec import encode
from aiops.errors import Fenced, Permanent, UserError
from aiops.model import (
    Batch,
    Cause,
    Cluster,
    Finding,
    Forecast,
    HoldState,
    Match,
    Matcher,
    Query,
    Reservation,
    SeriesKey,
)
from aiops.ports import Message, Store
from aiops.snapshot import Decided, Snapshot, Transition

T0 = 1_700_000_000.0
DAY_S = 86400.0


def gpu(index: int) -> SeriesKey:
    """A key to store samples under."""
    return SeriesKey.of("gpu_power_watts", gpu=str(index), node=f"n{index // 8}")


def snapshot(id: str, epoch: int, now: float = T0) -> Snapshot:
    """A small snapshot."""
    return Snapshot(id=id, now=now, epoch=epoch, cluster=Cluster(at=now, backend="fake"))


def admission(id: str, at: float = T0, denied: Deny | None = None) -> Admission:
    """A permission, or a refusal, to scale a service."""
    action = ScaleService(service="web", uid="u", version="1", replicas=3, was=2)
    return Admission(
        id=id, at=at, decision=Decision(policy="prescale", action=action, reason="load", within_s=60.0), denied=denied
    )


def order(id: str, kind: OrderKind, target: str = "", until: float | None = None, at: float = T0) -> Order:
    """An operator's order."""
    return Order(id=id, at=at, by="ann", kind=kind, target=target, until=until)


def message(id: str, group: str = "g", receiver: str = "r", next_at: float = 0.0) -> Message:
    """A message for the outbox."""
    return Message(id=id, group=group, receiver=receiver, body=b"\x00{}", created_at=T0, next_at=next_at)


def forecast(target: str, made_at: float, value: float = 1.0) -> Forecast:
    """A forecast of one step and two quantiles."""
    values = np.array([[value], [value + 1]])
    return Forecast(
        target=target, made_at=made_at, times=np.array([made_at + 60]), quantiles=np.array([0.5, 0.9]), values=values, model="m"
    )


def finding(id: str, at: float, score: float = 1.0) -> Finding:
    """A finding on some volume."""
    return Finding(id=id, at=at, cause=Cause.IO_STALL, subject="volume/scratch", score=score, confidence=0.9)


def hold(name: str, expires_at: float = T0 + 30, state: HoldState = HoldState.HELD) -> Reservation:
    """A reservation."""
    return Reservation(
        name=name, owner="o", state=state, fence=1, created_at=T0, expires_at=expires_at, hard_cap_at=T0 + 300, gpus=8
    )


@contextmanager
def refused(error: type[Exception]) -> Iterator[None]:
    """The block must raise `error`."""
    try:
        yield
    except error:
        return
    raise AssertionError(f"expected {error.__name__}")


class SeriesConformance:
    """Samples: what is kept, what is refused, what a read returns."""

    def test_what_was_appended_is_read_back_to_the_last_bit(self, store: Store) -> None:
        values = np.array([0.1 + 0.2, -0.0, 1e300])
        assert store.append(Batch(T0, (gpu(0), gpu(1), gpu(2)), values)) == 3
        found = store.read(Query(metric="gpu_power_watts", window_s=60.0), T0)
        assert [one.key for one in found] == [gpu(0), gpu(1), gpu(2)]
        assert b"".join(one.values.tobytes() for one in found) == values.tobytes()

    def test_a_window_is_open_at_its_start_and_closed_at_its_end(self, store: Store) -> None:
        for i in range(5):
            store.append(Batch.of(T0 + 10 * i, [(gpu(0), float(i))]))
        (one,) = store.read(Query(metric="gpu_power_watts", window_s=20.0), T0 + 30)
        assert one.times.tolist() == [T0 + 20, T0 + 30]
        assert store.read(Query(metric="gpu_power_watts", window_s=20.0), T0 - 1) == ()

    def test_a_day_of_one_series_survives_sealing_in_order(self, store: Store) -> None:
        times = T0 + 60.0 * np.arange(1440)
        for i, time in enumerate(times):
            assert store.append(Batch.of(float(time), [(gpu(0), i / 7), (gpu(1), float(i))])) == 2
        first, second = store.read(Query(metric="gpu_power_watts", window_s=2 * DAY_S), T0 + DAY_S)
        assert np.array_equal(first.times, times)
        assert np.array_equal(first.values, np.arange(1440) / 7)
        assert np.array_equal(second.values, np.arange(1440.0))

    def test_a_repeat_changes_nothing_and_another_value_is_refused(self, store: Store) -> None:
        store.append(Batch.of(T0, [(gpu(0), 1.0)]))
        assert store.append(Batch.of(T0, [(gpu(0), 1.0), (gpu(1), 2.0)])) == 1
        assert store.append(Batch.of(T0, [(gpu(0), 9.0)])) == 0
        first, second = store.read(Query(metric="gpu_power_watts", window_s=60.0), T0)
        assert (first.values.tolist(), second.values.tolist()) == ([1.0], [2.0])

    def test_repeats_and_conflicts_are_seen_after_sealing_too(self, store: Store) -> None:
        for i in range(5):
            store.append(Batch.of(T0 + 3600 * i, [(gpu(0), float(i))]))
        assert store.append(Batch.of(T0, [(gpu(0), 0.0)])) == 0
        assert store.append(Batch.of(T0, [(gpu(0), 5.0)])) == 0
        (one,) = store.read(Query(metric="gpu_power_watts", window_s=DAY_S), T0 + DAY_S / 2)
        assert one.values.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]

    def test_a_late_batch_finds_its_place_and_a_very_late_one_is_refused(self, store: Store) -> None:
        for i in (0, 2, 9, 10):
            store.append(Batch.of(T0 + 3600 * i, [(gpu(0), float(i))]))
        assert store.append(Batch.of(T0 + 3600, [(gpu(0), 1.0)])) == 1
        store.append(Batch.of(T0 + 3600 * 14, [(gpu(0), 14.0)]))
        (one,) = store.read(Query(metric="gpu_power_watts", window_s=DAY_S), T0 + 3600 * 14)
        assert one.values.tolist() == [0.0, 1.0, 2.0, 9.0, 10.0, 14.0]
        store.append(Batch.of(T0 + 3 * DAY_S, [(gpu(0), 0.0)]))
        assert store.append(Batch.of(T0 + 7200, [(gpu(1), 1.0)])) == 0

    def test_a_clock_a_day_ahead_and_set_right_does_not_blind_the_store(self, store: Store) -> None:
        for time in (T0, T0 + DAY_S, T0 + 10, T0 + 7200, T0 + 14400):
            assert store.append(Batch.of(time, [(gpu(0), time)])) == 1
        (one,) = store.read(Query(metric="gpu_power_watts", window_s=DAY_S), T0 + 14400)
        assert one.times.tolist() == [T0, T0 + 10, T0 + 7200, T0 + 14400]

    def test_what_is_not_finite_is_never_kept(self, store: Store) -> None:
        assert store.append(Batch(T0, (gpu(0), gpu(1)), np.array([np.nan, np.inf]))) == 0
        assert store.append(Batch(np.nan, (gpu(0),), np.array([1.0]))) == 0
        assert store.read(Query(metric="gpu_power_watts", window_s=1e9), T0) == ()

    def test_a_key_may_hold_any_text_but_not_any_amount(self, store: Store) -> None:
        odd = SeriesKey.of("m", path='a"b\\\n\x00', empty="", unicode="节点")
        assert store.append(Batch.of(T0, [(odd, 1.0), (SeriesKey.of("m", x="y" * 65536), 1.0)])) == 1
        assert store.keys("m") == (odd,)

    def test_matchers_select_as_in_prometheus(self, store: Store) -> None:
        store.append(Batch.of(T0, [(gpu(i), float(i)) for i in range(12)]))
        rows = [
            (Matcher("node", "n1"), 4, "equality"),
            (Matcher("node", "n1", Match.NOT_EQUAL), 8, "inequality"),
            (Matcher("gpu", "1.?", Match.REGEX), 3, "a pattern must match the whole value: 1, 10, 11"),
            (Matcher("gpu", "1.?", Match.NOT_REGEX), 9, "its complement"),
            (Matcher("rack", ""), 12, "an absent label is the empty string"),
        ]
        for matcher, count, why in rows:
            query = Query(metric="gpu_power_watts", matchers=(matcher,), window_s=60.0)
            assert len(store.read(query, T0)) == count, why

    def test_a_pattern_that_is_none_or_that_may_never_end_is_the_users_error(self, store: Store) -> None:
        for pattern in ("(", "a" * 1000, "(a+)+b"):
            with refused(UserError):
                store.read(Query(metric="m", matchers=(Matcher("l", pattern, Match.REGEX),), window_s=60.0), T0)

    def test_a_step_keeps_the_last_point_of_each_cell(self, store: Store) -> None:
        start = 6000.0
        for i in range(12):
            store.append(Batch.of(start + 10 * i, [(gpu(0), float(i))]))
        (one,) = store.read(Query(metric="gpu_power_watts", window_s=1000.0, step_s=60.0), start + 110)
        assert (one.times.tolist(), one.values.tolist()) == ([start + 50, start + 110], [5.0, 11.0])

    def test_keys_are_sorted_and_of_one_metric_if_asked(self, store: Store) -> None:
        store.append(Batch.of(T0, [(gpu(1), 1.0), (SeriesKey.of("a"), 1.0), (gpu(0), 1.0)]))
        assert store.keys() == (SeriesKey.of("a"), gpu(0), gpu(1))
        assert store.keys("gpu_power_watts") == (gpu(0), gpu(1))
        assert store.keys("none") == ()


class RecordsConformance:
    """Forecasts and findings."""

    def test_the_newest_forecast_per_target_is_returned(self, store: Store) -> None:
        store.put_forecasts([forecast("b", T0, 1.0), forecast("a", T0 + 1, 2.0)])
        store.put_forecasts([forecast("b", T0 + 5, 3.0), forecast("a", T0 - 9, 4.0)])
        found = store.forecasts()
        assert [(one.target, one.made_at) for one in found] == [("a", T0 + 1), ("b", T0 + 5)]
        assert encode(found[1]) == encode(forecast("b", T0 + 5, 3.0))
        assert [one.target for one in store.forecasts(T0 + 2)] == ["b"]

    def test_a_targets_forecasts_are_kept_oldest_first(self, store: Store) -> None:
        store.put_forecasts([forecast("a", T0 + i) for i in (3, 1, 2)])
        assert [one.made_at for one in store.forecast_history("a", T0 + 1, T0 + 2)] == [T0 + 1, T0 + 2]

    def test_an_empty_diagnosis_ends_what_was_open(self, store: Store) -> None:
        store.put_findings(T0, [finding("x", T0), finding("y", T0)])
        assert [one.id for one in store.findings()] == ["x", "y"]
        store.put_findings(T0 + 30, [])
        assert store.findings() == ()

    def test_history_holds_the_latest_state_of_each_finding(self, store: Store) -> None:
        store.put_findings(T0, [finding("x", T0, 1.0), finding("y", T0, 1.0)])
        store.put_findings(T0 + 30, [finding("x", T0 + 30, 2.0)])
        assert [(one.id, one.score) for one in store.finding_history(T0, T0 + 30)] == [("x", 2.0), ("y", 1.0)]
        assert [(one.id, one.score) for one in store.finding_history(T0, T0, limit=1)] == [("y", 1.0)]


class LedgerConformance:
    """The append-only record, its states and its fence."""

    def lead(self, store: Store, holder: str = "one", now: float = T0) -> int:
        """An epoch to record under."""
        epoch = store.acquire(holder, now, 1000.0)
        assert epoch is not None
        return epoch

    def test_a_cycle_comes_back_with_the_same_bytes(self, store: Store) -> None:
        seen, decided = (
            snapshot("c1", self.lead(store)),
            Decided(admissions=(admission("a1"),), notes=("web: within tolerance",)),
        )
        store.record(seen, decided)
        back, raw = store.cycle("c1")
        assert (encode(back), raw) == (encode(seen), encode(decided))
        assert store.cycles(T0, T0) == ("c1",)
        with refused(KeyError):
            store.cycle("c2")

    def test_a_permission_becomes_an_intent_and_a_refusal_does_not(self, store: Store) -> None:
        epoch = self.lead(store)
        store.record(snapshot("c1", epoch), Decided(admissions=(admission("a1"), admission("a2", denied=Deny.COOLDOWN))))
        (entry,) = store.entries(0.0)
        assert (entry.admission, entry.state, entry.epoch) == (admission("a1"), EntryState.INTENT, epoch)
        assert (entry.expires_at, entry.attempts) == (T0 + 60.0, 0)
        assert [one.id for one in store.admissions(0.0, T0)] == ["a1", "a2"]
        assert store.admission("a2") == (admission("a2", denied=Deny.COOLDOWN), "c1")
        with refused(KeyError):
            store.admission("a3")

    def test_another_epoch_writes_nothing(self, store: Store) -> None:
        epoch = self.lead(store)
        with refused(Fenced):
            store.record(snapshot("c1", epoch + 1), Decided(admissions=(admission("a1"),), reservations=(hold("h"),)))
        assert (store.entries(0.0), store.cycles(0.0, T0), store.reservations()) == ((), (), ())

    def test_the_same_cycle_or_admission_cannot_be_recorded_twice(self, store: Store) -> None:
        epoch = self.lead(store)
        store.record(snapshot("c1", epoch), Decided(admissions=(admission("a1"),)))
        for seen in (snapshot("c1", epoch), snapshot("c2", epoch)):
            with refused(Permanent):
                store.record(seen, Decided(admissions=(admission("a1"),)))
        assert store.cycles(0.0, T0) == ("c1",)
        assert len(store.entries(0.0)) == 1

    def test_an_entry_goes_from_intent_over_sent_to_its_end(self, store: Store) -> None:
        store.record(snapshot("c1", self.lead(store)), Decided(admissions=(admission("a1"),)))
        receipt = Receipt(id="a1", outcome=Outcome.UNKNOWN, detail="timed out")
        verdict = Verdict(id="a1", at=T0 + 20, effect=Effect.PRESENT)
        store.advance("a1", EntryState.SENT, T0 + 1)
        store.advance("a1", EntryState.SENT, T0 + 2, receipt)
        (entry,) = store.entries(0.0, only_open=True)
        assert (entry.state, entry.attempts, entry.receipt) == (EntryState.SENT, 1, receipt)
        store.advance("a1", EntryState.CONFIRMED, T0 + 20, verdict)
        assert store.entries(0.0, only_open=True) == ()
        (entry,) = store.entries(T0 + 19)
        assert (entry.state, entry.verdict, entry.changed_at) == (EntryState.CONFIRMED, verdict, T0 + 20)
        assert store.entries(T0 + 20) == ()

    def test_nothing_leaves_a_terminal_state_or_returns_to_intent(self, store: Store) -> None:
        terminal = [state for state in EntryState if state not in (EntryState.INTENT, EntryState.SENT)]
        epoch = self.lead(store)
        store.record(snapshot("c1", epoch), Decided(admissions=tuple(admission(state.value) for state in terminal)))
        for end in terminal:
            with refused(Permanent):
                store.advance(end.value, EntryState.INTENT, T0 + 1)
            store.advance(end.value, end, T0 + 1)
            for state in EntryState:
                with refused(Permanent):
                    store.advance(end.value, state, T0 + 2)
        with refused(KeyError):
            store.advance("unknown", EntryState.SENT, T0)

    def test_transitions_of_a_pass_are_applied_with_it_or_not_at_all(self, store: Store) -> None:
        epoch = self.lead(store)
        store.record(snapshot("c1", epoch), Decided(admissions=(admission("a1"), admission("a2"))))
        done = Transition(id="a1", state=EntryState.CONFIRMED, verdict=Verdict(id="a1", at=T0 + 9, effect=Effect.PRESENT))
        with refused(KeyError):
            lost = Transition(id="nobody", state=EntryState.FAILED)
            store.record(snapshot("c2", epoch, T0 + 9), Decided(transitions=(done, lost)))
        assert len(store.entries(0.0, only_open=True)) == 2
        store.record(snapshot("c2", epoch, T0 + 9), Decided(transitions=(done,)))
        assert [one.admission.id for one in store.entries(0.0, only_open=True)] == ["a2"]

    def test_reservations_follow_each_pass(self, store: Store) -> None:
        epoch = self.lead(store)
        store.record(snapshot("c1", epoch), Decided(reservations=(hold("b"), hold("a"))))
        assert store.reservations() == (hold("a"), hold("b"))
        active = replace(hold("a"), state=HoldState.ACTIVE)
        store.record(snapshot("c2", epoch, T0 + 60), Decided(reservations=(active,)))
        assert store.reservations() == (active,)
        store.record(snapshot("c3", epoch, T0 + 61), Decided())
        assert store.reservations() == ()

    def test_a_chain_of_untouched_records_verifies(self, store: Store) -> None:
        epoch = self.lead(store)
        store.record(snapshot("c1", epoch), Decided(admissions=(admission("a1"),)))
        store.advance("a1", EntryState.SENT, T0 + 1)
        assert store.verify() == 2


class LeaseConformance(LedgerConformance):
    """Leadership, and what it fences."""

    def lease_expires(self, store: Store, now: float, ttl_s: float) -> float:
        """Let a lease of `ttl_s` taken at `now` lapse; the time to go on from."""
        return now + ttl_s

    def test_one_leads_until_its_lease_ends_and_the_epoch_grows(self, store: Store) -> None:
        assert store.epoch() == 0
        assert store.acquire("one", T0, 0.2) == 1
        assert store.acquire("two", T0, 0.2) is None
        assert store.acquire("one", T0, 0.2) == 1
        later = self.lease_expires(store, T0, 0.2)
        assert store.acquire("two", later, 100.0) == 2
        assert store.acquire("one", later, 100.0) is None
        assert store.epoch() == 2

    def test_a_lapsed_lease_comes_back_at_a_new_epoch_even_to_its_holder(self, store: Store) -> None:
        assert store.acquire("one", T0, 0.2) == 1
        assert store.acquire("one", self.lease_expires(store, T0, 0.2), 100.0) == 2

    def test_a_lease_given_up_is_free_at_once_and_only_its_holder_gives_it_up(self, store: Store) -> None:
        store.acquire("one", T0, 100.0)
        store.release("two")
        assert store.acquire("two", T0 + 1, 100.0) is None
        store.release("one")
        assert store.acquire("two", T0 + 1, 100.0) == 2

    def test_a_leader_that_lost_its_lease_neither_records_nor_sends(self, store: Store) -> None:
        old = self.lead(store)
        store.record(snapshot("c1", old), Decided(admissions=(admission("a1"),)))
        store.release("one")
        self.lead(store, "two")
        with refused(Fenced):
            store.record(snapshot("c2", old), Decided())
        with refused(Fenced):
            store.advance("a1", EntryState.SENT, T0 + 1)
        assert store.entries(0.0)[0].state == EntryState.INTENT
        store.advance("a1", EntryState.EXPIRED, T0 + 60)
        assert store.verify() >= 2


class OutboxConformance:
    """Orders in, notifications out, state."""

    def test_orders_hold_until_they_end_or_are_undone(self, store: Store) -> None:
        kinds = OrderKind
        store.put_order(order("1", kinds.KILL))
        store.put_order(order("2", kinds.PAUSE, "pool/a"))
        store.put_order(order("3", kinds.PAUSE, "pool/b", until=T0 + 60))
        assert [one.id for one in store.orders(T0)] == ["1", "2", "3"]
        assert [one.id for one in store.orders(T0 + 60)] == ["1", "2"]
        store.put_order(order("4", kinds.UNPAUSE, "pool/b"))
        store.put_order(order("5", kinds.UNKILL, at=T0 - 3600))
        assert [one.id for one in store.orders(T0)] == ["2"]
        store.put_order(order("6", kinds.KILL))
        assert [one.id for one in store.orders(T0)] == ["2", "6"]

    def test_the_newest_mode_and_silence_of_a_target_count_and_approvals_add_up(self, store: Store) -> None:
        kinds = OrderKind
        for id, kind, target in (("1", kinds.SET_MODE, "p=act"), ("2", kinds.APPROVE, "plan"), ("3", kinds.APPROVE, "plan")):
            store.put_order(order(id, kind, target))
        store.put_order(order("4", kinds.SILENCE, "alertname=x", until=T0 + 60))
        store.put_order(order("5", kinds.SILENCE, "alertname=x", until=T0 - 1))
        store.put_order(order("6", kinds.SET_MODE, "p=act"))
        assert [one.id for one in store.orders(T0)] == ["2", "3", "6"]

    def test_an_order_that_is_known_is_left_as_it_is(self, store: Store) -> None:
        store.put_order(order("1", OrderKind.PAUSE, "a"))
        store.put_order(order("1", OrderKind.PAUSE, "b"))
        assert [one.target for one in store.orders(T0)] == ["a"]

    def test_messages_are_due_one_by_one_in_each_group(self, store: Store) -> None:
        store.enqueue([message("1", "a"), message("2", "a"), message("3", "b", next_at=T0 + 60), message("4", "a", "other")])
        assert [one.id for one in store.due(T0)] == ["1", "4"]
        assert store.due(T0)[0] == message("1", "a")
        assert [one.id for one in store.due(T0 + 60)] == ["1", "3", "4"]
        assert [one.id for one in store.due(T0 + 60, limit=1)] == ["1"]
        store.settle(message("1", "a"), delivered=True)
        assert [one.id for one in store.due(T0)] == ["2", "4"]

    def test_a_failed_message_keeps_its_place_and_its_group_waits_for_it(self, store: Store) -> None:
        store.enqueue([message("1"), message("2")])
        failed = replace(message("1"), attempts=1, next_at=T0 + 30, error="503")
        store.settle(failed, delivered=False)
        assert store.due(T0) == ()
        assert store.due(T0 + 30) == (failed,)

    def test_a_message_given_up_lets_its_group_go_on(self, store: Store) -> None:
        store.enqueue([message("1"), message("2"), message("3", "b")])
        for id, group in (("1", "g"), ("3", "b")):
            store.settle(replace(message(id, group), dead=True, error="410", attempts=9), delivered=False)
        assert [one.id for one in store.due(T0)] == ["2"]
        assert [(one.id, one.error, one.attempts) for one in store.dead_letters()] == [("3", "410", 9), ("1", "410", 9)]

    def test_an_id_that_is_known_is_not_sent_again_even_when_it_was_delivered(self, store: Store) -> None:
        store.enqueue([message("1")])
        store.settle(message("1"), delivered=True)
        store.enqueue([message("1")])
        assert store.due(T0) == ()

    def test_named_state_is_kept_and_the_last_one_wins(self, store: Store) -> None:
        assert store.state("groups") is None
        store.put_state("groups", b"\x00one")
        store.put_state("groups", b"two")
        assert store.state("groups") == b"two"


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
