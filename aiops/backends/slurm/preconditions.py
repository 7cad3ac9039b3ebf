"""May an action be done now? Pure, from what was read for it a moment ago; `evidence.py` asks whether it was done.

STALE: the world moved, so that what was decided no longer fits. FAILED: it may never be done so (protected, out of bounds).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import assert_never

from aiops.action import (
    Action,
    ConfirmHold,
    Cordon,
    Drain,
    HoldCapacity,
    LendQueue,
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
    ScalePool,
    Suspend,
    TuneJob,
    Uncordon,
)
from aiops.backends.slurm import gres, marks, restart
from aiops.backends.slurm.declare import SlurmSettings
from aiops.backends.slurm.picture import (
    in_service,
    is_protected,
    job_state,
    needs_no_checkpoint,
    node_state,
    node_uid,
    pool_name,
    pool_version,
)
from aiops.backends.slurm.query import Site
from aiops.backends.slurm.rows import TERMINAL, Controller, JobRow, NodeRow
from aiops.model import Checkpoint, JobState, NodeState

JobAction = RequestCheckpoint | Preempt | Requeue | Suspend | Resume | Migrate | LendQueue | TuneJob
NodeAction = Cordon | Uncordon | Drain
HoldAction = HoldCapacity | ConfirmHold | ReleaseHold
LinkAction = ReserveBandwidth | ReleaseBandwidth
Slurms = JobAction | NodeAction | HoldAction | LinkAction | ScalePool

SUPPORTS = frozenset(
    {
        "request_checkpoint", "preempt", "requeue", "suspend", "resume", "migrate", "lend_queue", "tune_job", "cordon",
        "uncordon", "drain", "scale_pool", "hold_capacity", "confirm_hold", "release_hold", "reserve_bandwidth",
        "release_bandwidth", "rollback",
    }
)  # fmt: skip
KNOBS = ("priority", "nice")
"""What of a job Slurm itself can tune; the run's own knobs are its control directory's."""

_PROOF_AGE_S = 30.0  # safety I9
_PRIORITY_MOST = 4294967293  # NO_VAL - 1; 0 would hold the job
_NICE_MOST = 2147483644
Refusal = tuple[Outcome, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one action is judged on: settings, and what was read for it just now. Unread parts stay empty."""

    settings: SlurmSettings
    controller: Controller
    now: float
    job: JobRow | None = None
    node: NodeRow | None = None
    site: Site = field(default_factory=Site)
    proof: Checkpoint | None = None
    comment: str = ""
    frozen_at: float = 0.0
    booted_at: float = 0.0
    """When slurmctld was started, and (next) when the one had been to which we began this action: 0 where not known."""
    began_under: float = 0.0
    known: bool = False
    """Whether our journal knows this action, and (next) says that its requeue was about to be sent."""
    sent: bool = False

    @property
    def restarted(self) -> bool:
        """True where slurmctld is known to have been started anew since this action was begun, and had its requeue sent to it.

        What was never sent ended nobody's run: a signal that did is somebody else's.
        """
        return self.sent and 0 < self.began_under != self.booted_at > 0


def real(action: Action) -> Slurms | None:
    """What is to be done: a rollback's own action, or None where Slurm has no such thing."""
    inner = action.action if isinstance(action, Rollback) else action
    return inner if isinstance(inner, Slurms) else None


def refusal(action: Slurms, view: View) -> Refusal | None:
    """Why the action has no effect now; None where it may be carried out."""
    match action:
        case Cordon() | Uncordon() | Drain():
            return _node(action, view)
        case HoldCapacity() | ConfirmHold() | ReleaseHold():
            return _hold(action, view)
        case ReserveBandwidth() | ReleaseBandwidth():
            return _bandwidth(action, view)
        case ScalePool():
            return _pool(action, view)
        case RequestCheckpoint() | Preempt() | Requeue() | Suspend() | Resume() | Migrate() | LendQueue() | TuneJob():
            return _job(action, view)
        case _:
            assert_never(action)


_STATES: dict[str, tuple[JobState, ...]] = {
    "request_checkpoint": (JobState.RUNNING,),
    "preempt": (JobState.RUNNING,),  # Slurm would hold a suspended run for an administrator once it is requeued
    "migrate": (JobState.RUNNING,),
    "requeue": (JobState.FAILED, JobState.HELD, JobState.CANCELLED),
    "suspend": (JobState.RUNNING,),
    "resume": (JobState.SUSPENDED, JobState.HELD),
    "lend_queue": (JobState.QUEUED,),
    "tune_job": (JobState.QUEUED, JobState.HELD, JobState.RUNNING),
}


