"""Every five minutes: bring waiting work and idle capacity together.

As one would tell an operator: *"Work that waits although it fits nobody's own share runs on what other queues leave idle, until
they need it. I lend only to work that can be stopped at a checkpoint, never more than can be taken back within the hour's
budgets, and never what its owner's own waiting jobs are about to use. Where a job is entitled to start but its GPUs lie
scattered, or a node was promised more cores or memory than it has, I move a few checkpointed jobs - if what that saves is
worth at least what it costs, and I say both numbers. One plan at a time: until the last one is judged I make no other."*

Budgets, cooldowns, modes are `admit`'s business; taking back what was lent is `reclaim.py`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from aiops.action import Action, Decision, EntryState, HoldCapacity, LendQueue, Migrate, Mode
from aiops.decide.limits import Limits
from aiops.decide.request import mode_for
from aiops.model import Cluster, Job, Query
from aiops.snapshot import Need, Snapshot
from policies.crowd import shape
from policies.handshake import Terms, proven, requests
from policies.lending import Loan, Problem, plan
from policies.moves import Clearing, defragment, movable, overfull, relieve
from policies.placing import Floor
from policies.rules import rule_of
from policies.shares import ON_NODES, Shares, entitled, evicted, waiting
from policies.victims import begun, unheld


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Terms):
    """Settings, with those of the handshake.

    64 GPUs and 10 jobs are what the safety limits allow to be stopped within an hour: more could not be taken back. A
    proof may be as old as one period and a checkpoint, because the next look comes a period later. 20 % busy is
    Volcano's and the descheduler's bound for idle.
    """

    checkpoint_age_s: float = 600.0
    max_lent_gpus: int = 64
    max_lent_jobs: int = 10
    evictions_per_day: int = 3
    min_runtime_s: float = 600.0
    worth: float = 1.0  # saving over disruption, policy.md 12
    horizon_s: float = 3600.0
    candidates: int = 64
    effort_s: float = 0.5
    idle_ratio: float = 0.2
    idle_s: float = 1800.0


class Rebalance:
    """Lends idle shares, defragments, relieves overfull nodes, and names what has long been idle."""

    name: ClassVar[str] = "rebalance"
    every_s: ClassVar[float] = 300.0
    beside: ClassVar[tuple[str, ...]] = ("reclaim",)
    """Who has to act wherever this policy does: what is lent must come back."""

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Rebalance:
        """From the section `policies.rebalance`; ConfigError names the key that is unknown or out of range."""
        return cls(rule_of(Rule, section, where, cls.name))

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        """How busy every GPU was, for the names of idle ones; nothing is decided on it."""
        return [Need(query=self._busy(), required=False)]

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        """The next plan, or a note on why there is none."""
        unfinished = [e for e in snapshot.history if e.state in (EntryState.INTENT, EntryState.SENT)]
        mine = next((e.admission for e in unfinished if e.admission.decision.policy == self.name), None)
        if mine is not None:
            yield f"skipped: {mine.decision.action.kind} of the last plan is not judged yet"
            return
        cluster, floor = snapshot.cluster, Floor.of(snapshot.cluster, unheld(snapshot))
        blocked, held = [], {one.owner.removeprefix("job/") for one in begun(snapshot)}
        for job in entitled(cluster, Shares.of(cluster)):
            nodes = None if job.id in held else floor.place(job)
            if nodes is not None:
                floor.take(job, nodes)  # the cluster starts it by itself
            elif job.id not in held:  # else on what is held for it
                blocked.append(job)
        yield from self._lend(snapshot, floor)
        yield from self._move(snapshot, floor, blocked)
        yield from self._idle(snapshot)

    # -- lending -------------------------------------------------------------------------------------------------------

    def _lend(self, snapshot: Snapshot, floor: Floor) -> Iterator[Decision | str]:
        problem = self.problem(snapshot, floor)
        if not problem.jobs:
            return
        if mode_for(self.name, snapshot) is Mode.ACT and mode_for("reclaim", snapshot) is not Mode.ACT:
            yield "nothing is lent: reclaim does not act, so nobody would take it back"
            return
        loans = plan(problem, self.rule.effort_s)
        for loan, by in loans:
            floor.take(loan.job, loan.nodes)
            yield self._loan(loan, by, snapshot.now)
        left = len(problem.jobs) - len(loans)
        if left:
            yield f"{left} waiting jobs fit no idle share, or no nodes of one"

    def problem(self, snapshot: Snapshot, floor: Floor) -> Problem:
        """Who may borrow, and what each queue has idle beyond what its own entitled jobs will take."""
        cluster, shares = snapshot.cluster, Shares.of(snapshot.cluster)
        own = entitled(cluster, shares)
        soon = {name: sum(job.gpus for job in own if job.queue == name) for name in shares.quota}
        lends = {queue.name for queue in cluster.queues if queue.lends}
        idle = {name: left for name in sorted(lends) if (left := shares.idle(name) - soon[name]) > 0}
        open_to = floor.without({node.name for node in cluster.nodes if node.protected})  # who runs there is not stopped again
        return Problem(self._borrowers(snapshot, {job.id for job in own}), idle, open_to, snapshot.now)

    def _borrowers(self, snapshot: Snapshot, own: set[str]) -> list[Job]:
        """The most important waiting jobs that their own quota does not carry, within what may be lent and taken back."""
        cluster, rule, limits = snapshot.cluster, self.rule, Limits.from_settings(snapshot.limits, "snapshot")
        borrows = {queue.name for queue in cluster.queues if queue.borrows}
        lent = [job for job in cluster.jobs if job.lender and job.state in ON_NODES]
        gpus = min(rule.max_lent_gpus, limits.gpus) - sum(job.gpus for job in lent)
        jobs = min(rule.max_lent_jobs, limits.jobs, limits.policy_jobs) - len(lent)
        found, of_tenant = list[Job](), Counter(job.tenant for job in lent if job.tenant)
        for job in (one for one in waiting(cluster) if one.id not in own and one.queue in borrows):
            room = job.gpus <= gpus and len(found) < min(jobs, rule.candidates)
            if room and self._returnable(job, snapshot.now, limits) and of_tenant[job.tenant] < limits.tenant_jobs:
                gpus -= job.gpus
                of_tenant[job.tenant] += bool(job.tenant)
                found.append(job)
        return found

    def _returnable(self, job: Job, now: float, limits: Limits) -> bool:
        """Whether the job could be stopped when its lender needs the room, without anybody's approval."""
        seldom = evicted(job, now) < min(self.rule.evictions_per_day, limits.evictions_per_day)
        proves = job.checkpoint_s is not None or job.checkpoint is not None  # without a proof it would never be given back
        covered = all(limits.covers(policy, f"job/{job.id}") for policy in (self.name, *self.beside))
        return proves and seldom and covered and job.gpus < limits.approve_gpus and not (job.gang or job.protected)

    def _loan(self, loan: Loan, by: str, now: float) -> Decision:
        job, where = loan.job, ", ".join(loan.nodes)
        action = LendQueue(
            job=job.id, run_id=job.run_id, borrower=job.queue, lender=loan.lender, nodes=loan.nodes, gpus=job.gpus
        )
        waited = now - job.submitted_at
        return Decision(
            policy=self.name,
            action=action,
            reason=f"{job.id} ({job.gpus} GPUs) has waited {waited:.0f} s; {loan.lender} leaves them idle on {where}",
            evidence=(f"placed by {by}", f"bound by {job.task_class.value}"),
            expect=f"{job.id} runs on {loan.lender}'s share",
            within_s=self.every_s,
        )

    # -- moves ---------------------------------------------------------------------------------------------------------

    def _move(self, snapshot: Snapshot, floor: Floor, blocked: Sequence[Job]) -> Iterator[Decision | str]:
        """At most one clearing per plan: the first that is worth it, overfull nodes before scattered GPUs."""
        cluster, now = snapshot.cluster, snapshot.now
        limits = Limits.from_settings(snapshot.limits, "snapshot")
        most = min(self.rule.evictions_per_day, limits.evictions_per_day)
        able = movable(cluster, now, self.rule.min_runtime_s, most)
        may_move = [job for job in able if limits.covers(self.name, f"job/{job.id}")]
        crowded = overfull(cluster)
        elsewhere = floor.without({node.name for node, _, _ in crowded})  # nobody is moved from one to another
        for node, jobs, excess in crowded:
            clearing = relieve(node, jobs, may_move, elsewhere, now)
            saved = sum(job.gpus for job in jobs) * self.rule.horizon_s
            if clearing and saved / max(clearing.disruption, 1.0) >= self.rule.worth:
                yield from self._steps(snapshot, clearing, f"{node.name} is overfull: {excess}", (saved, None))
                return
            yield f"{node.name} is overfull ({excess}), and no few moves that are worth it relieve it"
        clearings: dict[tuple[object, ...], Clearing | None] = {}
        for job in blocked:
            if shape(job) not in clearings:
                clearings[shape(job)] = defragment(job, floor, may_move, now)
            clearing = clearings[shape(job)]
            if clearing is None:
                yield f"{job.id}: entitled, but no few moves free a node for it"
                continue
            saved = job.gpus * min(now - job.submitted_at, self.rule.horizon_s)  # who waited long, will: the wait so far
            if saved / max(clearing.disruption, 1.0) < self.rule.worth:
                numbers = f"saves {saved:.0f} GPU-s and costs {clearing.disruption:.0f}"
                yield f"{job.id}: moving {clearing.names} {numbers}: not worth it"
                continue
            yield from self._steps(snapshot, clearing, f"{job.id} is entitled, but its GPUs lie scattered", (saved, job))
            return

    def _steps(self, snapshot: Snapshot, clearing: Clearing, why: str, by: tuple[float, Job | None]) -> Iterator[Decision]:
        """Ask for checkpoints while any proof is missing; else the hold and all moves as one plan."""
        now, (saved, owner) = snapshot.now, by
        ready = all(proven(move.job, now, self.rule) for move in clearing.moves)
        actions: list[Action] = requests([move.job for move in clearing.moves], now, self.rule)
        if ready and owner is not None and "hold_capacity" in snapshot.supports:
            hold = f"{self.name}-{owner.id}"
            actions.append(
                HoldCapacity(
                    hold=hold, owner=owner.id, nodes=(clearing.node,), gpus=owner.gpus, ttl_s=2 * self.rule.restart_s,
                    fence=int(now),
                )
            )  # fmt: skip
        if ready:
            actions += [
                Migrate(
                    job=move.job.id, run_id=move.job.run_id, on_nodes=move.job.nodes, to_nodes=move.to_nodes,
                    checkpoint=move.job.checkpoint.id if move.job.checkpoint else "", gpus=move.job.gpus,
                )
                for move in clearing.moves
            ]  # fmt: skip
        ratio = f"saves {saved:.0f} GPU-s, costs {clearing.disruption:.0f}"
        for action in actions:
            yield Decision(
                policy=self.name,
                action=action,
                reason=f"{why}; moving {clearing.names} off {clearing.node} {ratio}",
                evidence=(ratio,),
                expect=f"{clearing.node} has room" if ready else "a fresh checkpoint is there",
                within_s=self.every_s,
                plan=f"clear-{clearing.node}" if ready else "",
            )

    # -- idle ----------------------------------------------------------------------------------------------------------

    def _busy(self) -> Query:
        return Query(metric="gpu_utilization_ratio", window_s=self.rule.idle_s, step_s=60.0)

    def _idle(self, snapshot: Snapshot) -> Iterator[str]:
        """Running jobs none of whose GPUs did anything for long: for people, who alone know why."""
        calm: set[str] = set()
        for one in snapshot.of(self._busy()):
            covered = len(one.times) > 1 and one.times[-1] - one.times[0] >= 0.9 * self.rule.idle_s
            if covered and float(one.values.max()) < self.rule.idle_ratio:
                calm.add(one.key.label("uuid") or "")
        for job in snapshot.cluster.jobs:
            if job.state in ON_NODES and job.gpu_uuids and set(job.gpu_uuids) <= calm:
                yield f"{job.id}: its {job.gpus} GPUs stayed under {self.rule.idle_ratio:.0%} for {self.rule.idle_s:.0f} s"
