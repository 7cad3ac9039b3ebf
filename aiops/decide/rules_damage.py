"""Invariants of what is touched: fresh evidence, proofs, bounded damage, floors, protection, scope, approval.

Written a second time on purpose, plainly and over the whole run, not per decision as `admit` does it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatchcase

from aiops.action import (
    PREPARES,
    Admission,
    Drain,
    Entry,
    EntryState,
    Migrate,
    OrderKind,
    Outcome,
    Preempt,
    Rollback,
    ScalePool,
    ScaleService,
    destructive,
    target,
)
from aiops.decide.limits import Limits
from aiops.decide.request import plan_hash
from aiops.decide.trace import Trace
from aiops.model import Cluster, HoldState, Job, NodeState, Reservation
from aiops.snapshot import Snapshot

Broken = Iterator[tuple[str, str]]
BAD = (EntryState.FAILED, EntryState.ROLLED_BACK, EntryState.NEEDS_HUMAN)


def _destructive(trace: Trace) -> Iterator[tuple[Snapshot, Admission]]:
    return ((seen, a) for seen, a in trace.permitted() if destructive(a.decision.action))


def _hurt(admission: Admission, cluster: Cluster) -> list[Job]:
    """Jobs that an action stops or moves."""
    match admission.decision.action:
        case Preempt() | Migrate() as action:
            return [job for job in cluster.jobs if job.id == action.job]
        case Drain() as action:
            return [job for job in cluster.jobs if action.node in job.nodes]
        case _:
            return []


def fresh(trace: Trace, limits: Limits) -> Broken:
    """I5: nothing destructive on inputs older than allowed, or from the future."""
    for seen, admission in _destructive(trace):
        at = admission.decision.inputs_at
        if at is not None and not 0 <= seen.now - at <= limits.max_input_age_s:
            yield admission.id, f"on inputs {seen.now - at:.0f} s old"


def proven(trace: Trace, limits: Limits) -> Broken:
    """I9: a fresh, verified proof of a checkpoint by that very run."""
    for seen, admission in trace.permitted():
        action = admission.decision.action
        if isinstance(action, Preempt | Migrate):
            proofs = [job.checkpoint for job in seen.cluster.jobs if job.id == action.job and job.run_id == action.run_id]
            proof = proofs[0] if proofs else None
            good = proof is not None and proof.verified and proof.run_id == action.run_id
            if not good or proof is None or not 0 <= seen.now - proof.read_at <= limits.proof_age_s:
                yield admission.id, "without a valid proof of a checkpoint"


def bounded_damage(trace: Trace, limits: Limits) -> Broken:
    """I10: in no window more nodes, jobs, GPUs or evictions of one job than allowed, in flight included.

    What the ledger had already proven to be without effect is no damage: refused by the cluster, or never sent.
    """
    spent = [(seen, a, _hurt(a, seen.cluster)) for seen, a in _destructive(trace)]
    harmless = {entry.admission.id: entry.changed_at for entry in trace.entries if _without_effect(entry)}
    for i, (seen, admission, mine) in enumerate(spent):
        window = [one for one in spent[: i + 1] if seen.now - one[0].now < limits.window_s]
        window = [one for one in window if harmless.get(one[1].id, float("inf")) > seen.now]
        jobs = {job.id: job.gpus for _, _, hurt in window for job in hurt}
        drained = {a.decision.action.node for _, a, _ in window if isinstance(a.decision.action, Drain)}
        if len(jobs) > limits.jobs or sum(jobs.values()) > limits.gpus:
            yield admission.id, f"{len(jobs)} jobs, {sum(jobs.values())} GPUs within {limits.window_s:.0f} s"
        if len(drained) > max(1, limits.nodes_ratio * len(seen.cluster.nodes)):
            yield admission.id, f"{len(drained)} nodes within {limits.window_s:.0f} s"
        if any(sum(seen.now - at < 86400.0 for at in job.evictions) >= limits.evictions_per_day for job in mine):
            yield admission.id, "evicted too often within a day"


def _without_effect(entry: Entry) -> bool:
    refused = entry.receipt is not None and entry.receipt.outcome in (Outcome.STALE, Outcome.UNSUPPORTED)
    return entry.state is EntryState.EXPIRED or (entry.state is EntryState.FAILED and refused)


CENSUS_S = 3600.0
"""A snapshot's census is of the last hour."""


