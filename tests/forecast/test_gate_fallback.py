"""What stands in for a forecast: the last value where there is one, nothing where nothing was ever known."""

import numpy as np
import pytest

from aiops.forecast.baselines import LastValue
from aiops.forecast.gate import fallback
from aiops.forecast.rolling import Ask
from aiops.forecast.single import forecast_with
from aiops.foresight import Plan
from aiops.model import Series, SeriesKey
from aiops.ports import Grid
from aiops.refresh import plain

QUANTILES = np.array([0.05, 0.5, 0.9])


def grid(*values):
    return Grid(key=SeriesKey("load"), start=0.0, step_s=300.0, values=np.array(values, dtype=np.float64))


def test_the_last_known_value_stands_in():
    np.testing.assert_allclose(fallback(grid(7.0, 7.0, np.nan), 2, QUANTILES), 7.0)


def test_where_nothing_is_known_there_is_no_forecast_rather_than_one_of_zero():
    with pytest.raises(ValueError, match="no known value"):
        fallback(grid(np.nan, np.nan), 2, QUANTILES)
    assert plain([grid(np.nan), grid(3.0)], Plan(), "fit timed out")[0].values.min() == 3.0


def test_a_named_model_gives_no_row_for_a_series_that_never_had_a_value():
    times = np.arange(3) * 300.0
    silent = Series(key=SeriesKey("silent"), times=times, values=np.full(3, np.nan))
    known = Series(key=SeriesKey("known"), times=times, values=np.array([1.0, 2.0, 3.0]))
    ask = Ask(step_s=300.0, steps=2, quantiles=QUANTILES)
    assert {f.target for f in forecast_with(LastValue(), [silent, known], [600.0], ask)} == {"known"}


@pytest.mark.parametrize("age", [0, 5])
def test_a_series_of_fewer_points_than_the_grid_is_as_uncertain_as_over_its_own_distance(age):
    hourly = np.full(60 * 12, np.nan)
    hourly[::12] = 100 + np.random.default_rng(0).normal(0, 5, 60)
    band = LastValue().predict(grid(*hourly[: 59 * 12 + 1 + age]), 6, QUANTILES)
    own = np.quantile(np.diff(hourly[::12]), QUANTILES) + hourly[59 * 12]
    np.testing.assert_allclose(band, np.repeat(own[:, None], 6, axis=1), rtol=0.05)  # not a band of no width


def test_a_history_shorter_than_the_horizon_does_not_fall_back_to_its_last_value_half_way():
    band = LastValue().predict(grid(0.0, 1.0, 2.0, 3.0, 4.0), 6, QUANTILES)
    np.testing.assert_allclose(band[:, 0], 5.0)  # what it always did within a step
    np.testing.assert_allclose(band[:, 5], 8.0)  # and within four, the most that is known; not nothing at all
