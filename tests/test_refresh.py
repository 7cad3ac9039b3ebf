"""Refreshing beside the loop: every target gets a row, whatever happens to the fit."""

from dataclasses import replace

import numpy as np
import pytest

from aiops import drawing, refresh
from aiops.forecast import live, regression
from aiops.forecast.experts import PROPHET
from aiops.forecast.gate import NO_SKILL
from aiops.foresight import Plan
from aiops.model import Cause, Cluster, Forecast, Query, Series, SeriesKey
from aiops.ports import Grid
from aiops.refresh import Refresher, keep_choice, refresh_findings
from aiops.workers import DaskWorkers, Workers

NOW = 1_700_000_100.0
KEY = SeriesKey.of("requests", service="web")


def wave(key: SeriesKey = KEY, days: float = 4.0, seed: int = 0) -> Series:
    times = np.arange(NOW - days * 86400, NOW, 300.0)
    noise = np.random.default_rng(seed).normal(0, 5, len(times))
    return Series(key=key, times=times, values=100 + 50 * np.sin(2 * np.pi * times / 86400) + noise)


class Shelf:
    """A store of given series that remembers what was put."""

    def __init__(self, *series: Series):
        self.series = series or (wave(),)
        self.forecasts_put, self.findings_put = [], []

    def read(self, query, now):
        return tuple(replace(s) for s in self.series if s.key.metric == query.metric)

    def put_forecasts(self, forecasts):
        self.forecasts_put += forecasts

    def forecasts(self, made_since=0.0):
        return tuple({one.target: one for one in self.forecasts_put if one.made_at >= made_since}.values())

    def put_findings(self, at, findings):
        self.findings_put.append((at, tuple(findings)))

    def finding_history(self, since, until):
        return self.findings_put[-1][1] if self.findings_put else ()


class Here:
    """Tasks in this process: an executor without processes."""

    def __init__(self):
        self.done = []

    def run(self, work, tasks, timeout_s):
        self.done.append([task[0].__name__ for task in tasks])
        return [(work(*task), "") for task in tasks]

    def close(self):
        pass


PLAN = Plan(prophet_series=0, timeout_s=250)
NEAR = replace(PLAN, horizon_s=600.0, timeout_s=3600.0)
"""Two steps ahead, so two horizons to learn: for real workers, on a machine as busy as it likes."""

ASKS = [Query(metric="requests", window_s=1)]


def test_a_refresh_stores_one_row_per_series_from_a_worker():
    refresher = Refresher(Shelf(), replace(NEAR, prophet_series=5))
    try:
        (made,) = refresher.forecasts(NOW, ASKS)
    finally:
        refresher.close()
    assert refresher.shelf.forecasts_put == [made]
    assert made.target == str(KEY)
    assert made.made_at <= NOW < made.times[0] + 300
    assert made.values.shape == (4, 2)
    assert np.isfinite(made.values).all()
    assert made.skill is not None
    assert made.skill > 0


def test_nothing_found_is_nothing_stored():
    assert Refresher(Shelf(), PLAN, executor=Here()).forecasts(NOW, [Query(metric="other", window_s=1)]) == ()


def test_learning_is_daily_and_saying_is_every_time(small_trees):
    here = Here()
    refresher = Refresher(Shelf(), PLAN, executor=here)
    for now in (NOW, NOW + 300, NOW + 90_000, NOW + 90_300):
        refresher.forecasts(now, ASKS)
    assert here.done == [["learn_panel"], ["say_group"], ["say_group"], ["say_group", "learn_panel"], ["say_group"]]


