"""Weighing and calibration on records that are written by hand, and the causality of the features."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aiops.forecast.bands import settle_band
from aiops.forecast.calibration import Track, cautious, rising, settle, weigh
from aiops.forecast.experts import BOOST, LAST, SEASON, STATE, rule_bands
from aiops.forecast.features import _View, describe
from aiops.forecast.regression import at_quantiles

MOMENTS = 400


def track(boost_bias: float, *, noise: float = 1.0, own_days: float = 30.0, seed: int = 0) -> tuple[Track, np.ndarray]:
    """One series whose truths are noise around 10; last value says so honestly, boosting is `boost_bias` off."""
    rng = np.random.default_rng(seed)
    truths = 10 + rng.normal(0, noise, (1, MOMENTS, 1))
    honest = 10 + noise * np.array([-1.645, 0.0, 1.282, 1.645])
    bands = np.full((1, MOMENTS, 1, 5, 4), np.nan)
    bands[:, :, :, LAST], bands[:, :, :, BOOST] = honest, honest + boost_bias
    ages = np.arange(MOMENTS) / 144
    return Track(bands, truths, np.ones((1, MOMENTS), bool), ages, np.ones(1), np.array([own_days])), bands[:, 0]


def test_an_expert_that_loses_gets_nothing_and_one_that_wins_gets_all():
    worse, _ = track(boost_bias=4.0)
    assert weigh(worse)[0, 0, BOOST].max() < 0.01
    swapped = worse.bands.copy()
    swapped[:, :, :, [LAST, BOOST]] = worse.bands[:, :, :, [BOOST, LAST]]
    better = Track(swapped, worse.truths, worse.alike, worse.ages_days, worse.overlap, worse.own_days)
    assert weigh(better)[0, 0, BOOST].min() > 0.99


def test_without_own_history_only_the_last_value_speaks():
    young, bands = track(boost_bias=0.0, own_days=0.0)
    assert (weigh(young)[0, 0, LAST] > 0.99).all()
    unknown = Track(
        young.bands, np.full_like(young.truths, np.nan), young.alike, young.ages_days, young.overlap, np.array([30.0])
    )
    settled = settle(unknown, bands, np.array([10.0]))
    np.testing.assert_allclose(settled.bands[0, 0], bands[0, 0, LAST])
    assert np.isnan(settled.skill[0])


def test_a_band_that_is_too_narrow_is_widened_to_what_came():
    made, bands = track(boost_bias=np.nan, noise=1.0)
    narrow = 10 + (made.bands - 10) * 0.2
    settled = settle(
        Track(narrow, made.truths, made.alike, made.ages_days, made.overlap, made.own_days),
        10 + (bands - 10) * 0.2,
        np.array([10.0]),
    )
    low, middle, high, top = settled.bands[0, 0]
    assert (low, high, top) == (pytest.approx(8.36, abs=0.4), pytest.approx(11.28, abs=0.4), pytest.approx(11.64, abs=0.4))
    assert middle == 10.0
    assert 0.7 < settled.coverage[0] < 0.97  # uncalibrated it is 0.26; the shift is shrunk towards none


@pytest.mark.parametrize(
    ("band", "regular", "high", "why"),
    [
        ([0.0, 10.0, 14.0, 18.0], True, 15.0, "a quarter farther from the median"),
        ([0.0, 10.0, 14.0, 15.0], True, 14.5, "never more than half way to the next quantile"),
        ([0.0, 10.0, 14.0, 18.0], False, 14.0, "where rises are rare the quantile stays exact"),
        ([0.0, 10.0, 10.0, 900.0], True, 10.0, "a point mass has no width to grow by: a burst's tail does not leak into it"),
        ([5.0, 5.0, 5.0, 5.0], True, 5.0, "a constant stays one"),
    ],
)
def test_the_upper_quantile_is_cautious_only_where_rises_are_regular(band, regular, high, why):
    made = cautious(np.array(band), np.array(regular))
    assert made.tolist() == pytest.approx([*band[:2], high, band[3]]), why


@pytest.mark.parametrize(("every", "expected"), [(5, True), (20, False)])
def test_rises_are_regular_where_an_exact_quantile_could_miss_one_each_time(every, expected):
    made, _ = track(boost_bias=0.0, noise=0.1)
    made.truths[:] = 10.5  # five per cent is no rise
    made.truths[:, ::every] = 11.5
    assert rising(made).tolist() == [[expected]]
    falling = np.where(made.truths > 11, 5.0, 10.0)
    down = Track(made.bands, falling, made.alike, made.ages_days, made.overlap, made.own_days)
    assert rising(down).tolist() == [[False]]


def repeating() -> tuple[Track, np.ndarray]:
    """A load of 5 and 60 in turns: yesterday tells which, the model did too until it missed two rises lately."""
    truths = np.where(np.arange(MOMENTS) % 6 < 3, 60.0, 5.0)[None, :, None]
    bands = np.full((1, MOMENTS, 1, 5, 4), np.nan)
    spread = np.array([-0.4, 0.0, 0.3, 0.4])
    bands[:, :, :, LAST] = 65.0 - truths[..., None] + 10 * spread
    bands[:, :, :, SEASON], bands[:, :, :, BOOST] = truths[..., None] + spread, truths[..., None] + 0.9 * spread
    bands[0, [1, 12], 0, BOOST] = 5.0 + spread
    ages = np.arange(MOMENTS) / 144
    return Track(bands, truths, np.ones((1, MOMENTS), bool), ages, np.ones(1), np.array([30.0])), bands[:, 0]


def test_a_load_that_repeats_is_left_to_the_rule_that_sees_it_and_not_to_the_reactive_one():
    made, bands = repeating()
    settled = settle(made, bands, np.array([5.0]))
    assert settled.weights[0, 0, SEASON, 2] == 1.0
    assert settled.skill[0] > 0  # the blend's own would be below zero, and the forecast refused
    assert settled.bands[0, 0, 1] == pytest.approx(60.0, abs=0.5)


def test_a_rule_that_has_nothing_to_say_now_is_not_asked():
    made, bands = repeating()
    silent = bands.copy()
    silent[:, :, SEASON] = np.nan  # a gap at this time yesterday
    assert settle(made, silent, np.array([5.0])).skill[0] < 0 < settle(made, bands, np.array([5.0])).skill[0]


def test_from_zero_the_winner_takes_all_and_certain_zero_stays_zero():
    made, bands = track(boost_bias=3.0)
    made.bands[:, :, :, STATE] = made.bands[:, :, :, LAST]
    idle = bands.copy()
    idle[:, :, STATE] = 0.0
    settled = settle(made, idle, np.array([0.0]))
    assert settled.bands[0, 0].tolist() == [0.0] * 4
    assert set(np.unique(settled.weights)) == {0.0, 1.0}


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, 60, elements=st.floats(0, 1e9) | st.just(np.nan)), st.integers(30, 58))
def test_features_and_rules_know_only_the_past(values, column):
    cols, beat = np.array([column]), (3600.0, np.array([column * 3600.0]))
    whole, cut = (describe(v[None], cols, beat, (1, 3)) for v in (values, values[: column + 1]))
    for mine, other in ((whole.shared, cut.shared), *zip(whole.ahead, cut.ahead, strict=True)):
        assert mine.tobytes() == other.tobytes()
    rules = [rule_bands(v[None], cols, 3600.0, (1, 3)) for v in (values, values[: column + 1])]
    assert rules[0].tobytes() == rules[1].tobytes()


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, 60, elements=st.floats(-9, 9) | st.just(np.nan)), st.integers(1, 70))
def test_extremes_are_those_of_the_window_that_ends_at_the_column(values, width):
    cols = np.array([0, 1, 30, 59])
    most, least = _View(values[None], cols, 3600.0).extremes(values[None], width)
    for col, high, low in zip(cols, most[0], least[0], strict=True):
        known = values[max(0, col - width + 1) : col + 1]
        known = known[np.isfinite(known)]
        assert (high, low) == (known.max(), known.min()) if len(known) else np.isnan([high, low]).all()


def test_moments_of_a_series_by_the_second_need_no_day_of_memory_each():
    # Given two days at five seconds, 17,280 points a day, of which every 20th moment is described
    values, cols = np.random.default_rng(0).normal(100, 5, (1, 2 * 17_280)), np.arange(0, 2 * 17_280, 20)
    tracemalloc.start()
    describe(values, cols, (5.0, cols * 5.0), (1,))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # a day laid out for each moment takes 240 MB


@given(arrays(np.float64, (4, 3), elements=st.floats(-1e6, 1e6)), arrays(np.float64, 5, elements=st.floats(-10, 1e6)))
def test_settled_bands_ascend_and_are_not_negative_where_history_is_not(band, history):
    settled = settle_band(band, history)
    assert (np.diff(settled, axis=0) >= 0).all()
    assert history.min() < 0 or settled.min() >= 0


def test_asked_quantiles_are_exact_where_learnt_and_go_on_outwards():
    band = np.array([[0.0, 10.0, 20.0, 30.0]])
    found = at_quantiles(band, np.array([0.01, 0.05, 0.5, 0.7, 0.9, 0.95, 0.99]))[:, 0]
    assert found[[1, 2, 4, 5]].tolist() == [0.0, 10.0, 20.0, 30.0]
    assert found[0] < 0.0 < 10.0 < found[3] < 20.0
    assert found[6] > 30.0
