"""How a run is stopped without losing more than it must: asked, answered, verified, and only then stopped.

Shared by every policy that stops runs for a waiting job (policy.md 18, 20, 22): request a checkpoint, wait for one that is
newer than the request, hold what will be freed, then stop all victims as one plan. Knows not who may be stopped, nor why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aiops.action import Action, Decision, HoldCapacity, Preempt, RequestCheckpoint
from aiops.model import HoldState, Job
from aiops.snapshot import Snapshot
from policies.victims import Victim


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How fresh a proof must be, how long an answer may take, and for how long freed capacity is held.

    1.5 times the usual checkpoint is policy.md 18; 25 s leave the core's 30 s for a proof (I9) a cycle's slack.
    """

    restart_s: float = 60.0
    patience_factor: float = 1.5
    patience_cap_s: float = 600.0
    proof_age_s: float = 25.0
    checkpoint_age_s: float = 300.0
    hold_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Case:
    """Who waits, who is to go for it, and why, in words; `policy` is who asks."""

    policy: str
    waiting: Job
    chosen: Sequence[Victim]
    why: str

    @property
    def jobs(self) -> list[Job]:
        """Every run that is to go."""
        return [job for victim in self.chosen for job in victim.jobs]


def answered(job: Job) -> bool:
    """Whether the newest checkpoint is newer than the last request for one."""
    return job.checkpoint is not None and job.checkpoint.at >= (job.checkpoint_requested_at or -math.inf)


def silent(job: Job, now: float, terms: Terms) -> bool:
    """Asked for a checkpoint longer ago than it should take, and none came: another victim is looked for.

    A run that was asked while it still started could not answer before it had: its time begins then.
    """
    if job.checkpoint_requested_at is None or answered(job):
        return False
    restart = terms.restart_s if job.restart_s is None else job.restart_s
    heard = max(job.checkpoint_requested_at, (job.started_at or -math.inf) + restart)
    patience = min(terms.patience_factor * (job.checkpoint_s or math.inf), terms.patience_cap_s)
    return now - heard > patience


def unsound(job: Job, snapshot: Snapshot, terms: Terms) -> bool:
    """Its newest answer is wrong, and so was the one before it: another victim is looked for, until a while has passed."""
    proof = job.checkpoint
    if proof is None or proof.verified or proof.reading or not answered(job):
        return False
    acts = (one.admission for one in snapshot.history if snapshot.now - one.admission.at <= terms.patience_cap_s)
    asks = (one.decision.action for one in acts if isinstance(one.decision.action, RequestCheckpoint))
    return sum(ask.job == job.id and ask.run_id == job.run_id for ask in asks) > 1


def proven(job: Job, now: float, terms: Terms) -> bool:
    """A verified checkpoint by this very run, newer than the last request, fresh, and read just now."""
    proof = job.checkpoint
    return (
        proof is not None and proof.verified and proof.run_id == job.run_id and answered(job)
        and 0 <= now - proof.read_at <= terms.proof_age_s and 0 <= now - proof.at <= terms.checkpoint_age_s
    )  # fmt: skip


def lost(job: Job, now: float, usual: float, terms: Terms) -> float:
    """GPU-seconds that stopping the job loses (policy.md 16, 17): work since its checkpoint, and its restart.

    Who reports no checkpoint counts as checkpointed at max(its start, the median start of those who report), so that
    reporting is never punished.
    """
    begun = job.started_at if job.started_at is not None else now
    since = job.checkpoint.at if job.checkpoint else max(begun, usual)
    restart = terms.restart_s if job.restart_s is None else job.restart_s
    return job.gpus * (max(0.0, now - since) + restart)


def requests(jobs: Sequence[Job], now: float, terms: Terms) -> list[Action]:
    """Whom to ask for a checkpoint: who has no valid proof, is not writing one already, and whose newest is not being read."""
    free = (job for job in jobs if job.checkpoint_requested_at is None or answered(job))
    asked = (job for job in free if not proven(job, now, terms) and not reading(job, now, terms))
    return [RequestCheckpoint(job=job.id, run_id=job.run_id) for job in asked]


def reading(job: Job, now: float, terms: Terms) -> bool:
    """Its newest checkpoint would do once it is read: hashing a large one takes minutes, a newer one would begin anew."""
    one = job.checkpoint
    return one is not None and one.reading and one.run_id == job.run_id and 0 <= now - one.at <= terms.checkpoint_age_s


def steps(snapshot: Snapshot, case: Case, terms: Terms) -> Iterator[Decision]:
    """The next decisions of a case: requests while any proof is missing, then the hold and all stops as one plan."""
    now, jobs = snapshot.now, case.jobs
    hold = f"{case.policy}-{case.waiting.id}"
    held = any(r.name == hold and r.state in (HoldState.HELD, HoldState.ACTIVE) for r in snapshot.reservations)
    binds = "hold_capacity" in snapshot.supports and any(job.gpus for job in jobs)  # of no GPUs nothing could be held
    ready = all(proven(job, now, terms) for job in jobs)
    actions = requests(jobs, now, terms)
    if ready:
        if binds and not held:
            actions.append(_hold(hold, case.waiting, jobs, (now, terms.hold_s)))
        actions += [_preempt(job, hold if binds else "", now) for job in jobs]
    for action in actions:
        expect = f"{case.waiting.id} starts" if ready else "a fresh checkpoint is there"
        plan = hold if ready else ""  # asking for a checkpoint harms nobody: each request stands alone
        facts = tuple(_facts(case.chosen))
        yield Decision(policy=case.policy, action=action, reason=case.why, evidence=facts, expect=expect, plan=plan)


def _hold(name: str, waiting: Job, jobs: Sequence[Job], term: tuple[float, float]) -> HoldCapacity:
    nodes = tuple(sorted({node for job in jobs for node in job.nodes}))
    gpus = min(waiting.gpus, sum(job.gpus for job in jobs))
    return HoldCapacity(hold=name, owner=waiting.id, nodes=nodes, gpus=gpus, ttl_s=term[1], fence=int(term[0]))


def _preempt(job: Job, bind_to: str, now: float) -> Preempt:
    proof = job.checkpoint
    since = proof.at if proof else now
    return Preempt(
        job=job.id, run_id=job.run_id, on_nodes=job.nodes, checkpoint=proof.id if proof else "", gpus=job.gpus,
        lost_gpu_s=job.gpus * (now - since), bind_to=bind_to,
    )  # fmt: skip


def _facts(chosen: Sequence[Victim]) -> Iterator[str]:
    return (f"{victim.name}: {victim.lost_gpu_s:.0f} GPU-s lost, priority {victim.jobs[0].priority}" for victim in chosen)
