"""The report of a simulation of jobs: plain data, equal bytes for equal seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aiops.errors import UserError
from aiops.sim.cluster.report import Bar, stamp
from aiops.sim.jobs.drive import Run, Stage, run_policies, run_scheduler
from aiops.sim.jobs.scenario import JobScenario
from aiops.sim.jobs.trace import read_trace, synthetic

LEAST_S = 600.0
RECLAIM_S = 300.0
"""What is lent comes back within this, or is counted as late."""

COLUMNS = (
    ("run", ""), ("utilisation", "utilisation"), ("queued GPU-h", "queued_gpu_hours"), ("mean wait s", "wait_mean_s"),
    ("P95 wait s", "wait_p95_s"), ("lost GPU-h", "lost_gpu_hours"), ("evictions", "evictions"), ("lent", "lent"),
    ("longest reclaim s", "reclaim_max_s"), ("done", "jobs_done"), ("decisions", "decisions"), ("refusals", "refusals"),
    ("violations", "invariant_violations"),
)  # fmt: skip


def stage_of(scenario: JobScenario, trace: Path | None, seed: int) -> Stage:
    """Scenario and jobs put together. UserError where the jobs end before the warm-up has passed."""
    jobs = read_trace(trace, scenario) if trace else synthetic(scenario, seed)
    start = jobs.jobs[0].submit
    scored = start + scenario.warm_up
    last = max(job.submit + job.duration_s for job in jobs.jobs)
    end = last if scenario.length is None else min(last, scored + scenario.length)
    if end - scored < LEAST_S:
        raise UserError(f"warm_up: expected at least {LEAST_S:.0f} s of jobs after it; they end {end - scored:.0f} s after it")
    return Stage(scenario=scenario, trace=jobs, start=start, scored=scored, end=end, seed=seed)


def simulate(stage: Stage, schedulers: Sequence[str], where: str, bar: Bar) -> dict[str, Any]:
    """Run the policies, then every other scheduler; the whole report."""
    report: dict[str, Any] = {
        "scenario": stage.scenario.name, "kind": "jobs", "seed": stage.seed, "from": stamp(stage.scored),
        "to": stamp(stage.end), "jobs": len(stage.trace.jobs), "jobs_left_out": stage.trace.left_out, "policies": {},
        "baselines": {},
    }  # fmt: skip
    if stage.scenario.policies:
        with bar("aiops") as progress:
            report["policies"]["+".join(stage.scenario.policies)] = told(stage, run_policies(stage, where, progress))
    for name in schedulers:
        with bar(name) as progress:
            report["baselines"][name] = told(stage, run_scheduler(stage, name, progress))
    return report


def told(stage: Stage, run: Run) -> dict[str, Any]:
    """One run in figures; waits are of the jobs submitted and started in the scored span, queued GPU-hours of all."""
    world, counted = run.world, run.world.counted
    capacity = stage.scenario.gpus * (stage.end - stage.scored)
    waits, reclaims = np.array(counted.waits or [0.0]), np.array(counted.reclaims or [0.0])
    done = [job for job in world.ended if job.ended_at is not None and job.ended_at >= stage.scored]
    ends = [job.ended_at for job in world.ended if job.ended_at is not None]
    return {
        "utilisation": round(counted.held_gpu_s / capacity, 4),
        "queued_gpu_hours": round(counted.queued_gpu_s / 3600, 2),
        "wait_mean_s": round(float(waits.mean()), 1),
        "wait_p95_s": round(float(np.quantile(waits, 0.95)), 1),
        "lost_gpu_s": round(counted.lost_gpu_s, 1),
        "lost_gpu_hours": round(counted.lost_gpu_s / 3600, 2),
        "evictions": counted.evictions,
        "moves": counted.moves,
        "lent": counted.lent,
        "reclaims": len(counted.reclaims),
        "reclaim_max_s": round(float(reclaims.max()), 1),
        "reclaims_late": int((reclaims > RECLAIM_S).sum()),
        "jobs_done": len(done),
        "makespan_s": round(max(ends, default=stage.scored) - stage.start, 1),
        "decisions": run.decisions,
        "refusals": dict(sorted(run.refusals.items())),
        "policies_failed": run.failed,
        "invariant_violations": len(run.violations),
        "violations": list(run.violations[:20]),
    }


def lines(report: dict[str, Any]) -> list[list[str]]:
    """The table: one line per run."""
    runs = {**{f"aiops ({k})": v for k, v in report["policies"].items()}, **report["baselines"]}
    return [[name, *(_shown(told[key]) for _, key in COLUMNS[1:])] for name, told in runs.items()]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{why} {n}" for why, n in value.items()) or "-"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
