"""Gates on what is asked: by whom, of what, on which evidence. Each gives None, or the named reason to refuse.

What is counted over time (cooldowns, budgets, the breaker) is in `budgets.py`.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace

from aiops.action import (
    Action,
    Cordon,
    Deny,
    Drain,
    HoldCapacity,
    LimitBandwidth,
    Migrate,
    Mode,
    OrderKind,
    Preempt,
    ReleaseBandwidth,
    ReserveBandwidth,
    Rollback,
    RolloutStep,
    ScalePool,
    ScaleService,
    SetPowerLimit,
    Uncordon,
    target,
)
from aiops.decide.blast import blast, emptied, given_back, slowed, victims
from aiops.decide.holds import book
from aiops.decide.limits import LONGEST_S
from aiops.decide.request import Refusal, Request, mode_of, plan_hash
from aiops.decide.reserve import LIVE, capacity, excess
from aiops.model import Cluster, JobState


def killed(request: Request) -> Refusal:
    """The kill switch outranks everything, whatever its order names."""
    hit = any(order.kind is OrderKind.KILL for order in request.snapshot.orders)
    return (Deny.KILL_SWITCH, "an operator stopped all effects") if hit else None


def paused(request: Request) -> Refusal:
    """An operator paused everything, this policy or this target."""
    return (Deny.PAUSED, "paused by an operator") if request.ordered(OrderKind.PAUSE) else None


def supported(request: Request) -> Refusal:
    """The backend carries it out, or it is refused by name; never approximated."""
    inner = request.action.action if isinstance(request.action, Rollback) else request.action
    missing = {request.action.kind, inner.kind} - set(request.snapshot.supports)
    return (Deny.UNSUPPORTED, f"this backend has no {', '.join(sorted(missing))}") if missing else None


def sound(request: Request) -> Refusal:
    """No NaN or infinity in an action, and a deadline by which it will have been judged."""
    action = request.action.action if isinstance(request.action, Rollback) else request.action
    numbers = [getattr(action, f.name) for f in fields(action)]
    if not all(math.isfinite(n) and n >= 0 for n in numbers if isinstance(n, int | float)):
        return Deny.INVALID, "a number in the action is negative, infinite or not a number"
    bounded = 0 < request.decision.within_s <= LONGEST_S
    return None if bounded else (Deny.INVALID, f"no verdict is possible within {request.decision.within_s:g} s")


def known(request: Request) -> Refusal:
    """Empty means nothing: the target exists in this very snapshot, under this identity, and is what it was."""
    action = request.action.action if isinstance(request.action, Rollback) else request.action
    missing = _missing(action, request.snapshot.cluster, request)
    return (Deny.EMPTY_TARGET, missing) if missing else None


def _missing(action: Action, cluster: Cluster, request: Request) -> str:
    match action:
        case ScaleService() | RolloutStep():
            found = any(s.name == action.service and s.uid == action.uid for s in cluster.services)
            return "" if found else f"no service {action.service!r} with that identity"
        case ScalePool():
            return _missing_nodes(action, cluster)
        case Cordon() | Uncordon() | Drain():
            node = request.node()
            return "" if node and node.uid == action.uid else f"no node {action.node!r} with that identity"
        case SetPowerLimit():
            found = any(gpu.uuid == action.gpu for n in cluster.nodes if n.name == action.node for gpu in n.gpus)
            return "" if found else f"no GPU {action.gpu!r} on node {action.node!r}"
        case ReserveBandwidth() | ReleaseBandwidth() | LimitBandwidth():
            return "" if any(link.name == action.link for link in cluster.links) else f"no link {action.link!r}"
        case _ if hasattr(action, "run_id"):
            return _missing_run(action, request)
        case _:
            return "" if target(action).partition("/")[2] else "the action names nothing"


def _missing_nodes(action: ScalePool, cluster: Cluster) -> str:
    if not any(p.name == action.pool for p in cluster.pools):
        return f"no pool {action.pool!r}"
    members = {n.name for n in cluster.nodes if n.pool == action.pool}
    named = set(action.remove)
    if action.nodes < action.was and (len(named) != action.was - action.nodes or named - members):
        return "a shrinking pool must name exactly the nodes of its own that go"
    return ""


def _missing_run(action: Action, request: Request) -> str:
    job = request.job()
    if job is None or job.run_id != getattr(action, "run_id", None):
        return "that run is not there"
    if isinstance(action, Preempt | Migrate):
        moved = not action.on_nodes or set(action.on_nodes) != set(job.nodes)
        return "that run is not on those nodes" if moved else "" if job.state is JobState.RUNNING else "that run does not run"
    return ""


def in_scope(request: Request) -> Refusal:
    """The policy may touch this target at all."""
    inside = request.limits.covers(request.decision.policy, target(request.action))
    return None if inside else (Deny.NO_AUTHORITY, f"{target(request.action)} is outside the scope of this policy")


def bounded(request: Request) -> Refusal:
    """Never below a floor or above a ceiling."""
    action, cluster = request.action, request.snapshot.cluster
    action = action.action if isinstance(action, Rollback) else action
    match action:
        case ScaleService():
            service = next(s for s in cluster.services if s.name == action.service)
            low, high, value = service.min_replicas, service.max_replicas, action.replicas
        case ScalePool():
            pool = next(p for p in cluster.pools if p.name == action.pool)
            # a pool whose bound was lowered comes down a few nodes at a time
            low, high, value = pool.min_nodes, max(pool.max_nodes, pool.nodes - 1), action.nodes
        case _:
            return None
    return None if low <= value <= high else (Deny.OUT_OF_BOUNDS, f"{value} is not in {low}..{high}")


def unprotected(request: Request) -> Refusal:
    """Protected objects never lose anything, nor does what runs on a node that would be emptied."""
    if not request.destructive:
        return None
    cluster, action, names = request.snapshot.cluster, request.action, set(request.limits.protected)
    hurt = victims(action, cluster)
    touched = emptied(action) | slowed(action, cluster) | {target(action).partition("/")[2]}
    touched |= {name for job in hurt for name in (job.id, job.name, job.tenant, *job.nodes) if name}
    hit = (names | request.index.protected) & touched
    return (Deny.PROTECTED, f"{', '.join(sorted(hit))} is protected") if hit else None


def vacant(request: Request) -> Refusal:
    """A pool gives back only nodes that are seen to carry nothing and that nobody was promised: it is no way to stop work."""
    action, index = given_back(request.action), request.index
    if action is None:
        return None
    replicas = (
        s for s in index.snapshot.cluster.services if s.pool == action.pool and max(s.replicas, s.ready) and not s.nodes
    )
    hidden = [*sorted(s.name for s in replicas), *index.unseen]
    if hidden:
        return Deny.CONFLICT, f"where {hidden[0]} runs is not told: no node of {action.pool} is seen to be idle"
    held = {name for one in request.ledger if one.state in LIVE for name in one.nodes}
    taken = sorted(set(action.remove) & (index.busy | held))
    if taken:
        return Deny.CONFLICT, f"{', '.join(taken)} carries work, or was promised"
    cluster = index.snapshot.cluster
    left = replace(cluster, nodes=tuple(node for node in cluster.nodes if node.name not in action.remove))
    over, before = (excess(request.ledger, capacity(one), index.snapshot.now) for one in (left, cluster))
    return (Deny.NO_CAPACITY, f"without {', '.join(action.remove)}: {over}") if over and not before else None


def fresh(request: Request) -> Refusal:
    """Nothing destructive on stale inputs or on an old picture of the cluster."""
    snapshot, at = request.snapshot, request.decision.inputs_at
    if not request.destructive:
        return None
    for what, then in (("oldest input", at), ("picture of the cluster", snapshot.cluster.at)):
        if then is not None and not 0 <= snapshot.now - then <= request.limits.max_input_age_s:
            return Deny.STALE_INPUT, f"the {what} is {snapshot.now - then:.0f} s old"
    return None


def steady_clock(request: Request) -> Refusal:
    """A stepped wall clock makes ages meaningless: nothing destructive until the step is out of the window."""
    step = request.snapshot.wall_step_s
    steady = abs(step) <= request.limits.max_wall_step_s
    return None if steady or not request.destructive else (Deny.CLOCK_STEPPED, f"the wall clock moved by {step:.0f} s")


def proven(request: Request) -> Refusal:
    """No preemption or move without a complete checkpoint by this run, verified by a fresh read."""
    action, limits, now = request.action, request.limits, request.snapshot.now
    if not isinstance(action, Preempt | Migrate):
        return None
    job = request.job()
    proof = job.checkpoint if job else None
    if proof is None or not proof.verified or proof.run_id != action.run_id or proof.id != action.checkpoint:
        return Deny.NO_CHECKPOINT, "no verified checkpoint of this run"
    if not 0 <= now - proof.read_at <= limits.proof_age_s or not 0 <= now - proof.at <= limits.checkpoint_age_s:
        return Deny.NO_CHECKPOINT, f"the proof is {now - proof.read_at:.0f} s old, the checkpoint {now - proof.at:.0f} s"
    return None


def approved(request: Request) -> Refusal:
    """Big actions need distinct people who approved exactly this plan."""
    limits, damage = request.limits, blast(request.action, request.snapshot.cluster)
    if damage.gpus + damage.idle_gpus < limits.approve_gpus and len(damage.tenants) < max(2, limits.tenants):
        return None
    plan = plan_hash(request.action)
    people = {o.by for o in request.snapshot.orders if o.kind is OrderKind.APPROVE and o.target == plan}
    enough = len(people) >= limits.approvers
    return None if enough else (Deny.NEEDS_APPROVAL, f"{len(people)} of {limits.approvers} approved plan {plan}")


def owned(request: Request) -> Refusal:
    """A hold has an owner, a term and something that it holds."""
    action = request.action
    if not isinstance(action, HoldCapacity):
        return None
    held = action.gpus > 0 or action.cpu_cores > 0 or any(action.bandwidth_bytes_per_s.values())
    return None if action.owner and action.ttl_s > 0 and held else (Deny.INVALID, "a hold needs owner, term and contents")


def room_left(request: Request) -> Refusal:
    """What is promised fits into what there is, and a hold is moved under its own fence only (I21)."""
    if request.resends:  # booked when it was first admitted
        return None
    bound = getattr(request.action, "bind_to", "")
    if bound and not any(one.name == bound and one.state in LIVE for one in request.ledger):
        return Deny.NO_CAPACITY, f"hold {bound} that the freed capacity belongs to was not granted"
    done = book(request.ledger, request.action, request.snapshot, request.limits)
    return None if done.denied is None else (done.denied, done.detail)


def allowed_to_act(request: Request) -> Refusal:
    """The mode, last of all: an observing policy went through every other gate."""
    match mode_of(request):
        case Mode.ACT:
            return None
        case Mode.ADVISE:
            return Deny.ADVISE_ONLY, "this policy advises"
        case Mode.OBSERVE:
            return Deny.OBSERVE_ONLY, "this policy observes"
