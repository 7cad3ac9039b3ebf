"""The `forecast` section: what it accepts, what it refuses in one line, and that every word of it reaches the models."""

from dataclasses import replace

import numpy as np
import pytest

from aiops.clock import SystemClock
from aiops.errors import ConfigError
from aiops.forecast.trend import Calendar
from aiops.foresight import Foresight
from aiops.model import Query, Series, SeriesKey
from aiops.refresh import Refresher
from aiops.settings import Settings
from aiops.wiring import assemble, check
from aiops.workers import DaskWorkers, Workers

DAY = 86400.0
NOW = 20_000 * DAY + 12 * 3600.0
EVENT = {"name": "sale", "start": "2024-10-04T12:00", "end": "2024-10-04T14:00+00:00"}


def test_an_empty_section_is_the_documented_default():
    plan = Foresight.from_settings({}, "c.yaml").plan
    assert (plan.step_s, plan.horizon_s, plan.history_s, plan.refit_s) == (300.0, 1800.0, 14 * DAY, DAY)
    assert plan.calendar == Calendar()


def test_every_key_reaches_the_plan():
    section = {"step": "10m", "horizon": "1h", "history": "21d", "refit": "12h", "timeout": "90s", "prophet_series": 3}
    plan = Foresight.from_settings(section | {"zone": "Europe/Berlin", "country": "DE", "events": [EVENT]}, "c.yaml").plan
    assert (plan.step_s, plan.horizon_s, plan.steps, plan.history_s) == (600.0, 3600.0, 6, 21 * DAY)
    assert (plan.refit_s, plan.timeout_s, plan.prophet_series) == (43200.0, 90.0, 3)
    assert plan.calendar.zone == "Europe/Berlin"
    assert plan.calendar.country == "DE"
    assert plan.calendar.events == (("sale", 1728043200.0, 1728050400.0),)


@pytest.mark.parametrize(
    ("section", "key", "expected"),
    [
        ({"horizont": "30m"}, "forecast.horizont", "unknown key"),
        ({"horizon": "31m"}, "forecast.horizon", "multiple of step"),
        ({"horizon": "1m"}, "forecast.horizon", "multiple of step"),
        ({"step": "soon"}, "forecast.step", "duration"),
        ({"step": "-5m"}, "forecast.step", "greater than 0"),
        ({"history": "1h"}, "forecast.history", "between 1d"),
        ({"history": "999d"}, "forecast.history", "between 1d"),
        ({"zone": "Mars/Olympus"}, "forecast.zone", "time zone"),
        ({"zone": "../../etc/passwd"}, "forecast.zone", "time zone"),
        ({"country": "Atlantis"}, "forecast.country", "ISO country code"),
        ({"workers": 0}, "forecast.workers", "greater than or equal to 1"),
        ({"scheduler": "http://x"}, "forecast.scheduler", "tcp://"),
        ({"events": [EVENT | {"end": "2020-01-01"}]}, "forecast.events.0.end", "after start"),
        ({"events": [EVENT | {"start": "Friday"}]}, "forecast.events.0.start", "expected a time"),
        ({"events": [{"name": "sale"}]}, "forecast.events.0.start", "required"),
        ({"events": "none"}, "forecast.events", "tuple"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_key(section, key, expected):
    with pytest.raises(ConfigError) as caught:
        Foresight.from_settings(section, "c.yaml")
    assert str(caught.value).startswith(f"c.yaml: {key}")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_check_config_refuses_a_wrong_section(tmp_path):
    with pytest.raises(ConfigError, match=r"forecast\.zone"):
        check(Settings(data_dir=tmp_path, forecast={"zone": "Nowhere"}), "c.yaml")


def test_the_daemon_forecasts_as_its_settings_say(tmp_path):
    section = {"step": "10m", "horizon": "1h", "zone": "Asia/Shanghai", "events": [EVENT]}
    parts = assemble(Settings(data_dir=tmp_path, forecast=section), "c.yaml", SystemClock())
    try:
        assert parts.refresher.plan == Foresight.from_settings(section, "c.yaml").plan
    finally:
        parts.refresher.close()
        parts.store.close()


def test_a_scheduler_takes_the_place_of_processes():
    here = Refresher.from_settings(Shelf(), {"workers": 2}, "c.yaml")
    there = Refresher.from_settings(Shelf(), {"scheduler": "tcp://127.0.0.1:1"}, "c.yaml")
    assert isinstance(here._executor, Workers)
    assert here._executor.count == 2
    assert isinstance(there._executor, DaskWorkers)


def test_a_scheduler_that_does_not_answer_costs_skill_not_rows(monkeypatch):
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")

    def refused(*address, **options):
        raise OSError("connection refused")

    monkeypatch.setattr(distributed, "Client", refused)
    (made,) = Refresher.from_settings(Shelf(), {"scheduler": "tcp://127.0.0.1:1"}, "c").forecasts(
        NOW, [Query(metric="load", window_s=1.0)]
    )
    assert made.refused == "the Dask scheduler does not answer"


LOAD = SeriesKey.of("load", service="web")
SALES = [(NOW - back * DAY + 300, NOW - back * DAY + 7200) for back in (6, 4, 2)]


class Shelf:
    """A store of one series: load that doubles during each past sale, and one that never said anything."""

    def __init__(self):
        times = np.arange(NOW - 7 * DAY, NOW + 1, 300.0)
        load = 100 + 5 * np.sin(times / 7000)
        for start, end in SALES:
            load[(times >= start) & (times < end)] += 100
        self.series = (
            Series(key=LOAD, times=times, values=load),
            Series(key=SeriesKey.of("load", service="silent"), times=times[-3:], values=np.full(3, np.nan)),
        )

    def read(self, query, now):
        return tuple(replace(one) for one in self.series if one.key.metric == query.metric)

    def put_forecasts(self, forecasts):
        pass

    def forecasts(self, made_since=0.0):
        return ()


class Here:
    """Tasks in this process."""

    def run(self, work, tasks, timeout_s):
        return [(work(*task), "") for task in tasks]

    def close(self):
        pass


def foreseen(section):
    refresher = Refresher(Shelf(), Foresight.from_settings(section, "c").plan, executor=Here())
    made = refresher.forecasts(NOW, [Query(metric="load", window_s=1.0)])
    return made, refresher


def test_a_known_event_raises_what_is_foreseen_for_it_and_a_silent_series_gets_no_row():
    sales = [{"name": "sale", "start": start, "end": end} for start, end in [*SALES, (NOW + 300, NOW + 7200)]]
    (plain,), before = foreseen({})
    (known,), after = foreseen({"events": sales})
    assert known.target == plain.target == str(LOAD)
    ahead = NOW + 300.0 * np.arange(1, 7)
    assert (after.drawings.shapes[0][LOAD].at(ahead) - before.drawings.shapes[0][LOAD].at(ahead)).min() > 50
    assert known.at_quantile(0.9)[-1] != plain.at_quantile(0.9)[-1]
