"""The grids that forecasts learn from: means of gauges, rates of counters, and the same whether read at once or bit by bit."""

from dataclasses import replace

import numpy as np
import pytest

from aiops.drawing import Drawings
from aiops.forecast.limits import RULES, companions
from aiops.foresight import Plan
from aiops.metrics import find
from aiops.model import Cause, Cluster, Query, Series, SeriesKey
from aiops.past import Past, foreseen_as, on_grid
from aiops.ports import Grid
from aiops.refresh import Refresher, plain, refresh_findings
from aiops.wiring import RESOURCES

DAY = 86400.0
NOW = 20_000 * DAY
PLAN = Plan(prophet_series=0, history_s=4 * DAY)
LOAD, SENT = SeriesKey("service_requests_per_second"), SeriesKey.of("node_network_transmit_bytes_total", device="eth0")
SPEED = SeriesKey.of("node_network_speed_bytes", device="eth0")


class Shelf:
    """A store that gives what was written by then, and counts the points that it gave."""

    def __init__(self, *series: Series):
        self.series, self.given, self.kept = list(series), 0, {}

    def read(self, query, now):
        found = []
        for one in self.series:
            inside = (one.times > now - query.window_s) & (one.times <= now)
            if one.key.metric == query.metric and inside.any():
                self.given += int(inside.sum())
                found.append(Series(key=one.key, times=one.times[inside], values=one.values[inside]))
        return tuple(found)

    def put_forecasts(self, made):
        self.kept |= {one.target: one for one in made}

    def forecasts(self, since=0.0):
        return tuple(one for one in self.kept.values() if one.made_at >= since)

    def put_findings(self, at, findings):
        pass

    def findings(self):
        return ()

    def finding_history(self, since, until):
        return ()


class Here:
    """Tasks in this process."""

    def run(self, work, tasks, timeout_s):
        return [(work(*task), "") for task in tasks]

    def close(self):
        pass


def series(key, values, step=10.0, end=NOW):
    values = np.asarray(values, dtype=np.float64)
    return Series(key=key, times=end - step * np.arange(len(values) - 1, -1, -1), values=values)


@pytest.mark.parametrize(
    ("key", "values", "expected"),
    [
        (LOAD, [1, 3, 5, 7], [2, 6]),  # the mean of each step, not its last sample
        (LOAD, [1, 3, np.nan, 7], [2, 7]),  # missing is not zero
        (LOAD, [1, 3, np.nan, np.nan], [2]),  # unknown steps at the end stay unknown (see below), earlier ones count
        (SENT, [0, 50, 150, 250, 350], [7.5, 10]),  # a counter is its rate: bytes per second over each step
        (SENT, [900, 950, 30, 130, 230], [4, 10]),  # started again: what it has counted since
    ],
)
def test_steps_are_means_and_rates(key, values, expected):
    found = on_grid(series(key, values), (NOW, 20.0, DAY))
    known = found[np.isfinite(found)]
    np.testing.assert_allclose(known[-len(expected) :], expected)


def test_a_counter_that_was_not_read_for_long_has_no_rate_in_between():
    one = Series(key=SENT, times=NOW + np.array([-120.0, -110, -10, 0]), values=np.array([0.0, 100, 5000, 5100]))
    found = on_grid(one, (NOW, 20.0, DAY))
    assert found[-1] == 10.0
    assert np.isnan(found[-5:-1]).all()


def test_reading_only_what_is_new_gives_the_grids_of_reading_everything():
    rng = np.random.default_rng(0)
    shelf = Shelf(series(LOAD, rng.poisson(20, 9000)), series(SENT, np.cumsum(rng.poisson(900, 9000)), 10.0, NOW - 3.0))
    asks = [Query(metric=LOAD.metric, window_s=1.0), Query(metric=SENT.metric, window_s=1.0)]
    grown = Past(shelf, PLAN)
    for now in (NOW - 5000, NOW - 4700, NOW - 4690, NOW - 2000, NOW):
        shelf.given = 0
        found = grown.grids(now, asks)
        whole = Past(shelf, PLAN).grids(now, asks)
        assert [g.key for g in found] == [foreseen_as(SENT), LOAD] == [g.key for g in whole]
        for mine, theirs in zip(found, whole, strict=True):
            assert (mine.start, mine.end) == (theirs.start, theirs.end)
            assert mine.values.tobytes() == theirs.values.tobytes()


class SlowShelf(Shelf):
    """A store that has a sample only seconds after its time, as from a scrape that takes so long."""

    def read(self, query, now):
        (one,) = super().read(query, now)
        there = one.times <= now - 3.0
        return (Series(key=one.key, times=one.times[there], values=one.values[there]),)


@pytest.mark.parametrize("key", [LOAD, SENT])
def test_a_sample_that_is_written_just_after_a_refresh_is_in_the_next(key):
    past, ask = Past(SlowShelf(series(key, np.arange(1000.0), 300.0)), PLAN), [Query(metric=key.metric, window_s=1.0)]
    for now in NOW - 3000.0 + 300.0 * np.arange(10) + 1.0:  # two seconds before the newest sample is there
        (grid,) = past.grids(now, ask)
        assert np.isfinite(grid.values[1:-1]).all()


