"""What each action changes in the state: pure, and only asked once `preconditions.refusal` said None.

Every change names the admission that made it, so that `evidence.present` can answer for it later.
"""

from __future__ import annotations

from dataclasses import replace

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
from aiops.backends.local import holds, jobs
from aiops.backends.local.preconditions import HoldAction, JobAction, LinkAction, View, share_key
from aiops.backends.local.state import HoldRecord, NodeRecord, ShareRecord, State
from aiops.model import JobState, NodeState

_NEVER = 1e12  # a confirmed hold ends by its release only


def change(state: State, action: Action, by: str, view: View) -> State:
    """The state in which the action was carried out by admission `by`. Only after `refusal` said None."""
    match action:
        case ScaleService():
            record = state.services[action.service]
            return state.with_service(
                action.service, replace(record, replicas=action.replicas, version=record.version + 1, by=by)
            )
        case Cordon() | Drain():
            to = NodeState.CORDONED if isinstance(action, Cordon) else NodeState.DRAINING
            return state.with_node(action.node, NodeRecord(state=to, reason=action.reason, by=by))
        case Uncordon():
            return state.with_node(action.node, NodeRecord(by=by))
        case HoldCapacity() | ConfirmHold() | ReleaseHold():
            return _change_hold(state, action, by, view.now)
        case ReserveBandwidth() | ReleaseBandwidth() | LimitBandwidth():
            return _change_link(state, action, by)
        case Rollback():
            return change(state, action.action, by, view)
        case RequestCheckpoint() | Preempt() | Requeue() | Suspend() | Resume() | Migrate() | LendQueue() | TuneJob():
            return _change_job(state, action, by, view)
        case _:
            return state  # SetPowerLimit lives in the GPU, not in the state


def _change_job(state: State, action: JobAction, by: str, view: View) -> State:
    job = replace(state.jobs[action.job], by=by)
    match action:
        case RequestCheckpoint():
            return state.with_job(replace(job, requested=by, requested_at=view.now))
        case Suspend():
            return state.with_job(replace(job, state=JobState.SUSPENDED))
        case Resume():
            back = JobState.RUNNING if job.state is JobState.SUSPENDED else JobState.QUEUED
            return state.with_job(replace(job, state=back))
        case Requeue():
            again = replace(job, state=JobState.QUEUED, run=job.run + 1, ended_at=None, started_at=None, reason="")
            return state.with_job(replace(again, exclude_nodes=action.exclude_nodes))
        case LendQueue():
            return state.with_job(replace(job, lender=action.lender, to_nodes=action.nodes))
        case TuneJob():
            return state.with_job(replace(job, knobs={**job.knobs, action.knob: action.value}))
        case Preempt() | Migrate():
            moving = isinstance(action, Migrate)
            going = replace(
                job, then=JobState.QUEUED, evictions=(*job.evictions, view.now), reason="migrates" if moving else "preempted",
                to_nodes=action.to_nodes if isinstance(action, Migrate) else (),
                to_gpus=action.to_gpus if isinstance(action, Migrate) else (),
            )  # fmt: skip
            hold = action.bind_to if isinstance(action, Preempt) else ""
            return jobs.stop(state, going, view.settings.jobs[job.id].kill_wait, view.now, hold)


def _change_hold(state: State, action: HoldAction, by: str, now: float) -> State:
    match action:
        case HoldCapacity():
            record = HoldRecord(
                owner=action.owner,
                fence=action.fence,
                nodes=action.nodes,
                gpus=action.gpus,
                expires_at=now + min(action.ttl_s, holds.CAP_S),
                by=by,
                since=now,
                hard_cap_at=now + holds.CAP_S,
                cpu_cores=action.cpu_cores,
                bandwidth_bytes_per_s=action.bandwidth_bytes_per_s,
            )
            fences = {**state.fences, action.hold: action.fence}
            return replace(state, holds={**state.holds, action.hold: record}, fences=fences)
        case ConfirmHold():
            record = replace(state.holds[action.hold], confirmed=True, expires_at=_NEVER, by=by)
            return replace(state, holds={**state.holds, action.hold: record})
        case ReleaseHold():
            return replace(state, holds={name: row for name, row in state.holds.items() if name != action.hold})


def _change_link(state: State, action: LinkAction, by: str) -> State:
    key = share_key(action.link, action.owner)
    match action:
        case ReserveBandwidth():
            share = ShareRecord(link=action.link, owner=action.owner, bytes_per_s=action.bytes_per_s, by=by)
            return replace(state, guarantees={**state.guarantees, key: share})
        case ReleaseBandwidth():
            return replace(state, guarantees={name: row for name, row in state.guarantees.items() if name != key})
        case LimitBandwidth():
            caps = {name: row for name, row in state.caps.items() if name != key}
            if action.bytes_per_s is not None:
                caps[key] = ShareRecord(link=action.link, owner=action.owner, bytes_per_s=action.bytes_per_s, by=by)
            return replace(state, caps=caps)
