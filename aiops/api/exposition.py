"""What `/metrics` says of ourselves: daemon, decisions, notifications, forecasts, and the cluster's counts.

Everything is read at scrape time from store and status; counters count what this process has seen since its start, as
Prometheus expects of a counter that resets. A thing that is not known is left out, never zero.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.samples import Exemplar

from aiops import __version__
from aiops.action import Admission, Mode
from aiops.api import accuracy, recommend, samples
from aiops.api.problem import Problem
from aiops.api.status import Status
from aiops.api.view import View
from aiops.errors import AiopsError
from aiops.metrics import CATALOGUE
from aiops.model import Cluster, Floats, Forecast, Service

HORIZONS = (("15m", 900.0), ("30m", 1800.0))  # the product's promise
ALIAS = (("yhat", 0.5), ("yhat_lower", 0.05), ("yhat_upper", 0.95))  # Grafana Cloud's names for Prophet's columns
BATCH = 10_000
Key = tuple[str, str, str]


class Tally:
    """Decisions and failed notifications seen since the start; asks the store only for what is new."""

    def __init__(self, since: float) -> None:
        self.counts: Counter[Key] = Counter()
        self.newest: dict[Key, Admission] = {}
        self.failures: Counter[str] = Counter()
        self._since, self._edge = since, frozenset[str]()
        self._dead = frozenset[str]()

    def look(self, view: View, now: float) -> None:
        """Count what the ledger and the outbox have got since the last look; the edge of a look is seen twice."""
        rows = view.store.admissions(self._since, now, BATCH)
        for row in rows:
            if row.id not in self._edge:
                self._add(row)
        if rows:
            self._since = max(row.at for row in rows)
            self._edge = frozenset(row.id for row in rows if row.at == self._since)
        dead = {message.id: message.receiver for message in view.store.dead_letters(BATCH)}
        self.failures.update(receiver for id, receiver in dead.items() if id not in self._dead)
        self._dead = frozenset(dead)

    def _add(self, row: Admission) -> None:
        mode = "auto" if row.mode is Mode.ACT else "dry_run"
        key = (row.decision.action.kind, "permitted" if row.denied is None else row.denied.value, mode)
        self.counts[key] += 1
        if key not in self.newest or row.at >= self.newest[key].at:
            self.newest[key] = row


class Exposition:
    """The metric families of one scrape, for a prometheus-client registry. Blocks on the store: use the thread pool."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._tally = Tally(view.clock.now())
        self._accuracy = accuracy.Accuracy()
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """All families; if the store does not answer, only the daemon's own and `aiops_store_up 0`."""
        now = self.view.clock.now()
        yield from daemon(self.view.status())
        try:
            with self._lock:
                self._tally.look(self.view, now)
                found = [*decided(self._tally), *self._foreseen(now), *samples.collected(self.view, now)]
        except AiopsError:
            found = []
            yield gauge("aiops_store_up", "Whether the store answered this scrape.", 0.0)
        else:
            yield gauge("aiops_store_up", "Whether the store answered this scrape.", 1.0)
        yield from found

    def _foreseen(self, now: float) -> Iterator[Metric]:
        newest = self.view.store.forecasts(0.0)
        ask = recommend.Ask(max_age_s=recommend.PERIODS * self.view.settings.every.forecast)
        fresh = [f for f in newest if recommend.fresh(f, now, ask.max_age_s)]
        yield from forecasts(fresh, now)
        yield self._accuracy.family(self.view.store, [f.target for f in fresh], now)
        try:
            cluster = self.view.latest.at(now).cluster
        except Problem:
            return
        yield from counted(cluster)
        yield recommended(cluster.services, {f.target: f for f in newest}, ask, now)


