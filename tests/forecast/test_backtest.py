"""Backtest: the arithmetic of the scores, and the command."""

import json

import numpy as np
import pytest

from aiops.cli.backtest import backtest, parse_models
from aiops.errors import UserError
from aiops.forecast import rolling
from aiops.forecast.backtest import overall, score, spread_origins
from aiops.model import Forecast, Series, SeriesKey

TIMES = np.arange(0.0, 6000.0, 300.0)
RAMP = Series(key=SeriesKey("s"), times=TIMES, values=TIMES / 300.0)


def flat(model: str, at: float, value: float, spread: float) -> Forecast:
    offsets = np.array([-spread, 0.0, spread * 0.9, spread])
    return Forecast(
        target="s",
        made_at=at,
        times=at + np.array([300.0, 600.0]),
        quantiles=np.array([0.05, 0.5, 0.9, 0.95]),
        values=np.repeat((value + offsets)[:, None], 2, axis=1),
        model=model,
    )


def test_scores_are_the_written_formulas_on_the_same_origins():
    # the truth rises by 1 a step: the last value errs by 2 at two steps; a model that adds 1 errs by 1
    runs = {
        "last_value": [flat("last_value", at, at / 300, 0.5) for at in (300.0, 600.0)],
        "seasonal_naive": [flat("seasonal_naive", at, at / 300 - 2, 0.5) for at in (300.0, 600.0)],
        "mine": [flat("mine", at, at / 300 + 1, 3.0) for at in (300.0, 600.0, 1e6)],
    }
    mine = next(s for s in score(runs, [RAMP], [600.0]) if s.model == "mine")
    assert (mine.origins, mine.mean_error, mine.coverage) == (2, 1.0, 1.0)
    assert mine.wape == pytest.approx(2 / (3 + 4))
    assert mine.mase_last == pytest.approx(0.5)
    assert mine.mase_season == pytest.approx(0.25)
    assert mine.pinball == pytest.approx(0.1 * (1 + 2.7 - 2))
    assert mine.pinball_last == pytest.approx(mine.pinball / (0.9 * (2 - 0.45)))
    total = next(t for t in overall(score(runs, [RAMP], [600.0]), runs) if t.model == "mine")
    assert (total.mase_last, total.coverage, total.origins) == (pytest.approx(0.5), 1.0, 2)


def test_origins_lie_on_rows_of_the_newer_half_with_a_future():
    origins = spread_origins([RAMP], 4, 600.0)
    assert set(origins) <= set(TIMES)
    assert min(origins) >= 2700.0
    assert max(origins) <= TIMES[-1] - 600.0


def test_the_command_writes_a_report_with_every_asked_model(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{i * 600},s,{100 + 20 * np.sin(i / 23) + rng.normal():.3f}" for i in range(400)]
    (tmp_path / "in.csv").write_text("time,series,value\n" + "\n".join(rows) + "\n")
    backtest(tmp_path / "in.csv", horizons="10m,30m", origins=5, models="last_week_max", out=tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert {row["model"] for row in report["overall"]} == {"last_value", "seasonal_naive", "last_week_max"}
    assert all(row["mase_last"] == 1.0 for row in report["series"] if row["model"] == "last_value")
    assert report["horizons_s"] == [600.0, 1800.0]


def test_rises_are_those_over_a_tenth_of_the_value_at_the_origin_and_covered_by_the_upper_quantile():
    # the ramp is at 1 and 2 at the origins and 3 and 4 two steps on: both rise; an upper quantile of 3.5 covers one of them
    runs = {"last_value": [flat("last_value", at, 3.05, 0.5) for at in (300.0, 600.0)]}
    (one,) = score(runs, [RAMP], [600.0])
    assert (one.rises, one.rises_covered) == (2, 0.5)
    late = {"last_value": [flat("last_value", 5100.0, 3.05, 0.5)]}  # from 17 to 19 is a rise, from 1,700 to 1,702 is none
    high = Series(key=RAMP.key, times=TIMES, values=RAMP.values + 1683)
    assert [score(late, [one], [600.0])[0].rises for one in (RAMP, high)] == [1, 0]
    assert np.isnan(overall(score(late, [high], [600.0]), late)[0].rises_covered)


def test_values_that_cannot_be_summed_are_refused_by_name(tmp_path):
    (tmp_path / "in.csv").write_text("\n".join(["time,series,value", *(f"{i * 600},s,1.6e308" for i in range(9))]))
    with pytest.raises(UserError, match=r"expected values up to 1e\+150 in size, found 1.6e\+308 in series s"):
        backtest(tmp_path / "in.csv")


def test_unknown_models_are_named():
    with pytest.raises(UserError, match=r"expected all or some of auto, .*found 'crystal_ball'"):
        parse_models("last_value,crystal_ball")


def test_what_no_model_learns_from_and_nobody_asks_about_is_not_described(monkeypatch):
    # Given a day of five-minute rows, and one more three years later: 316,000 columns of the grid
    day = np.arange(288) * 300.0
    times = np.append(day, 3 * 365 * 86400.0)
    series = Series(key=SeriesKey("stray"), times=times, values=np.append(100 + np.sin(day / 7000), 100.0))
    asked, describe = [], rolling.describe
    monkeypatch.setattr(
        rolling, "describe", lambda values, cols, *more: asked.append(len(cols)) or describe(values, cols, *more)
    )
    # When it is forecast from its last row
    ask = rolling.Ask(step_s=300.0, steps=3, quantiles=np.array([0.05, 0.5, 0.9, 0.95]))
    (made,) = rolling.forecast_origins([series], [float(times[-1])], ask)
    # Then only the weeks that a model learns from, and the days that judge it, were looked at
    assert sum(asked) < 30 * 288 + 600
    assert np.isfinite(made.values).all()


def test_a_series_that_begins_later_changes_nothing_before(monkeypatch):
    # Given two series of which so much is known that only every k-th moment is learnt from, and a third that begins later
    monkeypatch.setattr(rolling, "MAX_ROWS", 400)
    rng, times = np.random.default_rng(3), np.arange(4 * 288) * 300.0
    wave = 100 + 50 * np.sin(times / 9000)
    levels = [Series(key=SeriesKey(name), times=times, values=wave + rng.normal(0, 5, len(times))) for name in "bc"]
    later = Series(key=SeriesKey("a"), times=times + 3 * 86400.0, values=levels[0].values)
    ask = rolling.Ask(step_s=300.0, steps=2, quantiles=np.array([0.05, 0.5, 0.9, 0.95]))
    origins = [2.5 * 86400.0, 4.5 * 86400.0]
    # When the file goes on after the origin, and when it ends there
    whole = [f for f in rolling.forecast_origins([later, *levels], origins, ask) if f.made_at == origins[0]]
    cut = list(rolling.forecast_origins([*levels], origins[:1], ask))
    # Then the answers are the same, bit for bit
    assert [one.target for one in whole] == [one.target for one in cut] == ["b", "c"]
    assert all("boosting" in one.model for one in cut)
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
