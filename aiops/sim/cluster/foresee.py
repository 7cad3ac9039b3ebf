"""The forecasts that the daemon would have made, by its own refresher, every five minutes of virtual time.

Demand does not depend on who serves it: one set is right for every policy, so it is made once, before the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter1d

from aiops.foresight import Plan
from aiops.model import Forecast, Query, Series, SeriesKey
from aiops.refresh import Refresher
from aiops.sim.cluster.backend import ARRIVALS, IN_FLIGHT, POOL_DEMAND, SCRAPE_S, load_key
from aiops.sim.cluster.drive import Progress, Stage
from aiops.sim.cluster.shelf import SimStore
from aiops.workers import attempt

MINUTE = 60 // SCRAPE_S


class Here:
    """An executor that works in this very process: nothing else runs beside a simulation."""

    def run(self, work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], timeout_s: float) -> list[tuple[Any, str]]:
        """See `refresh.Executor.run`; time is virtual, so nothing is late."""
        return [attempt(work, *task) for task in tasks]

    def close(self) -> None:
        """See `refresh.Executor.close`: there is nothing to end."""


class Past(SimStore):
    """A shelf with the whole load on it, of which `read` gives what was known by `now`."""

    def __init__(self, series: Sequence[Series]) -> None:
        super().__init__()
        self._series = tuple(series)

    def read(self, query: Query, now: float) -> tuple[Series, ...]:
        """See `SeriesStore.read`."""
        asked = [series for series in self._series if series.key.metric == query.metric]
        return tuple(one for series in asked if (one := within(series, now - query.window_s, now)) is not None)


def within(series: Series, after: float, until: float) -> Series | None:
    """The points in (after, until], None where there is none."""
    low, high = np.searchsorted(series.times, (after, until), side="right")
    return Series(key=series.key, times=series.times[low:high], values=series.values[low:high]) if high > low else None


def foresee(stage: Stage, progress: Progress) -> tuple[Forecast, ...]:
    """Forecasts of every service's load each five minutes of the span, each from what was known by then alone."""
    plan = Plan()
    step = int(plan.step_s)
    past = Past([*scraped(stage), *asked_of_pools(stage)])
    refresher = Refresher(past, plan, executor=Here())
    queries = [Query(metric=metric, window_s=plan.history_s) for metric in (ARRIVALS, IN_FLIGHT, POOL_DEMAND)]
    made: list[Forecast] = []
    first = -(-stage.start // step) * step
    for now in range(first, stage.end, step):
        made += refresher.forecasts(float(now), queries)
        progress((now - first) / (stage.end - first))
    return tuple(made)


def scraped(stage: Stage) -> list[Series]:
    """Every sample that the daemon would have stored: the refresher makes its own means of them, as it does live."""
    most = stage.loads.seconds // SCRAPE_S
    times = stage.loads.start + SCRAPE_S * np.arange(1, most + 1, dtype=np.float64)
    return [
        Series(
            key=load_key(name, stage.scenario.stalls),
            times=times,
            values=rates[: most * SCRAPE_S].reshape(most, SCRAPE_S).mean(axis=1),
        )
        for name, rates in sorted(stage.seen.items())
    ]


def asked_of_pools(stage: Stage) -> list[Series]:
    """GPUs that the load would have asked of each pool that may be scaled, with every service at its right load.

    What really was asked depends on who served it, and nobody did before the simulation began.
    """
    most = stage.loads.seconds // SCRAPE_S
    times = stage.loads.start + SCRAPE_S * np.arange(1, most + 1, dtype=np.float64)
    series = []
    for pool in (one for one in stage.scenario.pools if one.elastic):
        asked = np.zeros(most)
        for spec in (one for one in stage.scenario.services if one.pool == pool.name and one.gpus_per_replica):
            rates = stage.loads.rates[spec.name][: most * SCRAPE_S].reshape(most, SCRAPE_S).mean(axis=1)
            minute = uniform_filter1d(rates, MINUTE, mode="nearest", origin=(MINUTE - 1) // 2)
            replicas = np.clip(np.ceil(minute / spec.right_load), spec.min_replicas, spec.max_replicas)
            asked += replicas * spec.gpus_per_replica
        series.append(Series(key=SeriesKey.of(POOL_DEMAND, pool=pool.name), times=times, values=asked))
    return series
