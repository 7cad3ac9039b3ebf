"""Draining a node: its replicas are replaced elsewhere by `services.plan`; here its jobs leave, gently. Pure.

A run that speaks the checkpoint protocol is asked and leaves with a verified proof; a preemptible one that does not speak
it leaves at once; any other runs to its end. When nothing is left on the node it counts as cordoned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aiops.backends.local import jobs
from aiops.backends.local.declare import JobSpec
from aiops.backends.local.state import JobRecord, NodeRecord, State
from aiops.model import JobState, Node, NodeState


def step(state: State, specs: Mapping[str, JobSpec], nodes: tuple[Node, ...], speaking: frozenset[str], now: float) -> State:
    """One step of every drain in progress."""
    draining = {node.name for node in nodes if node.state is NodeState.DRAINING}
    for job in list(state.jobs.values()):
        unit = state.units.get(job.unit)
        if unit is not None and job.id in specs and job.state is JobState.RUNNING and draining & set(unit.nodes):
            state = _leave(state, job, specs[job.id], job.id in speaking, now)
    for name in draining:
        if not any(name in unit.nodes for unit in state.units.values()):
            record = state.nodes[name]
            state = state.with_node(name, NodeRecord(state=NodeState.CORDONED, reason=record.reason, by=record.by))
    return state


def _leave(state: State, job: JobRecord, spec: JobSpec, speaks: bool, now: float) -> State:
    gone = replace(job, then=JobState.QUEUED, evictions=(*job.evictions, now), reason="its node drains")
    if not speaks:
        return jobs.stop(state, gone, spec.kill_wait, now) if spec.preemptible else state
    wish = f"drain-{job.run_id}"
    if job.requested != wish:
        return state.with_job(replace(job, requested=wish, requested_at=now))
    answered = job.checkpoint is not None and job.checkpoint.verified and job.checkpoint.id == wish
    return jobs.stop(state, gone, spec.kill_wait, now) if answered else state
