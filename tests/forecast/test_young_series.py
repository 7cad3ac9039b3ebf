"""A series without a record yet gets the last value and the reason, not an error: a daemon's first hours."""

import numpy as np
import pytest

from aiops.forecast.trend import Calendar
from aiops.foresight import Plan
from aiops.model import SeriesKey
from aiops.ports import Grid
from aiops.refresh import learn_panel, say_group


@pytest.mark.parametrize("points", [1, 5, 12, 19])
def test_the_first_points_give_the_last_value_and_say_why_it_may_not_be_used(points: int) -> None:
    grid = Grid(key=SeriesKey.of("m"), start=0.0, step_s=300.0, values=np.full(points, 7.0))
    by = Plan().ask, Calendar()
    (forecast,) = say_group([grid], *by, learn_panel([grid], *by), ({}, {}), None).forecasts
    assert forecast.model.startswith("last_value")
    assert forecast.refused in ("no record yet", f"{points} points")
    assert forecast.skill is None
    np.testing.assert_array_equal(forecast.at_quantile(0.5), np.full(6, 7.0))
