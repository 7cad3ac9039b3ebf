"""Forecast accuracy beside naive rules and what others do, on the same origins.

    bench/forecast.py [--quick] [--json OUT] [--data FOLDER]

Accuracy runs on every `*.csv.gz` in FOLDER (time,series,value; such as the public sets turned into long CSV), or on series
made here where there is none. Ratios are against the last value with the quantiles of its own past errors: lower is
better. Others: statsforecast's AutoETS, MSTL and AutoTheta, a Crane-style and a Dynamo-style forecaster, Prophet alone.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from aiops.cli.forecast import read_series
from aiops.forecast.backtest import Overall, overall, score, spread_origins
from aiops.forecast.baselines import LastValue, LastWeekMax, SeasonalNaive
from aiops.forecast.rolling import Ask, forecast_origins
from aiops.forecast.single import forecast_with
from aiops.forecast.trend import ProphetCorrected, ProphetModel
from aiops.model import Forecast, Series, SeriesKey
from aiops.ports import Grid
from aiops.workers import prepare_worker

QUANTILES = np.array([0.05, 0.5, 0.9, 0.95])
GOALS = {  # pinball and absolute error against the last value, from the issue
    "nasa": (0.80, 0.74),
    "servegen-m-small-clients": (0.83, 0.94),
    "servegen-m-mid-clients": (0.83, 0.94),
    "nab": (0.94, 0.85),
    "earth": (0.90, 1.01),
    "philly": (0.92, 1.01),
}
Predict = Callable[[Grid, int, np.ndarray], np.ndarray]


class Rule:
    """A forecaster without a fit, from a function of history."""

    def __init__(self, name: str, predict: Predict) -> None:
        self.name, self.predict = name, predict

    def fit(self, panel: Sequence[Grid]) -> Rule:
        """Nothing to learn."""
        return self


def crane(history: Grid, steps: int, quantiles: np.ndarray) -> np.ndarray:
    """Crane DSP: yesterday repeated with a margin, and the greatest of the next hour served for every step."""
    day, hour = round(86400 / history.step_s), round(3600 / history.step_s)
    if len(history.values) < day:
        raise ValueError("less than a day")
    served = float(np.nanmax(history.values[len(history.values) - day :][:hour])) * 1.1  # middle of margins 0.01-0.20
    return np.full((len(quantiles), steps), served)


def dynamo(history: Grid, steps: int, quantiles: np.ndarray) -> np.ndarray:
    """Dynamo planner: Prophet on the last 50 points, a point forecast."""
    short = Grid(key=history.key, start=0.0, step_s=history.step_s, values=history.values[-50:])
    point = ProphetModel().fit([short]).predict(short, steps, np.array([0.5]))
    return np.repeat(point, len(quantiles), axis=0)


def statistical(name: str) -> Predict:
    """One of statsforecast's models, season a day, on the last three days."""

    def predict(history: Grid, steps: int, quantiles: np.ndarray) -> np.ndarray:
        from statsforecast import models

        day = round(86400 / history.step_s)
        values = history.values[-3 * day :]
        known = np.flatnonzero(np.isfinite(values))
        if len(known) < 2 * day or np.ptp(values[known]) == 0:
            raise ValueError("too short or constant")
        dense = np.interp(np.arange(len(values)), known, values[known])
        model = getattr(models, name)(season_length=day if name == "MSTL" else 1)
        found = model.forecast(y=dense, h=steps, level=[80, 90])
        return np.stack([found["lo-90"], found["mean"], found["hi-80"], found["hi-90"]])

    return predict


