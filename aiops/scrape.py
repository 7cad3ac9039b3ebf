"""Collectors -> store: one round, one wall around each collector, one batch for the store.

A collector may fail, lie or hang. Each runs in its own daemon thread, so that one stuck in a driver or on a dead mount
keeps neither the others nor the end of the process; while it still runs it is not started again, and that is counted.
What comes back is checked (finite, one value per key), labelled with this node where the collector did not name one, and
stored as one batch at one `now`. How each collector fared is stored with it. This module knows no particular collector.

A source that does not exist here (`NoData`) gives a duration but no success: missing is neither 0 nor 1.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import structlog

from aiops.clock import Clock
from aiops.errors import AiopsError, NoData
from aiops.model import Batch, SeriesKey
from aiops.ports import Collector, SeriesStore

# Process ids and containers come and go; the cache of labelled keys is dropped before it becomes a leak.
_CACHED_KEYS = 200_000


class Outcome(StrEnum):
    """How one collector fared in one round."""

    OK = "ok"
    ABSENT = "absent"
    FAILED = "failed"
    LATE = "late"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Scraped:
    """One round: samples offered to the store, samples it accepted, and how each collector fared."""

    offered: int
    accepted: int
    outcomes: Mapping[str, Outcome]


@dataclass(slots=True)
class _Run:
    """One collector at work. The thread writes `outcome` last; the round reads the rest only once the thread has ended."""

    name: str
    thread: threading.Thread | None = None
    batch: Batch | None = None
    error: str = ""
    seconds: float = 0.0
    outcome: Outcome = Outcome.LATE


@dataclass(slots=True)
class Scraper:
    """Runs `collectors` by name against `store`. `deadline_s` bounds a round, whatever the collectors do."""

    collectors: Mapping[str, Collector]
    store: SeriesStore
    clock: Clock
    node: str
    deadline_s: float = 5.0
    _running: dict[str, _Run] = field(default_factory=dict)
    _known: dict[str, Outcome] = field(default_factory=dict)
    _succeeded_at: dict[str, float] = field(default_factory=dict)
    _skipped: Counter[str] = field(default_factory=Counter)
    _labelled: dict[SeriesKey, SeriesKey] = field(default_factory=dict)

    def scrape(self, now: float) -> Scraped:
        """One round at `now`. Raises only what the store raises; then nothing of this round was kept."""
        runs = [self._start(name, collector, now) for name, collector in self.collectors.items()]
        self._wait(runs)
        outcomes = {run.name: self._judge(run, now) for run in runs}
        batches = [run.batch for run in runs if outcomes[run.name] is Outcome.OK and run.batch is not None]
        batch = self._merge(now, [*batches, Batch.of(now, self._own(runs, outcomes))])
        return Scraped(len(batch.keys), self.store.append(batch), outcomes)

    def _start(self, name: str, collector: Collector, now: float) -> _Run:
        last = self._running.get(name)
        if last is not None and last.thread is not None and last.thread.is_alive():
            return _Run(name, outcome=Outcome.SKIPPED)
        run = _Run(name)
        run.thread = threading.Thread(
            target=_collect, args=(run, collector, now, self.clock), name=f"collect-{name}", daemon=True
        )
        self._running[name] = run
        run.thread.start()
        return run

    def _wait(self, runs: Sequence[_Run]) -> None:
        until = self.clock.elapsed() + self.deadline_s
        for run in runs:
            if run.thread is not None:
                run.thread.join(max(0.0, until - self.clock.elapsed()))

    def _judge(self, run: _Run, now: float) -> Outcome:
        outcome = run.outcome
        if outcome is Outcome.LATE:
            run.seconds, run.error = self.deadline_s, f"no answer within {self.deadline_s:g} s"
        elif outcome is Outcome.OK:
            self._succeeded_at[run.name] = now
        elif outcome is Outcome.SKIPPED:
            self._skipped[run.name] += 1
            return outcome  # it is the same silence as in the round that was late: no news
        self._log_change(run, outcome)
        self._known[run.name] = outcome
        return outcome

    def _log_change(self, run: _Run, outcome: Outcome) -> None:
        before = self._known.get(run.name, Outcome.OK)
        if outcome is before:
            return
        log = structlog.get_logger().bind(collector=run.name)
        if outcome is Outcome.OK:
            log.info("collector recovered", was=before.value)
        elif outcome is Outcome.ABSENT:
            log.info("collector has no source here", why=run.error)
        else:
            log.warning("collector failed", outcome=outcome.value, why=run.error)

    def _own(self, runs: Sequence[_Run], outcomes: Mapping[str, Outcome]) -> Iterator[tuple[SeriesKey, float]]:
        for run in runs:
            labels = (("collector", run.name),)
            outcome = outcomes[run.name]
            if outcome is not Outcome.ABSENT:
                yield SeriesKey("aiops_collector_success", labels), float(outcome is Outcome.OK)
            if outcome is not Outcome.SKIPPED:
                yield SeriesKey("aiops_collector_duration_seconds", labels), run.seconds
            if outcome is Outcome.OK and run.batch is not None:
                yield SeriesKey("aiops_collector_samples", labels), float(len(run.batch.keys))
            if run.name in self._succeeded_at:
                yield SeriesKey("aiops_collector_last_success_timestamp_seconds", labels), self._succeeded_at[run.name]
            yield SeriesKey("aiops_collector_skipped_total", labels), float(self._skipped[run.name])

    def _merge(self, now: float, batches: Iterable[Batch]) -> Batch:
        """One batch; where two collectors give the same series, the first named in the configuration holds."""
        merged: dict[SeriesKey, float] = {}
        for batch in batches:
            for key, value in zip(batch.keys, batch.values.tolist(), strict=True):
                merged.setdefault(self._label(key), value)
        return Batch(now, tuple(merged), np.fromiter(merged.values(), dtype=np.float64, count=len(merged)))

    def _label(self, key: SeriesKey) -> SeriesKey:
        labelled = self._labelled.get(key)
        if labelled is None:
            # A service spans nodes: its series is the same one wherever it was read.
            own = key.label("node") is not None or key.label("service") is not None
            labelled = key if own else SeriesKey(key.metric, tuple(sorted((*key.labels, ("node", self.node)))))
            if len(self._labelled) >= _CACHED_KEYS:
                self._labelled.clear()
            self._labelled[key] = labelled
        return labelled


def _collect(run: _Run, collector: Collector, now: float, clock: Clock) -> None:
    """Body of one thread. It touches nothing but its own run."""
    began = clock.elapsed()
    outcome = Outcome.OK
    try:
        run.batch = _finite(collector.collect(now))
    except NoData as absent:
        outcome, run.error = Outcome.ABSENT, str(absent)
    except AiopsError as error:
        outcome, run.error = Outcome.FAILED, str(error)
    except Exception as error:  # the wall: a bad plug-in costs its own samples only
        outcome, run.error = Outcome.FAILED, f"{type(error).__name__}: {error}"
    run.seconds = clock.elapsed() - began
    run.outcome = outcome


def _finite(batch: Batch) -> Batch:
    if len(batch.keys) != len(batch.values):
        raise ValueError(f"{len(batch.keys)} keys but {len(batch.values)} values")
    finite = np.isfinite(batch.values)
    if finite.all():
        return batch
    keys = tuple(key for key, keep in zip(batch.keys, finite, strict=True) if keep)
    return Batch(batch.time, keys, batch.values[finite])
