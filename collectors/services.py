"""Request rates and latencies of local services: what each replica counts itself, summed per service.

Reads `endpoints.json`, which the local backend keeps in its state directory, and each replica's own /metrics. A restarted
replica's counter starts again at zero: increments are summed, so that the total only grows while this process lives. The
rate is taken between two collects and left out where a ready replica could not be read: missing load is not zero load.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

import orjson
from pydantic import Field, ValidationError

from aiops.clock import SystemClock
from aiops.errors import NoData, Temporary
from aiops.model import Batch, SeriesKey
from aiops.settings import Seconds, Section, invalid

_MOST_BYTES = 1 << 20  # a demo's or a small server's /metrics is a few kB; what is larger is not read
_BUDGET_S = 3.0  # of one collect, whatever the number of replicas


class Options(Section):
    """Where the endpoints are listed, and how long one replica may take."""

    endpoints: Path = Path("aiops-data/local/endpoints.json")
    timeout: Seconds = Field(default=0.5, le=5.0)


@dataclass(slots=True)
class _Total:
    """What has been summed of one service; a cache that may be lost. `old` are units that counted before we looked."""

    old: frozenset[str]
    seen: dict[tuple[str, str], float] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    at: float | None = None
    before: dict[str, float] = field(default_factory=dict)

    def add(self, unit: str, name: str, value: float) -> None:
        """Add a counter's increment since it was last seen; a counter that fell started again at zero."""
        last = self.seen.get((unit, name), value if unit in self.old else 0.0)
        self.sums[name] = self.sums.get(name, 0.0) + (value - last if value >= last else value)
        self.seen[unit, name] = value


class ServicesCollector:
    """Collector `services`."""

    name: ClassVar[str] = "services"

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()
        self._totals: dict[str, _Total] = {}

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Self:
        """From the section `collectors.services`."""
        try:
            return cls(Options(**section))
        except ValidationError as error:
            raise invalid(error, where, "collectors.services") from None

    def collect(self, now: float) -> Batch:
        """Totals, rate, latency and replica counts per service. NoData where no local backend runs services."""
        rows = self._services()
        self._totals = {name: total for name, total in self._totals.items() if name in rows}
        deadline = SystemClock().elapsed() + _BUDGET_S
        return Batch.of(now, [pair for name, row in sorted(rows.items()) for pair in self._service(name, row, now, deadline)])

    def _services(self) -> dict[str, Any]:
        try:
            services = orjson.loads(self._options.endpoints.read_bytes())["services"]
        except FileNotFoundError:
            raise NoData(f"no {self._options.endpoints}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Temporary(f"{self._options.endpoints}: {type(error).__name__}: {error}") from None
        if not isinstance(services, dict):
            raise Temporary(f"{self._options.endpoints}: services: expected a mapping")
        if not services:
            raise NoData("no services are declared")
        return services

    def _service(self, name: str, row: Mapping[str, Any], now: float, deadline: float) -> Iterator[tuple[SeriesKey, float]]:
        for metric, key in _COUNTS:
            yield SeriesKey.of(metric, service=name), float(row[key])
        points = [point for point in row["endpoints"] if point["metrics"]]
        if not row["counter"] or (row["ready"] and not points):
            return
        total = self._totals.setdefault(name, _Total(old=frozenset(point["unit"] for point in points)))
        whole = all([self._replica(total, row, point, deadline) or not point["ready"] for point in points])  # noqa: C419  read each
        total.seen = {key: value for key, value in total.seen.items() if any(key[0] == point["unit"] for point in points)}
        if total.sums:
            yield SeriesKey.of("service_requests_total", service=name), total.sums.get("count", 0.0)
        if whole and points:
            yield from _rates(name, total, now)

    def _replica(self, total: _Total, row: Mapping[str, Any], point: Mapping[str, Any], deadline: float) -> bool:
        left = min(self._options.timeout, deadline - SystemClock().elapsed())
        text = _get(point["metrics"], left) if left > 0 else None
        if text is None:
            return False
        latency = row["latency"]
        wanted = {row["counter"]: "count", f"{latency}_sum": "latency_sum", f"{latency}_count": "latency_count"}
        sums: dict[str, float] = {}
        for metric, value in _samples(text):
            if metric in wanted:
                sums[wanted[metric]] = sums.get(wanted[metric], 0.0) + value
        for part, value in sums.items():
            total.add(point["unit"], part, value)
        return "count" in sums


_COUNTS = (
    ("service_replicas", "replicas"),
    ("service_ready_replicas", "ready"),
    ("service_restarts_total", "restarts"),
)


def _rates(name: str, total: _Total, now: float) -> Iterator[tuple[SeriesKey, float]]:
    """Requests per second and mean latency since the last whole collect."""
    before, since = total.before, total.at
    total.before, total.at = dict(total.sums), now
    if since is None or now <= since:
        return
    grown = {part: value - before.get(part, 0.0) for part, value in total.sums.items()}
    yield SeriesKey.of("service_requests_per_second", service=name), grown.get("count", 0.0) / (now - since)
    if grown.get("latency_count", 0.0) > 0:
        yield SeriesKey.of("service_request_seconds", service=name), grown["latency_sum"] / grown["latency_count"]


def _samples(text: str) -> Iterator[tuple[str, float]]:
    """(metric name, value) of each finite, non-negative sample line; anything else is passed over."""
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        name = line.partition("{")[0].partition(" ")[0]
        rest = line.rpartition("}")[2].split() if "{" in line else line.split()[1:]
        try:
            value = float(rest[0])
        except (ValueError, IndexError):
            continue
        if 0 <= value < float("inf"):
            yield name, value


def _get(url: str, timeout_s: float) -> str | None:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=timeout_s)
    try:
        connection.request("GET", where.path)
        answer = connection.getresponse()
        body = answer.read(_MOST_BYTES + 1)
        return body.decode("utf-8", "replace") if answer.status == 200 and len(body) <= _MOST_BYTES else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