def _job(action: JobAction, view: View) -> Refusal | None:
    row = view.job
    if row is None:
        return Outcome.STALE, f"job {action.job} does not exist"
    if row.run_id != action.run_id:
        return Outcome.STALE, f"run is {row.run_id}, not {action.run_id}"
    state, allowed = job_state(row), _STATES[action.kind]
    undone = isinstance(action, Preempt | Migrate) and view.restarted and restart.undone(row, action.run_id)
    if state not in allowed and not undone:
        return Outcome.STALE, f"run is {state.value}, not {' or '.join(one.value for one in allowed)}"
    if row.unsplit or row.het:
        return Outcome.FAILED, "one command would reach several jobs: unsplit array tasks or a heterogeneous job"
    if isinstance(action, Preempt | Migrate | Suspend | Requeue) and is_protected(row, view.settings):
        return Outcome.FAILED, "account, user, QOS or partition is protected"
    match action:
        case Preempt() | Migrate():
            return _requeue_limit(row, view) or (None if undone else _stop(row, action, view))
        case Requeue():
            held = state is JobState.HELD  # then a release is enough
            return (None if held else _requeue_limit(row, view)) or _known_nodes(action.exclude_nodes, view)
        case LendQueue():
            known = action.lender in view.site.partitions
            return None if known else (Outcome.FAILED, f"partition {action.lender} does not exist")
        case TuneJob():
            return _knob(row, action)
        case RequestCheckpoint() | Suspend() | Resume():
            return None
        case _:
            assert_never(action)


def _requeue_limit(row: JobRow, view: View) -> Refusal | None:
    if not row.batch and TERMINAL & row.states:
        return Outcome.FAILED, "only batch jobs can be requeued"
    if row.restarts >= view.controller.max_batch_requeue:
        return Outcome.FAILED, f"requeued {row.restarts} times: MaxBatchRequeue would hold it"
    return None


def _stop(row: JobRow, action: Preempt | Migrate, view: View) -> Refusal | None:
    if sorted(row.nodes) != sorted(action.on_nodes):
        return Outcome.STALE, f"run is on {','.join(row.nodes) or 'no node'}, not {','.join(action.on_nodes)}"
    ran_s = view.now - (row.start or view.now)
    if ran_s < view.controller.preempt_exempt_s:
        return Outcome.STALE, f"runs for {ran_s:.0f} s: exempt for {view.controller.preempt_exempt_s:.0f} s"
    needs_none = isinstance(action, Preempt) and not action.checkpoint and needs_no_checkpoint(row, view.settings)
    bad = None if needs_none else _proof(action, view)
    if bad is not None:
        return bad
    if isinstance(action, Migrate):
        return _targets(action, view)
    if action.bind_to and not _covers(action, view):
        return Outcome.STALE, f"hold {action.bind_to} does not cover {','.join(action.on_nodes)}"
    return None


def _proof(action: Preempt | Migrate, view: View) -> Refusal | None:
    proof = view.proof
    if proof is None or proof.id != action.checkpoint or proof.run_id != action.run_id:
        newest = proof.id if proof else "none"
        return Outcome.STALE, f"newest checkpoint of this run is {newest}, not {action.checkpoint or 'none'}"
    if not proof.verified or not 0 <= view.now - proof.read_at <= _PROOF_AGE_S:
        return Outcome.STALE, f"checkpoint {proof.id} does not match its manifest"
    return None


def _targets(action: Migrate, view: View) -> Refusal | None:
    missing = sorted(set(action.to_nodes) - in_service(view.site.nodes))
    if missing or not action.to_nodes:
        return Outcome.STALE, f"not in service: {','.join(missing) or 'no node named'}"
    return None


def _covers(action: Preempt, view: View) -> bool:
    live = [r for r in view.site.reservations if marks.fence_of(r.name, action.bind_to) is not None and r.end > view.now]
    return any(set(action.on_nodes) <= set(row.nodes) for row in live)


def _known_nodes(names: tuple[str, ...], view: View) -> Refusal | None:
    known = {row.name for row in view.site.nodes}
    unknown = sorted(set(names) - known)
    return (Outcome.STALE, f"no such node: {','.join(unknown)}") if unknown else None


