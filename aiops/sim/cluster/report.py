"""The report of a simulation: plain data, equal bytes for equal seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiops.errors import UserError
from aiops.sim.cluster.drive import Progress, Run, Stage, run_baseline, run_policies
from aiops.sim.cluster.foresee import foresee
from aiops.sim.cluster.load import read_loads, synthetic
from aiops.sim.cluster.nodes import ordered
from aiops.sim.cluster.scenario import Scenario
from aiops.sim.cluster.score import score
from aiops.sim.cluster.world import per_second_ordered

Bar = Callable[[str], AbstractContextManager[Progress]]
LEAST_S = 600


def stage_of(scenario: Scenario, trace: Path | None, seed: int) -> Stage:
    """Scenario and load put together. UserError where the load ends before the history has passed."""
    loads = read_loads(trace, scenario, seed) if trace else synthetic(scenario, seed)
    start = int(loads.start) + int(scenario.history)
    end = int(loads.start) + loads.seconds
    end = end if scenario.length is None else min(end, start + int(scenario.length))
    if end - start < LEAST_S:
        raise UserError(
            f"history: expected at least {LEAST_S} s of load after it; the load is {loads.seconds / 3600:.1f} h long, "
            f"the history {scenario.history / 3600:.1f} h"
        )
    return Stage(scenario=scenario, loads=loads, start=start, end=end, seed=seed)


def simulate(stage: Stage, baselines: Sequence[str], where: str, bar: Bar) -> dict[str, Any]:
    """Run the policies, then every baseline; the whole report."""
    report: dict[str, Any] = {
        "scenario": stage.scenario.name,
        "kind": "services",
        "seed": stage.seed,
        "from": stamp(stage.start),
        "to": stamp(stage.end),
        "intervals_carried_forward": stage.loads.carried,
        "policies": {},
        "baselines": {},
    }
    if stage.scenario.policies:
        with bar("forecasting") as progress:
            forecasts = foresee(stage, progress)
        with bar("aiops") as progress:
            run = run_policies(stage, forecasts, where, progress)
        refused = sum(1 for one in forecasts if one.refused is not None)
        own = {"forecasts": len(forecasts), "forecasts_refused": refused}
        report["policies"]["+".join(stage.scenario.policies)] = told(stage, run) | own
    for name in baselines:
        with bar(name) as progress:
            report["baselines"][name] = told(stage, run_baseline(stage, name, progress))
    return report


def told(stage: Stage, run: Run) -> dict[str, Any]:
    """One run: totals over services, and each service."""
    rows = {}
    for name, fleet in sorted(run.world.fleets.items()):
        load = stage.loads.rates[name][int(stage.start - stage.loads.start) : int(stage.end - stage.loads.start)]
        rows[name] = score(fleet, load, float(stage.start), (stage.loads.per_request[name], stage.scenario.stalls))
    summed = ("slo_violation_minutes", "replica_hours", "flaps_per_hour", "scale_ups", "scale_downs")
    total: dict[str, Any] = {key: round(sum(float(row[key] or 0) for row in rows.values()), 4) for key in summed}
    if stage.scenario.stalls:
        total["scale_ups_in_stalls"] = sum(row.pop("scale_ups_in_stalls") or 0 for row in rows.values())
    pools = {name: told_of_pool(stage, run, name) for name, group in sorted(run.world.groups.items()) if group.spec.elastic}
    if pools:
        total["pools"] = pools
    if run.perturbed:
        total["perturbed"] = run.perturbed
    return total | {
        "services": rows,
        "decisions": run.decisions,
        "refusals": dict(sorted(run.refusals.items())),
        "policies_failed": run.failed,
        "invariant_violations": len(run.violations),
        "violations": list(run.violations[:20]),
    }


def told_of_pool(stage: Stage, run: Run, name: str) -> dict[str, Any]:
    """What a pool cost, and how long GPUs that services were promised waited for a node."""
    group, seconds = run.world.groups[name], stage.end - stage.start
    nodes = ordered(group, float(stage.start), seconds)
    waited = 0.0
    for fleet in (one for one in run.world.fleets.values() if one.spec.pool == name):
        wanted, placed = per_second_ordered(fleet, float(stage.start), seconds)
        waited += float((wanted - placed).sum()) * fleet.spec.gpus_per_replica
    orders = [order for order in group.orders if order[0] >= stage.start]
    return {
        "node_hours": round(float(nodes.sum()) / 3600, 3),
        "nodes_most": int(nodes.max()),
        "gpu_minutes_waited": round(waited / 60, 3),
        "scale_ups": sum(after > before for _, before, after in orders),
        "scale_downs": sum(after < before for _, before, after in orders),
    }


def stamp(time: float) -> str:
    """ISO 8601 in UTC."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def as_json(report: dict[str, Any]) -> str:
    """The report's bytes."""
    return json.dumps(report, indent=1, allow_nan=False) + "\n"


def lines(report: dict[str, Any]) -> list[list[str]]:
    """The table: one line per run and service."""
    runs = {**{f"aiops ({k})": v for k, v in report["policies"].items()}, **report["baselines"]}
    return [
        [
            run,
            name,
            f"{row['slo_violation_minutes']:.1f}",
            f"{row['replica_hours']:.1f}",
            f"{row['latency_mean_s']:.3f}",
            f"{row['latency_p99_s']:.2f}",
            f"{row['flaps_per_hour']:.2f}",
            "-" if row["lead_mean_s"] is None else f"{row['lead_mean_s']:+.0f}",
            str(told["decisions"]),
            ", ".join(f"{why} {n}" for why, n in told["refusals"].items()) or "-",
            str(told["invariant_violations"]),
        ]
        for run, told in runs.items()
        for name, row in told["services"].items()
    ]
