"""May an action be done now? The first of three pure questions; `changes.py` and `evidence.py` have the others.

`refusal` is asked at the moment of effect, under the lock that also guards the change: nothing moves in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aiops.action import (
    Action,
    ConfirmHold,
    Cordon,
    Drain,
    HoldCapacity,
    LendQueue,
    LimitBandwidth,
    Migrate,
    Outcome,
    Preempt,
    ReleaseBandwidth,
    ReleaseHold,
    RequestCheckpoint,
    Requeue,
    ReserveBandwidth,
    Resume,
    Rollback,
    ScaleService,
    SetPowerLimit,
    Suspend,
    TuneJob,
    Uncordon,
)  # fmt: skip
from aiops.backends.local import holds, place
from aiops.backends.local.declare import LocalSettings
from aiops.backends.local.state import HoldRecord, JobRecord, Phase, State
from aiops.model import Checkpoint, JobState, Link, Node

JobAction = RequestCheckpoint | Preempt | Requeue | Suspend | Resume | Migrate | LendQueue | TuneJob
NodeAction = Cordon | Uncordon | Drain
HoldAction = HoldCapacity | ConfirmHold | ReleaseHold
LinkAction = ReserveBandwidth | ReleaseBandwidth | LimitBandwidth

SUPPORTS = frozenset(
    {
        "scale_service",
        "request_checkpoint",
        "preempt",
        "requeue",
        "suspend",
        "resume",
        "migrate",
        "lend_queue",
        "cordon",
        "uncordon",
        "drain",
        "hold_capacity",
        "confirm_hold",
        "release_hold",
        "reserve_bandwidth",
        "release_bandwidth",
        "limit_bandwidth",
        "set_power_limit",
        "tune_job",
        "rollback",
    }
)

_PROOF_AGE_S = 30.0  # safety I9: the proof is read at most this long before a run is stopped
Refusal = tuple[Outcome, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What an action is judged on: declarations, nodes and links as just read, and the target run's proof, read at `now`."""

    settings: LocalSettings
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    now: float
    proof: Checkpoint | None = None


def refusal(state: State, action: Action, view: View) -> Refusal | None:
    """Why the action has no effect now: STALE where its precondition no longer holds, FAILED where it never may; else None."""
    match action:
        case ScaleService():
            return _scale_refusal(state, action, view)
        case Cordon() | Uncordon() | Drain():
            return _node_refusal(action, view)
        case HoldCapacity() | ConfirmHold() | ReleaseHold():
            return _hold_refusal(state, action, view)
        case ReserveBandwidth() | ReleaseBandwidth() | LimitBandwidth():
            return _link_refusal(state, action, view)
        case SetPowerLimit():
            return _gpu_refusal(action, view)
        case Rollback():
            return refusal(state, action.action, view)
        case RequestCheckpoint() | Preempt() | Requeue() | Suspend() | Resume() | Migrate() | LendQueue() | TuneJob():
            return _job_refusal(state, action, view)
        case _:
            return Outcome.UNSUPPORTED, action.kind


def _scale_refusal(state: State, action: ScaleService, view: View) -> Refusal | None:
    record, spec = state.services.get(action.service), view.settings.services.get(action.service)
    if record is None or spec is None:
        return Outcome.STALE, f"service {action.service} is not declared"
    if (record.uid, str(record.version)) != (action.uid, action.version):
        return Outcome.STALE, f"is {record.uid} version {record.version}, not {action.uid} version {action.version}"
    if not spec.min <= action.replicas <= spec.max:
        return Outcome.FAILED, f"{action.replicas} replicas are outside of {spec.min}..{spec.max}"
    return None


def _node_refusal(action: NodeAction, view: View) -> Refusal | None:
    node = next((node for node in view.nodes if node.name == action.node), None)
    if node is None or node.uid != action.uid:
        return Outcome.STALE, f"node {action.node} with identity {action.uid} does not exist"
    return None


