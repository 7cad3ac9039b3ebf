"""The daemon's refresh of 10,000 series, to the end: cold start, steady refreshes, and one that learns anew beside speaking.

    bench/refresh.py [--quick] [--json OUT] [--series N] [--days D] [--workers W]

Everything is the product's own: a SQLite store with the history in it, the reading, the worker processes, the rows written
back. Series are a mix of what a cluster has (demand of pools, services' load, sensors, disks, idle and broken ones). Peak
memory is the most that this process and all below it hold at one moment (PSS: shared pages counted once). Beside it, on this
machine in this run: Prophet fitted to every series at every refresh, from a few fits.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from aiops.forecast.trend import ProphetModel
from aiops.foresight import Plan
from aiops.model import Batch, Query, SeriesKey
from aiops.ports import Grid, Store
from aiops.refresh import Refresher
from aiops.settings import Settings, StoreSettings
from aiops.store.opening import open_store
from aiops.workers import Workers, prepare_worker

STEP_S = 300.0
T0 = 1_699_999_200.0
GOAL_S, GOAL_GIB = 240.0, 4.0
STEADY = 3
PROPHET_FITS = 8
KINDS = ("service_requests_per_second", "pool_gpus_demanded", "gpu_power_watts", "gpu_memory_used_bytes", "node_load1")
SERVICES, POOLS = 40, 24
"""What Prophet is asked for, as many as a large cluster has; the rest are devices."""


def keys_of(count: int) -> list[SeriesKey]:
    """Services and pools first, then GPUs' power and memory and hosts' load in turn."""
    few = count // 10
    named = [SeriesKey.of(KINDS[0], service=f"s{i:03d}") for i in range(min(SERVICES, few))]
    named += [SeriesKey.of(KINDS[1], pool=f"p{i:03d}") for i in range(min(POOLS, few))]
    return named + [SeriesKey.of(KINDS[2 + i % 3], node=f"n{i:05d}") for i in range(count - len(named))]


def columns(count: int, points: int) -> np.ndarray:
    """(points, series) values, seeded: daily load, random walks in steps of 8, bursts from idle, constants, gaps."""
    rng, at = np.random.default_rng(11), np.arange(points)[:, None]
    phase, level = rng.uniform(0, 6.28, count), rng.lognormal(4, 1, count)
    values = level * np.clip(1 + 0.5 * np.sin(2 * np.pi * at / 288 + phase) + rng.normal(0, 0.1, (points, count)), 0, None)
    walks = np.arange(count) % 4 == 1
    values[:, walks] = np.clip(400 + np.cumsum(rng.choice([-8.0, 0, 0, 8], (points, walks.sum())), axis=0), 0, None)
    idle = np.arange(count) % 10 == 2
    values[:, idle] *= rng.random((points, idle.sum())) < 0.1
    values[:, np.arange(count) % 50 == 3] = 7.0
    values[np.ix_(np.arange(points) // 36 % 6 == 5, np.arange(count) % 20 == 4)] = np.nan  # silent for three hours of 18
    return np.round(values, 3)


class Peak:
    """The most memory that this process and its children held together, looked at five times a second."""

    def __init__(self) -> None:
        self.bytes, self.own, self._stop = 0, 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._stop.wait(0.2):
            held = [pss(pid) for pid in family("self")]
            if held and sum(held) > self.bytes:
                self.bytes, self.own = sum(held), held[0]

    @contextmanager
    def watched(self) -> Iterator[Peak]:
        """Look while inside."""
        self._thread.start()
        yield self
        self._stop.set()
        self._thread.join()


def family(pid: str) -> list[str]:
    """A process and all below it, itself first."""
    try:
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        below = [child for task in tasks for child in task.read_text().split()]
    except OSError:
        return []
    return [pid, *(one for child in below for one in family(child))]


def cpu_s() -> float:
    """CPU seconds of this process, those below it and those of them that have ended."""
    total = 0
    for pid in family("self"):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(fields[i]) for i in (11, 12, 13, 14))
    return total / os.sysconf("SC_CLK_TCK")


def pss(pid: str) -> int:
    """Proportional set size in bytes; 0 for one that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def filled(folder: Path, keys: list[SeriesKey], values: np.ndarray) -> Store:
    """A store of files with the history in it."""
    store = open_store(None, Settings(data_dir=folder, store=StoreSettings()))
    for first in range(0, len(values), 24):
        rows = enumerate(values[first : first + 24], first)
        store.append(*(batch(T0 + STEP_S * place, keys, row) for place, row in rows))
    return store


def batch(at: float, keys: list[SeriesKey], row: np.ndarray) -> Batch:
    """One scrape of what is known."""
    known = np.isfinite(row)
    return Batch(at, tuple(keys) if known.all() else tuple(itertools.compress(keys, known)), row[known])


