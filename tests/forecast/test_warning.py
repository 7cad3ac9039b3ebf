"""Early warning: chance, lead and onset from forecasts that are written out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from aiops.forecast.gate import unready
from aiops.forecast.limits import limits_of
from aiops.forecast.warning import Limit, anomalies, chance_beyond, chance_crossed, exhaustions
from aiops.model import Cause, Forecast, Series, SeriesKey
from aiops.ports import Grid

Q = np.array([0.05, 0.5, 0.95])


def rising(made_at: float = 0.0, refused: str | None = None) -> Forecast:
    """Median 10, 20, ... 60 at five-minute steps, +-5."""
    middle = np.arange(10.0, 70.0, 10.0)
    return Forecast(
        target="disk",
        made_at=made_at,
        times=made_at + 300 * np.arange(1, 7.0),
        quantiles=Q,
        values=np.stack([middle - 5, middle, middle + 5]),
        model="m",
        coverage=0.9,
        refused=refused,
    )


@pytest.mark.parametrize(
    ("value", "above", "lead_s"),
    [
        (35.0, True, 1200.0),  # the median passes 35 at the fourth step
        (64.9, True, None),  # only the 0.95 quantile of the last step does: not likely
        (35.0, False, 300.0),  # it is below from the first step on
        (5.0, False, None),
    ],
)
def test_the_lead_is_the_first_step_at_which_crossing_is_likely(value, above, lead_s):
    found = exhaustions([rising()], [Limit(subject="vol", target="disk", value=value, above=above)], now=0.0)
    assert [f.horizon_s for f in found] == ([] if lead_s is None else [lead_s])
    for finding in found:
        assert finding.cause is Cause.EXHAUSTION
        assert 0.5 < finding.confidence < 0.96


@pytest.mark.parametrize(
    ("limit", "now", "lead_s", "words"),
    [
        ({"value": 35.0, "newest": 20.0}, 0.0, 1200.0, "is expected above 35 in 20 minutes"),
        ({"value": 35.0}, 1140.0, 60.0, "is expected above 35 within a minute"),
        ({"value": 5.0, "newest": 6.0}, 0.0, 0.0, "is 6, above 5 already, and will likely stay so"),
        ({"value": 65.0, "newest": 60.0, "above": False}, 0.0, 0.0, "is 60, below 65 already"),
        ({"value": 65.0, "newest": 70.0, "above": False}, 0.0, 300.0, "is expected below 65 in 5 minutes"),
    ],
)
def test_a_warning_says_in_words_when_and_whether_it_is_so_already(limit, now, lead_s, words):
    (found,) = exhaustions([rising()], [Limit(subject="vol", target="disk", **limit)], now)
    assert words in found.summary
    assert found.horizon_s == lead_s


def test_a_limit_knows_its_targets_newest_value_where_the_store_has_it():
    used, size = (SeriesKey.of(f"volume_{name}_bytes", volume="v") for name in ("used", "size"))
    beside = [Series(key=size, times=np.array([1.0]), values=np.array([100.0]))]
    (unknown,) = limits_of([used], beside)
    (known,) = limits_of([used], [*beside, Series(key=used, times=np.array([1.0, 2.0]), values=np.array([96.0, np.nan]))])
    assert (unknown.value, unknown.crossed) == (95.0, False)
    assert (known.newest, known.crossed) == (96.0, True)


@pytest.mark.parametrize(("labels", "limit"), [({"sensor": "gpu"}, 87.0), ({"sensor": "memory"}, 95.0), ({}, 87.0)])
def test_a_cards_memory_may_be_hotter_than_its_processor(labels, limit):
    assert [one.value for one in limits_of([SeriesKey.of("gpu_temperature_celsius", uuid="u", **labels)], [])] == [limit]


@pytest.mark.parametrize(
    ("metric", "whole", "limits"),
    [
        ("pool_gpus_demanded", "pool_gpus", [0.0]),  # every node is gone or down: whatever is asked for waits
        ("queue_gpus_demanded", "queue_gpus", [0.0]),  # no quota
        ("node_network_receive_bytes_per_s", "node_network_speed_bytes", []),  # a virtual card that tells no speed
        ("node_filesystem_avail_bytes", "node_filesystem_size_bytes", []),  # /proc has no size
        ("gpu_power_watts", "gpu_power_limit_watts", []),  # a reading that failed
    ],
)
def test_no_gpus_is_a_limit_and_no_size_is_none(metric, whole, limits):
    none = Series(key=SeriesKey.of(whole, pool="a"), times=np.array([1.0]), values=np.array([0.0]))
    assert [one.value for one in limits_of([SeriesKey.of(metric, pool="a")], [none])] == limits


def test_demand_for_a_pool_that_has_lost_its_last_gpu_is_told_and_none_is_not():
    limit = Limit(subject="pool:a", target="disk", value=0.0, newest=4.0)
    (found,) = exhaustions([rising()], [limit], now=0.0)
    assert "is 4, above 0 already" in found.summary
    idle = replace(rising(), values=np.zeros((3, 6)))
    assert exhaustions([idle], [replace(limit, newest=0.0)], now=0.0) == ()


def test_chance_follows_the_quantiles():
    chances = chance_beyond(rising(), Limit(subject="v", target="disk", value=30.0))
    np.testing.assert_allclose(chances[[0, 2, 5]], [0.05, 0.5, 0.95])
    assert (np.diff(chances) >= 0).all()


def test_of_a_card_that_was_taken_out_while_it_was_hot_nothing_is_said_for_the_rest_of_its_history():
    limit = Limit(subject="gpu", target="disk", value=5.0)
    assert exhaustions([rising(refused="no skill")], [limit], now=0.0)
    assert exhaustions([rising(refused=unready(np.append(np.full(40, 90.0), np.full(6, np.nan))))], [limit], now=0.0) == ()


def test_a_point_mass_has_a_chance():
    flat = Forecast(target="t", made_at=0, times=np.array([1.0]), quantiles=Q, values=np.zeros((3, 1)), model="m")
    assert chance_beyond(flat, Limit(subject="s", target="t", value=0.0)).tolist() == pytest.approx([0.05])
    assert chance_beyond(flat, Limit(subject="s", target="t", value=-1.0)).tolist() == pytest.approx([0.95])


def level(spread: tuple[float, ...], above: bool = True) -> Forecast:
    """Median 10 at five-minute steps, the 5 and 95 % quantiles `spread` away; turned over where `above` is False."""
    half = np.array(spread)
    values = np.stack([10 - half, np.full(len(half), 10.0), 10 + half])
    times = 300.0 * np.arange(1, len(half) + 1)
    made = Forecast(target="disk", made_at=0, times=times, quantiles=Q, values=values, model="m")
    return made if above else replace(made, values=-values[::-1])


@pytest.mark.parametrize("above", [True, False])
def test_noise_at_its_limit_is_told_though_no_single_step_is_likely_beyond_it(above):
    value = 11.0 if above else -11.0
    limit = Limit(subject="api", target="disk", value=value, above=above)
    noise, wandering = level((3.0,) * 6, above), level(tuple(3.0 * np.sqrt(np.arange(1, 7))), above)
    beyond = 1 - 0.70825  # a third of the way to the 0.95 quantile, whose score is 1.645
    assert chance_beyond(noise, limit) == pytest.approx([beyond] * 6, abs=1e-3)
    assert chance_crossed(noise, limit, now=0.0) == pytest.approx(1 - 0.70825 ** np.arange(1, 7.0), abs=2e-3)
    (found,) = exhaustions([noise], [limit], now=0.0)
    assert found.horizon_s == 900.0  # 1 - .708^3 is the first of them above a half
    assert found.confidence == pytest.approx(1 - 0.70825**6, abs=2e-3)
    assert chance_crossed(wandering, limit, now=0.0)[-1] < found.confidence - 0.15  # what wanders tries less often


def test_demand_that_stands_at_its_capacity_is_no_warning():
    full = level((2.0, 3.0, 3.6, 4.2, 4.6, 5.0))  # wanders, and its median is what it is now
    full = replace(full, values=full.values + np.array([[0.0], [1e-6], [0.0]]))
    at, near = (Limit(subject="pool", target="disk", value=10.0, newest=newest) for newest in (10.0, 9.99))
    assert exhaustions([full], [at], now=0.0) == ()
    assert len(exhaustions([full], [near], now=0.0)) == 1
    growing = replace(full, values=full.values + 4.0)
    assert len(exhaustions([growing], [at], now=0.0)) == 1


def test_steps_that_are_past_count_for_nothing():
    limit = Limit(subject="api", target="disk", value=11.0)
    later = chance_crossed(level((3.0,) * 6), limit, now=1200.0)
    assert later == pytest.approx([0, 0, 0, 0, 0.29175, 0.49838], abs=2e-3)


def test_a_limit_far_off_is_not_reached_by_asking_often():
    limit = Limit(subject="api", target="disk", value=30.0)
    assert chance_crossed(level((3.0,) * 60), limit, now=0.0) == pytest.approx(
        [0.05] * 60
    )  # as little as the quantiles can tell
    assert exhaustions([level((3.0,) * 60)], [limit], now=0.0) == ()


def test_old_forecasts_say_nothing_and_refused_ones_say_so():
    limit = Limit(subject="vol", target="disk", value=35.0)
    assert exhaustions([rising()], [limit], now=5000.0) == ()
    (found,) = exhaustions([rising(refused="no skill")], [limit], now=0.0)
    assert "no skill" in found.evidence_against[0].text


def grid_of(made, offsets):
    """The newest points, `offsets` off the forecast's median, one per step from the first."""
    values = np.concatenate([[0.0], made.values[1][: len(offsets)] + offsets])
    return Grid(key=SeriesKey("disk"), start=made.made_at, step_s=300.0, values=values)


