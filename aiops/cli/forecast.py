"""`aiops forecast`: the daemon's forecasts on a file of series. The format is a public contract (docs/forecasting.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from aiops import plugins
from aiops.errors import InputError, UserError
from aiops.files import LATEST, Kind, csv_text, parse_times, read_table, write_atomic
from aiops.model import Floats, Forecast, Series, SeriesKey
from aiops.settings import seconds

LONG = {"time": Kind.TIME, "series": Kind.TEXT, "value": Kind.NUMBER}
MAX_STEPS = 10_000
"""A horizon of more steps than this is a unit by mistake."""

SHORTEST_STEP_S = 1e-3
"""Rows closer than this are forecast from every millisecond on: nearer times are one in floating point."""

MOST = 1e150
"""The squares of greater values, and the sums of their errors, leave the range of numbers."""

Input = Annotated[Path, typer.Argument(metavar="SERIES", help="Long CSV, .csv.gz or .parquet: time,series,value.")]
Horizon = Annotated[str, typer.Option(help="How far ahead, such as 30m.")]
Step = Annotated[str | None, typer.Option(help="Distance of forecast points; by default the usual distance of the rows.")]
AsOf = Annotated[list[str] | None, typer.Option("--as-of", help="Forecast from here, using only rows up to it. Repeatable.")]
Quantiles = Annotated[str, typer.Option(help="Comma-separated, each between 0 and 1.")]
Model = Annotated[str, typer.Option(help="`auto`, or the name of a registered model.")]
Out = Annotated[Path | None, typer.Option(help="Where to write the CSV; standard output by default.")]
Plot = Annotated[Path | None, typer.Option(help="Also draw history, band and truth: a .png or .html file.")]


def forecast(  # noqa: PLR0913 - one parameter per public flag
    series: Input,
    horizon: Horizon = "30m",
    step: Step = None,
    as_of: AsOf = None,
    quantiles: Quantiles = "0.05,0.5,0.9,0.95",
    model: Model = "auto",
    out: Out = None,
    plot: Plot = None,
) -> None:
    """Forecast every series of a file from each --as-of (default: the last point)."""
    from aiops.cli.pictures import check_picture, draw
    from aiops.cli.progress import bar
    from aiops.forecast.panel import median_step

    check_picture(plot)
    asked, ahead_s = parse_quantiles(quantiles), positive("--horizon", horizon)
    step_s = positive("--step", step) if step else None
    loaded = read_series(series)
    origins = parse_origins(as_of, loaded)
    _name_unborn(series, loaded, origins[0])
    made: list[Forecast] = []
    with bar("forecasting") as progress:
        for at, group in _by_step(loaded, origins, step_s, median_step):
            ask = _ask(at, ahead_s, asked)
            _check_end(group[-1], ask)
            made += run_model(model, loaded, group, ask, progress)
    made.sort(key=lambda f: (f.made_at, f.target))
    text = csv_text(header(asked), list(rows(made)))
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomic(out, text)
        summary(made, out)
    if plot is not None:
        draw(plot, loaded, made)


def _by_step(
    loaded: Sequence[Series], origins: Sequence[float], step_s: float | None, usual: Any
) -> Iterator[tuple[float, list[float]]]:
    """Origins by their step: the given one, or what the rows up to each origin say."""
    if step_s is not None:
        yield step_s, list(origins)
        return
    groups: dict[float, list[float]] = {}
    for origin in origins:
        gaps = [np.diff(s.times[s.times <= origin]) for s in loaded]
        times = np.concatenate([[0.0], np.cumsum(np.concatenate(gaps))]) if gaps else np.zeros(1)
        groups.setdefault(max(usual(times), SHORTEST_STEP_S), []).append(origin)
    yield from sorted(groups.items())


def _ask(step_s: float, ahead_s: float, quantiles: Floats) -> Any:
    from aiops.forecast.rolling import Ask

    return Ask(step_s=step_s, steps=steps_ahead("--horizon", ahead_s, step_s), quantiles=quantiles)


def steps_ahead(flag: str, ahead_s: float, step_s: float) -> int:
    """How many steps a horizon has, at least one; UserError for far too many."""
    steps = max(1, round(ahead_s / step_s))
    if steps > MAX_STEPS:
        raise UserError(f"{flag}: expected at most {MAX_STEPS} steps of {step_s:g} s, found {steps}")
    return steps


def run_model(model: str, loaded: Sequence[Series], origins: Sequence[float], ask: Any, progress: Any) -> list[Forecast]:
    """What `auto` or a registered model says of every series from each origin; UserError for another name."""
    from aiops.forecast.passes import forecast_passes
    from aiops.forecast.rolling import forecast_origins
    from aiops.forecast.single import for_steps, forecast_with
    from aiops.workers import prepare_fits

    prepare_fits()
    if model not in ("auto", *plugins.names("forecasters")):
        raise UserError(f"--model: expected auto or one of {', '.join(plugins.names('forecasters'))}, found {model!r}")

    def run(part: Any, told: Any) -> Iterator[Forecast]:
        if model == "auto":
            return forecast_origins(part.series, part.origins, part.ask, told)
        fitting = for_steps(plugins.load("forecasters", model), part.ask.steps)
        return forecast_with(fitting, part.series, part.origins, part.ask, told)

    return forecast_passes(loaded, origins, ask, (run, progress))


def _check_end(origin: float, ask: Any) -> None:
    if origin + ask.steps * ask.step_s >= LATEST:
        raise UserError(f"--horizon: expected to end before the year 10000, found {ask.steps} steps of {ask.step_s:g} s")


def read_series(path: Path) -> list[Series]:
    """Series of a long file, sorted by name, times ascending; repeated times are reported on stderr. InputError if empty."""
    table, dropped = read_table(path, LONG).distinct("series", "time")
    if dropped:
        typer.echo(f"{path}: {dropped} rows repeat a time of their series; the last of each counts", err=True)
    if not len(table):
        raise InputError(str(path), 0, "expected at least one row of time,series,value")
    names, starts = np.unique(table["series"].astype(str), return_index=True)
    ends = np.append(starts[1:], len(table))
    found = [
        Series(key=SeriesKey(str(name)), times=table["time"][a:b], values=table["value"][a:b])
        for name, a, b in zip(names, starts, ends, strict=True)
    ]
    for one in found:
        most = float(np.nanmax(np.abs(one.values), initial=0.0))
        if most > MOST:
            raise InputError(str(path), 0, f"expected values up to {MOST:g} in size, found {most:g} in series {one.key}")
    silent = [s.key.metric for s in found if not np.isfinite(s.values).any()]
    if len(silent) == len(found):
        raise InputError(str(path), 0, "expected at least one value, found only missing ones")
    if silent:
        typer.echo(f"{path}: {len(silent)} series have no value at all and get no row: {', '.join(silent[:5])}", err=True)
    return found


def parse_origins(as_of: Sequence[str] | None, loaded: Sequence[Series]) -> list[float]:
    """The asked origins, ascending; by default the last point of the file. UserError where there is no data by then."""
    if not as_of:
        return [max(float(s.times[-1]) for s in loaded)]
    try:
        origins = sorted({float(t) for t in parse_times(list(as_of))})
    except ValueError as error:
        raise UserError(f"--as-of: {error}") from None
    first = min(float(s.times[0]) for s in loaded)
    if origins[0] < first:
        raise UserError(
            f"--as-of: expected a time from {stamp(first, False)} on, where the data begin, found {stamp(origins[0], False)}"
        )
    return origins


def _name_unborn(path: Path, loaded: Sequence[Series], origin: float) -> None:
    unborn = [s.key.metric for s in loaded if np.isfinite(s.values).any() and s.times[np.isfinite(s.values)][0] > origin]
    if unborn:
        told = f"{path}: {len(unborn)} series have no value by {stamp(origin, False)} and get no row from there"
        typer.echo(f"{told}: {', '.join(unborn[:5])}", err=True)


def parse_quantiles(text: str) -> Floats:
    """Ascending quantiles; UserError where one is not a number strictly between 0 and 1."""
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise UserError(f"--quantiles: expected numbers such as 0.05,0.5,0.9, found {text!r}") from None
    if not all(0 < q < 1 for q in found):
        raise UserError(f"--quantiles: expected numbers between 0 and 1, found {text!r}")
    return np.array(found)


def positive(flag: str, text: str) -> float:
    """Seconds of a duration flag; UserError unless above zero and finite."""
    try:
        value = seconds(text)
    except ValueError as error:
        raise UserError(f"{flag}: expected {error}") from None
    if not 0 < value < 1e9:
        raise UserError(f"{flag}: expected a duration above zero, found {text!r}")
    return value


def header(quantiles: Floats) -> list[str]:
    """Column names of the answer."""
    return ["series", "origin", "time", *(f"q{float(q)}" for q in quantiles), "model", "skill"]


def rows(made: Sequence[Forecast]) -> Iterator[list[object]]:
    """One row per series, origin and step; of an origin the farthest step comes first, for that is the one asked about."""
    whole = all(float(t).is_integer() for f in made for t in (f.made_at, f.times[0], f.times[-1]))
    for f in made:
        origin, skill = stamp(f.made_at, whole), "" if f.skill is None else f.skill
        for index, time in reversed(list(enumerate(f.times))):
            yield [f.target, origin, stamp(float(time), whole), *(float(v) for v in f.values[:, index]), f.model, skill]


def stamp(time: float, whole: bool) -> str:
    """ISO 8601 in UTC, with microseconds unless all times are whole seconds."""
    text = datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds" if whole else "microseconds")
    return text.replace("+00:00", "Z")


def summary(made: Sequence[Forecast], out: Path) -> None:
    """A readable table of the newest origin on standard output."""
    from rich.console import Console
    from rich.table import Table

    last = max((f.made_at for f in made), default=math.nan)
    newest = [f for f in made if f.made_at == last]
    table = Table(title=f"{len(made)} forecasts in {out}; the newest, from {stamp(last, False) if made else 'nowhere'}")
    for name in ("series", "median", "high", "model", "skill", "coverage", "may be acted upon"):
        table.add_column(name, justify="right" if name in ("median", "high", "skill", "coverage") else "left")
    for f in newest[:30]:
        skill = "" if f.skill is None else f"{f.skill:.2f}"
        coverage = "" if f.coverage is None else f"{f.coverage:.2f}"
        ends = f"{f.at_quantile(0.5)[-1]:.6g}", f"{f.at_quantile(0.9)[-1]:.6g}"
        table.add_row(
            f.target,
            *ends,
            f.model,
            skill,
            coverage,
            "yes" if f.refused is None and f.skill is not None else f.refused or "not judged",
        )
    Console(markup=False, emoji=False).print(table)  # a name may hold [brackets]
    if len(newest) > 30:
        typer.echo(f"... and {len(newest) - 30} more series")