def _job_refusal(state: State, action: JobAction, view: View) -> Refusal | None:
    job = state.jobs.get(action.job)
    if job is None or action.job not in view.settings.jobs:
        return Outcome.STALE, f"job {action.job} is not declared"
    if job.run_id != action.run_id:
        return Outcome.STALE, f"run is {job.run_id}, not {action.run_id}"
    allowed = _STATES[action.kind]
    if job.state not in allowed:
        return Outcome.STALE, f"run is {job.state.value}, not {' or '.join(state.value for state in allowed)}"
    match action:
        case Preempt() | Migrate():
            return _stop_refusal(state, job, action, view)
        case TuneJob():
            return _knob_refusal(job, action, view)
        case LendQueue():
            known = action.lender in view.settings.queues
            return None if known else (Outcome.FAILED, f"queue {action.lender} is not declared")
        case _:
            return None


_STATES: dict[str, tuple[JobState, ...]] = {
    "request_checkpoint": (JobState.RUNNING,),
    "preempt": (JobState.RUNNING, JobState.SUSPENDED),
    "migrate": (JobState.RUNNING,),
    "requeue": (JobState.FAILED, JobState.HELD, JobState.CANCELLED),
    "suspend": (JobState.RUNNING,),
    "resume": (JobState.SUSPENDED, JobState.HELD),
    "lend_queue": (JobState.QUEUED,),
    "tune_job": (JobState.RUNNING,),
}


def _stop_refusal(state: State, job: JobRecord, action: Preempt | Migrate, view: View) -> Refusal | None:
    unit, proof = state.units.get(job.unit), view.proof
    if unit is None or sorted(unit.nodes) != sorted(action.on_nodes):
        return Outcome.STALE, f"run is on {', '.join(unit.nodes) if unit else 'no node'}, not {', '.join(action.on_nodes)}"
    if len(unit.gpus) != action.gpus:
        return Outcome.STALE, f"run has {len(unit.gpus)} GPUs, not {action.gpus}"
    if not action.checkpoint and isinstance(action, Preempt) and view.settings.jobs[job.id].preemptible:
        return None  # declared to need no checkpoint
    if proof is None or proof.id != action.checkpoint or proof.run_id != action.run_id:
        return (
            Outcome.STALE,
            f"newest checkpoint of this run is {proof.id if proof else 'none'}, not {action.checkpoint or 'none'}",
        )
    if not proof.verified or not 0 <= view.now - proof.read_at <= _PROOF_AGE_S:
        return Outcome.STALE, f"checkpoint {proof.id} does not match its manifest"
    return _target_refusal(state, job, action, view) if isinstance(action, Migrate) else None


def _target_refusal(state: State, job: JobRecord, action: Migrate, view: View) -> Refusal | None:
    spec = view.settings.jobs[job.id]
    want = place.Want(
        owner=f"job/{job.id}", gpus=spec.gpus, gpu_type=spec.gpu_type, cpu_cores=spec.cpu_cores, memory_bytes=spec.memory,
        nodes=action.to_nodes, on_gpus=action.to_gpus,
    )  # fmt: skip
    others = state.without_unit(job.unit)  # its own node may be the target: another slot of it
    claims = place.taken(state) if action.to_gpus and spec.gpus else place.taken(others)
    if not action.to_nodes or place.choose(want, view.nodes, claims, state.holds.values()) is None:
        return Outcome.STALE, f"no room on {', '.join(action.to_nodes) or 'no node'}"
    return None


def _knob_refusal(job: JobRecord, action: TuneJob, view: View) -> Refusal | None:
    knob = view.settings.jobs[job.id].knobs.get(action.knob)
    if knob is None:
        return Outcome.FAILED, f"job {job.id} declares no knob {action.knob}"
    if not knob.min <= action.value <= knob.max:
        return Outcome.FAILED, f"{action.value:g} is outside of {knob.min:g}..{knob.max:g}"
    if job.knobs.get(action.knob) != action.was:
        return Outcome.STALE, f"{action.knob} is {job.knobs.get(action.knob)}, not {action.was:g}"
    return None


