"""Permission: one visible list of gates, each a named reason to refuse. The first that objects, wins.

What is counted (cooldowns, budgets, the breaker) is computed from the recorded history in the snapshot, so it survives a
restart and a change of leader. A dry run goes through every gate and spends its budget as if it acted; mode comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiops.action import (
    Action,
    Admission,
    Decision,
    Deny,
    Drain,
    Entry,
    EntryState,
    Migrate,
    Mode,
    OrderKind,
    Preempt,
    ScalePool,
    ScaleService,
    destructive,
    target,
)
from aiops.codec import digest
from aiops.decide.limits import Limits
from aiops.model import Job, NodeState
from aiops.snapshot import Snapshot

Refusal = tuple[Deny, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A decision before the gates: the snapshot, the limits, and what was admitted before it in this cycle."""

    decision: Decision
    snapshot: Snapshot
    limits: Limits
    earlier: tuple[Decision, ...] = ()

    @property
    def action(self) -> Action:
        """The action asked for."""
        return self.decision.action

    @property
    def destructive(self) -> bool:
        """Whether it can take running work away."""
        return destructive(self.decision.action)

    def job(self) -> Job | None:
        """The job that the action names, as this snapshot sees it."""
        name = getattr(self.action, "job", None)
        return next((job for job in self.snapshot.cluster.jobs if job.id == name), None)

    def ordered(self, kind: OrderKind) -> bool:
        """Whether an operator's order of this kind holds for everything, this policy or this target."""
        names = ("", "*", self.decision.policy, target(self.action))
        return any(order.kind is kind and order.target in names for order in self.snapshot.orders)


def killed(request: Request) -> Refusal:
    """The kill switch outranks everything."""
    return (Deny.KILL_SWITCH, "an operator stopped all effects") if request.ordered(OrderKind.KILL) else None


def paused(request: Request) -> Refusal:
    """An operator paused this policy or this target."""
    return (Deny.PAUSED, "paused by an operator") if request.ordered(OrderKind.PAUSE) else None


def supported(request: Request) -> Refusal:
    """The backend carries it out, or it is refused by name; never approximated."""
    kind = request.action.kind
    return None if kind in request.snapshot.supports else (Deny.UNSUPPORTED, f"this backend has no {kind}")


def known(request: Request) -> Refusal:
    """Empty means nothing: the target exists in this very snapshot, under this identity."""
    cluster, action = request.snapshot.cluster, request.action
    if isinstance(action, ScaleService):
        found = any(s.name == action.service and s.uid == action.uid for s in cluster.services)
        return None if found else (Deny.EMPTY_TARGET, f"no service {action.service!r} with that identity")
    if isinstance(action, ScalePool):
        found = any(p.name == action.pool for p in cluster.pools)
        return None if found else (Deny.EMPTY_TARGET, f"no pool {action.pool!r}")
    if hasattr(action, "run_id"):
        job = request.job()
        return None if job and job.run_id == action.run_id else (Deny.EMPTY_TARGET, "that run is not there")
    return None if target(action).rpartition("/")[2] else (Deny.EMPTY_TARGET, "the action names nothing")


def bounded(request: Request) -> Refusal:
    """Never below a floor or above a ceiling."""
    action, cluster = request.action, request.snapshot.cluster
    match action:
        case ScaleService():
            service = next(s for s in cluster.services if s.name == action.service)
            low, high, value = service.min_replicas, service.max_replicas, action.replicas
        case ScalePool():
            pool = next(p for p in cluster.pools if p.name == action.pool)
            low, high, value = pool.min_nodes, pool.max_nodes, action.nodes
        case _:
            return None
    return None if low <= value <= high else (Deny.OUT_OF_BOUNDS, f"{value} is not in {low}..{high}")


def unprotected(request: Request) -> Refusal:
    """Protected objects never lose anything."""
    if not request.destructive:
        return None
    cluster, action, names = request.snapshot.cluster, request.action, set(request.limits.protected)
    protected = names | {name for job in cluster.jobs if job.protected for name in (job.id, job.name)}
    protected |= {node.name for node in cluster.nodes if node.protected}
    protected |= {service.name for service in cluster.services if service.protected}
    hit = protected & {target(action).partition("/")[2], *getattr(action, "remove", ())}
    return (Deny.PROTECTED, f"{', '.join(sorted(hit))} is protected") if hit else None


