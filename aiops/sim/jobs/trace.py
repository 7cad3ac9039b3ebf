"""The jobs to be simulated: from a trace in the public format, or synthetic. Equal for every scheduler and policy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from aiops.errors import InputError, UserError
from aiops.files import Kind, Table, read_table
from aiops.sim.jobs.scenario import Arrivals, JobScenario

COLUMNS = {"submit": Kind.TIME, "job": Kind.TEXT, "gpus": Kind.NUMBER, "duration_s": Kind.NUMBER}
OPTIONAL = {
    "queue": Kind.TEXT, "user": Kind.TEXT, "priority": Kind.NUMBER, "gpu_type": Kind.TEXT,
    "checkpoint_interval_s": Kind.NUMBER, "status": Kind.TEXT,
}  # fmt: skip
P90_SCORE = 1.2815515655446004
SYNTHETIC_START = 1767225600.0  # 2026-01-01 UTC, as for services
SYNTHETIC_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A job as its owner submitted it; `interval_s` is infinite for one that writes no checkpoints."""

    id: str
    submit: float
    gpus: int
    duration_s: float
    queue: str
    tenant: str = ""
    priority: int = 0
    gpu_type: str = ""
    interval_s: float = math.inf


@dataclass(frozen=True, slots=True)
class JobTrace:
    """Jobs by time of submission, and how many rows were left out because they ask for no GPU or more than there are."""

    jobs: tuple[Submitted, ...]
    left_out: int = 0


def read_trace(path: Path, scenario: JobScenario) -> JobTrace:
    """Jobs of a trace. InputError for a row that makes no sense; rows without a GPU or beyond the cluster are counted."""
    table = read_table(path, COLUMNS, OPTIONAL)
    _refuse(path, table, scenario)
    usual = scenario.jobs.checkpoint_interval or math.inf
    interval = _numbers(table, "checkpoint_interval_s", usual)
    jobs, left_out = [], 0
    for row in np.lexsort((table["job"], table["submit"])):
        gpus = int(table["gpus"][row])
        kind = str(_texts(table, "gpu_type")[row])
        if not 0 < gpus <= sum(p.nodes * p.gpus for p in scenario.pools if kind in ("", p.gpu_type)):
            left_out += 1
            continue
        jobs.append(
            Submitted(
                id=str(table["job"][row]), submit=float(table["submit"][row]), gpus=gpus,
                duration_s=float(table["duration_s"][row]), queue=str(_texts(table, "queue", scenario.queues[0].name)[row]),
                tenant=str(_texts(table, "user")[row]), priority=int(_numbers(table, "priority", 0.0)[row]), gpu_type=kind,
                interval_s=float(interval[row]),
            )
        )  # fmt: skip
    if not jobs:
        raise UserError(f"{path}: no job in it needs a GPU that this cluster has")
    return JobTrace(tuple(jobs), left_out)


def _refuse(path: Path, table: Table, scenario: JobScenario) -> None:
    """Name the first line that cannot be simulated (line 1 is the header)."""
    known = {queue.name for queue in scenario.queues}
    bad = (
        ("a whole number of GPUs", ~(np.isfinite(table["gpus"]) & (table["gpus"] >= 0) & (table["gpus"] % 1 == 0))),
        ("a duration of at least 0 s", ~(np.isfinite(table["duration_s"]) & (table["duration_s"] >= 0))),
        (f"a queue of the scenario ({', '.join(sorted(known))})", ~np.isin(_texts(table, "queue", min(known)), list(known))),
        ("a checkpoint interval above 0 s", _numbers(table, "checkpoint_interval_s", 1.0) <= 0),
    )
    for expected, rows in bad:
        if rows.any():
            raise InputError(str(path), int(np.flatnonzero(rows)[0]) + 2, f"expected {expected}")
    names, counts = np.unique(table["job"].astype(str), return_counts=True)
    if (counts > 1).any():
        twice = names[counts > 1][0]
        raise InputError(str(path), int(np.flatnonzero(table["job"] == twice)[1]) + 2, f"expected each job once, found {twice}")


def _texts(table: Table, name: str, default: str = "") -> NDArray[Any]:
    found = table.columns.get(name)
    return np.full(len(table), default, dtype=object) if found is None else np.where(found == "", default, found)


def _numbers(table: Table, name: str, default: float) -> NDArray[Any]:
    found = table.columns.get(name)
    return np.full(len(table), default) if found is None else np.where(np.isfinite(found), found, default)


def synthetic(scenario: JobScenario, seed: int) -> JobTrace:
    """Jobs from the scenario's `arrivals`. UserError where there are none."""
    if not scenario.arrivals:
        raise UserError("no jobs: give --trace, or an `arrivals` section in the scenario")
    length = scenario.warm_up + (scenario.length or SYNTHETIC_S)
    jobs = [job for number, one in enumerate(scenario.arrivals) for job in _drawn(one, (seed, number), length, scenario)]
    return JobTrace(tuple(sorted(jobs, key=lambda job: (job.submit, job.id))))


def _drawn(one: Arrivals, by: tuple[int, int], length: float, scenario: JobScenario) -> list[Submitted]:
    draws = np.random.default_rng([*by, crc32(one.queue.encode())])
    count = int(draws.poisson(one.per_hour * length / 3600))
    submits = SYNTHETIC_START + np.sort(draws.uniform(0, length, count))
    sigma = math.log(max(one.p90 / one.median, 1.0)) / P90_SCORE
    durations = one.median * np.exp(sigma * draws.standard_normal(count))
    sizes = draws.choice(one.sizes, count)
    interval = scenario.jobs.checkpoint_interval or math.inf
    return [
        Submitted(
            id=f"{one.queue}-{by[1]}-{i:05d}", submit=float(submits[i]), gpus=int(sizes[i]), duration_s=float(durations[i]),
            queue=one.queue, tenant=one.queue, priority=one.priority, interval_s=interval,
        )
        for i in range(count)
    ]  # fmt: skip
