"""Prophet on real timestamps: terms only where history allows, the wall clock, holidays, and plain numbers afterwards."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from aiops.forecast.baselines import LastValue
from aiops.forecast.trend import Calendar, ProphetCorrected, ProphetModel, design, fit_shape, local_days, periods_for
from aiops.model import SeriesKey
from aiops.ports import Grid

DAY = 86400.0
Q = np.array([0.05, 0.5, 0.9, 0.95])
START = 19_000 * DAY


@pytest.fixture(autouse=True)
def quiet():
    for name in ("cmdstanpy", "prophet", "prophet.plot"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def wave(days: float, noise: float = 1.0) -> Grid:
    times = START + 900 * np.arange(days * 96)
    values = 100 + 30 * np.sin(2 * np.pi * times / DAY) + np.random.default_rng(0).normal(0, noise, len(times))
    return Grid(key=SeriesKey("web"), start=START, step_s=900.0, values=values)


@pytest.mark.parametrize(
    ("days", "periods"),
    [(1.9, []), (2.0, [1.0]), (13.9, [1.0]), (14.0, [1.0, 7.0])],  # policy rule 3
)
def test_terms_need_their_history(days, periods):
    assert [period for period, _ in periods_for(days * DAY)] == periods


def test_terms_run_on_the_wall_clock_over_a_clock_change():
    # Berlin went from UTC+1 to UTC+2 on 2024-03-31: 08:00 local is 07:00 UTC before and 06:00 UTC after
    before, after = 1711782000.0, 1711864800.0
    days = local_days(np.array([before, after]), "Europe/Berlin")
    assert ((days % 1) * 24).tolist() == pytest.approx([8.0, 8.0])


def test_holidays_and_known_events_are_columns_of_their_own():
    christmas, ordinary = 1735120800.0, 1733911200.0  # 2024-12-25 and 2024-12-11, both at 10:00 UTC
    calendar = Calendar(country="DE", events=(("launch", ordinary - 60, ordinary + 60),))
    assert design(np.array([christmas, ordinary]), (), calendar).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_the_curve_kept_as_numbers_is_prophets_own():
    import pandas
    from prophet import Prophet

    grid = wave(3)
    shape = fit_shape(grid, Calendar())
    times = START + 900 * np.arange(len(grid.values))
    features = design(times, shape.periods, Calendar())
    model = Prophet(
        yearly_seasonality=False, weekly_seasonality=False, daily_seasonality=False, uncertainty_samples=0, n_changepoints=15
    )
    frame = pandas.DataFrame(features, columns=[f"x{i}" for i in range(features.shape[1])])
    for name in frame.columns:
        model.add_regressor(name, standardize=False)
    frame["ds"], frame["y"] = pandas.to_datetime(times, unit="s"), grid.values
    model.fit(frame, seed=1)
    np.testing.assert_allclose(shape.at(times), model.predict(frame)["yhat"], rtol=1e-6)


def test_the_correction_follows_a_level_that_the_curve_does_not_know():
    grid = wave(4)
    fitted, alone = ProphetCorrected().fit([grid]), ProphetModel().fit([grid])
    rng = np.random.default_rng(1)
    later = wave(5).values + np.concatenate([np.zeros(384), np.cumsum(rng.normal(0.5, 0.3, 96))])
    history = replace(grid, values=later)
    last = later[-1]
    assert abs(fitted.predict(history, 2, Q)[1, 0] - last) < abs(alone.predict(history, 2, Q)[1, 0] - last)


def test_a_warm_start_gives_the_same_curve():
    grid = wave(4)
    cold = ProphetModel().fit([grid])
    warm = ProphetModel(warm=cold.shapes).fit([grid])
    times = grid.start + 900 * np.arange(400.0)
    np.testing.assert_allclose(warm.shapes[grid.key].at(times), cold.shapes[grid.key].at(times), rtol=0.01)


@pytest.mark.parametrize(
    "values", [np.full(300, 5.0), np.arange(5.0), np.full(300, np.nan)], ids=["constant", "five points", "nothing"]
)
def test_what_cannot_be_fitted_is_left_out_and_says_so(values):
    grid = Grid(key=SeriesKey("odd"), start=START, step_s=900.0, values=values)
    with pytest.raises(ValueError, match="not fitted"):
        ProphetModel().fit([grid]).predict(grid, 2, Q)


def test_last_value_bands_grow_with_the_horizon():
    walk = np.cumsum(np.random.default_rng(0).normal(0, 1, 500)) + 1000
    band = LastValue().predict(Grid(key=SeriesKey("w"), start=0.0, step_s=300.0, values=walk), 6, Q)
    assert (np.diff(band[3] - band[0]) > 0).all()
    assert band[1, 0] == pytest.approx(walk[-1], abs=0.5)
