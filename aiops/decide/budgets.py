"""Gates on what is counted over time: mass faults, the breaker, cooldowns, budgets.

All counting is done on the recorded history in the snapshot, so that it survives a restart and a change of leader, and
includes what is in flight.
"""

from __future__ import annotations

from aiops.action import PREPARES, Deny, Entry, EntryState, OrderKind, ScalePool, ScaleService, destructive, target
from aiops.decide.blast import Blast, blast, given_back, opposed
from aiops.decide.index import touched
from aiops.decide.limits import Limits
from aiops.decide.request import Refusal, Request
from aiops.snapshot import Snapshot

BAD = (EntryState.FAILED, EntryState.ROLLED_BACK, EntryState.NEEDS_HUMAN)
DAY_S = 86400.0
Damage = tuple[str, Blast]  # whose, and what


def healthy_pool(request: Request) -> Refusal:
    """When much of a pool is unhealthy or gone at once, the picture is what is wrong: stop (I11)."""
    if not request.destructive:
        return None
    index, census = request.index, request.snapshot.census
    for pool in sorted(index.present.keys() | census.keys()):
        most = max(census.get(pool, 0), index.present.get(pool, 0)) - _removed(request, pool)
        well = index.well.get(pool, 0)
        if most - well > request.limits.unhealthy_ratio * most:
            return Deny.MASS_FAULT, f"{most - well} of {most} nodes of pool {pool} are down or gone"
    return None


def _removed(request: Request, pool: str) -> int:
    """Nodes that the census still counts and that are gone because this daemon scaled them away."""
    mine = (a for e, a in request.index.scaled_away if a.pool == pool and request.since(e.admission.at) < 3600.0)
    return len({node for action in mine for node in action.remove} - request.index.nodes.keys())


def tripped_at(snapshot: Snapshot, limits: Limits) -> float | None:
    """When the breaker tripped, or None: latched over restarts until a person resets it, however long that takes."""
    resets = (o.at for o in snapshot.orders if o.kind is OrderKind.RESET_BREAKER)
    reset = max((at for at in resets if at <= snapshot.now), default=float("-inf"))  # a clock went back: not one of the future
    if snapshot.breaker_at is not None and snapshot.breaker_at > reset:
        return snapshot.breaker_at
    bad = [e for e in snapshot.history if e.state in BAD and touched(e) and e.changed_at > reset]
    recent = sum(snapshot.now - e.changed_at < limits.window_s for e in bad)
    return snapshot.now if recent >= limits.breaker_failures else None


def breaker(request: Request) -> Refusal:
    """After enough failures nothing destructive happens until a person resets it (I13)."""
    if not request.destructive or (at := tripped_at(request.snapshot, request.limits)) is None:
        return None
    return Deny.BREAKER_OPEN, f"tripped {request.snapshot.now - at:.0f} s ago by failed actions; a person must reset it"


def alone(request: Request) -> Refusal:
    """One action in flight per target, no two for one target in one cycle, and no opposed pair (I20)."""
    mine = target(request.action)
    in_flight = [e.admission.decision.action for e in request.others(request.index.in_flight)]
    if any(target(action) == mine for action in in_flight):
        return Deny.IN_FLIGHT, f"an action on {mine} is not judged yet"
    for action in (*in_flight, *(d.action for d in request.earlier)):
        nodes = opposed(action, request.action)
        if nodes or target(action) == mine:
            return Deny.CONFLICT, f"{action.kind} on {target(action)} already changes {', '.join(sorted(nodes)) or mine}"
    return None


def cooled(request: Request) -> Refusal:
    """Leave a target alone for a while after an action, longer before something destructive (I14)."""
    mine = target(request.action)
    for entry in request.others(request.index.by_target.get(mine, ())):
        wait, passed = rest_s(request, entry), request.since(entry.admission.at)
        if passed < wait:
            return Deny.COOLDOWN, f"{mine} was changed {passed:.0f} s ago; {wait:.0f} s must pass"
    return None


def rest_s(request: Request, last: Entry) -> float:
    """Seconds that the target rests after `last`.

    A fleet that grows late is an outage, and one that grows has hurt nobody: growth waits for nothing but a change that did
    not work. Shrinking further waits less than turning round, which is what makes a fleet swing.
    """
    limits, before = request.limits, last.admission.decision.action
    if request.destructive and isinstance(before, PREPARES):
        return 0.0  # what prepares a stop does not delay it
    if isinstance(request.action, ScaleService | ScalePool) and last.state is EntryState.CONFIRMED:
        if not request.destructive:
            return 0.0
        if isinstance(before, ScaleService | ScalePool) and destructive(before):
            return limits.cooldown_s
    return limits.destructive_cooldown_s if request.destructive else limits.cooldown_s