def fresh(request: Request) -> Refusal:
    """Nothing destructive on stale inputs; the cluster itself is always of this cycle."""
    at = request.decision.inputs_at
    if at is None or not request.destructive:
        return None
    age = request.snapshot.now - at
    fresh_enough = 0 <= age <= request.limits.max_input_age_s
    return None if fresh_enough else (Deny.STALE_INPUT, f"the oldest input is {age:.0f} s old")


def steady_clock(request: Request) -> Refusal:
    """A stepped wall clock makes ages meaningless for one cycle."""
    step = request.snapshot.wall_step_s
    steady = abs(step) <= request.limits.max_wall_step_s
    return None if steady or not request.destructive else (Deny.CLOCK_STEPPED, f"the wall clock moved {step:+.0f} s")


def healthy_pool(request: Request) -> Refusal:
    """When much of a pool is unhealthy or gone at once, the picture is what is wrong: stop."""
    if not request.destructive:
        return None
    nodes = request.snapshot.cluster.nodes
    for pool, most in request.snapshot.census.items():
        well = sum(n.pool == pool and n.state is not NodeState.DOWN for n in nodes)
        if most - well > request.limits.unhealthy_ratio * most:
            return Deny.MASS_FAULT, f"{most - well} of {most} nodes of pool {pool} are down or gone"
    return None


def breaker(request: Request) -> Refusal:
    """Latched: after enough failures nothing destructive happens until a person resets it."""
    if not request.destructive:
        return None
    resets = [o.at for o in request.snapshot.orders if o.kind is OrderKind.RESET_BREAKER]
    since = max(resets, default=float("-inf"))
    bad = (EntryState.FAILED, EntryState.ROLLED_BACK, EntryState.NEEDS_HUMAN)
    failures = sum(e.state in bad and e.changed_at > since for e in request.snapshot.history)
    limit = request.limits.breaker_failures
    return (Deny.BREAKER_OPEN, f"{failures} actions failed; a person must reset") if failures >= limit else None


def alone(request: Request) -> Refusal:
    """One action in flight per target, and no two for one target in one cycle."""
    mine = target(request.action)
    if any(
        e.state in (EntryState.INTENT, EntryState.SENT) and target(e.admission.decision.action) == mine
        for e in _entries(request)
    ):
        return Deny.IN_FLIGHT, f"an action on {mine} is not judged yet"
    if any(target(d.action) == mine for d in request.earlier):
        return Deny.CONFLICT, f"another decision of this cycle already changes {mine}"
    return None


def cooled(request: Request) -> Refusal:
    """Leave a target alone for a while after an action, longer before something destructive."""
    mine, now = target(request.action), request.snapshot.now
    wait = request.limits.destructive_cooldown_s if request.destructive else request.limits.cooldown_s
    last = max((e.admission.at for e in _entries(request) if target(e.admission.decision.action) == mine), default=None)
    if last is None or now - last >= wait:
        return None
    return Deny.COOLDOWN, f"{mine} was changed {now - last:.0f} s ago; {wait:.0f} s must pass"


def within_blast_radius(request: Request) -> Refusal:
    """Bounded damage in any window: nodes, jobs and GPUs disrupted, those in flight included."""
    if not request.destructive:
        return None
    limits, snapshot = request.limits, request.snapshot
    recent = [e.admission.decision for e in _entries(request) if snapshot.now - e.admission.at < limits.window_s]
    spent = [d.action for d in (*recent, *request.earlier) if destructive(d.action)] + [request.action]
    nodes = {name for action in spent for name in _nodes(action)}
    allowed = max(1, int(limits.nodes_ratio * len(snapshot.cluster.nodes)))
    if len(nodes) > allowed and _nodes(request.action):
        return Deny.BUDGET_SPENT, f"{len(nodes)} nodes disrupted within {limits.window_s:.0f} s, {allowed} allowed"
    jobs = {action.job for action in spent if isinstance(action, Preempt | Migrate)}
    if len(jobs) > limits.jobs:
        return Deny.BLAST_RADIUS, f"{len(jobs)} jobs disrupted within {limits.window_s:.0f} s, {limits.jobs} allowed"
    gpus = sum(action.gpus for action in spent if isinstance(action, Preempt | Migrate))
    return (Deny.BLAST_RADIUS, f"{gpus} GPUs disrupted, {limits.gpus} allowed") if gpus > limits.gpus else None


