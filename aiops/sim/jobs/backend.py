"""The world of jobs through the product's own port: a Backend whose effects are the world's.

Every action's precondition is checked at the moment of effect, as the real backends do; `effects` is the cluster's own log of
what was done to it, for the invariants. Knows nothing of who decides.
"""

from __future__ import annotations

import math
from typing import ClassVar

from aiops.action import (
    Action,
    Admission,
    ConfirmHold,
    Effect,
    HoldCapacity,
    LendQueue,
    Migrate,
    Outcome,
    Preempt,
    Receipt,
    ReleaseHold,
    RequestCheckpoint,
    target,
)
from aiops.decide.check import EffectRecord
from aiops.model import Checkpoint, Cluster, Job, JobState, Pool, Queue
from aiops.sim.cluster.backend import EPOCH
from aiops.sim.jobs.floor import ROUNDING, Hold
from aiops.sim.jobs.world import SimJob, World

Refusal = str
JobAction = RequestCheckpoint | Preempt | Migrate | LendQueue


class JobBackend:
    """One simulated cluster of jobs."""

    name: ClassVar[str] = "simulated"
    supports: frozenset[str] = frozenset(
        {"request_checkpoint", "preempt", "migrate", "lend_queue", "hold_capacity", "confirm_hold", "release_hold"}
    )

    def __init__(self, world: World) -> None:
        self.world = world
        self.effects: list[EffectRecord] = []
        self._applied: set[str] = set()
        self._fences: dict[str, int] = {}
        self._nodes = tuple(world.floor.nodes.values())
        self._pools = tuple(
            Pool(
                name=p.name, gpu_type=p.gpu_type, nodes=p.nodes, min_nodes=p.nodes, max_nodes=p.nodes,
                interconnect=p.interconnect, compute_tflops=p.tflops,
            )
            for p in world.scenario.pools
        )  # fmt: skip
        self._queues = tuple(
            Queue(
                name=q.name, quota_gpus=q.quota, lends=q.lends, borrows=q.borrows, priority=q.priority,
                min_runtime_s=q.min_runtime,
            )
            for q in world.scenario.queues
        )  # fmt: skip

    def observe(self, now: float) -> Cluster:
        """See `Backend.observe`."""
        jobs = tuple(job_of(job, self.world, now) for job in self.world.jobs.values())
        holds = tuple(sorted(self.world.floor.holds))
        return Cluster(
            at=now, backend=self.name, nodes=self._nodes, jobs=jobs, pools=self._pools, queues=self._queues, holds=holds
        )

    def apply(self, admission: Admission, now: float) -> Receipt:
        """See `Backend.apply`."""
        action = admission.decision.action
        if not admission.permitted:
            return Receipt(id=admission.id, outcome=Outcome.FAILED, detail="denied")
        if admission.id in self._applied:
            return Receipt(id=admission.id, outcome=Outcome.ALREADY)
        if action.kind not in self.supports:
            return Receipt(id=admission.id, outcome=Outcome.UNSUPPORTED, detail=f"the simulator cannot {action.kind}")
        refused = self._refused(action, now)
        if refused:
            return Receipt(id=admission.id, outcome=Outcome.STALE, detail=refused)
        self._applied.add(admission.id)
        self._do(action, now)
        what = target(action)
        self.effects.append(
            EffectRecord(id=admission.id, kind=action.kind, target=what, at=now, elapsed=now, epoch=EPOCH, leader_epoch=EPOCH)
        )
        return Receipt(id=admission.id, outcome=Outcome.DONE)

    def probe(self, admission: Admission, now: float) -> Effect:
        """See `Backend.probe`: this cluster remembers what it has done."""
        return Effect.PRESENT if admission.id in self._applied else Effect.ABSENT

    def close(self) -> None:
        """See `Backend.close`: there is nothing to let go."""

    def _refused(self, action: Action, now: float) -> Refusal:
        match action:
            case RequestCheckpoint() | Preempt() | Migrate() | LendQueue():
                return self._job_refused(action, now)
            case HoldCapacity():
                return self._hold_refused(action)
            case ConfirmHold() | ReleaseHold():
                hold = self.world.floor.holds.get(action.hold)
                return "" if hold and hold.fence == action.fence else "no such hold under that fence"
            case _:
                return "not a thing of jobs"

    def _job_refused(self, action: JobAction, now: float) -> Refusal:
        job = self.world.jobs.get(action.job)
        wanted = JobState.QUEUED if isinstance(action, LendQueue) else JobState.RUNNING
        if job is None or job.run_id != action.run_id or job.state is not wanted:
            return "that run is not there any more"
        match action:
            case Preempt() | Migrate():
                proof = proof_of(job, now)
                if set(action.on_nodes) != set(job.nodes) or (
                    action.checkpoint and (not proof or proof.id != action.checkpoint)
                ):
                    return "it has moved, or the checkpoint is not its newest"
                return "" if isinstance(action, Preempt) else self._no_room(job, action.to_nodes)
            case LendQueue():
                spare = self.world.quota.get(action.lender, 0) - self.world.used[action.lender] - self._lent_by(action.lender)
                return f"{action.lender} has {spare} GPUs to lend" if spare < action.gpus else self._no_room(job, action.nodes)
            case RequestCheckpoint():
                return ""

    def _no_room(self, job: SimJob, nodes: tuple[str, ...]) -> Refusal:
        room = self.world.floor.room(job.id)
        each = job.spec.gpus / len(nodes) if nodes else math.inf
        free = bool(nodes) and all(room.get(name, 0.0) >= each - ROUNDING for name in nodes)
        return "" if free else "the capacity is no longer free"

    def _lent_by(self, lender: str) -> int:
        return sum(job.spec.gpus for job in self.world.borrowed.values() if job.lender == lender)

    def _hold_refused(self, action: HoldCapacity) -> Refusal:
        """What runs there now may be about to leave; but two holds never have the same GPUs."""
        floor, known = self.world.floor, self.world.floor.holds.get(action.hold)
        if (known and known.owner != action.owner) or action.fence <= self._fences.get(action.hold, 0):
            return f"{action.hold} was granted under fence {self._fences.get(action.hold, 0)}"
        if not action.nodes or set(action.nodes) - set(floor.sizes):
            return "names nodes that do not exist, or none"
        others = [hold for name, hold in floor.holds.items() if name != action.hold]
        for node in action.nodes:
            if sum(h.each for h in others if node in h.nodes) + action.gpus / len(action.nodes) > floor.sizes[node] + ROUNDING:
                return f"{node} is held for others"
        return ""

    def _do(self, action: Action, now: float) -> None:
        world, holds = self.world, self.world.floor.holds
        match action:
            case RequestCheckpoint():
                world.ask(world.jobs[action.job], now)
            case Preempt():
                if action.bind_to in holds:
                    holds[action.bind_to].bound.add(action.run_id)
                world.stop(world.jobs[action.job], now)
            case Migrate():
                job = world.jobs[action.job]
                hold = Hold(action.job, action.to_nodes, action.gpus, int(now), 30.0, now + 30.0, {action.run_id})
                holds[f"move-{action.job}"] = hold
                world.counted.moves += now >= world.counted.since
                world.stop(job, now)
                job.moves_to = action.to_nodes
            case LendQueue():
                world.start(world.jobs[action.job], action.nodes, now, lender=action.lender)
            case HoldCapacity():
                self._fences[action.hold] = action.fence
                holds[action.hold] = Hold(
                    action.owner, action.nodes, action.gpus, action.fence, action.ttl_s, now + action.ttl_s
                )
            case ConfirmHold():
                holds[action.hold].expires_at = math.inf
            case ReleaseHold():
                del holds[action.hold]
            case _:
                raise AssertionError(action.kind)


def proof_of(job: SimJob, now: float) -> Checkpoint | None:
    """The newest checkpoint that this run itself completed, read just now."""
    at = job.course.checkpointed_at(now) if job.course else None
    if at is None:
        return None
    return Checkpoint(id=f"{job.run_id}@{at:.3f}", run_id=job.run_id, at=at, read_at=now, verified=True)


def job_of(job: SimJob, world: World, now: float) -> Job:
    """A job as the core sees it."""
    spec, able = job.spec, math.isfinite(job.spec.interval_s)
    return Job(
        id=spec.id, run_id=job.run_id, name=spec.id, queue=spec.queue, state=job.state, gpus=spec.gpus,
        submitted_at=spec.submit, tenant=spec.tenant, priority=spec.priority, gpu_type=spec.gpu_type, nodes=job.nodes,
        started_at=job.started_at if job.nodes else None, checkpoint=proof_of(job, now),
        checkpoint_requested_at=job.requested_at if job.nodes else None,
        checkpoint_s=world.habits.checkpoint if able else None, restart_s=world.habits.restart, preemptible=able,
        evictions=tuple(job.evictions), lender=job.lender,
    )  # fmt: skip
