"""`aiops simulate` on a scenario with queues: jobs under the real policies, beside the schedulers that others run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from aiops.errors import UserError
from aiops.files import write_atomic


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The command's options."""

    trace: Path | None
    policy: list[str]
    baseline: list[str]
    seed: int
    out: Path | None


def simulate_jobs(scenario: Path, asked: Asked) -> None:
    """Run the scenario, show the table, write the report."""
    from aiops.cli.progress import bar
    from aiops.cli.simulate import only, table
    from aiops.sim.cluster.report import as_json
    from aiops.sim.jobs import report
    from aiops.sim.jobs.scenario import read_scenario

    world = read_scenario(scenario)
    if asked.policy:
        world = world.model_copy(update={"policies": only(asked.policy, world.policies)})
    stage = report.stage_of(world, asked.trace, asked.seed)
    found = report.simulate(stage, chosen(asked.baseline), str(scenario), bar)
    text = as_json(found)
    if asked.out is not None and str(asked.out) == "-":
        typer.echo(text, nl=False)
        return
    if asked.out is not None:
        write_atomic(asked.out, text)
    table(found["scenario"], report.lines(found), tuple(title for title, _ in report.COLUMNS))


def chosen(asked: list[str]) -> tuple[str, ...]:
    """Schedulers to run, in the catalogue's order. UserError names what there is."""
    from aiops.sim.baselines.catalogue import BASELINES
    from aiops.sim.baselines.jobs import SCHEDULERS

    if asked == ["none"]:
        return ()
    for name in asked:
        if name in BASELINES:
            raise UserError(f"--baseline: {name} scales services, and this scenario has only jobs")
        if name not in SCHEDULERS:
            raise UserError(f"--baseline: expected one of {', '.join(SCHEDULERS)} or none, found {name!r}")
    return tuple(name for name in SCHEDULERS if not asked or name in asked)