def proven(request: Request) -> Refusal:
    """No preemption or move without a checkpoint by this run, verified by a fresh read."""
    action, limits, now = request.action, request.limits, request.snapshot.now
    if not isinstance(action, Preempt | Migrate):
        return None
    job = request.job()
    proof = job.checkpoint if job else None
    if proof is None or not proof.verified or proof.run_id != action.run_id or proof.id != action.checkpoint:
        return Deny.NO_CHECKPOINT, "no verified checkpoint of this run"
    if not 0 <= now - proof.read_at <= limits.proof_age_s or now - proof.at > limits.checkpoint_age_s:
        return Deny.NO_CHECKPOINT, f"the proof is {now - proof.read_at:.0f} s old, the checkpoint {now - proof.at:.0f} s"
    return None


def approved(request: Request) -> Refusal:
    """Big actions need distinct people who approved exactly this plan."""
    gpus = getattr(request.action, "gpus", 0) if request.destructive else 0
    if gpus < request.limits.approve_gpus:
        return None
    plan = digest(request.action)
    people = {o.by for o in request.snapshot.orders if o.kind is OrderKind.APPROVE and o.target == plan}
    enough = len(people) >= request.limits.approvers
    return None if enough else (Deny.NEEDS_APPROVAL, f"{len(people)} of {request.limits.approvers} approved plan {plan[:12]}")


def mode_of(request: Request) -> Mode:
    """How far the policy may go now: its setting, or what an operator ordered; unknown is OBSERVE."""
    ordered = [o for o in request.snapshot.orders if o.kind is OrderKind.SET_MODE and o.target == request.decision.policy]
    if ordered:
        return Mode(ordered[-1].note) if ordered[-1].note in set(Mode) else Mode.OBSERVE
    return request.snapshot.modes.get(request.decision.policy, Mode.OBSERVE)


def allowed_to_act(request: Request) -> Refusal:
    """The mode, last of all: an observing policy went through every other gate."""
    match mode_of(request):
        case Mode.ACT:
            return None
        case Mode.ADVISE:
            return Deny.ADVISE_ONLY, "this policy advises"
        case Mode.OBSERVE:
            return Deny.OBSERVE_ONLY, "this policy observes"


GATES: tuple[Callable[[Request], Refusal], ...] = (
    killed, paused, supported, known, bounded, unprotected, fresh, steady_clock, healthy_pool, breaker, alone, cooled,
    within_blast_radius, proven, approved, allowed_to_act,
)  # fmt: skip


def admit(snapshot: Snapshot, limits: Limits, decisions: Iterable[Decision]) -> tuple[Admission, ...]:
    """One admission per decision, in order; each sees what the ones before it were permitted or would have been."""
    admissions: list[Admission] = []
    spent: list[Decision] = []
    for number, decision in enumerate(decisions):
        request = Request(decision=decision, snapshot=snapshot, limits=limits, earlier=tuple(spent))
        denied, detail = next((found for gate in GATES if (found := gate(request))), (None, ""))
        if denied in (None, Deny.OBSERVE_ONLY, Deny.ADVISE_ONLY):
            spent.append(decision)
        admissions.append(
            Admission(
                id=f"{snapshot.id}-{number}",
                at=snapshot.now,
                decision=decision,
                denied=denied,
                detail=detail,
                mode=mode_of(request),
            )
        )
    return tuple(admissions)


def _entries(request: Request) -> tuple[Entry, ...]:
    return request.snapshot.history


def _nodes(action: Action) -> tuple[str, ...]:
    match action:
        case Drain():
            return (action.node,)
        case ScalePool():
            return action.remove
        case _:
            return ()
