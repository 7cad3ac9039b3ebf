"""Early warning and anomalies: what is told in time, what is cried for nothing, beside simple rules on the same moments.

    bench/warning.py [--quick] [--json OUT] [--data FOLDER] [--days D] [--sets NAMES]

Warnings: every series has a limit; a crossing is the first step beyond it after half an hour below. It was told if a warning
stood at some step of the half hour before; the lead is from the first such. A warning that no crossing followed within half an
hour is false. Beside: a line through the last half hour, and the last value's own band. Anomalies: level shifts are written
into the series at many moments; found means within three points, with the right onset; false ones are counted on the series as
they are. Beside: the last value's band in place of the forecast's, and three deviations from the day's median.
Series are made here (volumes, memory, temperatures, demand, requests), or come from `*.csv.gz` in FOLDER (time,series,value),
where the limit is what the older half exceeded 3 % of the time.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from aiops.cli.forecast import read_series
from aiops.forecast.baselines import LastValue
from aiops.forecast.panel import grid_of
from aiops.forecast.rolling import Ask, forecast_origins
from aiops.forecast.single import forecast_with
from aiops.forecast.warning import LIKELY, RUN, Limit, anomalies, chance_beyond, chance_crossed, exhaustions
from aiops.model import Forecast, Series, SeriesKey
from aiops.ports import Grid
from aiops.workers import prepare_worker

QUANTILES = np.array([0.05, 0.5, 0.9, 0.95])
HORIZON_S = 1800.0
SHIFTS = (2.0, 4.0, 8.0)
"""Sizes of written shifts, in the spread (1.48 MAD) of the series' own half-hour changes, a hundredth of its level at least."""

Made = Mapping[tuple[str, float], Forecast]
Warns = Callable[[Grid, int], bool]


def made_here(days: float, count: int) -> tuple[list[Series], dict[str, Limit]]:
    """`count` series of each of five kinds with their limits, at ten minutes, seeded."""
    rng, step = np.random.default_rng(5), 600.0
    times = 20_000 * 86400.0 + step * np.arange(round(days * 86400 / step))
    day = 0.5 - 0.5 * np.cos(2 * np.pi * times / 86400)
    series, limits = [], {}
    for index in range(count):
        noise = rng.normal(0, 1, len(times))
        fill = 40 + np.cumsum((0.05 + 0.4 * day) * rng.gamma(2, 0.5, len(times))) % 58  # a clean-up at 98 %
        leak = 30 + (np.arange(len(times)) + rng.integers(200)) % rng.integers(150, 260) * 0.28 + 0.6 * noise
        heat = 62 + 24 * day * rng.uniform(0.9, 1.05) + 1.2 * noise
        steps = np.clip(200 + np.cumsum(rng.choice([-8.0, 0, 8, 32, -32], len(times), p=[0.08, 0.8, 0.08, 0.02, 0.02])), 0, 480)
        calls = rng.poisson(300 * (0.3 + day) * np.exp(0.12 * noise)).astype(np.float64)
        kinds = {
            "volume": (fill, 95.0),
            "memory": (leak, 80.0),
            "heat": (heat, 85.0),
            "demand": (steps, None),
            "load": (calls, None),
        }
        for kind, (values, limit) in kinds.items():
            one = Series(key=SeriesKey(f"{kind}{index}"), times=times, values=values)
            series.append(one)
            limits[str(one.key)] = limit_of(one) if limit is None else Limit(subject=kind, target=str(one.key), value=limit)
    return series, limits


