"""Let an important job run by stopping the work that loses least.

As one would tell an operator: *"When a job waits that outranks running ones, I look for the set of them that frees enough and
costs least, cost being the GPU-seconds since each one's last checkpoint plus its restart. I ask each for a checkpoint, and
stop them only when every one has a fresh, verified proof; who does not answer in time is left alone and another is
chosen. If the waiting job would not fit even then, or one of the set may not be stopped, I stop nobody. Gangs go whole, young
jobs and often-evicted ones stay."*

Budgets, cooldowns and the proof itself are checked again by `admit` and by the backend.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any, ClassVar

from aiops.action import Action, Decision, HoldCapacity, Preempt, RequestCheckpoint
from aiops.errors import ConfigError
from aiops.model import Cluster, HoldState, Job, JobState
from aiops.settings import seconds
from aiops.snapshot import Need, Snapshot
from policies.victims import Victim, cheapest, fits, free_gpus

DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Settings. 600 s is Kueue's and our queues' minimum run time; 1.5 times the usual checkpoint is policy.md 18."""

    priority_gap: int = 1
    min_runtime_s: float = 600.0
    evictions_per_day: int = 3
    restart_s: float = 60.0
    patience_factor: float = 1.5
    patience_cap_s: float = 600.0
    proof_age_s: float = 25.0
    checkpoint_age_s: float = 300.0
    hold_s: float = 30.0


class PreemptPolicy:
    """Chooses victims for the most important waiting job, one waiting job per cycle."""

    name: ClassVar[str] = "preempt"
    every_s: ClassVar[float] = 10.0

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> PreemptPolicy:
        """From the section `policies.preempt`; ConfigError names the key that is unknown or out of range."""
        return cls(Rule(**{key: _parsed(key, value, where) for key, value in section.items()}))

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        """Nothing but the cluster itself."""
        return ()

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        """Decisions for the first waiting job that can be helped; a note for each that cannot."""
        waiting = [job for job in snapshot.cluster.jobs if job.state is JobState.QUEUED and job.gpus > 0]
        for job in sorted(waiting, key=lambda job: (-job.priority, job.submitted_at, job.id)):
            free = free_gpus(snapshot.cluster)
            if fits(job, free, snapshot.cluster):
                yield f"{job.id}: fits without stopping anyone"
                continue
            chosen = cheapest(job, self.victims(snapshot, job), free, snapshot.cluster)
            if chosen is None:
                yield f"{job.id}: would not fit whoever may be stopped; nobody is"
                continue
            yield from self._steps(snapshot, job, chosen)
            return

    def victims(self, snapshot: Snapshot, waiting: Job) -> list[Victim]:
        """Who may be stopped for `waiting`, by name; priority and guarantees are hard, cost only orders within them."""
        running = [job for job in snapshot.cluster.jobs if job.state is JobState.RUNNING]
        groups: dict[str, list[Job]] = {}
        for job in sorted(running, key=lambda job: job.id):
            groups.setdefault(job.gang or job.id, []).append(job)
        reported = [job.started_at for job in running if job.checkpoint and job.started_at is not None]
        usual = median(reported) if reported else -math.inf
        whole = [jobs for jobs in groups.values() if all(self._may_stop(snapshot, job, waiting) for job in jobs)]
        return [Victim(tuple(jobs), sum(lost(job, snapshot.now, usual, self.rule) for job in jobs)) for jobs in whole]

    def _may_stop(self, snapshot: Snapshot, job: Job, waiting: Job) -> bool:
        now, rule = snapshot.now, self.rule
        floor = next((q.min_runtime_s for q in snapshot.cluster.queues if q.name == job.queue), rule.min_runtime_s)
        young = job.started_at is None or now - job.started_at < floor
        often = sum(now - at < DAY_S for at in job.evictions) >= rule.evictions_per_day
        outranked = waiting.priority - job.priority >= rule.priority_gap
        able = job.preemptible or job.checkpoint is not None
        return outranked and able and not (job.protected or young or often or self._silent(job, now))

    def _silent(self, job: Job, now: float) -> bool:
        """Asked for a checkpoint longer ago than it should take, and none came: another victim is looked for."""
        if job.checkpoint_requested_at is None or answered(job):
            return False
        patience = min(self.rule.patience_factor * (job.checkpoint_s or math.inf), self.rule.patience_cap_s)
        return now - job.checkpoint_requested_at > patience

    def _steps(self, snapshot: Snapshot, waiting: Job, chosen: Sequence[Victim]) -> Iterator[Decision]:
        jobs = [job for victim in chosen for job in victim.jobs]
        total = sum(victim.lost_gpu_s for victim in chosen)
        names = ", ".join(victim.name for victim in chosen)
        why = f"{waiting.id} (priority {waiting.priority}, {waiting.gpus} GPUs) needs {names} stopped, {total:.0f} GPU-s lost"
        hold = f"preempt-{waiting.id}"
        held = any(r.name == hold and r.state in (HoldState.HELD, HoldState.ACTIVE) for r in snapshot.reservations)
        binds = "hold_capacity" in snapshot.supports
        ready = all(self._proven(job, snapshot.now) for job in jobs)
        actions: list[Action] = [
            RequestCheckpoint(job=job.id, run_id=job.run_id)
            for job in jobs
            if not self._proven(job, snapshot.now) and (job.checkpoint_requested_at is None or answered(job))
        ]
        if ready:
            if binds and not held:
                actions.append(self._hold(hold, waiting, jobs, snapshot.now))
            actions += [_preempt(job, hold if binds else "", snapshot.now) for job in jobs]
        for action in actions:
            expect = f"{waiting.id} starts" if ready else "a fresh checkpoint is there"
            plan = hold if ready else ""  # asking for a checkpoint harms nobody: each request stands alone
            facts = tuple(_facts(chosen))
            yield Decision(policy=self.name, action=action, reason=why, evidence=facts, expect=expect, plan=plan)

    def _hold(self, name: str, waiting: Job, jobs: Sequence[Job], now: float) -> HoldCapacity:
        nodes = tuple(sorted({node for job in jobs for node in job.nodes}))
        gpus = min(waiting.gpus, sum(job.gpus for job in jobs))
        return HoldCapacity(hold=name, owner=waiting.id, nodes=nodes, gpus=gpus, ttl_s=self.rule.hold_s, fence=int(now))

    def _proven(self, job: Job, now: float) -> bool:
        proof = job.checkpoint
        return (
            proof is not None and proof.verified and proof.run_id == job.run_id and answered(job)
            and 0 <= now - proof.read_at <= self.rule.proof_age_s and 0 <= now - proof.at <= self.rule.checkpoint_age_s
        )  # fmt: skip


