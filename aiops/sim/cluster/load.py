"""What is asked of the services, second by second: from a request trace, or from a synthetic daily shape.

Equal for every policy: arrivals are drawn once per seed (Poisson within each interval of the trace) before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from aiops.errors import InputError, UserError
from aiops.files import Kind, Table, read_table
from aiops.forecast.panel import median_step
from aiops.model import Floats
from aiops.sim.cluster.scenario import Scenario, ServiceSpec, Shape

COLUMNS = {"time": Kind.TIME, "service": Kind.TEXT, "requests": Kind.NUMBER}
TOKENS = {"prompt_tokens": Kind.NUMBER, "output_tokens": Kind.NUMBER}
LONGEST_S = 100 * 86400
"""Second by second, 100 days of one service are 70 MB."""

SYNTHETIC_DAYS = 2.0
MINUTE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Loads:
    """Load of each service: `rates` (n,) per second from `start` on, `per_request` the mean load of one request."""

    start: float
    rates: Mapping[str, Floats]
    per_request: Mapping[str, float]
    carried: int = 0

    @property
    def seconds(self) -> int:
        """Seconds that are known."""
        return len(next(iter(self.rates.values())))


def read_loads(path: Path, scenario: Scenario, seed: int) -> Loads:
    """Loads from a request trace. InputError or UserError for a trace that does not fit the scenario."""
    table, _ = read_table(path, COLUMNS, TOKENS).distinct("service", "time")
    names = table["service"]
    known = {service.name: service for service in scenario.services}
    alien = sorted(set(names) - known.keys())
    if alien:
        raise InputError(str(path), 0, f"expected only services of the scenario ({', '.join(known)}), found {alien[0]!r}")
    silent = sorted(known.keys() - set(names))
    if silent:
        raise InputError(str(path), 0, f"expected rows for every service of the scenario, found none for {silent[0]!r}")
    for column in ("requests", *TOKENS):
        if column in table.columns and (table[column] < 0).any():
            raise InputError(str(path), 0, f"expected {column} of at least zero, found {np.nanmin(table[column]):g}")
    start, end, step = _span(path, table)
    rates, per_request, carried = {}, {}, 0
    for name, spec in sorted(known.items()):
        mine = table.take(names == name)
        requests, each, gaps = _by_step(mine, spec, (start, end, step))
        carried += gaps
        rates[name], per_request[name] = _arrivals(requests / step, each, (name, seed, step))
    return Loads(start=start, rates=rates, per_request=per_request, carried=carried)


def _span(path: Path, table: Table) -> tuple[float, float, int]:
    """Start, end and interval of the trace in whole seconds."""
    step = max(1, round(median_step(np.unique(table["time"]))))
    start, end = float(np.floor(table["time"].min())), float(np.floor(table["time"].max())) + step
    if end - start > LONGEST_S:
        raise InputError(str(path), 0, f"expected at most {LONGEST_S // 86400} days, found {(end - start) / 86400:.0f}")
    return start, end, step


def _by_step(rows: Table, spec: ServiceSpec, span: tuple[float, float, int]) -> tuple[Floats, Floats, int]:
    """(m,) requests and (m,) load per request of each interval; what is missing is carried forward, and counted."""
    start, end, step = span
    cells = np.floor((rows["time"] - start) / step).astype(np.int64)
    requests = np.full(int((end - start) / step), np.nan)
    load = np.zeros(len(requests))
    seen = np.isfinite(rows["requests"])
    requests[cells[seen]] = rows["requests"][seen]
    load[cells] += spec.work.requests * np.nan_to_num(rows["requests"])
    for column, weight in (("prompt_tokens", spec.work.prompt_tokens), ("output_tokens", spec.work.output_tokens)):
        if column in rows.columns:
            load[cells] += weight * np.nan_to_num(rows[column])
    gaps = ~np.isfinite(requests)
    source = np.maximum.accumulate(np.where(gaps, 0, np.arange(len(requests))))
    requests, load = np.nan_to_num(requests[source]), load[source]
    each = np.divide(load, requests, out=np.zeros_like(load), where=requests > 0)
    return requests, each, int(gaps.sum())


def _arrivals(per_second: Floats, each: Floats, by: tuple[str, int, int]) -> tuple[Floats, float]:
    """(n,) load per second drawn from (m,) mean requests per second, and the mean load of a request."""
    name, seed, step = by
    draws = np.random.default_rng([seed, crc32(name.encode()), 1])
    counts = draws.poisson(np.repeat(per_second, step)).astype(np.float64)
    total = float(per_second.sum())
    mean = float((per_second * each).sum() / total) if total > 0 else 1.0
    return counts * np.repeat(each, step), mean or 1.0


def synthetic(scenario: Scenario, seed: int) -> Loads:
    """Loads from the scenario's `load` section, from 2026-01-01 UTC on. UserError where a service has none."""
    shapes = {shape.service: shape for shape in scenario.load}
    missing = [service.name for service in scenario.services if service.name not in shapes]
    if missing:
        raise UserError(f"no load for service {missing[0]!r}: give --trace, or a `load` section in the scenario")
    length = scenario.history + (scenario.length or SYNTHETIC_DAYS * 86400)
    if length > LONGEST_S:
        raise UserError(
            f"expected history and length of at most {LONGEST_S // 86400} days together, found {length / 86400:.0f}"
        )
    rates, per_request = {}, {}
    for service in sorted(scenario.services, key=lambda s: s.name):
        mean = _wave(shapes[service.name], int(length) // MINUTE_S, seed)
        each = np.full(len(mean), service.work.requests or 1.0)
        rates[service.name], per_request[service.name] = _arrivals(mean, each, (service.name, seed, MINUTE_S))
    return Loads(start=1767225600.0, rates=rates, per_request=per_request)


def _wave(shape: Shape, minutes: int, seed: int) -> Floats:
    """(m,) mean requests per second of each minute: lowest at 03:00, highest at 15:00, with bursts at random times."""
    draws = np.random.default_rng([seed, crc32(shape.service.encode()), 2])
    at = np.arange(minutes)
    wave: Floats = shape.mean * (1 - shape.daily * np.cos(2 * np.pi * (at / 1440 - 0.125)))
    length = max(1, round(shape.burst_length / MINUTE_S))
    for begin in draws.integers(0, max(1, minutes), draws.poisson(shape.bursts_per_day * minutes / 1440)):
        wave[begin : begin + length] += shape.burst * shape.mean
    return wave