def test_what_was_learnt_by_a_clock_that_ran_ahead_does_not_stand_until_its_time_comes(small_trees):
    # Given a daemon that learnt, and drew Prophet's shapes, by a clock a month ahead
    here, plan = Here(), replace(PLAN, prophet_series=1)
    refresher = Refresher(Shelf(), plan, executor=here)
    refresher.drawings.adopt([panel := (grid_of_wave(),)], [(({}, {}), "")], NOW + 30 * 86400, False)
    refresher._learn_at = NOW + 31 * 86400
    # When the clock is right again, then both are due at once, and the day after
    assert refresher._due(panel)
    assert refresher.drawings.due(panel, NOW) == [panel]
    # And what was learnt an hour ago is not
    refresher._learn_at = NOW + 23 * 3600
    refresher.drawings.adopt([panel], [(({}, {}), "")], NOW - 3600, False)
    assert not refresher._due(panel)
    assert refresher.drawings.due(panel, NOW) == []


def grid_of_wave() -> Grid:
    return Grid(key=KEY, start=NOW - 600, step_s=300.0, values=np.ones(3))


def test_short_constant_and_silent_series_get_their_row_and_reason(small_trees):
    times = np.arange(NOW - 900, NOW, 300.0)
    short = Series(key=SeriesKey.of("requests", service="new"), times=times, values=np.array([1.0, 2.0, 3.0]))
    old = wave(SeriesKey.of("requests", service="old"))
    silent = replace(old, times=old.times[:-100], values=old.values[:-100])
    flat = replace(wave(SeriesKey.of("requests", service="flat")), values=np.full(len(old.times), 5.0))
    made = {f.target: f for f in Refresher(Shelf(wave(), short, silent, flat), PLAN, executor=Here()).forecasts(NOW, ASKS)}
    assert "3 points" in made[str(short.key)].refused
    assert made[str(silent.key)].refused == "no recent point"
    np.testing.assert_allclose(made[str(flat.key)].values, 5.0)
    assert made[str(flat.key)].refused == NO_SKILL


@pytest.fixture
def small_trees(monkeypatch):
    """Ten rounds of boosting: these tests are about who says what, not how well."""
    monkeypatch.setattr(regression, "ROUNDS", 10)


def hang(*task):
    while True:
        pass


def crash(*task):
    raise RuntimeError("stan")


class Awkward(Exception):
    """As some libraries have them: it can be sent to another process and not be read there."""

    def __init__(self, code, words):
        super().__init__(words)


def crash_awkwardly(*task):
    raise Awkward(1, "stan")


def leave(*task):
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (hang, "fit timed out"),
        (crash, "fit failed: RuntimeError"),
        (crash_awkwardly, "fit failed: Awkward"),
        (leave, "fit failed: SystemExit"),
    ],
)
def test_a_fit_that_hangs_or_fails_falls_back_and_says_so(monkeypatch, work, reason):
    monkeypatch.setattr(refresh, "learn_panel", work)
    refresher = Refresher(Shelf(), replace(PLAN, timeout_s=15))
    try:
        (made,) = refresher.forecasts(NOW, ASKS)
    finally:
        refresher.close()
    assert made.refused == reason
    assert made.model == f"last_value(fallback: {reason})"
    assert np.isfinite(made.values).all()


class Walled(Here):
    """As workers do: what a task raises is a reason."""

    def run(self, work, tasks, timeout_s):
        return [self.tried(work, task) for task in tasks]

    def tried(self, work, task):
        try:
            return work(*task), ""
        except Exception as error:
            return None, f"fit failed: {type(error).__name__}"


class Ill(Here):
    """Learning fails while `ill`."""

    ill = True

    def run(self, work, tasks, timeout_s):
        self.done.append([task[0].__name__ for task in tasks])
        return [
            (None, "fit timed out") if task[0].__name__ == "learn_panel" and self.ill else (work(*task), "") for task in tasks
        ]