def _knob(row: JobRow, action: TuneJob) -> Refusal | None:
    if action.knob not in KNOBS:
        return Outcome.FAILED, f"Slurm has no knob {action.knob[:40]}: expected one of {', '.join(KNOBS)}"
    low, high = (1, _PRIORITY_MOST) if action.knob == "priority" else (-_NICE_MOST, _NICE_MOST)
    if not (math.isfinite(action.value) and low <= action.value <= high and action.value == int(action.value)):
        return Outcome.FAILED, f"{action.value:g} is not a whole number in {low}..{high}"
    found = row.priority if action.knob == "priority" else row.nice
    return None if found == action.was else (Outcome.STALE, f"{action.knob} is {found}, not {action.was:g}")


def _node(action: NodeAction, view: View) -> Refusal | None:
    row = view.node
    if row is None or node_uid(row, view.controller.cluster) != action.uid:
        return Outcome.STALE, f"node {action.node} with identity {action.uid} does not exist"
    if isinstance(action, Drain) and row.name in view.settings.protected_nodes:
        return Outcome.FAILED, f"node {row.name} is protected"
    if isinstance(action, Uncordon) and node_state(row) in (NodeState.DOWN, NodeState.OFF):
        return Outcome.STALE, f"node {row.name} is {node_state(row).value}: resuming it would hide that"
    return None


def _hold(action: HoldAction, view: View) -> Refusal | None:
    live = [row for row in view.site.reservations if row.end > view.now]
    if isinstance(action, ConfirmHold | ReleaseHold):
        found = any(marks.fence_of(row.name, action.hold) == action.fence for row in live)
        return None if found else (Outcome.STALE, f"hold {action.hold} with fence {action.fence} is not live")
    fences = [fence for row in view.site.reservations if (fence := marks.fence_of(row.name, action.hold)) is not None]
    if fences:
        return Outcome.STALE, f"hold {action.hold} is granted with fence {max(fences)}"
    rows = {row.name: row for row in view.site.nodes}
    if not action.nodes and not action.bandwidth_bytes_per_s:
        return Outcome.FAILED, "a hold of nothing"
    down = [name for name in action.nodes if name not in rows or node_state(rows[name]) in (NodeState.DOWN, NodeState.OFF)]
    if down:
        return Outcome.STALE, f"not in service: {','.join(sorted(down))}"
    offered = sum(gres.asked_gpus(rows[name].gres)[0] for name in action.nodes)
    if action.gpus > offered:
        return Outcome.STALE, f"{','.join(action.nodes)} have {offered} GPUs, not {action.gpus}"
    return next((bad for link in action.bandwidth_bytes_per_s if (bad := _link(link, view))), None)


def _link(link: str, view: View) -> Refusal | None:
    known = link in view.site.licences and view.settings.bandwidth(link) is not None
    return None if known else (Outcome.STALE, f"link {link} does not exist")


def _bandwidth(action: LinkAction, view: View) -> Refusal | None:
    bad = _link(action.link, view)
    if bad is not None:
        return bad
    there = any(row.name == marks.bandwidth_name(action.link, action.owner) for row in view.site.reservations)
    if isinstance(action, ReleaseBandwidth):
        return None if there else (Outcome.STALE, f"{action.owner} has no guarantee on {action.link}")
    positive = math.isfinite(action.bytes_per_s) and action.bytes_per_s > 0
    return None if positive else (Outcome.FAILED, "expected a bandwidth above 0")


def _pool(action: ScalePool, view: View) -> Refusal | None:
    members = [row for row in view.site.nodes if pool_name(row) == action.pool]
    cloud = [row for row in members if "CLOUD" in row.states]
    if not members or pool_version(action.pool, members) != action.version:
        return Outcome.STALE, f"pool {action.pool} is not at version {action.version}"
    if not view.controller.power_saving or not len(members) - len(cloud) <= action.nodes <= len(members):
        return Outcome.FAILED, f"{action.nodes} nodes: {len(members) - len(cloud)}..{len(members)} can be powered"
    busy = [row.name for row in cloud if row.name in action.remove and row.allocated_cpus > 0]
    if busy:
        return Outcome.STALE, f"work runs on {','.join(busy)}"
    if set(action.remove) - {row.name for row in cloud} or set(action.remove) & set(view.settings.protected_nodes):
        return Outcome.FAILED, "names nodes to remove that are not the pool's own, or protected"
    if action.nodes < action.was and len(action.remove) != action.was - action.nodes:
        return Outcome.FAILED, f"expected {action.was - action.nodes} nodes to remove, by name"
    return None
