"""Is an action's effect there? Pure, from the state alone: the third question, after `preconditions.py` and `changes.py`.

Every change of the state carries the admission that made it (`by`), so that the answer for the newest change of a target is
exact. For an older one the target itself is compared with what was wanted.
"""

from __future__ import annotations

from aiops.action import (
    Action,
    ConfirmHold,
    Cordon,
    Drain,
    HoldCapacity,
    LendQueue,
    LimitBandwidth,
    Migrate,
    Preempt,
    ReleaseBandwidth,
    ReleaseHold,
    RequestCheckpoint,
    Requeue,
    ReserveBandwidth,
    Resume,
    Rollback,
    ScaleService,
    Suspend,
    TuneJob,
    Uncordon,
)  # fmt: skip
from aiops.backends.local.state import JobRecord, State
from aiops.model import JobState, NodeState


def present(state: State, action: Action, by: str) -> bool | None:
    """True or False where the state proves it, None where it cannot say."""
    match action:
        case ScaleService():
            record = state.services.get(action.service)
            if record is None or record.uid != action.uid:
                return False
            return record.by == by or (record.replicas == action.replicas and str(record.version) != action.version)
        case Cordon() | Drain() | Uncordon():
            node = state.nodes.get(action.node)
            found = node.state if node else NodeState.READY
            return (node is not None and node.by == by) or found in _NODE[action.kind]
        case HoldCapacity():
            return state.fences.get(action.hold, 0) >= action.fence
        case ConfirmHold():
            return action.hold in state.holds and state.holds[action.hold].confirmed
        case ReleaseHold():
            return action.hold not in state.holds or state.holds[action.hold].fence != action.fence
        case ReserveBandwidth() | ReleaseBandwidth() | LimitBandwidth():
            return _link(state, action)
        case Rollback():
            return present(state, action.action, by)
        case RequestCheckpoint() | Preempt() | Requeue() | Suspend() | Resume() | Migrate() | LendQueue() | TuneJob():
            job = state.jobs.get(action.job)
            return None if job is None else job.by == by or _job(job, action)
        case _:
            return None


_NODE = {
    "cordon": (NodeState.CORDONED, NodeState.DRAINING),
    "drain": (NodeState.DRAINING, NodeState.CORDONED),
    "uncordon": (NodeState.READY,),
}


def _link(state: State, action: ReserveBandwidth | ReleaseBandwidth | LimitBandwidth) -> bool:
    key = f"{action.link}/{action.owner}"
    rows = state.caps if isinstance(action, LimitBandwidth) else state.guarantees
    found = rows[key].bytes_per_s if key in rows else None
    return found == (None if isinstance(action, ReleaseBandwidth) else action.bytes_per_s)


def _job(
    job: JobRecord, action: RequestCheckpoint | Preempt | Requeue | Suspend | Resume | Migrate | LendQueue | TuneJob
) -> bool:
    same = job.run_id == action.run_id
    match action:
        case Preempt() | Migrate():
            return same and job.then is JobState.QUEUED
        case Suspend():
            return same and job.state is JobState.SUSPENDED
        case Resume():
            return same and job.state in (JobState.RUNNING, JobState.QUEUED, JobState.STARTING)
        case TuneJob():
            return same and job.knobs.get(action.knob) == action.value
        case LendQueue():
            return same and job.lender == action.lender
        case Requeue() | RequestCheckpoint():
            return False
