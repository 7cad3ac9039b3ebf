"""One round of scraping: what is stored, and what a collector that fails, lies or hangs may cost."""

import threading

import numpy as np
import pytest
from structlog.testing import capture_logs

from aiops.clock import SystemClock
from aiops.errors import NoData, Temporary
from aiops.model import Batch, SeriesKey
from aiops.scrape import Outcome, Scraper

LOAD = SeriesKey.of("node_load1")


class Memory:
    """A series store that keeps batches as they came."""

    def __init__(self):
        self.batches = []

    def append(self, batch):
        self.batches.append(batch)
        return len(batch.keys)

    def last(self):
        return dict(zip(self.batches[-1].keys, self.batches[-1].values.tolist(), strict=True))


class Scripted:
    """A collector that does what it is told: a value, an exception to raise, an event to wait for, or a batch."""

    def __init__(self, *script):
        self.script = list(script)

    def collect(self, now):
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        if isinstance(step, threading.Event):
            step.wait(30)
            return Batch.of(now, [])
        return step if isinstance(step, Batch) else Batch.of(now, [(LOAD, step)])


def scraper(store=None, deadline_s=5.0, **collectors):
    return Scraper(collectors=collectors, store=store or Memory(), clock=SystemClock(), node="n1", deadline_s=deadline_s)


def own(store, metric, collector="c"):
    return store.last().get(SeriesKey.of(f"aiops_collector_{metric}", collector=collector, node="n1"))


def test_a_round_stores_one_batch_with_node_label_success_and_duration():
    store = Memory()
    scraped = scraper(store, c=Scripted(1.5)).scrape(100.0)
    assert scraped.outcomes == {"c": Outcome.OK}
    assert len(store.batches) == 1
    assert store.batches[0].time == 100.0
    assert store.last()[SeriesKey.of("node_load1", node="n1")] == 1.5
    assert own(store, "success") == 1.0
    assert own(store, "samples") == 1.0
    assert own(store, "last_success_timestamp_seconds") == 100.0
    assert own(store, "duration_seconds") >= 0.0
    assert scraped.offered == scraped.accepted == len(store.last())


def test_a_collector_that_names_its_node_is_believed():
    store = Memory()
    key = SeriesKey.of("node_load1", node="other")
    scraper(store, c=Scripted(Batch.of(0.0, [(key, 1.0)]))).scrape(1.0)
    assert key in store.last()


@pytest.mark.parametrize("error", [Temporary("busy"), ValueError("bug"), RecursionError(), MemoryError()])
def test_a_failing_collector_costs_only_its_own_samples(error):
    store = Memory()
    scraped = scraper(store, bad=Scripted(error), good=Scripted(2.0)).scrape(1.0)
    assert scraped.outcomes == {"bad": Outcome.FAILED, "good": Outcome.OK}
    assert own(store, "success", "bad") == 0.0
    assert own(store, "last_success_timestamp_seconds", "bad") is None
    assert store.last()[SeriesKey.of("node_load1", node="n1")] == 2.0


def test_an_absent_source_has_neither_success_nor_failure():
    store = Memory()
    assert scraper(store, c=Scripted(NoData("no GPU"))).scrape(1.0).outcomes == {"c": Outcome.ABSENT}
    assert own(store, "success") is None
    assert own(store, "duration_seconds") is not None


def test_only_changes_are_logged():
    one = scraper(c=Scripted(NoData("no GPU"), NoData("no GPU"), Temporary("x"), Temporary("x"), 1.0, 1.0))
    with capture_logs() as logs:
        for now in range(6):
            one.scrape(float(now))
    assert [(log["event"], log["log_level"]) for log in logs] == [
        ("collector has no source here", "info"),
        ("collector failed", "warning"),
        ("collector recovered", "info"),
    ]


def test_a_hanging_collector_is_late_then_skipped_then_started_again():
    store, gate = Memory(), threading.Event()
    one = scraper(store, deadline_s=1.0, c=Scripted(gate, 7.0), good=Scripted(1.0))
    assert one.scrape(1.0).outcomes == {"c": Outcome.LATE, "good": Outcome.OK}
    assert own(store, "success") == 0.0
    assert one.scrape(2.0).outcomes["c"] is Outcome.SKIPPED
    assert own(store, "skipped_total") == 1.0
    gate.set()
    one._running["c"].thread.join(10)
    one.deadline_s = 10.0
    assert one.scrape(3.0).outcomes["c"] is Outcome.OK
    assert own(store, "success") == 1.0


@pytest.mark.parametrize(
    ("batch", "outcome"),
    [
        (Batch(1.0, (LOAD,), np.array([np.nan])), Outcome.OK),  # a stored NaN would mean nothing: left out
        (Batch(1.0, (LOAD,), np.array([np.inf])), Outcome.OK),
        (Batch(1.0, (LOAD, LOAD), np.array([1.0])), Outcome.FAILED),  # which value would belong to which key?
        (None, Outcome.FAILED),
    ],
)
def test_what_a_plugin_returns_is_checked(batch, outcome):
    store = Memory()
    plugin = Scripted(1.0)
    plugin.collect = lambda now: batch
    assert scraper(store, c=plugin).scrape(1.0).outcomes == {"c": outcome}
    assert SeriesKey.of("node_load1", node="n1") not in store.last()


def test_of_two_collectors_with_one_series_the_first_named_holds():
    store = Memory()
    scraper(store, a=Scripted(1.0), b=Scripted(2.0)).scrape(1.0)
    assert store.last()[SeriesKey.of("node_load1", node="n1")] == 1.0


def test_the_error_of_the_store_reaches_the_caller():
    class Broken(Memory):
        def append(self, batch):
            raise Temporary("database is locked")

    with pytest.raises(Temporary, match="locked"):
        scraper(Broken(), c=Scripted(1.0)).scrape(1.0)
