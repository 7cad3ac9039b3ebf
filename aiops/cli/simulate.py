"""`aiops simulate SCENARIO.yaml`: the real policies beside the autoscalers that others run, in the same virtual world.

Formats are a public contract (`docs/simulate.md`). Reads files, calls the simulator, writes files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aiops.errors import UserError
from aiops.files import write_atomic

JOB_BASELINES = ("no-lending", "fifo", "newest-first", "priority")
WIDE = 160
"""Columns of a table that goes into a file or pipe."""

HEADER = (
    "run", "service", "SLO-violation min", "replica-hours", "mean s", "P99 s", "flaps/h", "lead s", "decisions", "refusals",
    "violations",
)  # fmt: skip


def simulate(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="YAML: pools, services or queues, policies, limits.")],
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Requests (time,service,requests..) or jobs (submit,job,gpus,duration_s..); .csv, .csv.gz, .parquet."
        ),
    ] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Only these of the scenario's policies. Repeatable.")] = None,
    baseline: Annotated[list[str] | None, typer.Option(help="Only these baselines; `none` for none. Repeatable.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seed, equal report.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the whole report as JSON; - for standard output.")] = None,
) -> None:
    """Run the real policies in a simulated cluster: services beside other autoscalers, jobs beside other schedulers."""
    from aiops.cli.progress import bar
    from aiops.cli.simulate_jobs import Asked, simulate_jobs
    from aiops.logs import quiet
    from aiops.sim.cluster import report
    from aiops.sim.cluster.scenario import read_scenario
    from aiops.sim.jobs.scenario import is_of_jobs

    quiet()
    if is_of_jobs(scenario):
        simulate_jobs(scenario, Asked(trace=trace, policy=policy or [], baseline=baseline or [], seed=seed, out=out))
        return
    world = read_scenario(scenario)
    if policy:
        world = world.model_copy(update={"policies": only(policy, world.policies)})
    asked = chosen(baseline)
    stage = report.stage_of(world, trace, seed)
    found = report.simulate(stage, asked, str(scenario), bar)
    text = report.as_json(found)
    if out is not None and str(out) == "-":
        typer.echo(text, nl=False)
        return
    if out is not None:
        write_atomic(out, text)
    table(found["scenario"], report.lines(found))


def only(asked: list[str], policies: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The scenario's policies that were asked for. UserError names what there is."""
    alien = [name for name in asked if name not in policies]
    if alien:
        raise UserError(f"--policy: expected one of {', '.join(policies) or '(none)'}, found {alien[0]!r}")
    return {name: policies[name] for name in dict.fromkeys(asked)}


def chosen(asked: list[str] | None) -> tuple[str, ...]:
    """Baselines to run, in the catalogue's order. UserError names what there is."""
    from aiops.sim.baselines.catalogue import BASELINES

    if not asked:
        return tuple(BASELINES)
    if asked == ["none"]:
        return ()
    for name in asked:
        if name in JOB_BASELINES:
            raise UserError(f"--baseline: {name} schedules jobs, and this scenario has only services")
        if name not in BASELINES:
            raise UserError(f"--baseline: expected one of {', '.join(BASELINES)} or none, found {name!r}")
    return tuple(name for name in BASELINES if name in asked)


def table(title: str, rows: list[list[str]], header: tuple[str, ...] = HEADER) -> None:
    """The result for people, on standard output."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=title)
    for name in header:
        shown.add_column(name, justify="left" if name in ("run", "service", "refusals") else "right")
    for row in rows:
        shown.add_row(*row)
    width = None if Console().is_terminal else WIDE
    Console(width=width, markup=False, emoji=False).print(shown)  # a name may hold [brackets]
