"""Rows that say more than what was measured: seconds per step, seconds per operation, busy share, excess of an edge.

Comes after the panel and before any statistics. A cumulative `job_data_wait_seconds_total` gives a share of the wall clock;
the accounting identity (step = compute + data wait + comm wait + host + checkpoint) needs seconds per step, so such rates
are divided by the step rate of their job. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from aiops.diagnose.graph import Graph
from aiops.diagnose.meaning import Meaning, Role, meaning
from aiops.diagnose.panel import Panel, is_counter
from aiops.metrics import Bad, Side
from aiops.model import Floats

SPLIT = (
    Role.COMPUTE,
    Role.CPU_WAIT,
    Role.DATA_WAIT,
    Role.COMM_WAIT,
    Role.HOST_TIME,
    Role.CHECKPOINT,
    Role.SAMPLES,
    Role.INPUT,
    Role.PREP,
)
"""Roles whose rates are turned into amounts per step."""
_STEPS = ("job_steps_total", "job_step_duration_seconds_count")
_OPERATIONS = (
    ("node_disk_read_time_seconds_total", "node_disk_reads_completed_total", "read_latency_seconds"),
    ("node_disk_write_time_seconds_total", "node_disk_writes_completed_total", "write_latency_seconds"),
    (
        "node_mountstats_nfs_operations_request_time_seconds_total",
        "node_mountstats_nfs_operations_requests_total",
        "nfs_latency_seconds",
    ),
)
MEAN_STEP = "step_seconds_by_count"
EXCESS = "caller_minus_callee_latency"
_PAUSED = (*SPLIT, Role.STEP, Role.SM_ACTIVE, Role.GPU_UTIL, Role.GPU_POWER, Role.LOADER_QUEUE)
MANY_CHECKPOINTS = 0.3
"""Share of columns with checkpoints from which they are part of normal life and nothing is forgotten."""
_IDLE = "node_cpu_seconds_total"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One derived series."""

    entity: str
    metric: str
    meaning: Meaning
    values: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Rich:
    """A panel with derived rows at its end, and the meaning of every row, in order."""

    panel: Panel
    meanings: tuple[Meaning, ...]


def enrich(panel: Panel, graph: Graph) -> Rich:
    """The panel with per-step amounts in place of rates, and derived rows appended."""
    table = {name: meaning(name, graph.tags) for name in set(panel.metrics)}
    meanings = [table[name] for name in panel.metrics]
    index = {key: i for i, key in enumerate(zip(panel.entities, panel.metrics, strict=True))}
    values = panel.values.copy()
    jobs = _job_of(panel, graph)
    for i, (entity, name) in enumerate(zip(panel.entities, panel.metrics, strict=True)):
        pace = jobs.get(entity) if meanings[i].role in SPLIT and is_counter(name) else None
        if pace is not None:
            values[i] = _ratio(values[i], pace)
    _mask_checkpoints(values, panel, meanings, graph)
    full = replace(panel, values=values)
    rows = [*_mean_steps(panel, jobs), *_per_operation(full, index), *_busy(full), *_excess(full, graph)]
    summed = {time for time, _, _ in _OPERATIONS}  # a sum of waiting grows with the operations: only the ratio hurts
    for i, name in enumerate(full.metrics):
        if name.partition("{")[0] in summed:
            meanings[i] = replace(meanings[i], worse=Bad.NONE)
    extended = replace(
        full,
        entities=full.entities + tuple(row.entity for row in rows),
        metrics=full.metrics + tuple(row.metric for row in rows),
        values=np.vstack([full.values, *(row.values[None] for row in rows)]),
    )
    return Rich(panel=extended, meanings=(*meanings, *(row.meaning for row in rows)))


def _mask_checkpoints(values: Floats, panel: Panel, meanings: list[Meaning], graph: Graph) -> None:
    """Forget a job's readings while it writes a checkpoint: a pause that it wanted is not a fault."""
    for i, told in enumerate(meanings):
        pauses = np.flatnonzero(panel.values[i] > 0) if told.role is Role.CHECKPOINT else np.empty(0, dtype=np.intp)
        if not 0 < len(pauses) < MANY_CHECKPOINTS * len(panel.times):
            continue
        members = graph.upstream(panel.entities[i])
        rows = [j for j, m in enumerate(meanings) if m.role in _PAUSED and panel.entities[j] in members]
        values[np.ix_(np.array(rows, dtype=np.intp), pauses)] = np.nan


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: Floats = above / np.where(below > 0, below, np.nan)
    return quotient


