"""A rise that comes at the same minute every hour is in the forecast before it is there, at its own step and in full."""

import numpy as np
import pytest

from aiops.forecast.live import learn, say
from aiops.forecast.regression import anchors_for
from aiops.forecast.rolling import Ask
from aiops.forecast.trend import Calendar
from aiops.model import SeriesKey
from aiops.ports import Grid

STEP, LOW, HIGH = 300.0, 20.0, 80.0
RISE = 20_000 * 86400.0 + 13 * 3600.0
ASK = Ask(step_s=STEP, steps=6, quantiles=np.array([0.05, 0.5, 0.9, 0.95]))


@pytest.mark.parametrize(("steps", "anchors"), [(6, (1, 3, 6)), (3, (1, 2, 3)), (2, (1, 2)), (1, (1,)), (288, (1, 144, 288))])
def test_the_next_step_half_way_and_the_end_have_models_of_their_own(steps, anchors):
    assert anchors_for(steps) == anchors


@pytest.fixture(scope="module")
def learnt():
    """Seven days of a load that is high for the second half of each hour, learnt up to five minutes before a rise."""
    grid = load_until(RISE - STEP)
    return learn([grid], ASK, Calendar(), ())


def load_until(end: float) -> Grid:
    times = end - STEP * np.arange(7 * 288 - 1, -1, -1)
    noise = np.random.default_rng(3).normal(0, 2, len(times))
    high = (times % 3600) < 1800  # rises on the hour
    return Grid(key=SeriesKey("load"), start=float(times[0]), step_s=STEP, values=np.where(high, HIGH, LOW) + noise)


@pytest.mark.parametrize("before", [1, 3, 6])
def test_a_rise_is_foreseen_in_full_at_its_step_while_the_load_is_still_low(learnt, before):
    grid = load_until(RISE - before * STEP)
    (made,) = say([grid], ASK, Calendar(), learnt, None).forecasts
    assert grid.values[-1] < LOW + 10
    assert made.at_quantile(0.5)[before - 1] > 0.8 * HIGH
    assert made.refused is None
    if before > 1:
        assert made.at_quantile(0.9)[0] < 0.5 * HIGH  # not before its time
