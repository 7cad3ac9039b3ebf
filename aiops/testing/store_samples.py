"""What every `SeriesStore` and `Records` must do; see `aiops.testing.store`."""

from __future__ import annotations

import numpy as np

from aiops.codec import encode
from aiops.errors import UserError
from aiops.model import (
    Batch,
    Match,
    Matcher,
    Query,
    SeriesKey,
)
from aiops.ports import Store
from aiops.testing.examples import DAY_S, T0, finding, forecast, gpu, refused


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
        times = T0 + 300.0 * np.arange(288)
        for i, time in enumerate(times):
            assert store.append(Batch.of(float(time), [(gpu(0), i / 7), (gpu(1), float(i))])) == 2
        first, second = store.read(Query(metric="gpu_power_watts", window_s=2 * DAY_S), T0 + DAY_S)
        assert np.array_equal(first.times, times)
        assert np.array_equal(first.values, np.arange(288) / 7)
        assert np.array_equal(second.values, np.arange(288.0))

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

    def test_several_batches_at_once_are_what_they_are_one_by_one(self, store: Store) -> None:
        batches = [Batch.of(T0 + 3600.0 * i, [(gpu(0), float(i)), (gpu(i % 2), 7.0)]) for i in range(9)]
        again, other = Batch.of(T0, [(gpu(0), 0.0)]), Batch.of(T0, [(gpu(0), 5.0)])
        assert store.append(*batches, again, other) == 13
        assert store.append() == 0
        one, two = store.read(Query(metric="gpu_power_watts", window_s=DAY_S), T0 + 3600 * 8)
        assert one.values.tolist() == [float(i) for i in range(9)]
        assert two.times.tolist() == [T0 + 3600 * i for i in (1, 3, 5, 7)]

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
        for pattern in ("(", "a?" * 500, "(a+)+b"):
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
        store.put_forecasts([forecast("b", T0 + 5, 3.0), forecast("b", T0 + 4, 4.0)])
        found = store.forecasts()
        assert [(one.target, one.made_at) for one in found] == [("a", T0 + 1), ("b", T0 + 5)]
        assert encode(found[1]) == encode(forecast("b", T0 + 5, 3.0))
        assert [one.target for one in store.forecasts(T0 + 2)] == ["b"]

    def test_a_forecast_by_a_clock_that_ran_ahead_does_not_stand_until_its_time_comes(self, store: Store) -> None:
        store.put_forecasts([forecast("a", T0 + 86400.0, 1.0)])
        store.put_forecasts([forecast("a", T0, 2.0)])
        (found,) = store.forecasts()
        assert found.made_at == T0
        assert [one.made_at for one in store.forecast_history("a", T0, T0 + 86400.0)] == [T0, T0 + 86400.0]

    def test_a_targets_forecasts_are_kept_oldest_first(self, store: Store) -> None:
        store.put_forecasts([forecast("a", T0 + i) for i in (3, 1, 2)])
        assert [one.made_at for one in store.forecast_history("a", T0 + 1, T0 + 2)] == [T0 + 1, T0 + 2]

    def test_an_empty_diagnosis_ends_what_was_open(self, store: Store) -> None:
        assert store.diagnosed_at() is None
        store.put_findings(T0, [finding("x", T0), finding("y", T0)])
        assert [one.id for one in store.findings()] == ["x", "y"]
        store.put_findings(T0 + 30, [])
        assert store.findings() == ()
        assert store.diagnosed_at() == T0 + 30

    def test_history_holds_the_latest_state_of_each_finding(self, store: Store) -> None:
        store.put_findings(T0, [finding("x", T0, 1.0), finding("y", T0, 1.0)])
        store.put_findings(T0 + 30, [finding("x", T0 + 30, 2.0)])
        assert [(one.id, one.score) for one in store.finding_history(T0, T0 + 30)] == [("x", 2.0), ("y", 1.0)]
        assert [(one.id, one.score) for one in store.finding_history(T0, T0, limit=1)] == [("y", 1.0)]