@pytest.mark.parametrize(
    ("offsets", "since"),
    [
        ([12, 12, 12], 300.0),  # three in a row far above: onset at the first
        ([0, 0, 12, 12, 12], 900.0),
        ([0, 12, 12], None),  # two are not enough
        ([12, 12, 0], None),  # back inside: over
        ([12, -12, 12], None),  # noise on both sides is not a departure
        ([-12, -12, -12], 300.0),
        ([12, np.nan, 12], None),  # what is not known is not outside
        ([7, 7, 7], None),  # hardly outside: a wandering series does that every day
    ],
)
def test_an_anomaly_is_a_run_far_outside_the_band_and_knows_its_onset(offsets, since):
    made = rising()
    found = anomalies({"disk": made}, [grid_of(made, offsets)], now=2000.0)
    assert [f.since for f in found] == ([] if since is None else [since])


def test_a_forecast_whose_band_is_not_honest_or_that_came_too_late_accuses_nobody():
    far = [12.0, 12.0, 12.0]
    for coverage in (None, 0.7):
        assert anomalies({"disk": replace(rising(), coverage=coverage)}, [grid_of(rising(), far)], 2000.0) == ()
    assert len(anomalies({"disk": rising()}, [grid_of(rising(), far)], 2000.0)) == 1
    since = rising(made_at=300.0)
    assert anomalies({"disk": since}, [grid_of(rising(), far)], 2000.0) == ()  # made after the first point