def _job_of(panel: Panel, graph: Graph) -> dict[str, Floats]:
    """Per entity the (t,) steps per second of its job: its own, else that of a job which depends on it."""
    counted: dict[str, Floats] = {}
    told: dict[str, Floats] = {}
    for i, (entity, name) in enumerate(zip(panel.entities, panel.metrics, strict=True)):
        stem = name.partition("{")[0]
        if stem in _STEPS:
            counted[entity] = panel.values[i]
        elif stem == "job_step_duration_seconds":
            told[entity] = _ratio(np.ones(len(panel.times)), panel.values[i])
    own = {entity: _per_rank(counted.get(entity), told.get(entity)) for entity in (*counted, *told)}
    paces = dict(own)
    for entity, pace in own.items():
        for member in graph.upstream(entity):
            paces.setdefault(member, pace)
    return paces


def _per_rank(counted: Floats | None, told: Floats | None) -> Floats:
    """Steps per second of one rank: the counter is exact, but where somebody summed it over ranks it is a multiple."""
    if counted is None or told is None:
        return counted if counted is not None else told if told is not None else np.empty(0)
    with np.errstate(invalid="ignore"):
        both = counted / told
    known = both[np.isfinite(both)]
    return counted / max(1, round(float(np.median(known)))) if len(known) else counted


def _mean_steps(panel: Panel, paces: dict[str, Floats]) -> Iterator[Row]:
    """Seconds per step by the counter, in which the parts of the step add up; a gauge shows some steps only."""
    for entity, name in zip(panel.entities, panel.metrics, strict=True):
        if name.partition("{")[0] in _STEPS:
            told = Meaning(Role.STEP_MEAN, Side.EXTERNAL, Bad.NONE)
            yield Row(entity=entity, metric=MEAN_STEP, meaning=told, values=_ratio(np.ones(len(panel.times)), paces[entity]))


def _per_operation(panel: Panel, index: dict[tuple[str, str], int]) -> Iterator[Row]:
    for i, (entity, name) in enumerate(zip(panel.entities, panel.metrics, strict=True)):
        stem, brace, labels = name.partition("{")
        found = next((row for row in _OPERATIONS if row[0] == stem), None)
        count = index.get((entity, found[1] + brace + labels)) if found else None
        if found and count is not None:
            told = Meaning(Role.DISK_LATENCY, Side.EXTERNAL, Bad.UP)
            yield Row(
                entity=entity,
                metric=found[2] + brace + labels,
                meaning=told,
                values=_ratio(panel.values[i], panel.values[count]),
            )


def _busy(panel: Panel) -> Iterator[Row]:
    """Busy share of a host's CPUs from the modes that are there; without the idle mode there is nothing to say."""
    modes: dict[str, dict[str, int]] = {}
    for i, (entity, name) in enumerate(zip(panel.entities, panel.metrics, strict=True)):
        stem, _, labels = name.partition("{")
        if stem == _IDLE and labels:
            modes.setdefault(entity, {})[labels] = i
    for entity, rows in modes.items():
        idle = [i for labels, i in rows.items() if '"idle"' in labels or '"iowait"' in labels]
        rest = [i for i in rows.values() if i not in idle]
        if idle and rest:
            busy = np.nansum(panel.values[rest], axis=0)
            total = busy + np.nansum(panel.values[idle], axis=0)
            yield Row(
                entity=entity,
                metric="cpu_busy_ratio",
                meaning=Meaning(Role.CPU_BUSY, Side.INTERNAL, Bad.UP),
                values=_ratio(busy, total),
            )


def _excess(panel: Panel, graph: Graph) -> Iterator[Row]:
    """What the caller of an edge waits beyond what the callee worked: the network between them, both ends measured."""
    rows: dict[str, dict[str, int]] = {}
    measured = {edge.id for edge in graph.edges}
    for i, (entity, name) in enumerate(zip(panel.entities, panel.metrics, strict=True)):
        if entity in measured:
            rows.setdefault(entity, {})[name] = i
    for entity, names in rows.items():
        for name, i in names.items():
            other = next((names[o] for o in _callee_names(name) if o in names), None)
            if other is not None:
                told = Meaning(Role.NET_LATENCY, Side.EXTERNAL, Bad.UP)
                yield Row(entity=entity, metric=f"{EXCESS}({name})", meaning=told, values=panel.values[i] - panel.values[other])


def _callee_names(name: str) -> tuple[str, ...]:
    """What the same metric is called at the other end of an edge; empty for one that is no caller's."""
    pairs = (("caller", "callee"), ("client", "server"), ("source", "destination"))
    return tuple(name.replace(near, far) for near, far in pairs if near in name)
