"""What is forecast together: by what was known at an origin, and on the grid that a series' own rows allow."""

import numpy as np
import pytest

from aiops.forecast import regression
from aiops.forecast.baselines import LastValue
from aiops.forecast.passes import forecast_passes, passes, steps_apart
from aiops.forecast.rolling import Ask, forecast_origins
from aiops.forecast.single import forecast_with
from aiops.model import Series, SeriesKey

DAY, QUANTILES = 86400.0, np.array([0.05, 0.5, 0.9, 0.95])


@pytest.fixture(autouse=True)
def small_trees(monkeypatch):
    """Ten rounds of boosting: this is about what is looked at, not how well."""
    monkeypatch.setattr(regression, "ROUNDS", 10)


def wave(name: str, apart_s: float = 300.0, days: float = 4.0, first: float = 0.0) -> Series:
    times = first + np.arange(0.0, days * DAY, apart_s)
    noise = np.random.default_rng(3).normal(0, 5, len(times))
    return Series(key=SeriesKey(name), times=times, values=100 + 50 * np.sin(times / 9000) + noise)


def ensemble(part, progress):
    return forecast_origins(part.series, part.origins, part.ask, progress)


def made_by(run, series, origins, ask):
    shares = []
    made = forecast_passes(series, origins, ask, (run, shares.append))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    return made


def test_series_that_begin_later_do_not_make_a_panel_large_before(monkeypatch):
    # Given two series, a panel that has a model for every near step, and a third that makes it one that has not
    monkeypatch.setattr(regression, "DENSE_SERIES", 2)
    series, origins = [wave("a", first=3 * DAY), wave("b"), wave("c")], [2.5 * DAY, 3.75 * DAY]
    ask = Ask(step_s=300.0, steps=6, quantiles=QUANTILES)
    # When the file goes on after the origin, and when it ends there
    whole, cut = made_by(ensemble, series, origins, ask), made_by(ensemble, series[1:], origins[:1], ask)
    # Then the answers are the same, bit for bit
    assert [(one.made_at, one.target) for one in whole] == [(origins[0], n) for n in "bc"] + [(origins[1], n) for n in "abc"]
    for one, other in zip(whole, cut, strict=False):
        np.testing.assert_array_equal(one.values, other.values)


@pytest.mark.parametrize(
    ("times", "apart"),
    [
        (np.arange(0.0, 9000.0, 60.0), 1),
        (np.arange(0.0, 9000.0, 30.0), 1),
        (np.arange(0.0, 90000.0, 300.0), 5),
        (np.arange(0.0, 9000.0, 300.0) + np.random.default_rng(0).uniform(0, 9, 30), 5),  # scraped a little late
        (np.delete(np.arange(0.0, 90000.0, 300.0), np.arange(100, 150)), 5),  # an outage
        (np.append(np.arange(0.0, 90000.0, 60.0), np.arange(90000.0, 180000.0, 300.0)), 5),  # five minutes of late
        (np.cumsum(np.random.default_rng(0).exponential(300.0, 300)), 1),  # events: some are neighbours
        (np.sort(np.random.default_rng(0).choice(np.arange(0.0, 90000.0, 60.0), 500, replace=False)), 1),  # most are missing
        (np.arange(0.0, 90000.0, 90.0), 1),  # every second one is a neighbour
        (np.zeros(1), 1),
        (np.zeros(0), 0),
    ],
)
def test_rows_that_come_regularly_and_rarely_are_far_apart(times, apart):
    assert steps_apart(times, 60.0) == apart


@pytest.mark.parametrize("apart_s", [300.0, 1800.0, 3600.0])
def test_a_grid_finer_than_the_data_has_the_bands_of_the_datas_own(apart_s):
    # Given rows every five, thirty or sixty minutes
    series, origin = wave("a", apart_s, days=14), 13 * DAY
    # When half an hour is asked by the minute, and by the data's own distance
    (fine,) = made_by(ensemble, [series], [origin], Ask(step_s=60.0, steps=30, quantiles=QUANTILES))
    own = Ask(step_s=apart_s, steps=max(1, round(1800 / apart_s)), quantiles=QUANTILES)
    (coarse,) = made_by(ensemble, [series], [origin], own)
    # Then it is the same forecast where both speak, no narrower within the first distance, and as much to be trusted
    assert "fallback" not in fine.model
    assert (fine.model, fine.skill, fine.coverage, fine.refused) == (
        coarse.model,
        coarse.skill,
        coarse.coverage,
        coarse.refused,
    )
    assert fine.times.tolist() == [origin + 60.0 * step for step in range(1, 31)]
    both = np.isin(fine.times, coarse.times)
    np.testing.assert_allclose(fine.values[:, both], coarse.values[:, np.isin(coarse.times, fine.times)])
    first = fine.times <= origin + apart_s
    np.testing.assert_allclose(fine.values[:, first], np.repeat(coarse.values[:, :1], first.sum(), axis=1))


def test_a_series_coarser_than_its_neighbours_has_a_pass_of_its_own_and_what_comes_later_decides_nothing():
    series = [wave("fine"), wave("rare", 3600.0), wave("unborn", 3600.0, first=3 * DAY)]
    ask = Ask(step_s=300.0, steps=6, quantiles=QUANTILES)
    found = [([str(s.key) for s in one.series], one.origins, one.wide, one.ask.steps) for one in passes(series, [DAY], ask)]
    assert found == [(["fine", "unborn"], [DAY], 1, 6), (["rare"], [DAY], 12, 1)]
    cut = [Series(key=s.key, times=s.times[s.times <= DAY], values=s.values[s.times <= DAY]) for s in series[:2]]
    for one, other in zip(
        made_by(ensemble, series, [DAY, 3.5 * DAY], ask)[:2], made_by(ensemble, cut, [DAY], ask), strict=True
    ):
        assert one.target == other.target
        np.testing.assert_array_equal(one.values, other.values)


def test_a_named_model_is_asked_on_the_datas_own_grid_too():
    def last(part, progress):
        return forecast_with(LastValue(), part.series, part.origins, part.ask, progress)

    (made,) = made_by(last, [wave("a", 3600.0)], [3 * DAY], Ask(step_s=300.0, steps=12, quantiles=QUANTILES))
    assert (np.diff(made.values, axis=1) == 0).all()
    assert made.values[-1, 0] > made.values[0, 0]


def test_origins_farther_apart_than_any_grid_have_their_rows_each():
    # Given three days of rows and a stray one a century later
    series = wave("a", days=3)
    stray = Series(key=series.key, times=np.append(series.times, 3e9), values=np.append(series.values, 100.0))
    ask = Ask(step_s=300.0, steps=3, quantiles=QUANTILES)
    # When it is forecast from both ends
    first, last = made_by(ensemble, [stray], [2 * DAY, 3e9], ask)
    # Then the first is what it is alone
    (alone,) = made_by(ensemble, [series], [2 * DAY], ask)
    assert (first.made_at, last.made_at) == (2 * DAY, 3e9)
    np.testing.assert_array_equal(first.values, alone.values)
