"""The sample store against one row per sample, in the same run, on the same disk: ingest, bytes, reads.

    python bench/store.py [--quick] [--json OUT] [--url URL]

Series are a mix of what a GPU node reports: sensors with one to three decimals, counters, ratios, flags, and noise that
nothing can compress. Every tick is one durable commit in both. Goals are those measured for the shape in the design (3,000
series x 10 s x 24 h on 2 cores): 2.9 bytes per sample, 0.5 ms per series-day, 0.8 s to scan, millions of samples/s.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aiops.model import Batch, Matcher, Query, SeriesKey
from aiops.settings import Settings, StoreSettings
from aiops.store.opening import open_store
from aiops.store.sealing import seal

T0 = 1_699_999_200.0  # a block boundary
STEP_S = 10.0
ROW_TICKS = 60  # of the baseline, which would take minutes: its rates fall from here on, so this flatters it


@dataclass(frozen=True)
class Figure:
    """One line of the table and of the JSON."""

    figure: str
    value: float
    unit: str
    goal: float
    better: str
    baseline: dict[str, float]

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.value <= self.goal if self.better == "lower" else self.value >= self.goal


def columns(series: int, ticks: int) -> np.ndarray:
    """(ticks, series) values: a fixed mix of kinds, seeded."""
    rng = np.random.default_rng(7)
    kinds: tuple[Callable[[], np.ndarray], ...] = (
        lambda: np.round(300 + np.cumsum(rng.normal(0, 2, ticks)), 3),  # power, milliwatts
        lambda: np.round(60 + np.cumsum(rng.normal(0, 0.2, ticks))),  # temperature
        lambda: rng.integers(0, 101, ticks) / 100.0,  # utilisation
        lambda: 4096.0 * np.cumsum(rng.integers(-500, 501, ticks)),  # memory in use
        lambda: np.cumsum(rng.integers(0, 1 << 20, ticks)).astype(float),  # bytes of a busy link
        lambda: np.cumsum(rng.integers(0, 1 << 20, ticks)) / 1e6,  # seconds counted in microseconds
        lambda: np.round(np.abs(rng.normal(2, 1, ticks)), 2) / 100,  # pressure
        lambda: np.ones(ticks),  # up
        lambda: np.zeros(ticks),  # errors that do not happen
        lambda: rng.random(ticks),  # noise in all 53 bits
    )
    return np.stack([kinds[i % len(kinds)]() for i in range(series)], axis=1)


def keys_of(series: int) -> tuple[SeriesKey, ...]:
    """Keys as collectors make them."""
    return tuple(SeriesKey.of(f"metric_{i % 10}", gpu=str(i // 10 % 8), node=f"n{i // 80}") for i in range(series))


def timed(act: Callable[[], object], repeats: int = 1) -> float:
    """Median seconds of `act`."""
    spans = []
    for _ in range(repeats):
        start = time.perf_counter()
        act()
        spans.append(time.perf_counter() - start)
    return float(np.median(spans))


def ours(series: int, ticks: int, url: str | None, console: Console) -> dict[str, float]:
    """Rates of our store. `read` is one series over everything stored: a day, or four hours with --quick."""
    keys, values = keys_of(series), columns(series, ticks)
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(data_dir=Path(directory), store=StoreSettings(samples=1e9))
        store = open_store(url, settings)
        start, busy = time.perf_counter(), time.process_time()
        for i in track(range(ticks), f"{series} series, ours", console=console, transient=True):
            store.append(Batch(T0 + STEP_S * i, keys, values[i]))
        ingest_s, busy_s = time.perf_counter() - start, time.process_time() - busy
        end = T0 + STEP_S * ticks
        seal(store._db, end + 86400.0)
        one = Query(metric="metric_0", matchers=(Matcher("gpu", "0"), Matcher("node", "n0")), window_s=1e9)
        day = timed(lambda: store.read(one, end), 50)
        scan = timed(lambda: [store.read(Query(metric=f"metric_{m}", window_s=1e9), end) for m in range(10)])
        (found,) = store.read(one, end)
        assert np.array_equal(found.values, values[:, 0]), "what was read is not what was written"
        stored = samples_bytes(store._db) if store._db.sqlite else float("nan")
        store.close()
    n = series * ticks
    return {"ingest": n / ingest_s, "ingest_cpu": n / busy_s, "bytes": stored / n, "read": day * 1000, "scan": n / scan}


def samples_bytes(database: object) -> float:
    """Bytes of the pages that hold samples: chunks, axes, names, and their indexes."""
    with database.read() as connection:  # type: ignore[attr-defined]
        try:
            query = (
                "SELECT SUM(pgsize) FROM dbstat WHERE name IN ('chunk','axis','series') OR name LIKE 'sqlite_autoindex_chunk%'"
            )
            return float(connection.exec_driver_sql(query).scalar_one())
        except Exception:  # this SQLite was built without dbstat: count whole pages in use
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
            return float((pages - free) * connection.exec_driver_sql("PRAGMA page_size").scalar_one())


def rows(series: int, ticks: int) -> dict[str, float]:
    """The same for one row per sample: SQLite, WAL, a durable commit per tick, clustered by series and time.

    It writes `ROW_TICKS` at most; its read of one series is scaled to all ticks, being linear in the rows that it touches.
    """
    wanted, ticks = ticks, min(ticks, ROW_TICKS)
    values = columns(series, ticks)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "rows.db"
        connection = sqlite3.connect(path)
        connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
        connection.execute(
            "CREATE TABLE sample (series INTEGER, time REAL, value REAL, PRIMARY KEY (series, time)) WITHOUT ROWID"
        )
        start, busy = time.perf_counter(), time.process_time()
        for i in range(ticks):
            row = T0 + STEP_S * i
            connection.executemany("INSERT INTO sample VALUES (?, ?, ?)", tick_rows(row, values[i]))
            connection.commit()
        ingest_s, busy_s = time.perf_counter() - start, time.process_time() - busy
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        one = timed(lambda: np.array(connection.execute("SELECT time, value FROM sample WHERE series = 0").fetchall()), 50)
        scan = timed(lambda: np.array(connection.execute("SELECT series, time, value FROM sample").fetchall()))
        size = path.stat().st_size
        connection.close()
    n = series * ticks
    return {
        "ingest": n / ingest_s,
        "ingest_cpu": n / busy_s,
        "bytes": size / n,
        "read": one * 1000 * wanted / ticks,
        "scan": n / scan,
    }


def tick_rows(at: float, values: np.ndarray) -> Iterator[tuple[int, float, float]]:
    """One tick as rows."""
    return ((i, at, value) for i, value in enumerate(values.tolist()))


GOALS = {  # figure: unit, goal, which is better
    "ingest": ("samples/s", 1e6, "higher"),  # by the wall: mostly the disk's time to make each tick durable
    "ingest_cpu": ("samples per CPU second", 1e6, "higher"),
    "bytes": ("bytes/sample", 2.9, "lower"),
    "read": ("ms per series", 0.5, "lower"),
    "scan": ("samples/s", 3000 * 8640 / 0.8, "higher"),
}


def figures(series: int, ticks: int, url: str | None, console: Console) -> list[Figure]:
    """All figures at one size, with the baseline beside."""
    mine, baseline = ours(series, ticks, url, console), rows(series, ticks)
    return [
        Figure(f"{name}_{series}", mine[name], unit, goal, better, {"row_per_sample": baseline[name]})
        for name, (unit, goal, better) in GOALS.items()
        if np.isfinite(mine[name])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="four hours of samples instead of a day")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--url", help="an empty PostgreSQL database instead of a fresh SQLite file (one size only)")
    given = parser.parse_args()
    console = Console(stderr=True)
    ticks = 1440 if given.quick else 8640
    sizes = (3000,) if given.url else (500, 3000)
    found = [figure for series in sizes for figure in figures(series, ticks, given.url, console)]
    table = Table(title=f"store, {ticks} ticks of {STEP_S:g} s")
    for column in ("figure", "ours", "one row per sample", "goal", "unit", ""):
        table.add_column(column, justify="left" if column in ("figure", "unit", "") else "right")
    for one in found:
        beside = one.baseline["row_per_sample"]
        verdict = "met" if one.met else "MISSED"
        table.add_row(one.figure, f"{one.value:,.2f}", f"{beside:,.2f}", f"{one.goal:,.2f}", one.unit, verdict)
    Console().print(table)
    if given.json:
        given.json.write_text(json.dumps([vars(one) for one in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