def gauge(name: str, help: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(name, help, value=value)


def daemon(status: Status) -> Iterator[Metric]:
    """The daemon's own state. Collectors report theirs as samples, which `samples` hands on."""
    yield InfoMetricFamily("aiops_build", "What is running.", value={"version": __version__})
    yield gauge("aiops_ready", "Whether the daemon is ready to be relied upon.", float(status.ready))
    yield gauge("aiops_leader", "Whether this daemon holds the lease.", float(status.leader))
    yield gauge("aiops_kill_switch_engaged", "Whether the kill switch stops all effects.", float(status.halted))
    if status.last_cycle_at is not None:
        yield gauge("aiops_last_cycle_timestamp_seconds", "When the newest cycle started.", status.last_cycle_at)
    if status.last_cycle_s is not None:
        yield gauge("aiops_last_cycle_duration_seconds", "How long the newest cycle took.", status.last_cycle_s)


def decided(tally: Tally) -> Iterator[Metric]:
    """Decisions and failed notifications since the start of this process."""
    labels = ["action", "reason", "mode"]
    made = CounterMetricFamily("aiops_decisions", "Decisions by action, reason of refusal and mode.", labels=labels)
    for key, count in sorted(tally.counts.items()):
        newest = tally.newest[key]
        made.add_sample(
            "aiops_decisions_total",
            dict(zip(labels, key, strict=True)),
            count,
            exemplar=Exemplar({"decision": newest.id[:100]}, 1.0, newest.at),
        )
    yield made
    labels = ["integration", "reason"]
    failed = CounterMetricFamily("aiops_notifications_failed", "Notifications given up on, by receiver.", labels=labels)
    for receiver, count in sorted(tally.failures.items()):
        failed.add_metric([receiver, "dead_letter"], count)
    yield failed


def forecasts(newest: list[Forecast], now: float) -> Iterator[Metric]:
    """Forecast quantiles at a few horizons from when they were made, with age, coverage and whether they may be acted upon.

    The value is typed as a summary: it is quantiles of one distribution, and linters reserve the label for that type.
    """
    value = Metric("aiops_forecast_value", "What the target will be, by quantile and horizon since it was foreseen.", "summary")
    age = GaugeMetricFamily("aiops_forecast_age_seconds", "Seconds since the newest forecast was made.", labels=["target"])
    coverage = GaugeMetricFamily("aiops_forecast_coverage_ratio", "Share of truths in the 5-95 % band.", labels=["target"])
    usable = GaugeMetricFamily("aiops_forecast_usable", "Whether the forecast may be acted upon.", labels=["target", "model"])
    for forecast in newest:
        age.add_metric([forecast.target], max(0.0, now - forecast.made_at))
        usable.add_metric([forecast.target, forecast.model], float(forecast.refused is None))
        if forecast.coverage is not None:
            coverage.add_metric([forecast.target], forecast.coverage)
        for horizon, ahead_s in HORIZONS:
            for q, found in zip(forecast.quantiles, at(forecast, forecast.made_at + ahead_s), strict=True):
                labels = {"target": forecast.target, "horizon": horizon, "quantile": f"{q:g}"}
                if np.isfinite(found):
                    value.add_sample("aiops_forecast_value", labels, float(found))
    yield from (value, age, coverage, usable)


def at(forecast: Forecast, time: float) -> Floats:
    """(q,) values of each stored quantile at `time`, linear between steps; NaN beyond the forecast's reach."""
    return np.array([np.interp(time, forecast.times, row, right=np.nan) for row in forecast.values])


def predicted(newest: Sequence[Forecast], now: float, ahead_s: float) -> Iterator[Metric]:
    """Forecasts under Grafana's names, `<metric>:predicted{ml_forecast="yhat"}`, at one horizon from now.

    These names have no word for a forecast that may not be acted upon: such a one is left out, like one that is stale.
    """
    families: dict[str, Metric] = {}
    for forecast in (one for one in newest if one.refused is None):
        metric, labels = samples.parsed(forecast.target)
        help = "What the metric will be, under the names of Grafana's forecasts."
        family = families.setdefault(metric, Metric(f"{metric}:predicted", help, "gauge"))
        for name, q in ALIAS:
            found = float(np.interp(now + ahead_s, forecast.times, forecast.at_quantile(q), right=np.nan))
            if np.isfinite(found):
                family.add_sample(f"{metric}:predicted", {**labels, "ml_forecast": name}, found)
    yield from families.values()


def recommended(services: tuple[Service, ...], newest: dict[str, Forecast], ask: recommend.Ask, now: float) -> Metric:
    """Replicas that the forecast asks for; a service without a usable forecast is left out."""
    family = GaugeMetricFamily("aiops_recommended_replicas", "Replicas that the forecast load needs.", labels=["target"])
    for service in services:
        try:
            advice = recommend.advise(service, newest.get(str(service.load)), ask, now)
        except Problem:
            continue
        family.add_metric([service.name], advice.replicas)
    return family


def counted(cluster: Cluster) -> Iterator[Metric]:
    """Nodes, GPUs, jobs and service replicas of the newest picture, under the catalogue's names."""
    healths = ((("ok" if gpu.healthy else "failed"), node.pool) for node in cluster.nodes for gpu in node.gpus)
    yield _counts("cluster_nodes", Counter((node.state.value, node.pool) for node in cluster.nodes))
    yield _counts("cluster_gpus", Counter(healths))
    yield _counts("cluster_jobs", Counter((job.state.value, job.queue) for job in cluster.jobs))
    yield _counts("service_replicas", Counter({(service.name,): service.replicas for service in cluster.services}))
    yield _counts("service_ready_replicas", Counter({(service.name,): service.ready for service in cluster.services}))


def _counts(name: str, counts: Counter[Any]) -> Metric:
    row = CATALOGUE[name]
    family = GaugeMetricFamily(name, row.help, labels=row.labels)
    for key, count in sorted(counts.items()):
        family.add_metric(list(key), count)
    return family
