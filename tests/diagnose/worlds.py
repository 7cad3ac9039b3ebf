"""Small made-up telemetry for the diagnosis tests: noise around usual levels, and what a test does to it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aiops.diagnose.graph import Graph, link
from aiops.diagnose.panel import Panel
from aiops.model import Cluster, Gpu, Job, JobState, Node, NodeState, Series, SeriesKey

NOW = 1_800_000_000.0
STEP = 10.0


def panel(rows: Mapping[tuple[str, str], np.ndarray], step_s: float = STEP) -> Panel:
    keys = list(rows)
    n = len(rows[keys[0]])
    return Panel(
        times=NOW - step_s * np.arange(n - 1, -1, -1.0),
        step_s=step_s,
        entities=tuple(e for e, _ in keys),
        metrics=tuple(m for _, m in keys),
        values=np.array([rows[key] for key in keys], dtype=np.float64),
    )


def noise(level: float, n: int = 120, seed: int = 0, ratio: float = 0.02) -> np.ndarray:
    return level * (1 + ratio * np.random.default_rng(seed).standard_normal(n))


def shifted(level: float, to: float, last: int, n: int = 120, seed: int = 0, ratio: float = 0.02) -> np.ndarray:
    values = noise(level, n, seed, ratio)
    values[n - last :] += to - level
    return values


def job_rows(ranks: int = 4, last: int = 12, **to: float) -> dict[tuple[str, str], np.ndarray]:
    """A job of `ranks` GPUs with the split of its step in seconds; `data_0=0.5` makes rank 0 wait 0.5 s more for data."""
    rows: dict[tuple[str, str], np.ndarray] = {}
    step = 0.0
    for rank in range(ranks):
        data, comm, compute = (to.get(f"{part}_{rank}", to.get(part, 0.0)) for part in ("data", "comm", "compute"))
        step = max(step, data + comm + compute)
        for name, usual, more in (("data_wait", 0.02, data), ("comm_wait", 0.1, comm), ("compute", 0.8, compute)):
            seed = 100 * rank + len(name)
            rows[f"rank-{rank}", f"job_{name}_seconds"] = shifted(usual, usual + more, last, seed=seed)
    rows["job", "job_step_duration_seconds"] = shifted(0.92, 0.92 + step, last, seed=7)
    return rows


def job_graph(ranks: int = 4, *more: tuple[str, str], **types: str) -> Graph:
    pairs = [("job", f"rank-{rank}") for rank in range(ranks)] + list(more)
    named = {"job": "job", **{f"rank-{rank}": "rank" for rank in range(ranks)}, **types}
    for pair in pairs:
        for entity in pair:
            named.setdefault(entity, entity.partition("-")[0])
    return Graph(types=named, causes=link(pairs))


def one_host(*jobs: Job) -> Cluster:
    gpu = Gpu(uuid="GPU-1", index=0)
    node = Node(name="h", uid="1", pool="p", state=NodeState.READY, gpus=(gpu,))
    return Cluster(at=NOW, backend="local", nodes=(node,), jobs=jobs)


def job(**more: object) -> Job:
    return Job(
        id="7", run_id="1", name="train", queue="q", state=JobState.RUNNING, gpus=1, submitted_at=0.0, nodes=("h",), **more
    )


def series(metric: str, values: np.ndarray, **labels: str) -> Series:
    times = NOW - STEP * np.arange(len(values) - 1, -1, -1.0)
    return Series(key=SeriesKey.of(metric, **labels), times=times, values=np.asarray(values, dtype=np.float64))


def counter(per_s: np.ndarray) -> np.ndarray:
    return np.cumsum(per_s * STEP)