def limit_of(one: Series) -> Limit:
    """What the older half exceeded 3 % of the time: a capacity that is seldom reached."""
    return Limit(subject="capacity", target=str(one.key), value=float(np.nanquantile(one.values[: len(one.values) // 2], 0.97)))


@dataclass(frozen=True, slots=True)
class Told:
    """Crossings, how many were told and how long before; warnings that came to nothing, and over how many series-days."""

    crossings: int
    told: int
    leads_min: tuple[float, ...]
    said: int
    false: int
    days: float

    def __add__(self, other: Told) -> Told:
        return Told(
            self.crossings + other.crossings,
            self.told + other.told,
            self.leads_min + other.leads_min,
            self.said + other.said,
            self.false + other.false,
            self.days + other.days,
        )


def told(grid: Grid, limit: Limit, first: int, warns: Warns) -> Told:
    """The record of one rule on one series from column `first` on; steps that are beyond the limit already do not count."""
    ahead = round(HORIZON_S / grid.step_s)
    beyond = np.nan_to_num(grid.values, nan=-np.inf) > limit.value
    cols = range(first, len(grid.values) - ahead)
    said = {c for c in cols if not beyond[c] and np.isfinite(grid.values[c]) and warns(grid, c)}
    starts = [c for c in cols if c > first + ahead and beyond[c] and not beyond[c - ahead : c].any()]
    before = [[w for w in range(c - ahead, c) if w in said] for c in starts]
    leads = tuple((c - found[0]) * grid.step_s / 60 for c, found in zip(starts, before, strict=True) if found)
    false = sum(not beyond[w + 1 : w + 1 + ahead].any() for w in said)
    return Told(len(starts), len(leads), leads, len(said), false, len(cols) * grid.step_s / 86400)


def by_forecast(made: Made, limit: Limit, likely: float | None = None, stepwise: bool = False) -> Warns:
    """A warning where the forecast made there says so: as the daemon does, from another chance on, or by the likeliest step."""

    def warns(grid: Grid, column: int) -> bool:
        at = round(grid.start + column * grid.step_s, 3)
        forecast = made.get((str(grid.key), at))
        if forecast is None:
            return False
        if likely is not None:
            return float(chance_crossed(forecast, limit, at).max()) > likely
        if stepwise:
            return float(chance_beyond(forecast, limit).max()) > LIKELY
        return bool(exhaustions([forecast], [replace(limit, newest=float(grid.values[column]))], at))

    return warns


def by_line(limit: Limit) -> Warns:
    """A warning where a straight line through the last half hour is beyond the limit within the next."""

    def warns(grid: Grid, column: int) -> bool:
        steps = round(HORIZON_S / grid.step_s)
        recent = grid.values[max(0, column - steps) : column + 1]
        known = np.isfinite(recent)
        if known.sum() < 3:
            return False
        slope, level = np.polyfit(np.flatnonzero(known) - len(recent) + 1.0, recent[known], 1)
        return bool(level + slope * steps > limit.value)

    return warns


def shifted(grid: Grid, column: int, size: float) -> Grid:
    """The grid up to three points after `column`, those raised by `size` spreads of its half-hour changes."""
    ahead = round(HORIZON_S / grid.step_s)
    values = grid.values[: column + RUN].copy()
    moves = values[ahead:column] - values[: column - ahead]
    spread = max(1.48 * float(np.nanmedian(np.abs(moves))), 0.01 * abs(float(np.nanmedian(values[:column]))))
    values[column:] += size * spread
    return replace(grid, values=values)


def accused(grid: Grid, made: Made) -> float | None:
    """The onset that the daemon would name with the newest of `made` that is old enough, or None."""
    forecast = made.get((str(grid.key), round(grid.end - RUN * grid.step_s, 3)))
    found = anomalies({str(grid.key): forecast}, [grid], grid.end) if forecast else ()
    return found[0].since if found else None


def accused_by_median(grid: Grid, made: Made) -> float | None:
    """The same question to three deviations (1.48 MAD) from the median of the day before the last three points."""
    day = grid.values[-round(86400 / grid.step_s) - RUN : -RUN]
    middle = np.nanmedian(day)
    deviation = 1.48 * np.nanmedian(np.abs(day - middle))
    out = grid.values[-RUN:] - middle
    away = (out > 3 * deviation).all() or (out < -3 * deviation).all()
    return grid.end - (RUN - 1) * grid.step_s if away else None


def departures(grid: Grid, first: int, accuses: Callable[[Grid], float | None]) -> tuple[list[int], int]:
    """How many shifts of each size were found of one at every sixth step, and how many findings the series itself began."""
    found = [0] * len(SHIFTS)
    cols = range(first + RUN, len(grid.values) - RUN, 6)
    for column in cols:
        for index, size in enumerate(SHIFTS):
            changed = shifted(grid, column, size)
            since = accuses(changed)
            found[index] += since is not None and abs(since - (grid.start + column * grid.step_s)) < 1.5 * grid.step_s
    own = [accuses(replace(grid, values=grid.values[: c + 1])) is not None for c in range(first + RUN, len(grid.values))]
    return [*found, len(cols)], sum(now and not before for before, now in zip([False, *own], own, strict=False))


def prepared(series: Sequence[Series], days: float) -> Iterator[tuple[Grid, int]]:
    """Each series on its grid, and the column from which the last `days` begin."""
    step_s = float(np.median(np.concatenate([np.diff(s.times) for s in series])))
    for one in series:
        grid = grid_of(one.key, one.times, one.values, (float(one.times[-1]), step_s, None))
        yield grid, max(2, len(grid.values) - round(days * 86400 / step_s))


def measure(name: str, series: Sequence[Series], limits: Mapping[str, Limit], days: float) -> list[dict[str, object]]:
    """Print both tables of one set and return its figures."""
    grids = list(prepared(series, days))
    step_s = grids[0][0].step_s
    ask = Ask(step_s=step_s, steps=round(HORIZON_S / step_s), quantiles=QUANTILES)
    origins = sorted({round(g.start + c * step_s, 3) for g, first in grids for c in range(first, len(g.values))})
    runs: dict[str, Made] = {}
    for label, found in (
        ("aiops", forecast_origins(series, origins, ask)),
        ("last", forecast_with(LastValue(), series, origins, ask)),
    ):
        runs[label] = {(f.target, round(f.made_at, 3)): replace(f, coverage=f.coverage or 0.9) for f in found}
    rules = {
        "aiops": lambda limit: by_forecast(runs["aiops"], limit),
        "aiops from 30 %": lambda limit: by_forecast(runs["aiops"], limit, 0.3),
        "aiops from 70 %": lambda limit: by_forecast(runs["aiops"], limit, 0.7),
        "aiops, one step": lambda limit: by_forecast(runs["aiops"], limit, stepwise=True),
        "line": by_line,
        "last value's band": lambda limit: by_forecast(runs["last"], limit),
    }
    print(
        f"\n{name}: {len(series)} series\n{'warnings':<20}{'crossings':>10}{'told':>7}{'lead min':>9}{'false':>7}{'a day':>7}"
    )
    records = {}
    for rule, warns in rules.items():
        parts = [told(grid, limits[str(grid.key)], first, warns(limits[str(grid.key)])) for grid, first in grids]
        records[rule] = one = sum(parts[1:], parts[0])
        lead = float(np.median(one.leads_min)) if one.leads_min else float("nan")
        rates = one.told / max(one.crossings, 1), one.false / max(one.said, 1), one.false / one.days
        print(f"{rule:<20}{one.crossings:>10}{rates[0]:>7.2f}{lead:>9.0f}{rates[1]:>7.2f}{rates[2]:>7.2f}")
    accusers = {
        "aiops": lambda grid: accused(grid, runs["aiops"]),
        "last value's band": lambda grid: accused(grid, runs["last"]),
        "median +- 3 MAD": lambda grid: accused_by_median(grid, {}),
    }
    print(f"{'anomalies':<20}{'shifts':>10}" + "".join(f"{f'x{size:g}':>7}" for size in SHIFTS) + f"{'false a day':>13}")
    spotted = {}
    for rule, accuses in accusers.items():
        found = [departures(grid, first, accuses) for grid, first in grids]
        *hits, shifts = np.sum([f[0] for f in found], axis=0)
        a_day = sum(f[1] for f in found) / records["aiops"].days
        spotted[rule] = [float(h / shifts) for h in hits], a_day
        print(f"{rule:<20}{shifts:>10}" + "".join(f"{h / shifts:>7.2f}" for h in hits) + f"{a_day:>13.2f}")
    return figures(name, records, spotted)


def figures(
    name: str, records: Mapping[str, Told], spotted: Mapping[str, tuple[list[float], float]]
) -> list[dict[str, object]]:
    """The set's figures, the best simple rule's as the goal."""
    rate = {rule: (one.told / max(one.crossings, 1), one.false / one.days) for rule, one in records.items()}
    rows = [
        ("crossings told", {k: v[0] for k, v in rate.items()}, "line", "higher"),
        ("false warnings a series-day", {k: v[1] for k, v in rate.items()}, "line", "lower"),
        (f"shifts x{SHIFTS[1]:g} found", {k: v[0][1] for k, v in spotted.items()}, "median +- 3 MAD", "higher"),
        ("false anomalies a series-day", {k: v[1] for k, v in spotted.items()}, "median +- 3 MAD", "lower"),
    ]
    return [
        {
            "figure": f"{name} {what}",
            "value": round(values["aiops"], 3),
            "unit": "share" if better == "higher" else "1/day",
            "goal": round(values[rival], 3),
            "better": better,
            "baseline": {rule: round(value, 3) for rule, value in values.items() if rule != "aiops"},
        }
        for what, values, rival, better in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="made series only, two of a kind, one day")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--data", type=Path, help="folder of *.csv.gz")
    parser.add_argument("--sets", default="", help="comma-separated names of files, without .csv.gz")
    parser.add_argument("--days", type=float, default=2.0, help="how long the record is kept, at the end of each series")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    prepare_worker()
    days = 1.0 if args.quick else args.days
    found = measure("made", *made_here(5.0 if args.quick else 8.0, 2 if args.quick else 6), days)
    wanted = [part for part in args.sets.split(",") if part]
    for path in sorted(args.data.glob("*.csv.gz")) if args.data and not args.quick else []:
        name = path.name.removesuffix(".csv.gz")
        if not wanted or name in wanted:
            series = [s for s in read_series(path) if len(s.values) > 500]
            found += measure(name, series, {str(s.key): limit_of(s) for s in series}, days)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