def within_blast_radius(request: Request) -> Refusal:
    """Bounded damage in any window: nodes, jobs, GPUs and tenants disrupted, those in flight included (I10)."""
    if not request.destructive:
        return None
    limits, cluster = request.limits, request.snapshot.cluster
    spent, mine = _spent(request), blast(request.action, cluster)
    damages = [damage for _, damage in spent]
    window = f"within {limits.window_s:.0f} s"
    allowed = max(1, int(limits.nodes_ratio * len(cluster.nodes)))
    nodes = frozenset[str]().union(*(damage.nodes for damage in damages))
    if mine.nodes and len(nodes) > allowed:
        return Deny.BUDGET_SPENT, f"{len(nodes)} nodes disrupted {window}, {allowed} allowed"
    over = _over(damages, limits) if mine.jobs or mine.gpus else ""
    if over:
        return Deny.BLAST_RADIUS, f"{over} {window}"
    shared = _shared(request, spent, mine)
    return (Deny.BUDGET_SPENT, f"{shared} {window}") if shared else None


def _spent(request: Request) -> list[Damage]:
    """By which policy what is taken away: within the window, earlier in this cycle, and by this very decision."""
    past, cluster = request.index.damage, request.snapshot.cluster
    recent = [(e, damage) for e, damage in past if request.since(e.admission.at) < request.limits.window_s]
    kept = {entry.admission.id for entry in request.others(entry for entry, _ in recent)}
    spent = [(e.admission.decision.policy, damage) for e, damage in recent if e.admission.id in kept]
    return spent + [(one.policy, blast(one.action, cluster)) for one in (*request.earlier, request.decision)]


def _over(damages: list[Blast], limits: Limits) -> str:
    jobs = len(frozenset[str]().union(*(damage.jobs for damage in damages)))
    tenants = len(frozenset[str]().union(*(damage.tenants for damage in damages)))
    gpus = sum(damage.gpus for damage in damages)
    counts = (("jobs", jobs, limits.jobs), ("GPUs", gpus, limits.gpus), ("tenants", tenants, limits.tenants))
    return next((f"{n} {what} disrupted, {cap} allowed" for what, n, cap in counts if n > cap), "")


def _shared(request: Request, spent: list[Damage], mine: Blast) -> str:
    """Which tenant or policy would take more than its share of the damage."""
    limits, policy = request.limits, request.decision.policy
    by_policy = {job for whose, damage in spent if whose == policy for job in damage.jobs}
    if mine.jobs and len(by_policy) > limits.policy_jobs:
        return f"{len(by_policy)} jobs disrupted by {policy}, {limits.policy_jobs} allowed"
    for tenant in sorted(mine.tenants):
        jobs = {job for _, damage in spent if tenant in damage.tenants for job in damage.jobs}
        if len(jobs) > limits.tenant_jobs:
            return f"{len(jobs)} jobs of {tenant} disrupted, {limits.tenant_jobs} allowed"
    return ""


def few_given_back(request: Request) -> Refusal:
    """Idle nodes go a few at once and a part of their pool in any window: a picture that calls all idle may be wrong."""
    action, limits, index = given_back(request.action), request.limits, request.index
    if action is None:
        return None
    there = {node.name for node in request.snapshot.cluster.nodes if node.pool == action.pool}
    at_once = max(1, int(limits.nodes_ratio * len(there)))
    if len(action.remove) > at_once:
        return Deny.BLAST_RADIUS, f"{len(action.remove)} nodes of {action.pool} at once, {at_once} allowed"
    past = [
        e for e in request.others(index.by_target.get(target(action), ())) if request.since(e.admission.at) < limits.window_s
    ]
    shrunk = [one for one in (given_back(e.admission.decision.action) for e in past) if one is not None]
    gone = {name for one in (*shrunk, action) for name in one.remove}
    allowed = max(1, int(limits.idle_nodes_ratio * len(there | gone)))
    if len(gone) > allowed:
        return (
            Deny.BUDGET_SPENT,
            f"{len(gone)} nodes of {action.pool} given back within {limits.window_s:.0f} s, {allowed} allowed",
        )
    return None


def seldom_evicted(request: Request) -> Refusal:
    """A job is not evicted again and again."""
    hurt = blast(request.action, request.snapshot.cluster).jobs
    for job in (job for job in request.snapshot.cluster.jobs if job.id in hurt) if hurt else ():
        times = sum(request.since(at) < DAY_S for at in job.evictions)
        if times >= request.limits.evictions_per_day:
            return Deny.BUDGET_SPENT, f"{job.id} was evicted {times} times within a day"
    return None