def refreshes(store: Store, keys: list[SeriesKey], later: np.ndarray, workers: int, plan: Plan) -> Iterator[dict[str, float]]:
    """Seconds, CPU seconds and rows of each refresh: the cold one, the steady ones, the one that learns beside."""
    refresher = Refresher(store, plan, Workers(workers))
    queries = [Query(metric=name, window_s=1.0) for name in KINDS]
    start = T0 + plan.history_s - STEP_S
    try:
        for turn in range(STEADY + 2):
            now = start + STEP_S * turn
            if turn:
                store.append(batch(now, keys, later[turn - 1]))
            begun, spent = time.perf_counter(), cpu_s()
            made = refresher.forecasts(now + 1.0, queries)
            took, spent = time.perf_counter() - begun, cpu_s() - spent
            plain = sum("fallback: fit" in one.model for one in made)
            usable = sum(one.refused is None for one in made)
            prophets = sum("prophet" in one.model for one in made)
            yield {"seconds": took, "cpu": spent, "rows": len(made), "failed": plain, "usable": usable, "prophet": prophets}
    finally:
        refresher.close()


def prophet_alone(values: np.ndarray, count: int, fits: int) -> float:
    """Seconds of one process that a Prophet fit and forecast of every series would take, from a few."""
    end = len(values)
    begun = time.perf_counter()
    for column in range(fits):
        grid = Grid(key=SeriesKey("s"), start=T0, step_s=STEP_S, values=values[:end, 4 * column])
        ProphetModel().fit([grid]).predict(grid, 6, np.array([0.5, 0.9]))
    return (time.perf_counter() - begun) / fits * count


def show(rows: list[dict[str, float]], peak: Peak, count: int, console: Console) -> None:
    """The table of every refresh."""
    table = Table(title=f"{count} series; peak {peak.bytes / 2**30:.2f} GiB, of it the daemon {peak.own / 2**30:.2f} GiB")
    for name in ("refresh", "seconds", "CPU s", "rows", "failed", "usable", "Prophet heard"):
        table.add_column(name, justify="right")
    names = ["cold start", *(f"steady {i + 1}" for i in range(STEADY)), "learning beside"]
    for name, row in zip(names, rows, strict=True):
        table.add_row(
            name,
            f"{row['seconds']:.1f}",
            f"{row['cpu']:.1f}",
            *(f"{row[key]:.0f}" for key in ("rows", "failed", "usable", "prophet")),
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 series of 3 days, one step ahead, in half a minute")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--workers", type=int, default=2)
    args, fits = parser.parse_args(), PROPHET_FITS
    if args.quick:
        args.series, args.days, fits = 60, 3.0, 2
    # seconds are the figure: a machine that others use too must not turn them into fallbacks
    plan = Plan(
        history_s=args.days * 86400.0,
        refit_s=(STEADY + 1) * STEP_S,
        timeout_s=3600.0,
        horizon_s=STEP_S if args.quick else 1800.0,
    )
    prepare_worker()
    console = Console(stderr=True)
    keys, points = keys_of(args.series), round(args.days * 288)
    values = columns(args.series, points + STEADY + 1)
    alone = prophet_alone(values[:points], args.series, fits) / args.workers
    with tempfile.TemporaryDirectory() as folder:
        store = filled(Path(folder), keys, values[:points])
        later = values[points:].copy()
        console.print("the history is in the store")
        del values
        with Peak().watched() as peak:
            rows = []
            for row in refreshes(store, keys, later, args.workers, plan):
                rows.append(row)
                console.print(f"refresh {len(rows)}: {row['seconds']:.1f} s, {row['cpu']:.1f} s CPU")
        store.close()
    show(rows, peak, args.series, Console())
    named = (
        ("cold start", rows[0]["seconds"], "s", GOAL_S),
        ("steady", max(row["seconds"] for row in rows[1:-1]), "s", GOAL_S),
        ("learning beside", rows[-1]["seconds"], "s", GOAL_S),
        ("peak memory", peak.bytes / 2**30, "GiB", GOAL_GIB),
    )
    figures = [
        {
            "figure": f"refresh {args.series} series: {what}",
            "value": round(value, 2),
            "unit": unit,
            "goal": goal,
            "better": "lower",
            "baseline": {"prophet_every_refresh": round(alone)} if unit == "s" else {},
        }
        for what, value, unit, goal in named
    ]
    for figure in figures:
        met = "ok" if figure["value"] <= figure["goal"] else "MISS"  # type: ignore[operator]
        beside = f", Prophet for all {alone:.0f} s" if figure["unit"] == "s" else ""
        print(f"{met:<5}{figure['figure']}: {figure['value']} {figure['unit']} (goal {figure['goal']:g}{beside})")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