def no_mass_fault(trace: Trace, limits: Limits) -> Broken:
    """I11: nothing destructive while much of a pool is down or gone; what was given back within the hour is not gone."""
    shrunk = [(e.at, a.decision.action) for e, _, a in trace.sent() if isinstance(a.decision.action, ScalePool)]
    for seen, admission in _destructive(trace):
        there = {node.name for node in seen.cluster.nodes}
        lately = [action for at, action in shrunk if 0 <= seen.now - at <= CENSUS_S]
        for pool, counted in seen.census.items():
            most = counted - len({name for one in lately if one.pool == pool for name in one.remove} - there)
            well = sum(node.pool == pool and node.state is not NodeState.DOWN for node in seen.cluster.nodes)
            if most - well > limits.unhealthy_ratio * most:
                yield admission.id, f"{most - well} of {most} nodes of {pool} were down or gone"


def something(trace: Trace, limits: Limits) -> Broken:
    """I12: what is acted upon is in the picture, under that identity."""
    for seen, admission in trace.permitted():
        action, cluster = admission.decision.action, seen.cluster
        there = {f"service/{s.name}" for s in cluster.services if s.uid == getattr(action, "uid", s.uid)}
        there |= {f"node/{n.name}" for n in cluster.nodes if n.uid == getattr(action, "uid", n.uid)}
        there |= {f"job/{j.id}" for j in cluster.jobs if j.run_id == getattr(action, "run_id", j.run_id)}
        kind = target(action).partition("/")[0]
        if kind in ("service", "node", "job") and target(action) not in there:
            yield admission.id, f"{target(action)} was not there"


def whole(trace: Trace, limits: Limits) -> Broken:
    """I12: of a plan, all was permitted or nothing."""
    for _, decided in trace.cycles:
        cut = {(a.decision.policy, a.decision.plan) for a in decided.admissions if a.decision.plan and not a.permitted}
        for admission in decided.admissions:
            if admission.permitted and (admission.decision.policy, admission.decision.plan) in cut:
                yield admission.id, f"another part of plan {admission.decision.plan} was refused"


def unbroken(trace: Trace, limits: Limits) -> Broken:
    """I13: once tripped, nothing destructive until a person resets the breaker; in the order of cycles, not of the clock."""
    failed: list[float] = []
    by_id = {entry.admission.id: entry for entry in trace.entries}
    for seen, decided in trace.cycles:
        failed += (seen.now for one in decided.transitions if one.state in BAD and _counts(by_id.get(one.id)))
        reset = max((o.at for o in seen.orders if o.kind is OrderKind.RESET_BREAKER), default=float("-inf"))
        since = [at for at in failed if at > reset]
        enough = limits.breaker_failures
        runs = (since[first : first + enough] for first in range(len(since) - enough + 1))
        if any(max(run) - min(run) < limits.window_s - 60.0 for run in runs):
            hurt = (a for a in decided.admissions if a.permitted and destructive(a.decision.action))
            yield from ((admission.id, "after the breaker had tripped") for admission in hurt)
        sent = (by_id[a.id] for a in decided.admissions if a.permitted and a.id in by_id)
        failed += (seen.now for e in sent if e.verdict is None and e.attempts == 1 and e.state in BAD and _counts(e))


def _counts(entry: Entry | None) -> bool:
    """Whether a failure was one of ours; one whose entry is no longer kept, was."""
    return not (entry and entry.receipt and entry.receipt.outcome in (Outcome.STALE, Outcome.UNSUPPORTED))


def cooled(trace: Trace, limits: Limits) -> Broken:
    """I14, I15: the steady clock shows the pause between two effects on one target; a wall clock cannot shorten it.

    Growing a fleet waits only after what did not work, shrinking it further only the short pause.
    """
    worked = {entry.admission.id for entry in trace.entries if entry.state is EntryState.CONFIRMED}
    before: dict[str, list[tuple[float, Admission]]] = defaultdict(list)
    for effect, _, admission in trace.sent():
        for ended, earlier in before[effect.target]:
            wait, passed = _rest_s(admission, earlier, limits, earlier.id in worked), effect.elapsed - ended
            if passed < wait - 1.0:
                yield effect.id, f"only {passed:.0f} s after an earlier effect on {effect.target}"
        # counted from the permission
        before[effect.target].append((effect.elapsed - max(0.0, effect.at - admission.at), admission))


