"""Old history is not today's: a forecast that would carry the level of before a gap on is refused, by name."""

import numpy as np
import pytest

from aiops.forecast.baselines import LastValue
from aiops.forecast.gate import patience, unready
from aiops.forecast.live import learn, say
from aiops.forecast.rolling import Ask
from aiops.forecast.trend import Calendar
from aiops.model import SeriesKey
from aiops.ports import Grid

NAN = np.nan
STEP, NOW = 300.0, 20_000 * 86400.0
ASK = Ask(step_s=STEP, steps=3, quantiles=np.array([0.05, 0.5, 0.9, 0.95]))
STEADY, SPARSE = np.full(50, 60.0), np.where(np.arange(120) % 6 == 0, 60.0, NAN)


@pytest.mark.parametrize(
    ("history", "why"),
    [
        (STEADY, None),
        (np.append(STEADY, [NAN, NAN]), None),  # a scrape or two were missed
        (np.append(STEADY, [NAN] * 3), "no recent point"),  # started again, and nothing has been read yet
        (np.append(STEADY, [*[NAN] * 40, 5.0]), "1 points since a gap"),  # one reading says nothing of a habit
        (np.append(STEADY, [*[NAN] * 40, 5.0, NAN, 5.0]), "2 points since a gap"),
        (np.append(STEADY, [*[NAN] * 40, 5.0, 5.0, 5.0]), None),
        (np.append(STEADY, [NAN, NAN, 5.0]), None),  # too short to be a gap
        (SPARSE, None),  # a point every six steps is how this one is
        (np.append(SPARSE, [NAN] * 5), None),
        (np.append(SPARSE, [NAN] * 8), "no recent point"),
        (np.append([NAN] * 50, [1.0] * 5), "5 points"),
    ],
)
def test_what_makes_a_history_unfit_to_forecast_from(history, why):
    assert unready(history) == why


def test_a_series_that_lacks_points_at_random_is_not_refused_for_its_usual_gaps():
    present = np.flatnonzero(np.random.default_rng(1).random(2000) < 0.5)
    assert patience(present) >= 6
    assert patience(np.arange(100)) == 2


def ended(*newest: float) -> Grid:
    """Three days at sixty, then `newest`."""
    values = np.append(60 + np.random.default_rng(0).normal(0, 3, 864), newest)
    return Grid(key=SeriesKey("load"), start=NOW - STEP * (len(values) - 1), step_s=STEP, values=values)


@pytest.mark.parametrize(
    ("newest", "why"),
    [
        ((NAN,) * 5, "no recent point"),
        ((*[NAN] * 12, 5.0), "1 points since a gap"),
        ((*[NAN] * 12, 5.0, 5.0), "2 points since a gap"),
    ],
)
def test_after_a_restart_the_level_of_before_is_no_rise(newest, why):
    grid = ended(*newest)
    (made,) = say([grid], ASK, Calendar(), learn([grid], ASK, Calendar()), None).forecasts
    assert made.refused == why
    assert made.model == f"last_value(fallback: {why})"
    if np.isfinite(newest[-1]):
        assert made.at_quantile(0.5).max() < 15  # the level of now, not the return of sixty


def test_an_old_level_is_less_certain_than_a_fresh_one():
    walk = np.cumsum(np.random.default_rng(2).normal(size=600))
    fresh, old = (
        LastValue().predict(Grid(key=SeriesKey("walk"), start=0.0, step_s=STEP, values=v), 2, ASK.quantiles)
        for v in (walk, np.append(walk, [NAN] * 20))
    )
    assert (np.ptp(old, axis=0) > 2 * np.ptp(fresh, axis=0)).all()
