"""Jobs: lending, packing and preemption by the real policies, each beside what others do, in the same virtual world.

    python bench/policy.py [--quick] [--json OUT] [--only NAME ...] [--days N] [--seed N] [--data DIR]

`earth` and `philly` run public traces (looked for in ../shared/data) under `rebalance` and `reclaim` beside no lending, strict
FIFO and Kueue's borrowing; jobs write a checkpoint every 30 minutes. `packing` gives CP-SAT, a genetic algorithm and a particle
swarm the same instances and CPU seconds. `optimum` compares the victims chosen with brute force, `preemption` the GPU-seconds
lost on a contended cluster with checkpoint intervals of 10 to 60 minutes. `--quick` runs all but the traces, small.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import jobtraces
import numpy as np
import packing

from aiops.logs import quiet
from aiops.model import Checkpoint, Cluster, Gpu, Job, JobState, Node, NodeState
from aiops.sim.jobs.drive import run_policies, run_scheduler
from aiops.sim.jobs.report import stage_of, told
from aiops.sim.jobs.scenario import JobScenario
from aiops.snapshot import Snapshot
from policies.lending import Problem, best, greedy
from policies.placing import Floor
from policies.preempt import PreemptPolicy
from policies.rebalance import Rule
from policies.victims import Room, cheapest, fits, free_gpus

NOW = 1e9
WIDE = {
    "jobs": 2000, "policy_jobs": 2000, "tenant_jobs": 2000, "gpus": 20_000, "approve_gpus": 10_000, "tenants": 1000,
    "evictions_per_day": 50,
}  # fmt: skip
"""Safety limits as an operator who wants 500-GPU shares lent must set them: what is lent must be stoppable."""
LENDING = {"max_lent_gpus": 10_000, "max_lent_jobs": 1000, "evictions_per_day": 20}
HABITS = {"checkpoint_interval": 1800, "checkpoint": 30, "restart": 60, "stop": 30}


def nothing(share: float) -> None:
    """No bar in a bench."""


def figure(name: str, value: float, unit: str, goal: float | None, better: str, **baseline: float) -> dict[str, Any]:
    return {"figure": name, "value": round(value, 4), "unit": unit, "goal": goal, "better": better, "baseline": baseline}


# -- lending -----------------------------------------------------------------------------------------------------------


def on_trace(name: str, jobs: Any, quotas: dict[str, int], asked: argparse.Namespace) -> list[dict[str, Any]]:
    fields = {
        "name": name, "tick": 60, "warm_up": 6 * 3600, "length": asked.days * 86400 - 6 * 3600,
        "pools": [{"name": "n", "nodes": -(-sum(quotas.values()) // 8), "gpus": 8, "rack": 16}],
        "queues": [{"name": queue, "quota": quota} for queue, quota in sorted(quotas.items())], "jobs": HABITS,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.csv"
        jobs.to_csv(path, index=False)
        runs = {}
        policies = {"rebalance": LENDING, "reclaim": {}}
        for title, limits, rules in (
            ("aiops", WIDE, policies),
            ("aiops, default limits", {}, {"rebalance": {}, "reclaim": {}}),
        ):
            stage = stage_of(JobScenario(**fields, limits=limits, policies=rules), path, asked.seed)
            began = time.process_time()
            runs[title] = told(stage, run_policies(stage, name, nothing))
            spent = time.process_time() - began
            print(f"     {name}: {title}: {spent:.0f} s CPU for {(stage.end - stage.start) / 3600:.0f} h", file=sys.stderr)
        for scheduler in ("no-lending", "fifo", "newest-first"):
            runs[scheduler] = told(stage, run_scheduler(stage, scheduler, nothing))
    return trace_figures(name, runs)


def trace_figures(name: str, runs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    def beside(key: str) -> dict[str, float]:
        return {run: row[key] for run, row in runs.items() if run != "aiops"}

    own, none = runs["aiops"], runs["no-lending"]
    cut = 1 - own["queued_gpu_hours"] / max(none["queued_gpu_hours"], 1e-9)
    return [
        figure(f"{name}: queued GPU-hours", own["queued_gpu_hours"], "h", 0.4 * none["queued_gpu_hours"], "lower",
               **beside("queued_gpu_hours")),
        figure(f"{name}: cut against no lending", cut, "ratio", 0.6, "higher"),
        figure(f"{name}: utilisation", own["utilisation"], "ratio", none["utilisation"], "higher", **beside("utilisation")),
        figure(f"{name}: mean wait", own["wait_mean_s"], "s", none["wait_mean_s"], "lower", **beside("wait_mean_s")),
        figure(f"{name}: longest reclaim", own["reclaim_max_s"], "s", 300, "lower", **beside("reclaim_max_s")),
        figure(f"{name}: reclaims later than 300 s", own["reclaims_late"], f"of {own['reclaims']}", 0, "lower",
               **beside("reclaims_late")),
        figure(f"{name}: lost GPU-hours", own["lost_gpu_hours"], "h", 0.5 * runs["newest-first"]["lost_gpu_hours"], "lower",
               **beside("lost_gpu_hours")),
        figure(f"{name}: invariant violations", own["invariant_violations"], "", 0, "lower"),
    ]  # fmt: skip


# -- packing -----------------------------------------------------------------------------------------------------------


def instance(seed: int, nodes: int) -> Problem:
    """A crowded moment: two kinds of nodes partly free, six lenders, half as much again waiting as is free, gangs among it."""
    draws = np.random.default_rng(seed)
    floor_nodes = tuple(full_node(i, "V100" if i % 2 else "A100") for i in range(nodes))
    free = {node.name: 8.0 if draws.random() < 0.3 else float(draws.integers(0, 8)) for node in floor_nodes}
    shares = draws.multinomial(int(sum(free.values()) * 0.9), [0.3, 0.25, 0.15, 0.1, 0.1, 0.1])
    sizes: list[int] = []
    while sum(sizes) < 1.5 * sum(free.values()):
        sizes.append(int(draws.choice([1, 2, 4, 8, 16, 32], p=[0.3, 0.2, 0.2, 0.18, 0.08, 0.04])))
    waiting = [
        Job(id=f"j{i}", run_id="", name="", queue="a", state=JobState.QUEUED, gpus=size,
            gpu_type=str(draws.choice(["", "A100", "V100"], p=[0.4, 0.3, 0.3])),
            submitted_at=NOW - float(draws.uniform(0, 7200)))
        for i, size in enumerate(sizes)
    ]  # fmt: skip
    cluster = Cluster(at=NOW, backend="bench", nodes=floor_nodes)
    idle = {f"q{i}": int(share) for i, share in enumerate(shares)}
    return Problem(sorted(waiting, key=lambda job: job.submitted_at), idle, Floor.of(cluster, free), NOW)


def full_node(i: int, model: str = "") -> Node:
    gpus = tuple(Gpu(uuid=f"n{i}/{k}", index=k, model=model) for k in range(8))
    return Node(name=f"n{i}", uid=f"n{i}", pool="p", state=NodeState.READY, gpus=gpus)


PACKED = {12: 12, 24: 12, 100: 5, 300: 3, 1000: 2}
"""Nodes -> instances: the larger, the dearer, and the nearer to the bound."""


def pack(cases: dict[int, int], seed: int) -> list[dict[str, Any]]:
    """By size: the planner's plan (`lending.best`, with the effort that the policy gives it) beside what others find in its CPU
    seconds, and all beside a bound that no plan can pass.
    """
    rows = []
    for nodes, count in cases.items():
        found: dict[str, list[float]] = {}
        spent, worse, jobs = [], 0, []
        for i in range(count):
            problem = instance(seed * 1000 + i, nodes)
            began = time.process_time()
            plan, _ = best(problem, Rule().effort_s)
            spent.append(time.process_time() - began)
            worth = {"planner": problem.total(plan), "greedy": problem.total(greedy(problem))}
            for how, decoder in packing.DECODERS.items():
                worth[f"genetic by {how}"] = packing.genetic(problem, decoder(problem), spent[-1], i)
                worth[f"swarm by {how}"] = packing.swarm(problem, decoder(problem), spent[-1], i)
            worse += worth["planner"] < max(worth.values())
            jobs.append(len(problem.jobs))
            for name, value in worth.items():
                found.setdefault(name, []).append(value / packing.bound(problem))
        means = {name: round(float(np.mean(values)), 5) for name, values in found.items()}
        about = f"packing {nodes} nodes, {np.mean(jobs):.0f} jobs, n={count}"
        rows += [
            figure(f"{about}: worth over the bound", means.pop("planner"), "ratio", max(means.values()), "higher", **means),
            figure(f"{about}: any other plan was better", worse, "", 0, "lower"),
            figure(
                f"{about}: CPU seconds, mean", round(float(np.mean(spent)), 3), "s", None, "lower", max=round(max(spent), 3)
            ),
        ]
    return rows


# -- preemption --------------------------------------------------------------------------------------------------------


def optimum(count: int, seed: int) -> list[dict[str, Any]]:
    """Loss of the chosen victims over the brute-forced least loss; priority + newest-first on the same cases."""
    ours, newest, cases = [], [], 0
    for i in range(count):
        cluster, waiting = crowded(seed * 10_000 + i)
        victims = PreemptPolicy().victims(Snapshot(id="", now=NOW, epoch=1, cluster=cluster), waiting)
        free = free_gpus(cluster)

        def enough(some: Any, free: Any = free, cluster: Any = cluster, waiting: Any = waiting) -> bool:
            gone = {job.id for victim in some for job in victim.jobs}
            left = tuple(job for job in cluster.jobs if job.id not in gone)
            return fits(waiting, free_gpus(replace(cluster, jobs=left)), cluster)

        if enough(()):
            continue
        sets = chain.from_iterable(combinations(victims, k) for k in range(1, len(victims) + 1))
        costs = [sum(v.lost_gpu_s for v in some) for some in sets if enough(some)]
        chosen = cheapest(Room.of(waiting, free, cluster), victims)
        if not costs or chosen is None:
            assert not costs
            assert chosen is None
            continue
        cases += 1
        ordered = sorted(victims, key=lambda v: (v.jobs[0].priority, -(v.jobs[0].started_at or 0.0)))
        upto = next(ordered[:k] for k in range(1, len(ordered) + 1) if enough(ordered[:k]))
        ours.append(sum(v.lost_gpu_s for v in chosen) / min(costs))
        newest.append(sum(v.lost_gpu_s for v in upto) / min(costs))
    said = {"priority, then newest (mean)": round(float(np.mean(newest)), 3)}
    return [
        figure(f"victims: loss over the optimum, worst of n={cases}", max(ours), "ratio", 1.1, "lower", **said),
        figure(f"victims: loss over the optimum, mean of n={cases}", float(np.mean(ours)), "ratio", 1.1, "lower", **said),
    ]


def crowded(seed: int) -> tuple[Cluster, Job]:
    """Three nodes with up to nine checkpointed jobs and one that needs 1 to 24 GPUs."""
    draws = np.random.default_rng(seed)
    room, jobs = [8, 8, 8], []
    for i in range(9):
        node, gpus = int(draws.integers(3)), int(draws.integers(1, 9))
        if gpus > room[node]:
            continue
        room[node] -= gpus
        interval = float(draws.uniform(600, 3600))
        proof = Checkpoint(id=f"c{i}", run_id=f"j{i}", at=NOW - float(draws.uniform(0, interval)), read_at=NOW, verified=True)
        jobs.append(
            Job(id=f"j{i}", run_id=f"j{i}", name="", queue="q", state=JobState.RUNNING, gpus=gpus, submitted_at=NOW - 9e4,
                nodes=(f"n{node}",), started_at=NOW - float(draws.uniform(4000, 80_000)), checkpoint=proof, restart_s=60.0,
                priority=int(draws.integers(3)))
        )  # fmt: skip
    size = int(draws.choice([1, 2, 4, 8, 16, 24]))
    waiting = Job(id="w", run_id="w", name="", queue="q", state=JobState.QUEUED, gpus=size, submitted_at=NOW, priority=9)
    return Cluster(at=NOW, backend="bench", nodes=tuple(full_node(i) for i in range(3)), jobs=(*jobs, waiting)), waiting


def preemption(hours: float, seed: int) -> list[dict[str, Any]]:
    """A cluster full of long jobs that checkpoint every 10 to 60 minutes, and urgent jobs of one node each."""
    rows = ["submit,job,gpus,duration_s,queue,user,priority,checkpoint_interval_s"]
    draws = np.random.default_rng(seed)
    for i in range(int(40 + hours * 8)):
        at, size = max(0.0, (i - 40) * 450.0), int(draws.choice([2, 4, 8, 8]))
        rows.append(f"{at},low{i},{size},{draws.lognormal(9.5, 0.8):.0f},q,u{i % 9},0,{draws.uniform(600, 3600):.0f}")
    for i, at in enumerate(np.sort(draws.uniform(7200, hours * 3600, int(hours * 3)))):
        rows.append(f"{at:.0f},urgent{i},{int(draws.choice([4, 8]))},{draws.lognormal(7.5, 0.5):.0f},q,v{i % 5},10,1800")
    scenario = JobScenario(
        name="preemption", tick=10, warm_up=7200, length=hours * 3600 - 7200, pools=[{"name": "n", "nodes": 16, "gpus": 8}],
        queues=[{"name": "q", "quota": 128}], jobs=HABITS, limits=WIDE, policies={"preempt": {}},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.csv"
        path.write_text("\n".join(rows) + "\n")
        stage = stage_of(scenario, path, seed)
        own = told(stage, run_policies(stage, "preemption", nothing))
        others = {name: told(stage, run_scheduler(stage, name, nothing)) for name in ("newest-first", "priority")}
    each = {name: row["lost_gpu_s"] / max(row["evictions"], 1) for name, row in (("aiops", own), *others.items())}
    lost = {name: row["lost_gpu_s"] for name, row in others.items()}
    counts = {name: row["evictions"] for name, row in others.items()}
    waits = {name: row["wait_mean_s"] for name, row in others.items()}
    return [
        figure("preemption: lost GPU-seconds", own["lost_gpu_s"], "GPU-s", 0.5 * lost["newest-first"], "lower", **lost),
        figure(
            "preemption: lost GPU-seconds per eviction", each.pop("aiops"), "GPU-s", 0.5 * each["newest-first"], "lower", **each
        ),
        figure("preemption: evictions", own["evictions"], "", None, "lower", **counts),
        figure("preemption: mean wait of all jobs", own["wait_mean_s"], "s", None, "lower", **waits),
        figure("preemption: invariant violations", own["invariant_violations"], "", 0, "lower"),
    ]


def show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        goal = row["goal"]
        met = (
            "    "
            if goal is None
            else "met "
            if (row["value"] >= goal) == (row["better"] == "higher") or row["value"] == goal
            else "MISS"
        )
        beside = ", ".join(f"{name} {value:g}" for name, value in row["baseline"].items())
        said = "-" if goal is None else f"{goal:g}"
        print(f"{met} {row['figure']:<58} {row['value']:>10.6g} {row['unit']:<6} goal {said:<9} {beside}")
    sys.stdout.flush()


def parts(asked: argparse.Namespace) -> dict[str, Callable[[], list[dict[str, Any]]]]:
    quick = asked.quick

    def trace(name: str) -> list[dict[str, Any]]:
        if not jobtraces.DATA.is_dir():
            print(f"{name}: skipped, ../shared/data is not there")
            return []
        if name == "philly":
            return on_trace(name, *jobtraces.philly(30, asked.days), asked)
        jobs, quotas, measured = jobtraces.earth(asked.days)
        print(f"     earth: {measured:.0f} GPU-hours were queued in fact in these {asked.days:g} days")
        return on_trace(name, jobs, quotas, asked)

    every = {
        "packing": lambda: pack({24: 4} if quick else PACKED, asked.seed),
        "optimum": lambda: optimum(60 if quick else 400, asked.seed),
        "preemption": lambda: preemption(6 if quick else 48, asked.seed),
        "earth": lambda: trace("earth"),
        "philly": lambda: trace("philly"),
    }
    return {name: part for name, part in every.items() if not (quick and name in ("earth", "philly"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", action="append", choices=["packing", "optimum", "preemption", "earth", "philly"])
    parser.add_argument("--days", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="where the public traces are")
    asked = parser.parse_args()
    quiet()
    if asked.data:
        jobtraces.DATA = asked.data
    rows = []
    for name, part in parts(asked).items():
        if asked.only and name not in asked.only:
            continue
        found = part()
        rows += found
        show(found)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