def test_after_a_fit_that_failed_the_next_waits_an_hour_and_rows_go_on(small_trees):
    ill = Ill()
    refresher = Refresher(Shelf(), PLAN, executor=ill)
    reasons = [refresher.forecasts(NOW + 300 * k, ASKS)[0].refused for k in range(3)]
    assert ill.done == [["learn_panel"]]
    assert reasons == ["fit timed out"] * 3
    ill.ill = False
    (made,) = refresher.forecasts(NOW + 3900, ASKS)
    assert made.refused != "fit timed out"
    assert ill.done[1:] == [["learn_panel"], ["say_group"]]


def test_yesterdays_model_speaks_where_todays_fit_fails(small_trees):
    ill = Ill()
    ill.ill = False
    refresher = Refresher(Shelf(), PLAN, executor=ill)
    refresher.forecasts(NOW, ASKS)
    ill.ill = True
    (made,) = refresher.forecasts(NOW + 86_400, ASKS)
    assert ill.done[-1] == ["say_group", "learn_panel"]
    assert "fallback: fit" not in made.model


def test_of_very_many_series_learning_sees_a_sample(monkeypatch):
    monkeypatch.setattr(refresh, "LEARN_SERIES", 3)
    (learning,) = Refresher(Shelf(), PLAN, executor=Here())._due(grids(7))
    assert [grid.key.metric for grid in learning[1]] == ["s0", "s3", "s6"]


def unfittable(*task):
    raise RuntimeError("stan")


@pytest.mark.parametrize("key", [KEY, SeriesKey.of("requests", device="sda")], ids=["service", "device"])
def test_prophet_is_asked_for_services_only_and_where_it_fails_the_record_says_so(monkeypatch, small_trees, key):
    monkeypatch.setattr(refresh, "draw_shapes", unfittable)
    refresher = Refresher(Shelf(wave(key)), replace(PLAN, prophet_series=5), executor=Walled())
    made = [refresher.forecasts(NOW + 300 * k, ASKS)[0] for k in range(2)]
    said = "(without prophet: fit failed: RuntimeError)"
    assert [one.model.endswith(said) for one in made] == [key is KEY] * 2
    assert all("fallback: fit" not in one.model for one in made)


def test_one_service_that_prophet_fails_on_costs_the_others_nothing_and_one_that_left_is_forgotten(monkeypatch, small_trees):
    bad, drawn = SeriesKey.of("requests", service="odd"), refresh.draw_shapes
    monkeypatch.setattr(drawing, "PROPHET_GROUP", 1)
    monkeypatch.setattr(refresh, "draw_shapes", lambda panel, *task: crash() if panel[0].key == bad else drawn(panel, *task))
    shelf = Shelf(wave(), wave(bad, seed=1))
    refresher = Refresher(shelf, replace(PLAN, prophet_series=5), executor=Walled())
    made = {one.target: one.model for one in refresher.forecasts(NOW, ASKS)}
    assert made[str(bad)].endswith("(without prophet: fit failed: RuntimeError)")
    assert "without prophet" not in made[str(KEY)]
    assert set(refresher.drawings.shapes[0]) == {KEY}
    shelf.series = (wave(bad, seed=1),)
    refresher.past = type(refresher.past)(shelf, refresher.plan)
    refresher.forecasts(NOW + 90_000, ASKS)
    assert refresher.drawings.shapes == ({}, {})


class Idle:
    """Answers without computing: learning succeeds, Prophet is late from the task of `stuck` on, nothing is said."""

    def __init__(self, stuck):
        self.stuck, self.done = stuck, []

    def run(self, work, tasks, timeout_s):
        answers, late = [], False
        self.done.append([])
        for task in tasks:
            names = [grid.key.label("service") for grid in task[1]] if task[0] is refresh.draw_shapes else [task[0].__name__]
            self.done[-1] += names
            late = late or names == [self.stuck]
            drawn = (dict.fromkeys(grid.key for grid in task[1]), {}) if task[0] is refresh.draw_shapes else b"model"
            answers.append((None, "fit timed out" if late else "unsaid") if late or names == ["say_group"] else (drawn, ""))
        return answers

    def close(self):
        pass