def _rest_s(admission: Admission, earlier: Admission, limits: Limits, worked: bool) -> float:
    action, then = admission.decision.action, earlier.decision.action
    hurts, fleet = destructive(action), isinstance(action, ScaleService | ScalePool)
    if (hurts and isinstance(then, PREPARES)) or (fleet and worked and not hurts):
        return 0.0
    if fleet and worked and destructive(then) and isinstance(then, ScaleService | ScalePool):
        return limits.cooldown_s
    return limits.destructive_cooldown_s if hurts else limits.cooldown_s


def steady(trace: Trace, limits: Limits) -> Broken:
    """I15: nothing destructive while the wall clock is in doubt."""
    for seen, admission in _destructive(trace):
        if abs(seen.wall_step_s) > limits.max_wall_step_s:
            yield admission.id, f"the wall clock had moved by {seen.wall_step_s:.0f} s"


def conserved(trace: Trace, limits: Limits) -> Broken:
    """I21: floors and ceilings; what is reserved is there, owned, and ends by its cap."""
    for seen, admission in trace.permitted():
        wished = admission.decision.action
        action = wished.action if isinstance(wished, Rollback) else wished
        if isinstance(action, ScaleService):
            bounds = [(s.min_replicas, s.max_replicas) for s in seen.cluster.services if s.name == action.service]
            if any(not low <= action.replicas <= high for low, high in bounds):
                yield admission.id, f"{action.replicas} replicas of {action.service}"
    for seen, decided in trace.cycles:
        live = [r for r in decided.reservations if r.state in (HoldState.HELD, HoldState.ACTIVE)]
        yield from ((seen.id, detail) for detail in _overbooked(live, seen))


def _overbooked(live: list[Reservation], seen: Snapshot) -> Iterator[str]:
    slack = abs(seen.wall_step_s) + 1.0
    for one in live:
        if one.state is HoldState.HELD and seen.now > one.hard_cap_at + slack:
            yield f"{one.name} is held past its cap"
    begun = [r for r in live if r.starts_at is None or r.starts_at <= seen.now]
    gpus = sum(gpu.healthy for node in seen.cluster.nodes for gpu in node.gpus)
    if sum(r.gpus for r in begun) > gpus:
        yield f"{sum(r.gpus for r in begun)} GPUs reserved of {gpus}"
    below: dict[str, set[str]] = defaultdict(set)
    parents = {link.name: link.parent for link in seen.cluster.links}
    for name in parents:
        above = name
        for _ in parents:  # no longer than a path can be, so that a circle ends
            below[above].add(name)
            above = parents.get(above, "")
    for link in seen.cluster.links:
        rate = sum(r.bandwidth_bytes_per_s.get(name, 0.0) for r in begun for name in below[link.name])
        if rate > link.capacity_bytes_per_s * 1.000001:
            yield f"{rate:.6g} bytes/s reserved of {link.capacity_bytes_per_s:.6g} on {link.name}"


def unprotected(trace: Trace, limits: Limits) -> Broken:
    """I22: what is protected loses nothing."""
    for seen, admission in _destructive(trace):
        action, cluster = admission.decision.action, seen.cluster
        hurt = {name for job in _hurt(admission, cluster) if job.protected for name in (job.id,)}
        hurt |= {n.name for n in cluster.nodes if n.protected and target(action) == f"node/{n.name}"}
        hurt |= {s.name for s in cluster.services if s.protected and target(action) == f"service/{s.name}"}
        hurt |= set(limits.protected) & {target(action).partition("/")[2]}
        if hurt:
            yield admission.id, f"{', '.join(sorted(hurt))} is protected"


def in_scope(trace: Trace, limits: Limits) -> Broken:
    """I28: a policy decides only when asked, only within its scope."""
    for seen, admission in trace.permitted():
        policy, action = admission.decision.policy, admission.decision.action
        patterns = limits.scopes.get(policy, ("*",))
        if not any(fnmatchcase(target(action), pattern) for pattern in patterns):
            yield admission.id, f"{target(action)} is outside the scope of {policy}"
        if policy not in seen.due and not isinstance(action, Rollback):
            yield admission.id, f"{policy} was not asked"


def approved(trace: Trace, limits: Limits) -> Broken:
    """I29: enough people approved a big plan, that very plan."""
    for seen, admission in _destructive(trace):
        gpus = sum(job.gpus for job in _hurt(admission, seen.cluster))
        plan = plan_hash(admission.decision.action)
        people = {o.by for o in seen.orders if o.kind is OrderKind.APPROVE and o.target == plan}
        if gpus >= limits.approve_gpus and len(people) < limits.approvers:
            yield admission.id, f"{gpus} GPUs with {len(people)} approvals"
