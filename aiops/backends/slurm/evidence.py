"""Is an action's effect there? Pure, from a fresh read and the marks that `marks.py` leaves: True, False, or None in doubt."""

from __future__ import annotations

from typing import assert_never

from aiops.action import (
    ConfirmHold,
    Cordon,
    Drain,
    HoldCapacity,
    LendQueue,
    Migrate,
    Preempt,
    ReleaseBandwidth,
    ReleaseHold,
    RequestCheckpoint,
    Requeue,
    ReserveBandwidth,
    Resume,
    ScalePool,
    Suspend,
    TuneJob,
    Uncordon,
)
from aiops.backends.slurm import marks
from aiops.backends.slurm.picture import job_state, node_state, node_uid, pool_name, powered
from aiops.backends.slurm.preconditions import JobAction, Slurms, View
from aiops.backends.slurm.rows import JobRow
from aiops.model import JobState, NodeState

_FOREVER_S = 300 * 86400.0  # Slurm's UNLIMITED duration is 365 days


def present(action: Slurms, by: str, view: View) -> bool | None:
    """Whether the effect that admission `by` asked for is there."""
    match action:
        case Cordon() | Drain() | Uncordon():
            if view.node is None or node_uid(view.node, view.controller.cluster) != action.uid:
                return False
            drained = node_state(view.node) in (NodeState.CORDONED, NodeState.DRAINING) or "DRAIN" in view.node.states
            return drained is not isinstance(action, Uncordon)
        case HoldCapacity() | ConfirmHold() | ReleaseHold():
            return _hold(action, view)
        case ReserveBandwidth() | ReleaseBandwidth():
            return _bandwidth(action, view)
        case ScalePool():
            return _pool(action, view)
        case RequestCheckpoint() | Preempt() | Requeue() | Suspend() | Resume() | Migrate() | LendQueue() | TuneJob():
            # gone: a repeat finds nothing to change
            return False if view.job is None else _job(action, view.job, by, view)
        case _:
            assert_never(action)


def restarts(run_id: str) -> int:
    """How often the run that `run_id` names had been started again; -1 where it names none of Slurm's."""
    count = run_id.rpartition("-")[2]
    return int(count) if count.isdigit() else -1


def stopped(action: Preempt | Migrate, by: str, view: View) -> bool:
    """Whether this very run was ended and requeued by `by`: what comes after it may be done, or was done.

    The mark says so. Where slurmctld was killed and forgot it, or a reply was lost before it, our journal says that the requeue
    was sent, and exactly one restart has been counted since: a job that has come by the same id has counted none.
    """
    row = view.job
    if row is None or row.run_id == action.run_id:
        return False
    told = view.sent and row.restarts == restarts(action.run_id) + 1
    return told or marks.marked(row.admin_comment, by) is not None


def half_moved(action: Migrate, by: str, view: View) -> bool:
    """Whether the run was stopped by `by`, waits, and was not moved on: the rest of a move may be done, or repeated.

    Where our journal knows the action it has the last word: a run that was held before our requeue was sent is a person's, and
    so is one that is held after our mark says that the move was ended.
    """
    row = view.job
    if row is None or row.restarts != restarts(action.run_id) + 1 or not stopped(action, by, view):
        return False
    ended = marks.marked(row.admin_comment, by) is not None and marks.moving(row.admin_comment) is None
    waits = job_state(row) in (JobState.QUEUED, JobState.HELD, JobState.STOPPING)
    return waits and not ended and (view.sent or not view.known)


def _job(action: JobAction, row: JobRow, by: str, view: View) -> bool:
    marked, state = marks.marked(row.admin_comment, by), job_state(row)
    same_run = row.run_id == action.run_id
    match action:
        case Preempt():
            return stopped(action, by, view)
        case Migrate():
            return stopped(action, by, view) and sorted(row.required_nodes) == sorted(action.to_nodes) and not row.held
        case Requeue():
            released = marked is not None and same_run and not row.held and state in (JobState.QUEUED, JobState.RUNNING)
            return released or row.restarts > restarts(action.run_id)
        case Suspend() | Resume():
            return _frozen(action, row, marked, view.frozen_at)
        case LendQueue():
            return same_run and row.partition == action.lender
        case TuneJob():
            return same_run and action.value == (row.priority if action.knob == "priority" else row.nice)
        case RequestCheckpoint():
            return False
        case _:
            assert_never(action)


def _frozen(action: Suspend | Resume, row: JobRow, marked: float | None, frozen_at: float) -> bool:
    """Whether the run is as wished; where somebody undid it, it is not, and `overtaken` keeps it from being repeated."""
    if marked is None or row.run_id != action.run_id:
        return False
    state = job_state(row)
    if isinstance(action, Suspend):
        return state is JobState.SUSPENDED
    cancelled_as_it_stood = state is JobState.CANCELLED and frozen_at == marked
    return not (row.held or state is JobState.SUSPENDED or cancelled_as_it_stood)


def overtaken(action: Slurms, by: str, view: View) -> bool:
    """True where the run was suspended or resumed since `by` marked it: done and undone, or by others; not to be repeated."""
    marked = marks.marked(view.comment, by)
    return isinstance(action, Suspend | Resume) and marked is not None and view.frozen_at != marked


def _hold(action: HoldCapacity | ConfirmHold | ReleaseHold, view: View) -> bool:
    found = next((row for row in view.site.reservations if marks.fence_of(row.name, action.hold) == action.fence), None)
    if isinstance(action, ReleaseHold):
        return found is None
    if isinstance(action, ConfirmHold):
        return found is not None and found.end - found.start > _FOREVER_S
    return found is not None


def _bandwidth(action: ReserveBandwidth | ReleaseBandwidth, view: View) -> bool:
    name = marks.bandwidth_name(action.link, action.owner)
    found = next((row for row in view.site.reservations if row.name == name), None)
    if isinstance(action, ReleaseBandwidth):
        return found is None
    unit = view.settings.bandwidth(action.link)
    return found is not None and unit is not None and dict(found.licences).get(action.link) == units(action, view)


def units(action: ReserveBandwidth, view: View) -> int:
    """Whole licence units for a bandwidth, rounded up: a guarantee is never less than what was asked."""
    unit = view.settings.bandwidth(action.link)
    assert unit is not None, "checked by the preconditions"
    return _ceil(action.bytes_per_s / unit.unit_bytes_per_s)


def _ceil(value: float) -> int:
    whole = round(value)
    return whole if abs(whole - value) < 1e-9 * max(1.0, value) else int(value) + 1


def _pool(action: ScalePool, view: View) -> bool | None:
    members = [row for row in view.site.nodes if pool_name(row) == action.pool]
    off = {row.name for row in members if not powered(row)}
    return len(members) - len(off) == action.nodes and set(action.remove) <= off
