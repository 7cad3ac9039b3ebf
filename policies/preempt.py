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
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar

from aiops.action import Decision, OrderKind, Preempt
from aiops.decide.limits import Limits
from aiops.decide.request import plan_hash
from aiops.model import Cluster, Job, JobState
from aiops.snapshot import Need, Snapshot
from policies.cores import STAYING
from policies.crowd import Crowd
from policies.handshake import Case, Terms, lost, silent, steps, unsound
from policies.rules import rule_of
from policies.shares import evicted
from policies.victims import Victim, cheapest


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Terms):
    """Settings, with those of the handshake. 600 s is Kueue's and our queues' minimum run time."""

    priority_gap: int = 1
    min_runtime_s: float = 600.0
    evictions_per_day: int = 3


class PreemptPolicy:
    """Chooses victims for the most important waiting job, one waiting job per cycle."""

    name: ClassVar[str] = "preempt"
    every_s: ClassVar[float] = 10.0

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> PreemptPolicy:
        """From the section `policies.preempt`; ConfigError names the key that is unknown or out of range."""
        return cls(rule_of(Rule, section, where, cls.name))

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        """Nothing but the cluster itself."""
        return ()

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        """Decisions for the first waiting job that can be helped, and the next while that waits for people; else notes."""
        waiting = [job for job in snapshot.cluster.jobs if job.state is JobState.QUEUED and job.gpus > 0]
        if not waiting:
            return
        crowd, stoppable, by_priority = Crowd(snapshot), self.stoppable(snapshot), dict[int, list[Victim]]()
        limits, vain = Limits.from_settings(snapshot.limits, "snapshot"), dict[tuple[object, ...], str]()
        for job in sorted(waiting, key=lambda job: (-job.priority, job.submitted_at, job.id)):
            if crowd.now(job).enough(job):
                yield f"{job.id}: fits without stopping anyone"
                continue
            if crowd.soon(job).enough(job):  # a slow drain is waited for: more victims would not make it faster
                yield f"{job.id}: fits once those that are stopping have left"
                continue
            if told := vain.get(crowd.alike(job)):
                yield f"{job.id}: {told}; nobody is"
                continue
            victims = by_priority.setdefault(job.priority, self._outranked(stoppable, job))
            enough = crowd.without(job, victims).enough(job)
            chosen = cheapest(crowd.soon(job).room(job), victims) if enough else None
            told = "would not fit whoever may be stopped" if chosen is None else beyond(chosen, limits)
            if chosen is None or told:
                vain[crowd.alike(job)] = told
                yield f"{job.id}: {told}; nobody is"
                continue
            wishes = list(steps(snapshot, Case(self.name, job, chosen, _why(job, chosen)), self.rule))
            yield from wishes
            if not awaits_people(snapshot, wishes):
                return
            stoppable = [victim for victim in stoppable if victim not in chosen]
            by_priority.clear()
            vain.clear()

    def victims(self, snapshot: Snapshot, waiting: Job) -> list[Victim]:
        """Who may be stopped for `waiting`, by name; priority and guarantees are hard, cost only orders within them."""
        return self._outranked(self.stoppable(snapshot), waiting)

    def _outranked(self, stoppable: Sequence[Victim], waiting: Job) -> list[Victim]:
        most = waiting.priority - self.rule.priority_gap
        return [victim for victim in stoppable if all(job.priority <= most for job in victim.jobs)]

    def stoppable(self, snapshot: Snapshot) -> list[Victim]:
        """Whole gangs and jobs that may be stopped for anybody who outranks them, by name, with what that loses."""
        running = [job for job in snapshot.cluster.jobs if job.state in STAYING]  # a part that still starts keeps its gang
        floors = {queue.name: queue.min_runtime_s for queue in reversed(snapshot.cluster.queues)}
        groups: dict[str, list[Job]] = {}
        for job in sorted(running, key=lambda job: job.id):
            groups.setdefault(job.gang or job.id, []).append(job)
        reported = [job.started_at for job in running if job.checkpoint and job.started_at is not None]
        usual = median(reported) if reported else -math.inf
        limits = Limits.from_settings(snapshot.limits, "snapshot")
        most = min(self.rule.evictions_per_day, limits.evictions_per_day)
        open_to = {job.id for job in running if limits.covers(self.name, f"job/{job.id}") and evicted(job, snapshot.now) < most}
        mine = [jobs for jobs in groups.values() if open_to.issuperset(job.id for job in jobs)]
        whole = [jobs for jobs in mine if all(self._may_stop(job, snapshot, floors) for job in jobs)]
        return [Victim(tuple(jobs), sum(lost(job, snapshot.now, usual, self.rule) for job in jobs)) for jobs in whole]

    def _may_stop(self, job: Job, snapshot: Snapshot, floors: Mapping[str, float]) -> bool:
        rule, now = self.rule, snapshot.now
        young = job.started_at is None or now - job.started_at < floors.get(job.queue, rule.min_runtime_s)
        able = job.state is JobState.RUNNING and (job.preemptible or job.checkpoint is not None)
        return able and not (job.protected or young or silent(job, now, rule) or unsound(job, snapshot, rule))


def beyond(chosen: Sequence[Victim], limits: Limits) -> str:
    """What of a plan is more than may be stopped within any hour, '' where it is not: such a plan would be refused for ever."""
    jobs = [job for victim in chosen for job in victim.jobs]
    tenants = Counter(job.tenant for job in jobs if job.tenant)
    counts = (
        ("GPUs", sum(job.gpus for job in jobs), limits.gpus), ("jobs", len(jobs), min(limits.jobs, limits.policy_jobs)),
        ("tenants", len(tenants), limits.tenants), ("jobs of one tenant", max(tenants.values(), default=0), limits.tenant_jobs),
    )  # fmt: skip
    return next((f"{n} {what} would have to be stopped, {most} may be" for what, n, most in counts if n > most), "")


def awaits_people(snapshot: Snapshot, wishes: Iterable[Decision]) -> bool:
    """Whether a plan stops a run so large that people must approve it, and they have not: it may never be carried out."""
    limits = Limits.from_settings(snapshot.limits, "snapshot")
    said = {(order.target, order.by) for order in snapshot.orders if order.kind is OrderKind.APPROVE}
    people = Counter(plan for plan, _ in said)
    stops = (one.action for one in wishes if isinstance(one.action, Preempt))
    return any(stop.gpus >= limits.approve_gpus and people[plan_hash(stop)] < limits.approvers for stop in stops)


def _why(waiting: Job, chosen: Sequence[Victim]) -> str:
    names, total = ", ".join(victim.name for victim in chosen), sum(victim.lost_gpu_s for victim in chosen)
    return f"{waiting.id} (priority {waiting.priority}, {waiting.gpus} GPUs) needs {names} stopped, {total:.0f} GPU-s lost"
