"""Invariants of nodes that a pool gives back: nothing is on them, and they are few (I10, I21).

Written a second time on purpose, plainly and over the whole run, not per decision as `admit` does it.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiops.action import Admission, EntryState, Outcome, Rollback, ScalePool
from aiops.decide.limits import Limits
from aiops.decide.trace import Trace
from aiops.model import HoldState, JobState
from aiops.snapshot import Decided, Snapshot

Broken = Iterator[tuple[str, str]]
Shrunk = tuple[Snapshot, Decided, Admission, ScalePool]
WAITING_OR_OVER = (JobState.QUEUED, JobState.HELD, JobState.DONE, JobState.FAILED, JobState.CANCELLED)


def _shrunk(trace: Trace) -> Iterator[Shrunk]:
    """Every permission to give nodes back, oldest first."""
    for seen, decided in trace.cycles:
        for admission in (one for one in decided.admissions if one.permitted):
            wished = admission.decision.action
            action = wished.action if isinstance(wished, Rollback) else wished
            if isinstance(action, ScalePool) and action.nodes < action.was:
                yield seen, decided, admission, action


def idle(trace: Trace, limits: Limits) -> Broken:
    """I10: nothing was on a node that was given back, and nobody was promised it; a pool stays within its bounds (I21)."""
    for seen, decided, admission, action in _shrunk(trace):
        over = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)  # of one that waits, a part may be placed already
        used = {n for job in seen.cluster.jobs if job.state not in over for n in job.nodes}
        used |= {n for service in seen.cluster.services for n in service.nodes}
        used |= {n for r in decided.reservations if r.state in (HoldState.HELD, HoldState.ACTIVE) for n in r.nodes}
        if used & set(action.remove):
            yield admission.id, f"{', '.join(sorted(used & set(action.remove)))} was given back with work on it, or promised"
        if any(one.pool == action.pool and max(one.replicas, one.ready) and not one.nodes for one in seen.cluster.services):
            yield admission.id, f"nodes of {action.pool} were given back that replicas may have been on"
        if any(job.state not in (*WAITING_OR_OVER, JobState.STOPPING) and not job.nodes for job in seen.cluster.jobs):
            yield admission.id, f"nodes of {action.pool} were given back that a job may have been on"
        if any(one.name == action.pool and action.nodes < one.min_nodes for one in seen.cluster.pools):
            yield admission.id, f"{action.nodes} nodes of {action.pool}"


def few(trace: Trace, limits: Limits) -> Broken:
    """I10: of a pool, no more nodes at once, or in any window, than allowed; those proven not to have gone do not count."""
    every, unmade = list(_shrunk(trace)), _without_effect(trace)
    for i, (seen, _, admission, action) in enumerate(every):
        there = {node.name for node in seen.cluster.nodes if node.pool == action.pool}
        recent = [one for one in every[: i + 1] if one[3].pool == action.pool and seen.now - one[0].now < limits.window_s]
        gone = {n for _, _, one, shrunk in recent if unmade.get(one.id, seen.now + 1.0) > seen.now for n in shrunk.remove}
        if len(action.remove) > max(1, limits.nodes_ratio * len(there)):
            yield admission.id, f"{len(action.remove)} of {len(there)} nodes of {action.pool} at once"
        if len(gone) > max(1, limits.idle_nodes_ratio * len(gone | there)):
            yield admission.id, f"{len(gone)} nodes of {action.pool} within {limits.window_s:.0f} s"


def _without_effect(trace: Trace) -> dict[str, float]:
    """Since when the ledger knows that a permission changed nothing: refused by the cluster, or never sent."""
    refused = (Outcome.STALE, Outcome.UNSUPPORTED)
    failed = (e for e in trace.entries if e.state is EntryState.FAILED and e.receipt and e.receipt.outcome in refused)
    expired = (e for e in trace.entries if e.state is EntryState.EXPIRED)
    return {entry.admission.id: entry.changed_at for entry in (*failed, *expired)}
