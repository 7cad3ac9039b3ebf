"""The newest collected samples as metric families, under their catalogue names, with the catalogue's type and help."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby

from prometheus_client.core import Metric

from aiops import metrics
from aiops.api.view import View
from aiops.model import Query

MOST = 200_000  # samples in one scrape
OURS = (
    "aiops_build", "aiops_decisions", "aiops_forecast", "aiops_notifications", "aiops_recommended", "cluster_nodes",
    "cluster_gpus", "cluster_jobs", "service_replicas", "service_ready_replicas",
)  # fmt: skip
_PAIR = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {'\\"': '"', "\\n": "\n", "\\\\": "\\"}


def lints(name: str) -> bool:
    """True for names that `promtool check metrics` takes; node_exporter's `MemAvailable` has a page of its own."""
    return name == name.lower() and not name.endswith(("_count", "_sum", "_bucket", "_per_s"))


def collected(view: View, now: float, wanted: Callable[[str], bool] = lints) -> Iterator[Metric]:
    """One family per wanted metric; a series that fell silent for three scrapes is left out, as Prometheus would.

    What `exposition` makes from status, ledger and cluster is left to it: one family has one source.
    """
    window_s, left = 3 * view.settings.every.scrape, MOST
    for metric, _ in groupby(view.store.keys(), key=lambda key: key.metric):
        if metric.startswith(OURS) or not wanted(metric):
            continue
        found = view.store.read(Query(metric=metric, window_s=window_s), now)[:left]
        left -= len(found)
        family = _family(metric)
        for series in found:
            reading = series.latest(now, window_s)
            if reading.value is not None:
                family.add_sample(metric, dict(series.key.labels), reading.value)
        if family.samples:
            yield family


def _family(metric: str) -> Metric:
    """An empty family with the catalogue's type and help; a counter that is not called `_total` cannot be typed as one."""
    row = metrics.find(metric)
    if metric.endswith("_total"):
        return Metric(metric.removesuffix("_total"), row.help if row else "Collected counter.", "counter")
    is_gauge = row is None or row.kind is metrics.Kind.GAUGE
    return Metric(metric, row.help if row else "Collected sample.", "gauge" if is_gauge else "unknown")


def parsed(target: str) -> tuple[str, Mapping[str, str]]:
    """Metric and labels of a series key's text, the inverse of `str(SeriesKey)`."""
    metric, _, inner = target.partition("{")
    return metric, {name: re.sub(r'\\["n\\]', lambda m: _ESCAPES[m[0]], text) for name, text in _PAIR.findall(inner)}
