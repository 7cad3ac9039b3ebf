"""Horizons of more than a day: "the same time yesterday" has not come yet there, and must not be looked at."""

import numpy as np
import pytest

from aiops.forecast import regression
from aiops.forecast.rolling import Ask, forecast_origins
from aiops.model import Series, SeriesKey

HOUR, START = 3600.0, 20_000 * 86400.0
QUANTILES = np.array([0.05, 0.5, 0.9, 0.95])


@pytest.fixture(autouse=True)
def small_trees(monkeypatch):
    """Ten rounds of boosting: this is about what is looked at, not how well."""
    monkeypatch.setattr(regression, "ROUNDS", 10)


def load(hours: int) -> Series:
    times = START + HOUR * np.arange(hours)
    noise = np.random.default_rng(3).normal(0, 5, hours)
    return Series(key=SeriesKey("load"), times=times, values=(100 + 50 * np.sin(2 * np.pi * times / 86400) + noise))


@pytest.mark.parametrize("steps", [24, 24 * 8])
def test_what_comes_after_an_origin_changes_nothing_about_its_answer(steps):
    whole, origin = load(30 * 24), START + HOUR * 20 * 24
    until = whole.times <= origin
    cut = Series(key=whole.key, times=whole.times[until], values=whole.values[until])
    ask = Ask(step_s=HOUR, steps=steps, quantiles=QUANTILES)
    first, _ = forecast_origins([whole], [origin, origin + HOUR * 24], ask)
    (alone,) = forecast_origins([cut], [origin], ask)
    np.testing.assert_array_equal(first.values, alone.values)
    assert (first.model, first.skill, first.coverage) == (alone.model, alone.skill, alone.coverage)


def test_a_horizon_longer_than_the_history_is_answered():
    (made,) = forecast_origins([load(48)], [START + HOUR * 47], Ask(step_s=HOUR, steps=24 * 30, quantiles=QUANTILES))
    assert np.isfinite(made.values).all()
