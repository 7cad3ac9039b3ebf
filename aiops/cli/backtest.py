"""`aiops backtest`: rolling-origin evaluation of all models on a file, as a table and a JSON report."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from aiops import plugins
from aiops.cli.forecast import SHORTEST_STEP_S, Input, positive, read_series, run_model, steps_ahead
from aiops.errors import UserError
from aiops.files import write_atomic
from aiops.model import Forecast, Series

QUANTILES = np.array([0.05, 0.5, 0.9, 0.95])
NAIVE = ("last_value", "seasonal_naive")

Horizons = Annotated[str, typer.Option(help="Comma-separated, such as 15m,30m.")]
Origins = Annotated[int, typer.Option(min=1, max=10_000, help="How many origins, spread over the newer half of the file.")]
Step = Annotated[str | None, typer.Option(help="Distance of forecast points; by default the usual distance of the rows.")]
Models = Annotated[str, typer.Option(help="Comma-separated names, or `all`.")]
Out = Annotated[Path | None, typer.Option(help="Where to write the JSON report.")]


def backtest(
    series: Input,
    horizons: Horizons = "15m,30m",
    origins: Origins = 50,
    step: Step = None,
    models: Models = "all",
    out: Out = None,
) -> None:
    """Evaluate every model on the past of a file, beside last value and seasonal naive on the same origins."""
    from aiops.forecast.backtest import overall, score, spread_origins

    names = parse_models(models)
    loaded = read_series(series)
    step_s = positive("--step", step) if step else _usual_step(series, loaded)
    ahead = sorted({max(step_s, round(positive("--horizons", part) / step_s) * step_s) for part in horizons.split(",")})
    at = spread_origins(loaded, origins, ahead[-1])
    runs, took = _run_all(names, loaded, (at, ahead[-1], step_s))
    scores = score(runs, loaded, ahead)
    if not scores:
        raise UserError(f"{series}: expected rows {ahead[0]:g} s after each other to judge by, found none")
    totals = overall(scores, runs)
    each = {name: seconds / len(loaded) for name, seconds in took.items()}
    _show(totals, each)
    if out is not None:
        report = {
            "origins": at,
            "horizons_s": ahead,
            "overall": [{**asdict(one), "seconds_per_series": each[one.model]} for one in totals],
            "series": [asdict(one) for one in scores],
        }
        write_atomic(out, json.dumps(_finite(report), indent=1) + "\n")


def parse_models(text: str) -> list[str]:
    """`auto` and the asked registered models, the naive ones always among them. UserError for an unknown name."""
    known = ("auto", *plugins.names("forecasters"))
    asked = list(known) if text == "all" else [part.strip() for part in text.split(",")]
    wrong = [name for name in asked if name not in known]
    if wrong:
        raise UserError(f"--models: expected all or some of {', '.join(known)}, found {wrong[0]!r}")
    return [*NAIVE, *(name for name in asked if name not in NAIVE)]


def _usual_step(path: Path, loaded: Sequence[Series]) -> float:
    gaps = np.concatenate([np.diff(s.times) for s in loaded])
    if not len(gaps):
        raise UserError(f"{path}: expected series of more than one point")
    return max(float(np.median(gaps)), SHORTEST_STEP_S)


def _run_all(
    names: Sequence[str], loaded: Sequence[Series], grid: tuple[Sequence[float], float, float]
) -> tuple[dict[str, list[Forecast]], dict[str, float]]:
    from aiops.cli.progress import bar
    from aiops.forecast.rolling import Ask

    at, reach_s, step_s = grid
    ask = Ask(step_s=step_s, steps=steps_ahead("--horizons", reach_s, step_s), quantiles=QUANTILES)
    runs, took = {}, {}
    for name in names:
        begun = time.perf_counter()
        with bar(name) as progress:
            runs[name] = run_model(name, loaded, at, ask, progress)
        took[name] = time.perf_counter() - begun
    return runs, took


def _show(totals: Sequence[Any], each: dict[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Relative to the last value: lower is better; coverage: 0.90 is right; rises: share covered")
    columns = ("horizon", "model", "series", "origins", "absolute error", "P90 pinball", "coverage", "rises", "s/series")
    for name in columns:
        table.add_column(name, justify="left" if name == "model" else "right")
    for one in totals:
        figures = (one.mase_last, one.pinball_last, one.coverage, one.rises_covered, each[one.model])
        counts = str(one.series), str(one.origins)
        table.add_row(f"{one.horizon_s / 60:g} min", one.model, *counts, *(_figure(value) for value in figures))
    Console().print(table)


def _figure(value: float) -> str:
    """Three decimals, or a dash for what has no value: a ratio where the last value was never wrong, rises where none came."""
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _finite(value: Any) -> Any:
    """JSON has no NaN: what could not be computed is null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