def answered(job: Job) -> bool:
    """Whether the newest checkpoint is newer than the last request for one."""
    return job.checkpoint is not None and job.checkpoint.at >= (job.checkpoint_requested_at or -math.inf)


def lost(job: Job, now: float, usual: float, rule: Rule) -> float:
    """GPU-seconds that stopping the job loses (policy.md 16, 17): work since its checkpoint, and its restart.

    Who reports no checkpoint counts as checkpointed at max(its start, the median start of those who report), so that
    reporting is never punished.
    """
    begun = job.started_at if job.started_at is not None else now
    since = job.checkpoint.at if job.checkpoint else max(begun, usual)
    restart = rule.restart_s if job.restart_s is None else job.restart_s
    return job.gpus * (max(0.0, now - since) + restart)


def _preempt(job: Job, bind_to: str, now: float) -> Preempt:
    proof = job.checkpoint
    since = proof.at if proof else now
    return Preempt(
        job=job.id, run_id=job.run_id, on_nodes=job.nodes, checkpoint=proof.id if proof else "", gpus=job.gpus,
        lost_gpu_s=job.gpus * (now - since), bind_to=bind_to,
    )  # fmt: skip


def _facts(chosen: Sequence[Victim]) -> Iterator[str]:
    return (f"{victim.name}: {victim.lost_gpu_s:.0f} GPU-s lost, priority {victim.jobs[0].priority}" for victim in chosen)


def _parsed(key: str, value: Any, where: str) -> Any:
    known = {field.name: field.type for field in fields(Rule)}
    path = f"policies.preempt.{key}"
    if key not in known:
        raise ConfigError(where, path, f"unknown key; expected one of: {', '.join(known)}")
    try:
        number = seconds(value) if key.endswith("_s") else float(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(where, path, f"expected {error}") from None
    if not 0 < number < 1e9:
        raise ConfigError(where, path, f"expected a number above 0, found {value!r}")
    return int(number) if known[key] == "int" else number
