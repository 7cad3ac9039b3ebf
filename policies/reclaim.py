"""What was lent comes back within five minutes of being needed.

As one would tell an operator: *"Idle shares are lent only until their owner needs them. When a job that its own queue's quota
entitles to start finds no room (no GPUs, or not the cores and memory beside them) because borrowers are in it, I look for the
borrowers that lose least, ask them for a checkpoint, and stop them when every one has a fresh, verified proof. What they free
is held for the owner. Nobody who runs on his own queue's share is ever stopped by me, however long he runs or little he
matters."*

Budgets and the proof itself are checked again by `admit` and by the backend.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, ClassVar

from aiops.action import Decision, RequestCheckpoint
from aiops.decide.limits import Limits
from aiops.model import Cluster, Job, JobState
from aiops.snapshot import Need, Snapshot
from policies.cores import STAYING
from policies.handshake import Case, Terms, lost, silent, steps, unsound
from policies.placing import Floor
from policies.rules import rule_of
from policies.shares import Shares, able, entitled, evicted
from policies.victims import Room, Victim, begun, cheapest, free_gpus, leaving, less_held


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Terms):
    """Settings: those of the handshake."""


class Reclaim:
    """Gives owners of lent capacity their room back."""

    name: ClassVar[str] = "reclaim"
    every_s: ClassVar[float] = 10.0

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Reclaim:
        """From the section `policies.reclaim`; ConfigError names the key that is unknown or out of range."""
        return cls(rule_of(Rule, section, where, cls.name))

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        """Nothing but the cluster itself."""
        return ()

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        """Decisions or a note per entitled job that waits, in order; capacity is subtracted as it goes."""
        cluster = snapshot.cluster
        if not any(job.lender for job in cluster.jobs):
            return
        borrowers, gone = self.borrowers(snapshot), list[Job]()
        floor, holds = Floor.of(cluster, free_gpus(cluster)), begun(snapshot)
        for job in entitled(cluster, Shares.of(cluster)):
            others = [one for one in holds if one.owner.removeprefix("job/") != job.id]
            open_to = replace(floor, free=less_held(floor.free, job, others))
            if (nodes := open_to.place(job)) is not None:
                floor.take(job, nodes)  # the cluster starts it by itself
                holds = others  # what is held for it is on the floor as its own from here on
                continue
            coming = replace(floor, free=leaving(open_to.free, cluster))
            if (nodes := coming.place(job)) is not None:
                floor.take(job, nodes)
                holds = others
                yield f"{job.id}: starts once those that are stopping have left"
                continue
            room = Room(job, coming.of_type(job.gpu_type), coming.free, coming.left)
            chosen = cheapest(room, borrowers)
            if chosen is None:
                yield from self._stuck(snapshot, room, gone)
                continue
            borrowers, holds = [one for one in borrowers if one not in chosen], others
            freed = [left for one in chosen for left in one.jobs]
            gone += freed
            for left in freed:
                floor.give_back(left)
            emptied = {node for left in freed for node in left.nodes if node in floor.free}
            open_to = replace(floor, free=less_held(floor.free, job, others))
            floor.take(job, open_to.place(job) or tuple(sorted(emptied)))
            yield from steps(snapshot, Case(self.name, job, chosen, _why(job, chosen)), self.rule)

    def _stuck(self, snapshot: Snapshot, room: Room, gone: Sequence[Job]) -> Iterator[Decision | str]:
        """Who has not answered for long is asked again; for people, who is in the way. What nobody lent is not my matter."""
        lent = [one for one in snapshot.cluster.jobs if one.lender and one.state in STAYING and one not in gone]
        if not lent or not room.after([Victim(tuple(lent), 0.0)]).enough():
            return
        names = ", ".join(one.id for one in lent)
        told = f"{room.job.id}: entitled, but {names} in its way cannot be stopped: no checkpoint is proven"
        for one in lent:
            asked = one.checkpoint_requested_at
            quiet = asked is not None and snapshot.now - asked > self.rule.patience_cap_s
            if quiet and one.state is JobState.RUNNING and silent(one, snapshot.now, self.rule):
                again = RequestCheckpoint(job=one.id, run_id=one.run_id)
                yield Decision(policy=self.name, action=again, reason=told, expect="a fresh checkpoint is there")
        yield told

    def borrowers(self, snapshot: Snapshot) -> list[Victim]:
        """Running work on lent capacity that can be stopped at a checkpoint, whole gangs only."""
        running = [job for job in snapshot.cluster.jobs if job.state in STAYING]
        reported = [job.started_at for job in running if job.checkpoint and job.started_at is not None]
        usual = median(reported) if reported else -math.inf
        groups: dict[str, list[Job]] = {}
        for job in sorted(running, key=lambda job: job.id):
            groups.setdefault(job.gang or job.id, []).append(job)
        limits, now = Limits.from_settings(snapshot.limits, "snapshot"), snapshot.now
        mine = (job for job in running if limits.covers(self.name, f"job/{job.id}"))
        open_to = {job.id for job in mine if evicted(job, now) < limits.evictions_per_day}
        whole = [jobs for jobs in groups.values() if all(job.id in open_to and self._may_stop(job, snapshot) for job in jobs)]
        return [Victim(tuple(jobs), sum(lost(job, now, usual, self.rule) for job in jobs)) for jobs in whole]

    def _may_stop(self, job: Job, snapshot: Snapshot) -> bool:
        may = job.state is JobState.RUNNING and bool(job.lender) and able(job) and not job.protected
        return may and not silent(job, snapshot.now, self.rule) and not unsound(job, snapshot, self.rule)


def _why(waiting: Job, chosen: Sequence[Victim]) -> str:
    names, total = ", ".join(victim.name for victim in chosen), sum(victim.lost_gpu_s for victim in chosen)
    return f"{waiting.id} of {waiting.queue} is entitled to {waiting.gpus} GPUs that {names} borrowed; {total:.0f} GPU-s lost"
