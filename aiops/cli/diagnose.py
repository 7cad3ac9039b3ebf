"""`aiops diagnose METRICS`: the daemon's root-cause engine on a file, with a table for people and JSON for programs.

Input and output formats are a public contract (`docs/rootcause.md`). Reads files, calls the pure engine, writes files.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from aiops.diagnose.analysis import investigate
from aiops.diagnose.graph import Graph
from aiops.diagnose.panel import Panel, from_points
from aiops.diagnose.remedies import Remedy, remedies
from aiops.diagnose.report import Hypothesis, Report
from aiops.diagnose.topology import parse_topology
from aiops.errors import InputError, UserError
from aiops.files import Kind, parse_times, read_table, write_atomic
from aiops.model import Evidence
from aiops.settings import load_yaml

SHOWN = 8
"""Entities in the table; the JSON has all."""
_COLUMNS = {"time": Kind.TIME, "entity": Kind.TEXT, "metric": Kind.TEXT, "value": Kind.NUMBER}


def diagnose(
    metrics: Annotated[Path, typer.Argument(help="time,entity,metric,value as .csv, .csv.gz or .parquet")],
    topology: Annotated[Path | None, typer.Option(help="YAML: entities, edges, edge_metrics, metrics")] = None,
    at: Annotated[str | None, typer.Option(help="When it was noticed, maybe minutes late (default: the last point)")] = None,
    sli: Annotated[str | None, typer.Option(help="ENTITY:METRIC that got worse (default: whatever deviates most)")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the whole report as JSON; - for standard output")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw cause graph and evidence (.png or .svg)")] = None,
) -> None:
    """Name why something got slow: ranked causes, a typed verdict, the evidence, or `unknown`."""
    panel = read_panel(metrics)
    graph = parse_topology(load_yaml(topology), str(topology)) if topology else Graph()
    analysis = investigate(panel, graph, _when(at, panel), sli)
    text = json.dumps(to_plain(analysis.report), indent=1, allow_nan=False) + "\n"
    if plot is not None:
        from aiops.cli.picture import draw

        draw(analysis, plot)
    if out is not None and str(out) == "-":
        typer.echo(text, nl=False)
        return
    if out is not None:
        write_atomic(out, text)
    show(analysis.report)


def read_panel(path: Path) -> Panel:
    """The file as a panel. InputError where it is no such table, a name is missing or there is no value."""
    table = read_table(path, _COLUMNS)
    for column in ("entity", "metric"):
        nameless = np.flatnonzero(table[column] == "")
        if len(nameless):
            raise InputError(str(path), 0, f"row {nameless[0] + 1}: {column}: expected a name, found nothing")
    try:
        return from_points(table["entity"], table["metric"], table["time"], table["value"])
    except ValueError as error:
        raise InputError(str(path), 0, str(error)) from None


def _when(text: str | None, panel: Panel) -> float:
    if text is None:
        return float(panel.times[-1])
    try:
        return float(parse_times([text])[0])
    except ValueError as error:
        raise UserError(f"--at: {error}") from None


def to_plain(report: Report) -> dict[str, Any]:
    """The report as plain data; numbers that are not known are null."""
    return {
        "at": report.at,
        "sli": report.sli,
        "onset": report.onset,
        "verdict": report.verdict.value,
        "confidence": report.confidence,
        "causes": [_cause(cause) for cause in report.causes],
        "notes": list(report.notes),
    }


def _cause(cause: Hypothesis) -> dict[str, Any]:
    return {
        "entity": cause.entity,
        "metric": cause.metric,
        "verdict": cause.verdict.value,
        "score": _number(cause.score),
        "chain": list(cause.chain),
        "evidence_for": [_fact(fact) for fact in cause.evidence_for],
        "evidence_against": [_fact(fact) for fact in cause.evidence_against],
        "counterfactual": {name: _number(value) for name, value in cause.counterfactual.items()},
        "neighbour": cause.neighbour,
        "remedies": [{"action": one.action or None, "target": one.target, "text": one.text} for one in _remedies(cause)],
    }


def _remedies(cause: Hypothesis) -> tuple[Remedy, ...]:
    return remedies(cause.verdict, cause.entity, cause.chain, cause.neighbour)


def _fact(fact: Evidence) -> dict[str, Any]:
    return {"text": fact.text, "series": fact.series, "value": _number(fact.value), "usual": _number(fact.baseline)}


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.9g}")


def show(report: Report) -> None:
    """The report as a table on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print(Text.assemble("verdict ", (report.verdict.value, "bold"), f"  confidence {report.confidence:.0%}"))
    console.print(Text(f"SLI {report.sli or 'none: whatever deviates most'}" + _since(report)))
    table = Table("", "entity", "verdict", "score", "evidence", box=None, pad_edge=False)
    for place, cause in enumerate(report.causes[:SHOWN], start=1):
        proof = [f"+ {fact.text}" for fact in cause.evidence_for] + [f"- {fact.text}" for fact in cause.evidence_against]
        proof += [f"chain {' <- '.join(cause.chain)}"] if len(cause.chain) > 1 and place <= 3 else []
        kind = cause.verdict.value if cause.verdict.value != "unknown" else ""
        table.add_row(str(place), Text(cause.entity), kind, f"{cause.score:.1f}", Text("\n".join(proof)))
    console.print(table)
    for cause in report.causes[:1]:
        if "step_s" in cause.counterfactual:
            told = cause.counterfactual
            console.print(Text(f"a step takes {told['step_now_s']:.3g} s; without {cause.entity}: {told['step_s']:.3g} s"))
        if "sli" in cause.counterfactual:
            told = cause.counterfactual
            console.print(Text(f"{report.sli} is {told['sli_now']:.3g}; without {cause.entity}: about {told['sli']:.3g}"))
    for one in _remedies(report.causes[0]) if report.causes else ():
        console.print(Text(f"would help: {one.text}"))
    for note in report.notes:
        console.print(Text(f"note: {note}"))


def _since(report: Report) -> str:
    if report.onset is None:
        return ""
    return f", changed {max(report.at - report.onset, 0):.0f} s before it was noticed"
