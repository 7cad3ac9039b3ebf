"""Early warning: chance, lead and onset from forecasts that are written out by hand."""

import numpy as np
import pytest

from aiops.forecast.warning import Limit, anomalies, chance_beyond, exhaustions
from aiops.model import Cause, Forecast, Series, SeriesKey

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


def test_chance_follows_the_quantiles():
    chances = chance_beyond(rising(), Limit(subject="v", target="disk", value=30.0))
    np.testing.assert_allclose(chances[[0, 2, 5]], [0.05, 0.5, 0.95])
    assert (np.diff(chances) >= 0).all()


def test_a_point_mass_has_a_chance():
    flat = Forecast(target="t", made_at=0, times=np.array([1.0]), quantiles=Q, values=np.zeros((3, 1)), model="m")
    assert chance_beyond(flat, Limit(subject="s", target="t", value=0.0)).tolist() == pytest.approx([0.05])
    assert chance_beyond(flat, Limit(subject="s", target="t", value=-1.0)).tolist() == pytest.approx([0.95])


def test_old_forecasts_say_nothing_and_refused_ones_say_so():
    limit = Limit(subject="vol", target="disk", value=35.0)
    assert exhaustions([rising()], [limit], now=5000.0) == ()
    (found,) = exhaustions([rising(refused="no skill")], [limit], now=0.0)
    assert "no skill" in found.evidence_against[0].text


@pytest.mark.parametrize(
    ("offsets", "since"),
    [
        ([0, 0, 0, 9, 9, 9], 1200.0),  # three in a row above: onset at the first
        ([0, 0, 0, 0, 9, 9], None),  # two are not enough
        ([9, 9, 9, 9, 9, 0], None),  # back inside: over
        ([0, 0, 9, -9, 9, -9], None),  # noise on both sides is not a departure
        ([0, 0, 0, -9, -9, -9], 1200.0),
    ],
)
def test_an_anomaly_is_a_run_outside_the_band_and_knows_its_onset(offsets, since):
    made = rising()
    series = Series(key=SeriesKey("disk"), times=made.times, values=made.values[1] + offsets)
    found = anomalies({"disk": [made]}, [series], now=1800.0)
    assert [f.since for f in found] == ([] if since is None else [since])


def test_points_are_held_against_the_newest_forecast_made_before_them():
    later = rising(made_at=900.0)
    series = Series(key=SeriesKey("disk"), times=later.times[:3], values=later.values[1][:3])
    assert len(anomalies({"disk": [rising()]}, [series], 3000.0)) == 1
    assert anomalies({"disk": [rising(), later]}, [series], 3000.0) == ()