def _hold_refusal(state: State, action: HoldAction, view: View) -> Refusal | None:
    hold = state.holds.get(action.hold)
    match action:
        case HoldCapacity():
            another = hold is not None and hold.owner != action.owner  # the same owner renews with the next fence
            if another or action.fence <= state.fences.get(action.hold, 0):
                return Outcome.STALE, f"hold {action.hold} was granted with fence {state.fences.get(action.hold, 0)}"
            if set(action.nodes) - {node.name for node in view.nodes} or not action.nodes:
                return Outcome.STALE, "names nodes that do not exist, or none"
            want = place.Want(owner=f"hold/{action.hold}", gpus=action.gpus, cpu_cores=action.cpu_cores, nodes=action.nodes)
            claims = place.taken(state, leaving=False)  # what a victim is about to free may be bound before others see it
            others = [row for name, row in state.holds.items() if name != action.hold]
            if not place.choose(want, view.nodes, claims, others):
                return Outcome.STALE, "the capacity is no longer free"
            wished = action.bandwidth_bytes_per_s.items()
            found = (_no_room(state, link, (action.owner, action.hold), rate, view) for link, rate in wished)
            return next((problem for problem in found if problem is not None), None)
        case ConfirmHold() | ReleaseHold():
            if hold is None or hold.fence != action.fence or (hold.expires_at <= view.now and not hold.confirmed):
                return Outcome.STALE, f"hold {action.hold} with fence {action.fence} is not live"
            return _awaited(state, action, hold) if isinstance(action, ConfirmHold) else None


def _awaited(state: State, action: ConfirmHold, hold: HoldRecord) -> Refusal | None:
    """A hold on what a victim still uses is no reservation yet."""
    still = [unit for unit in state.units.values() if unit.phase is Phase.STOPPING and unit.frees_for == action.hold]
    return (Outcome.STALE, f"{still[0].owner} still uses {', '.join(hold.nodes)}: it has not ended yet") if still else None


def _link_refusal(state: State, action: LinkAction, view: View) -> Refusal | None:
    link = next((link for link in view.links if link.name == action.link), None)
    if link is None:
        return Outcome.STALE, f"link {action.link} does not exist"
    match action:
        case LimitBandwidth():
            known = state.caps.get(share_key(action.link, action.owner))
            found = known.bytes_per_s if known else None
            return None if found == action.was else (Outcome.STALE, f"cap is {found}, not {action.was}")
        case ReserveBandwidth():
            return _no_room(state, action.link, (action.owner, ""), action.bytes_per_s, view)
        case ReleaseBandwidth():
            known = state.guarantees.get(share_key(action.link, action.owner))
            return None if known else (Outcome.STALE, f"{action.owner} has no guarantee on {action.link}")


def _no_room(state: State, link: str, who: tuple[str, str], bytes_per_s: float, view: View) -> Refusal | None:
    """STALE where a link, or one above it, has too little left beside guarantees and holds of others; `who`: owner, hold."""
    capacity = {one.name: one.capacity_bytes_per_s for one in view.links}
    if link not in capacity:
        return Outcome.STALE, f"link {link} does not exist"
    others = {name: hold for name, hold in state.holds.items() if name != who[1]}
    for name in lineage(link, view.links):
        below = {one for one in capacity if name in lineage(one, view.links)}
        promised = sum(row.bytes_per_s for row in state.guarantees.values() if row.link in below and row.owner != who[0])
        held = sum(holds.bandwidth(others, one, who[0]) for one in below)
        if promised + held + bytes_per_s > capacity[name]:
            return Outcome.STALE, f"{name} has no {bytes_per_s:g} bytes/s left"
    return None


def lineage(name: str, links: Iterable[Link]) -> tuple[str, ...]:
    """A link and all its parents, upwards; a loop ends where it began."""
    parents = {link.name: link.parent for link in links}
    out: list[str] = []
    while name in parents and name not in out:
        out.append(name)
        name = parents[name]
    return tuple(out)


def _gpu_refusal(action: SetPowerLimit, view: View) -> Refusal | None:
    node = next((node for node in view.nodes if node.name == action.node), None)
    if node is None or all(gpu.uuid != action.gpu for gpu in node.gpus):
        return Outcome.STALE, f"GPU {action.gpu} is not on {action.node}"
    if action.gpu.startswith("SLOT-"):
        return Outcome.FAILED, f"{action.gpu} is a declared slot, not a GPU with a power limit"
    return None


def share_key(link: str, owner: str) -> str:
    """Key of one owner's share of a link in the state."""
    return f"{link}/{owner}"
