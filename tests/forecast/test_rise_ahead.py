"""A square rise that comes at the same minutes again and again is in the forecast before it is there, whole, at its step."""

from dataclasses import replace

import numpy as np
import pytest

from aiops.forecast import regression
from aiops.forecast.live import learn, say
from aiops.forecast.regression import DENSE_SERIES, anchors_for
from aiops.forecast.rolling import Ask, forecast_origins
from aiops.forecast.trend import Calendar
from aiops.model import Series, SeriesKey
from aiops.ports import Grid

STEP, LOW, HIGH = 300.0, 5.0, 60.0
RISE = 20_000 * 86400.0 + 13 * 3600.0
ASK = Ask(step_s=STEP, steps=6, quantiles=np.array([0.05, 0.5, 0.9, 0.95]))


@pytest.mark.parametrize(
    ("steps", "series", "anchors"),
    [
        (6, 1, (1, 2, 3, 4, 5, 6)),  # half an hour of five-minute steps: every one
        (3, 1, (1, 2, 3)),
        (1, 1, (1,)),
        (288, 1, (1, 2, 3, 4, 5, 6, 144, 288)),  # a day: the near ones, half way, the end
        (6, DENSE_SERIES + 1, (1, 3, 6)),  # too many to learn every step of
        (2, DENSE_SERIES + 1, (1, 2)),
    ],
)
def test_every_near_step_has_a_model_of_its_own_where_that_is_affordable(steps, series, anchors):
    assert anchors_for(steps, series) == anchors


def load_until(end: float, period_s: float) -> Grid:
    """Seven days of a load that is high for the first half of each period; it rises at RISE."""
    times = end - STEP * np.arange(7 * 288 - 1, -1, -1)
    noise = np.random.default_rng(3).normal(0, 1, len(times))
    return Grid(
        key=SeriesKey("load"),
        start=float(times[0]),
        step_s=STEP,
        values=np.where(times % period_s < period_s / 2, HIGH, LOW) + noise,
    )


@pytest.fixture(scope="module", autouse=True)
def few_bold_trees():
    """A fifth of the rounds at five times the rate: the same shape, learnt in seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regression, "ROUNDS", 24)
        patch.setattr(regression, "RATE", 0.25)
        yield


@pytest.fixture(scope="module", params=[3600.0, 1800.0], ids=["hourly", "half-hourly"])
def learnt(request):
    """Period, and what was learnt up to five minutes before a rise."""
    return request.param, learn([load_until(RISE - STEP, request.param)], ASK, Calendar())


@pytest.mark.parametrize("before", [1, 2, 3])
def test_rise_and_fall_are_foreseen_in_full_at_their_steps_while_the_load_is_still_low(learnt, before):
    period, model = learnt
    grid = load_until(RISE - before * STEP, period)
    (made,) = say([grid], ASK, Calendar(), model, None).forecasts
    high = made.times % period < period / 2
    middle = made.at_quantile(0.5)
    assert grid.values[-1] < LOW + 5  # nothing to be seen yet
    assert made.refused is None
    assert (middle[high] > 0.9 * HIGH).all()
    assert (made.at_quantile(0.9)[~high] < 0.25 * HIGH).all()  # neither before its time nor after its end


def test_offline_forecasts_place_the_rise_at_its_step_too():
    grid = load_until(RISE - 4 * STEP, 3600.0)
    series = Series(key=grid.key, times=grid.start + STEP * np.arange(len(grid.values)), values=grid.values)
    (made,) = forecast_origins([series], [float(series.times[-1])], ASK)
    assert (made.at_quantile(0.9)[:3] < 0.25 * HIGH).all()
    assert (made.at_quantile(0.5)[3:] > 0.9 * HIGH).all()


def test_a_track_of_other_steps_than_those_learnt_is_begun_anew(learnt):
    """The panel grew past what is affordable between two learnings: its record has bands at other steps."""
    period, model = learnt
    grid = load_until(RISE - STEP, period)
    first = say([grid], ASK, Calendar(), model, None).said
    sparse = replace(first, bands=first.bands[:, :, [0, 2, 5]])
    assert say([grid], ASK, Calendar(), model, sparse).said.bands.shape == first.bands.shape
