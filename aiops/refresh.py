"""Forecasts and diagnoses, refreshed beside the loop and never inside it.

Reads series through the store's port, computes in worker processes (spawned, capped to one thread, recycled, ended at a
deadline) and writes rows back. Whatever happens to a fit, every target gets a row: the fallback, with the reason. Knows
nothing of policies; the loop only ever reads the newest rows.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.pool import Pool
from typing import Protocol

import numpy as np

from aiops.forecast.baselines import LastValue
from aiops.forecast.engine import QUANTILES, fallback, forecast_panel
from aiops.forecast.panel import to_grid
from aiops.forecast.trend import Calendar, ProphetCorrected
from aiops.model import Cluster, Finding, Floats, Forecast, Query
from aiops.ports import Diagnoser, Grid, Records, SeriesStore


class Shelf(SeriesStore, Records, Protocol):
    """What a refresh reads and writes: series in, forecasts and findings out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to forecast: horizon, step, history, quantiles, calendar, and how long a worker may take."""

    horizon_s: float = 1800.0
    step_s: float = 300.0
    history_s: float = 14 * 86400.0
    quantiles: tuple[float, ...] = QUANTILES
    calendar: Calendar = field(default_factory=Calendar)
    timeout_s: float = 120.0

    @property
    def steps(self) -> int:
        """Grid points ahead."""
        return max(1, round(self.horizon_s / self.step_s))


class Refresher:
    """Owns the worker processes. Not thread-safe: one refresh at a time."""

    def __init__(self, shelf: Shelf, plan: Plan | None = None, workers: int = 1) -> None:
        self.shelf, self.plan, self.workers = shelf, plan or Plan(), workers
        self._pool: Pool | None = None

    def forecasts(self, now: float, queries: Sequence[Query]) -> tuple[Forecast, ...]:
        """Forecast every series the queries find (windows and steps are the plan's), store the rows and return them."""
        found = {s.key: s for query in queries for s in self.shelf.read(replace(query, window_s=self.plan.history_s), now)}
        end = np.floor(now / self.plan.step_s) * self.plan.step_s
        panel = [to_grid(found[key], float(end), self.plan.step_s) for key in sorted(found)]
        made = self._compute(panel)
        self.shelf.put_forecasts(made)
        return made

    def _compute(self, panel: Sequence[Grid]) -> tuple[Forecast, ...]:
        if not panel:
            return ()
        try:
            result: tuple[Forecast, ...] = self._workers().apply_async(compute, (panel, self.plan)).get(self.plan.timeout_s)
            return result
        except multiprocessing.TimeoutError:
            self.close()
            return plain(panel, self.plan, "fit timed out")
        except Exception as error:  # the wall around a worker: it may raise or die in any way
            return plain(panel, self.plan, f"fit failed: {type(error).__name__}")

    def _workers(self) -> Pool:
        if self._pool is None:
            # spawn: forking after a Prophet fit hangs for ever when polars is installed. Recycled: a fit leaves 52 KB behind.
            self._pool = multiprocessing.get_context("spawn").Pool(
                self.workers, initializer=prepare_worker, maxtasksperchild=20
            )
        return self._pool

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()
            self._pool = None


def prepare_worker() -> None:
    """Cap this process to one thread and silence the fitting libraries' logs."""
    import logging
    import os
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it ends the workers
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # beside other load, boosting trains 7-14 times slower with more
    for name in ("cmdstanpy", "prophet", "prophet.plot"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def compute(panel: Sequence[Grid], plan: Plan) -> tuple[Forecast, ...]:
    """Fit and forecast a panel; runs in a worker."""
    fitted = {"prophet_ar": ProphetCorrected(calendar=plan.calendar).fit(panel)}
    return forecast_panel(panel, fitted, plan.steps, plan.quantiles)


def plain(panel: Sequence[Grid], plan: Plan, reason: str) -> tuple[Forecast, ...]:
    """The last value for every series, refused for the named reason: scaling stays reactive."""
    asked: Floats = np.array(plan.quantiles)
    ahead: Floats = plan.step_s * np.arange(1, plan.steps + 1, dtype=np.float64)
    name = f"{LastValue.name}(fallback: {reason})"
    return tuple(
        Forecast(
            target=str(grid.key),
            made_at=grid.end,
            times=grid.end + ahead,
            quantiles=asked,
            values=fallback(grid, plan.steps, asked),
            model=name,
            refused=reason,
        )
        for grid in panel
    )


def refresh_findings(
    shelf: Shelf, diagnosers: Sequence[Diagnoser], cluster: Cluster, ask: tuple[float, Sequence[Query]]
) -> tuple[Finding, ...]:
    """Diagnose the series that `ask` = (now, queries) finds and store what holds; returns the findings, best first."""
    now, queries = ask
    series = [s for query in queries for s in shelf.read(query, now)]
    findings: list[Finding] = []
    for diagnoser in diagnosers:
        findings += diagnoser.diagnose(cluster, series, now)
    findings.sort(key=lambda finding: (-finding.score, finding.id))
    shelf.put_findings(now, findings)
    return tuple(findings)