def test_a_refresh_reads_minutes_and_not_days_again_until_a_new_series_appears():
    shelf = Shelf(series(LOAD, np.ones(20_000)))
    past, ask = Past(shelf, PLAN), [Query(metric=LOAD.metric, window_s=1.0)]
    past.grids(NOW - 300, ask)
    before, shelf.given = shelf.given, 0
    past.grids(NOW, ask)
    assert shelf.given <= 4 * 30 < before  # the new step, one before it, and two that the rate of a counter may need
    shelf.series.append(series(SeriesKey.of(LOAD.metric, service="new"), np.ones(5000), 10.0, NOW + 300))
    assert [len(grid.values) for grid in past.grids(NOW + 300, ask)] == [round(20_000 / 30) + 1, round(5000 / 30)]


def test_a_series_that_fell_silent_keeps_its_place_and_its_gap():
    shelf = Shelf(series(LOAD, np.ones(600), end=NOW))
    past, ask = Past(shelf, PLAN), [Query(metric=LOAD.metric, window_s=1.0)]
    past.grids(NOW, ask)
    (grid,) = past.grids(NOW + 1500, ask)
    assert grid.end == NOW + 1500
    assert np.isnan(grid.values[-5:]).all()
    assert grid.values[-6] == 1.0


def test_every_limit_is_of_a_metric_that_the_catalogue_has_and_the_daemon_forecasts():
    targets = {foreseen_as(SeriesKey(metric)).metric for metric in RESOURCES}
    assert {rule.metric for rule in RULES} <= targets
    assert all(find(metric) is not None for metric in (*RESOURCES[:-1], *companions()))


def findings_after(shelf, metric, ends):
    refresher = Refresher(shelf, PLAN, executor=Here())
    for now in ends:
        refresher.forecasts(now, [Query(metric=metric, window_s=1.0)])
    return refresh_findings(shelf, (), Cluster(at=ends[-1], backend="local"), (ends[-1], ()), refresher)


def test_a_link_that_fills_up_is_found_before_it_is_congested():
    rate = np.concatenate([np.full(1100, 20e6), np.linspace(20e6, 63e6, 52)]) * 300  # 0.7 of the link is 70e6
    shelf = Shelf(series(SENT, np.cumsum(rate), 300.0), series(SPEED, np.full(1152, 100e6), 300.0))
    refresher = Refresher(shelf, replace(PLAN, prophet_series=0), executor=Here())
    refresher.forecasts(NOW, [Query(metric=SENT.metric, window_s=1.0)])
    (made,) = shelf.forecasts()
    rising = replace(made, values=made.values + np.linspace(0, 20e6, 6)[None, :])
    shelf.kept = {rising.target: rising}
    (found,) = refresh_findings(shelf, (), Cluster(at=NOW, backend="local"), (NOW, ()), refresher)
    assert (found.cause, found.subject) == (Cause.EXHAUSTION, "device:eth0")
    assert "node_network_transmit_bytes_per_s" in found.summary


def test_a_load_that_leaves_its_band_is_found_with_its_onset_and_until_it_is_usual_again():
    rng = np.random.default_rng(1)
    load = 100 + rng.normal(0, 3, 1100)
    load[-3:] += 60
    shelf = Shelf(series(LOAD, load, 300.0))
    ends = [NOW - 300 * back for back in (4, 3, 2, 1, 0)]
    (found,) = findings_after(shelf, LOAD.metric, ends)
    assert (found.cause, found.subject, found.since) == (Cause.ANOMALY, str(LOAD), NOW - 600)
    assert "above its forecast band for 3 points" in found.summary
    load[-3:] -= 60
    assert findings_after(Shelf(series(LOAD, load, 300.0)), LOAD.metric, ends) == ()


def test_forecasts_of_a_clock_that_was_wrong_are_not_kept_until_it_comes_true():
    refresher = Refresher(Shelf(series(LOAD, np.ones(5), 300.0)), PLAN, executor=Here())
    for made_at in (NOW + DAY, NOW, NOW + 300):
        (grid,) = [Grid(key=LOAD, start=made_at - 600, step_s=300.0, values=np.ones(3))]
        refresher._departures([grid], plain([grid], PLAN, "why"), made_at)
    assert [at for at, _ in refresher._earlier] == [NOW, NOW + 300]


def test_why_a_series_had_no_shape_is_forgotten_with_it():
    grid, drawings = (
        Grid(key=SeriesKey.of("load", service="a"), start=0.0, step_s=300.0, values=np.ones(3)),
        Drawings(Plan(), 60.0),
    )
    drawings.adopt(drawings.due([grid], 900.0), [(None, "fit failed: OSError")], 900.0, False)
    assert list(drawings.unheard([grid]).values()) == ["(without prophet: fit failed: OSError)"]
    drawings.due([], 1200.0)
    assert list(drawings.unheard([grid]).values()) == ["(without prophet: not fitted)"]