def test_what_prophet_was_late_with_is_tried_next_and_what_hung_after_an_hour_while_nothing_is_learnt_anew(monkeypatch):
    monkeypatch.setattr(drawing, "PROPHET_GROUP", 1)
    shelf = Shelf(*(wave(SeriesKey.of("requests", service=name)) for name in "abcd"))
    idle = Idle("b")
    refresher = Refresher(shelf, replace(PLAN, prophet_series=9), executor=idle)
    for later in (0, 300, 600, 3900, 86_400):
        refresher.forecasts(NOW + later, ASKS)
    fits = [[task for task in run if task != "say_group"] for run in idle.done]
    assert fits == [["learn_panel", "a", "b", "c", "d"], [], ["c", "d"], [], ["b"], ["learn_panel", "a", "b"]]


def test_prophets_shapes_start_from_yesterdays_and_speak_beside_the_others(monkeypatch, small_trees):
    warm = []
    fit = live.fit_shapes
    monkeypatch.setattr(
        live, "fit_shapes", lambda panel, calendar, before: warm.append(set(before)) or fit(panel, calendar, before)
    )
    refresher = Refresher(Shelf(), replace(PLAN, prophet_series=5), executor=Here())
    for now in (NOW, NOW + 300, NOW + 86_400):
        (made,) = refresher.forecasts(now, ASKS)
    assert warm == [set(), {KEY}, {KEY}, {KEY}]
    assert "without prophet" not in made.model
    said = refresher._said[False, 0]
    assert np.isfinite(said.bands[0, :, :, PROPHET]).any()


def grids(count: int) -> list[Grid]:
    return [
        Grid(key=SeriesKey(f"s{i}"), start=NOW - 300 * 1151, step_s=300.0, values=wave(seed=i).values[-1152:])
        for i in range(count)
    ]


