"""What the scheduler knows, as rows beside the measured ones: who came when, how long a queue waits, what a job leaves idle.

Live only, between `live` and `derive`. Knows the inventory and the panel, no statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from aiops.diagnose.graph import Graph
from aiops.diagnose.panel import Panel
from aiops.model import Cluster, Floats, Job, JobState

PRESENT, IDLE = "tenant_running", "job_gpu_idle_ratio"
WAITING = (JobState.QUEUED, JobState.HELD)


def with_tenants(panel: Panel, cluster: Cluster) -> Panel:
    """The panel and a row per job that started in its time: 0 before, 1 since. A newcomer is the usual noisy neighbour."""
    began = {f"tenant:{job.id}": job.started_at for job in _newcomers(cluster, float(panel.times[0]))}
    rows = {(name, PRESENT): (panel.times >= at).astype(np.float64) for name, at in began.items() if at is not None}
    return _extended(panel, rows)


def with_idle(panel: Panel, graph: Graph) -> Panel:
    """The panel and a row per job that tells no step time: the share of its GPUs' SMs (else of its GPUs) that does nothing."""
    index = {key: i for i, key in enumerate(zip(panel.entities, panel.metrics, strict=True))}
    timed = {entity for entity, metric in index if metric == "job_step_duration_seconds"}
    idle = {}
    for job in (name for name, kind in graph.types.items() if kind == "job" and name not in timed):
        gpus = [name for name in graph.upstream(job) if graph.type(name) == "gpu"]
        for metric in ("gpu_sm_active_ratio", "gpu_utilization_ratio"):
            rows = [index[gpu, metric] for gpu in gpus if (gpu, metric) in index]
            if rows and job not in idle:
                idle[job] = 1.0 - _column_means(panel.values[rows])
    return _extended(panel, {(job, IDLE): row for job, row in idle.items()})


def with_queues(panel: Panel, cluster: Cluster) -> Panel:
    """The panel and two rows per queue in which a job waits: how long the one that has waited longest has, and GPUs wanted."""
    rows: dict[tuple[str, str], Floats] = {}
    for name in {job.queue for job in cluster.jobs if job.state in WAITING}:
        wait, wanted = np.zeros(len(panel.times)), np.zeros(len(panel.times))
        for job in (one for one in cluster.jobs if one.queue == name):
            started = np.inf if job.started_at is None or job.state in WAITING else job.started_at
            submitted = panel.times >= job.submitted_at
            wait = np.maximum(wait, np.where(submitted & (panel.times < started), panel.times - job.submitted_at, 0.0))
            wanted += submitted * job.gpus
        rows |= {(f"queue:{name}", "queue_wait_seconds"): wait, (f"queue:{name}", "queue_demand_gpus"): wanted}
    return _extended(panel, rows)


def _extended(panel: Panel, rows: Mapping[tuple[str, str], Floats]) -> Panel:
    """The panel with rows at its end."""
    if not rows:
        return panel
    return replace(
        panel,
        entities=(*panel.entities, *(entity for entity, _ in rows)),
        metrics=(*panel.metrics, *(metric for _, metric in rows)),
        values=np.vstack([panel.values, *(row[None] for row in rows.values())]),
    )


def _newcomers(cluster: Cluster, since: float) -> Iterator[Job]:
    return (job for job in cluster.jobs if job.state is JobState.RUNNING and (job.started_at or 0.0) > since)


def _column_means(values: Floats) -> Floats:
    """(t,) means of what is known in each column of (m, t); NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    return np.asarray(np.where(known, values, 0.0).sum(axis=0) / np.where(count > 0, count, np.nan), dtype=np.float64)
