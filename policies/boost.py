"""Tell the cluster's own scheduler which running job would lose much if it were preempted now.

As one would tell an operator: *"Kueue stops the job of lowest priority, of equals the newest, whether its last checkpoint is a
minute or five hours old. For a run that reports checkpoints I count the GPU-hours since the last one. From a quarter
of `gpu_hours` on I add half of what the backend allows to its priority, from `gpu_hours` on all of it; after its next
checkpoint I take it away. Who reports no checkpoint, or may be stopped without one, gets nothing. A job at which another
policy is at work is left alone."*

Three values, each reached once between two checkpoints: nothing swings. How large a boost may be, and whether there are any, is
the backend's setting; budgets and cooldowns are the core's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from aiops.action import Decision, TuneJob, target
from aiops.model import Cluster, Job, JobState, Knob
from aiops.snapshot import Need, Snapshot
from policies.handshake import Terms, answered, silent
from policies.rules import rule_of

_BEGINS = 0.25  # of `gpu_hours`: half the boost comes after a quarter of the time, the rest long before the work is a day's


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Settings. 16 GPU-hours are one node of eight for two hours; 300 s is the core's rest before something destructive."""

    gpu_hours: float = 16.0
    quiet_s: float = 300.0
    at_once: int = 20
    knob: str = "priority-boost"


class Boost:
    """Keeps the boost of each job at what its last checkpoint makes of it."""

    name: ClassVar[str] = "boost"
    every_s: ClassVar[float] = 30.0

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Boost:
        """From the section `policies.boost`; ConfigError names the key that is unknown or out of range."""
        return cls(rule_of(Rule, section, where, cls.name))

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        """Nothing but the cluster itself."""
        return ()

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        """At most `at_once` changes: what is no longer due goes first, then the dearest runs are boosted."""
        busy, wishes = self._busy(snapshot), []
        for job in snapshot.cluster.jobs:
            knob = next((knob for knob in job.knobs if knob.name == self.rule.knob), None)
            asked = job.checkpoint_requested_at is not None and not (answered(job) or silent(job, snapshot.now, Terms()))
            if knob is None or job.state is not JobState.RUNNING or asked or f"job/{job.id}" in busy:
                continue
            lost = at_risk(job, snapshot.now)
            due = self._due(knob, lost)
            if due != knob.value:
                wishes.append((due > knob.value, -(lost or 0.0), job.id, self._wish(job, knob, due, lost)))
        yield from (wish for *_, wish in sorted(wishes, key=lambda row: row[:3])[: self.rule.at_once])

    def _busy(self, snapshot: Snapshot) -> frozenset[str]:
        """Targets of what other policies did lately: a boost in between would make their next step wait."""
        recent = (e.admission for e in snapshot.history if snapshot.now - e.admission.at < self.rule.quiet_s)
        return frozenset(target(a.decision.action) for a in recent if a.denied is None and a.decision.policy != self.name)

    def _due(self, knob: Knob, lost: float | None) -> float:
        if lost is None or lost < _BEGINS * self.rule.gpu_hours:
            return knob.least
        return knob.most if lost >= self.rule.gpu_hours else max(knob.least, knob.most // 2)

    def _wish(self, job: Job, knob: Knob, due: float, lost: float | None) -> Decision:
        told = "has no proven checkpoint" if lost is None else f"would lose {lost:.1f} GPU-hours"
        return Decision(
            policy=self.name, action=TuneJob(job=job.id, run_id=job.run_id, knob=knob.name, value=due, was=knob.value),
            reason=f"{job.id} {told}: {knob.name} {knob.value:g} -> {due:g}", expect="in force at the next look", within_s=60.0,
        )  # fmt: skip


def at_risk(job: Job, now: float) -> float | None:
    """GPU-hours that a stop now would lose; None where no verified checkpoint of this run says, or its owner does not mind."""
    proof = job.checkpoint
    known = proof is not None and proof.verified and proof.run_id == job.run_id
    if proof is None or not known or job.preemptible:
        return None
    since = max(proof.at, job.started_at or 0.0)  # a run has no checkpoint from before its start, whatever its proof says
    return job.gpus * max(0.0, now - since) / 3600.0
