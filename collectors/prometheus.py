"""Any Prometheus exposition endpoint: dcgm-exporter, node_exporter, a serving engine, our own agent.

Names are translated into the catalogue (`translate.py`); others are kept only with `keep_unknown`. An endpoint that does
not answer costs its own series and is `aiops_target_up 0`. `node` is the target's own setting, else the exporter's label,
else the URL's host; a loopback host is this node, which the scrape knows.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from aiops.errors import ConfigError, Temporary
from aiops.model import Batch, SeriesKey
from aiops.settings import Seconds, Section
from collectors.exposition import Limits, Request, fetch_all, names, parse
from collectors.section import parse as parse_section
from collectors.translate import HOST, facts, known, samples, summed

# CPUs become one series; beyond this an answer is refused before it costs seconds of parsing (16 us per sample).
_LINES_PER_SERIES = 4
_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


class Target(Section):
    """One endpoint. `labels` are added to every series."""

    url: str
    node: str = ""
    bearer_file: Path | None = None
    labels: dict[str, str] = Field(default_factory=dict)

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected a URL such as http://127.0.0.1:9400/metrics")
        return url if parts.path.strip("/") else url.rstrip("/") + "/metrics"


class PrometheusOptions(Section):
    """Endpoints (`url` for one, `targets` for several) and the limits on each answer."""

    url: str | None = None
    bearer_file: Path | None = None
    targets: tuple[Target, ...] = ()
    timeout: Seconds = 4.0
    max_bytes: int = Field(default=16 * 2**20, ge=1024)
    max_series: int = Field(default=20_000, ge=1)
    keep_unknown: bool = False
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _has_a_target(self) -> PrometheusOptions:
        if not self.all_targets():
            raise ValueError("expected `url` or `targets`")
        return self

    def all_targets(self) -> tuple[Target, ...]:
        """The one of `url`, then `targets`."""
        first = (Target(url=self.url, bearer_file=self.bearer_file),) if self.url else ()
        return first + self.targets


class PrometheusCollector:
    """Scrapes exposition endpoints."""

    name: ClassVar[str] = "prometheus"

    def __init__(self, options: PrometheusOptions) -> None:
        self._options = options
        self._targets = options.all_targets()
        secure = any(target.url.startswith("https:") for target in self._targets)
        self._tls = ssl.create_default_context(cafile=options.ca_file) if secure else None

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> PrometheusCollector:
        """Keys as in `PrometheusOptions`; ConfigError otherwise, also for a `ca_file` that cannot be loaded."""
        options = parse_section(PrometheusOptions, section, where, cls.name)
        try:
            return cls(options)
        except OSError as error:
            raise ConfigError(where, "collectors.prometheus.ca_file", f"expected certificates: {error.strerror}") from None

    def collect(self, now: float) -> Batch:
        """All endpoints, at the same time. Raises Temporary where none of them gave anything."""
        limits = Limits(self._options.timeout, self._options.max_bytes)
        answers = fetch_all([_request(target) for target in self._targets], limits, self._tls)
        found: dict[SeriesKey, float] = {}
        failures: list[str] = []
        for target, answer in zip(self._targets, answers, strict=True):
            failure = str(answer) if isinstance(answer, Temporary) else self._take(target, answer, found)
            failures += [failure] if failure else []
            found[SeriesKey.of("aiops_target_up", target=target.url)] = float(not failure)
        if len(failures) == len(self._targets):
            raise Temporary("; ".join(failures)[:500])
        return Batch.of(now, found.items())

    def _take(self, target: Target, content: str, found: dict[SeriesKey, float]) -> str:
        """All of one answer into `found`, or nothing of it; what is wrong with it, or an empty text."""
        try:
            every = names(content)
            wanted = None if self._options.keep_unknown else {name for name in every if known(name)}
            taken = _merged(target, parse(content, wanted, _LINES_PER_SERIES * self._options.max_series))
        except ValueError as error:
            return f"{target.url}: {str(error)[:200]}"
        if not every:
            return f"{target.url}: no metric in the answer"
        kept = dict(islice(taken.items(), self._options.max_series))
        dropped = SeriesKey.of("aiops_collector_dropped_samples", collector=self.name, target=target.url)
        found.update({**kept, dropped: float(len(taken) - len(kept))})
        return ""


def _merged(target: Target, parsed: Iterable[tuple[str, Mapping[str, str], float]]) -> dict[SeriesKey, float]:
    """Of series that become one, sums where the catalogue adds up (CPUs), else the first: a repeated line changes nothing."""
    taken: dict[SeriesKey, float] = {}
    added = _added(target)
    for name, labels, value in parsed:
        for key, converted in _translated(name, {**labels, **added}, value):
            taken[key] = taken.get(key, 0.0) + converted if summed(key.metric) else taken.get(key, converted)
    return taken


def _request(target: Target) -> Request:
    """The token is read at every scrape, so that a rotated one is used; an unreadable file sends none and gets a 401."""
    try:
        token = target.bearer_file.read_text(encoding="utf-8").strip() if target.bearer_file else ""
    except OSError:
        token = ""
    return Request(target.url, token)


def _added(target: Target) -> dict[str, str]:
    host = urlsplit(target.url).hostname or ""
    return (
        dict(target.labels) | ({"node": target.node} if target.node else {}) | ({HOST: host} if host not in _LOOPBACK else {})
    )


def _translated(name: str, labels: Mapping[str, str], value: float) -> Iterable[tuple[SeriesKey, float]]:
    if known(name):
        yield from samples(name, labels, value)
        if name.startswith("DCGM_") and (described := facts(labels)) is not None:
            yield described, 1.0
    else:
        named = {"node": labels[HOST], **labels} if HOST in labels else labels
        yield SeriesKey(name, tuple(sorted((label, text) for label, text in named.items() if label != HOST and text))), value