def test_processes_dask_and_this_process_agree_bit_for_bit(monkeypatch):
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    monkeypatch.setattr(refresh, "GROUP", 2)
    panel = grids(4)
    results = []
    with distributed.LocalCluster(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        for executor in (Here(), Workers(2), DaskWorkers(distributed.Client(cluster))):
            refresher = Refresher(Shelf(), NEAR, executor=executor)
            results.append(refresher.refresh(panel))
            refresher.close()
    for other in results[1:]:
        for mine, theirs in zip(results[0], other, strict=True):
            assert mine.values.tobytes() == theirs.values.tobytes()
            assert (mine.model, mine.skill, mine.refused) == (theirs.model, theirs.skill, theirs.refused)


@pytest.mark.parametrize(
    ("was", "skill", "coverage", "acts"),
    [
        (False, 0.01, 0.9, False),  # hardly better than naive: not let in
        (True, 0.01, 0.9, True),  # but not thrown out for it either
        (True, -0.03, 0.9, False),  # clearly worse
        (False, 0.2, 0.855, False),
        (True, 0.2, 0.845, True),
        (True, 0.2, 0.8, False),
    ],
)
def test_admission_does_not_flap(was, skill, coverage, acts):
    one = np.zeros(1)
    made = Forecast(
        target="t", made_at=0, times=one, quantiles=one, values=one[None], model="m", skill=skill, coverage=coverage
    )
    (kept,) = keep_choice([made], frozenset({"t"} if was else ()))
    assert (kept.refused is None) is acts


@pytest.mark.parametrize(("age_s", "acts"), [(600.0, True), (7200.0, False), (-30 * 86400.0, False)])
def test_a_daemon_that_starts_again_keeps_the_choice_of_the_one_before(monkeypatch, age_s, acts):
    # Given a forecast that was acted upon, lately, long ago or nobody knows when (a clock ran ahead), and one now that is a
    # little worse than it must be to begin with
    shelf, barely = Shelf(), replace(rising_forecast(), skill=0.01, coverage=0.9)
    shelf.put_forecasts([replace(barely, made_at=NOW - age_s)])
    # When another daemon refreshes, then it stays so only if it was so lately
    refresher = Refresher(shelf, PLAN, executor=Here())
    monkeypatch.setattr(refresher, "refresh", lambda grids: (barely,))
    (made,) = refresher.forecasts(NOW, ASKS)
    assert (made.refused is None) is acts


def rising_forecast() -> Forecast:
    return Forecast(
        target=str(KEY), made_at=NOW, times=np.array([NOW + 300]), quantiles=np.ones(1) / 2, values=np.ones((1, 1)), model="m"
    )


class Judge:
    """A diagnoser that finds nothing."""

    name = "judge"

    def diagnose(self, cluster, series, now, known=(), forecasts=()):
        return ()


def test_a_disk_that_will_be_full_is_found_before_it_is():
    size, avail = (SeriesKey.of(f"node_filesystem_{m}_bytes", mountpoint="/data", node="n1") for m in ("size", "avail"))
    times = np.array([NOW - 600, NOW - 300, NOW])
    shelf = Shelf(
        Series(key=size, times=times, values=np.full(3, 100.0)), Series(key=avail, times=times, values=np.full(3, 30.0))
    )
    ahead = np.array([NOW + 300 * k for k in range(1, 7)])
    falling = np.stack([np.linspace(25, 1, 6) + off for off in (-2, 0, 2)])  # 5.8 at the fifth step, 1 at the sixth
    made = Forecast(
        target=str(avail), made_at=NOW, times=ahead, quantiles=np.array([0.05, 0.5, 0.95]), values=falling, model="m"
    )
    shelf.forecasts = lambda since: (made,)
    (found,) = refresh_findings(shelf, [Judge()], Cluster(at=NOW, backend="local"), (NOW, []))
    assert (found.cause, found.subject, found.horizon_s) == (Cause.EXHAUSTION, "mountpoint:/data/node:n1", 1800.0)
    assert shelf.findings_put == [(NOW, (found,))]


def test_what_is_acted_upon_is_judged_by_itself_whatever_devices_come_and_go():
    # Given a service among devices, of which one has gone at the next refresh and another has come
    devices = [SeriesKey.of("gpu_utilization_ratio", gpu=str(i)) for i in range(3)]
    first, second = ([KEY, *devices[:2]], [devices[0], devices[2], KEY])
    executor = Here()
    refresher = Refresher(Shelf(), PLAN, executor)
    grids = {key: Grid(key=key, start=NOW - 86400, step_s=300.0, values=wave(key, days=1).values) for key in {*first, *second}}
    for keys in (first, second):
        made = refresher.refresh([grids[key] for key in keys])
        assert {one.target for one in made} == {str(key) for key in keys}
    # Then it has a group of its own, with its record, in both
    assert [group_.keys for _, group_ in sorted(refresher._said.items())] == [(KEY,), (devices[0], devices[2])]


def test_the_first_service_costs_the_devices_nothing_of_their_record():
    # Given devices with a record, and no service
    devices = [SeriesKey.of("gpu_utilization_ratio", gpu=str(i)) for i in range(3)]
    grids = [Grid(key=key, start=NOW - 86400, step_s=300.0, values=wave(key, days=1).values) for key in devices]
    refresher = Refresher(Shelf(), PLAN, Here())
    refresher.refresh(grids)
    (before,) = refresher._said.values()
    # When a service comes, and goes again
    service = Grid(key=KEY, start=NOW - 86400, step_s=300.0, values=grids[0].values)
    refresher.refresh([*grids, service])
    # Then the devices' record goes on, and the service's is forgotten with it
    assert [said.keys for said in refresher._said.values() if len(said.keys) == 3 and said.times[0] == before.times[0]]
    assert len(refresher._said) == 2
    refresher.refresh(grids)
    (after,) = refresher._said.values()
    np.testing.assert_array_equal(after.bands[:, : len(before.times)], before.bands)