def accuracy(name: str, series: Sequence[Series], origins: int, others: int) -> tuple[list[Overall], list[Overall]]:
    """Figures of `auto` and the rules on `origins`, and of everything, costly models too, on `others` of them."""
    gaps = np.concatenate([np.diff(s.times) for s in series])
    step_s = float(np.median(gaps))
    ahead = sorted({max(step_s, round(h / step_s) * step_s) for h in (900.0, 1800.0)})
    ask = Ask(step_s=step_s, steps=round(ahead[-1] / step_s), quantiles=QUANTILES)
    at = spread_origins(series, origins, ahead[-1])
    runs: dict[str, list[Forecast]] = {"auto": list(forecast_origins(series, at, ask))}
    for rule in (LastValue(), SeasonalNaive(), LastWeekMax(), Rule("crane_style", crane)):
        runs[rule.name] = list(forecast_with(rule, series, at, ask))
    wide = overall(score(runs, series, ahead), runs)
    some = at[:: max(1, len(at) // max(1, others))][:others]
    if not some:
        return wide, []
    kept = set(some)
    few = {model: [f for f in made if f.made_at in kept] for model, made in runs.items()}
    costly = [ProphetModel(), ProphetCorrected(), Rule("dynamo_style", dynamo)]
    costly += [Rule(n, statistical(n)) for n in ("AutoETS", "MSTL", "AutoTheta")]
    for model in costly:
        few[model.name] = list(forecast_with(model, series[:4], some, ask))
    names = {str(s.key) for s in series[:4]}
    few = {model: [f for f in made if f.target in names] for model, made in few.items()}
    return wide, overall(score(few, series, ahead), few)


def show(title: str, rows: Sequence[Overall]) -> None:
    if rows:
        print(f"\n{title}\n{'horizon':>8} {'model':<22}{'origins':>8}{'MAE':>8}{'P90':>8}{'cover':>8}{'rises':>8}{'of':>6}")
    for r in rows:
        figures = "".join(f"{v:>8.3f}" for v in (r.mase_last, r.pinball_last, r.coverage, r.rises_covered))
        print(f"{r.horizon_s:>7.0f}s {r.model:<22}{r.origins:>8}{figures}{r.rises:>6}")


def made_here() -> dict[str, list[Series]]:
    """Request-like and GPU-demand-like series, five days at ten minutes."""
    rng, times = np.random.default_rng(7), 20_000 * 86400.0 + 600 * np.arange(5 * 144)
    shape = 1 + 0.6 * np.sin(2 * np.pi * times / 86400)
    requests = [rng.poisson(level * shape * np.exp(rng.normal(0, 0.1, len(times)))) for level in (40, 1000)]
    demand = [np.clip(np.cumsum(rng.choice([-8, 0, 8], len(times), p=[0.05, 0.9, 0.05])) + 200, 0, None) for _ in range(2)]
    made = {"requests": requests, "demand": demand}
    return {
        k: [Series(key=SeriesKey(f"{k}{i}"), times=times, values=v.astype(float)) for i, v in enumerate(vs)]
        for k, vs in made.items()
    }


def figures_of(name: str, wide: Sequence[Overall]) -> list[dict[str, object]]:
    goal_p90, goal_mae = GOALS.get(name, (1.0, 1.01))
    found: list[dict[str, object]] = []
    for mine in (r for r in wide if r.model == "auto"):
        beside = {r.model: r for r in wide if r.horizon_s == mine.horizon_s and r.model != "auto"}
        kinds = (("p90_vs_last", mine.pinball_last, goal_p90), ("mae_vs_last", mine.mase_last, goal_mae))
        for kind, value, goal in kinds:
            attribute = "pinball_last" if kind == "p90_vs_last" else "mase_last"
            baseline = {model: round(getattr(row, attribute), 3) for model, row in beside.items()}
            label = f"{name} {kind} {mine.horizon_s:.0f}s"
            found.append(
                {
                    "figure": label,
                    "value": round(value, 3),
                    "unit": "ratio",
                    "goal": goal,
                    "better": "lower",
                    "baseline": baseline,
                }
            )
        off = round(abs(mine.coverage - 0.9), 3)
        cover = {model: round(abs(row.coverage - 0.9), 3) for model, row in beside.items()}
        label = f"{name} coverage off 0.90 {mine.horizon_s:.0f}s"
        found.append({"figure": label, "value": off, "unit": "ratio", "goal": 0.03, "better": "lower", "baseline": cover})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="made series, few origins")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--data", type=Path, help="folder of *.csv.gz")
    parser.add_argument("--sets", default="", help="comma-separated names of files, without .csv.gz")
    parser.add_argument("--origins", type=int, default=40)
    parser.add_argument("--others", type=int, default=6, help="origins for the costly models of others; 0 leaves them out")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    prepare_worker()
    if args.quick:
        args.origins, args.others = 4, 0
    files = sorted(args.data.glob("*.csv.gz")) if args.data and not args.quick else []
    wanted = [part for part in args.sets.split(",") if part]
    sets = {f.name.removesuffix(".csv.gz"): f for f in files if not wanted or f.name.removesuffix(".csv.gz") in wanted}
    loaded = {name: read_series(path) for name, path in sets.items()} if sets else made_here()
    if not sets:
        print("no data folder given (--data): series made here")
    figures: list[dict[str, object]] = []
    for name, series in loaded.items():
        wide, few = accuracy(name, series, args.origins, args.others)
        show(f"{name}: {len(series)} series", wide)
        show(f"{name}: the costly models of others, up to four series, {args.others} origins", few)
        figures += figures_of(name, wide)
    for figure in figures:
        missed = isinstance(figure["value"], float) and figure["value"] > float(str(figure["goal"]))
        print(f"{'MISS' if missed else 'ok':<5}{figure['figure']}: {figure['value']} {figure['unit']} (goal {figure['goal']})")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
