"""Typed verdicts on a training job: where a step's extra seconds went, and which declared resource explains them.

The step is split by arithmetic (step = compute + data wait + comm wait + checkpoint); each share is then traced to evidence
that must be there and evidence that must not. A rule returns a `Claim` or nothing; abstaining is legal. Knows no file format.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from aiops.diagnose.facts import Facts
from aiops.diagnose.meaning import Role
from aiops.model import Cause, Evidence

MATTERS = 0.3
"""Least share of the extra step time that a cause must explain to be named: two causes at once leave each at least this."""
ALIKE = 0.5
"""Ranks whose rise is at least this share of the largest are slow together: the rest of the spread is measurement."""
MOST = 4
"""Ranks named at most: more slow ones without a common reason are one unknown reason."""
WHOLE = 0.75
"""Share of the ranks from which a rise is one of the whole job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A typed cause on a subject. `row` is its most telling row (-1: none), `weight` the share of the SLI's shift explained."""

    cause: Cause
    subject: str
    row: int = -1
    weight: float = 0.0
    evidence_for: tuple[Evidence, ...] = ()
    evidence_against: tuple[Evidence, ...] = ()
    counterfactual: Mapping[str, float] = field(default_factory=dict)
    neighbour: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One job's step: row of its step time, its extra seconds, and per-rank rises (s per step) by row."""

    step: int
    extra_s: float
    data: Mapping[int, float]
    comm: Mapping[int, float]
    compute: Mapping[int, float]


def split_of(facts: Facts) -> Split | None:
    """The split of the job that the SLI belongs to, where its step time rose and anything of the split is measured."""
    steps = facts.rows(Role.STEP)
    step = facts.sli if facts.sli in steps else next(iter(steps), None)
    if step is None or not facts.rose(step):
        return None
    data, comm, compute = (_rises(facts, role) for role in (Role.DATA_WAIT, Role.COMM_WAIT, Role.COMPUTE))
    if not (data or comm or compute):
        return None
    return Split(step=step, extra_s=facts.rise(step), data=data, comm=comm, compute=compute)


def _rises(facts: Facts, role: Role) -> dict[int, float]:
    """Rise per rank; rows of jobs, stages and collectives are sums over ranks and are left out where ranks report."""
    rows = [row for row in facts.rows(role) if np.isfinite(facts.rise(row))]
    ranks = [row for row in rows if facts.graph.type(facts.entity(row)) not in ("job", "stage", "collective")]
    return {row: facts.rise(row) for row in (ranks or rows)}


def job_claims(facts: Facts, split: Split) -> tuple[Claim, ...]:
    """Causes of a slower step, most seconds first. Empty where the evidence names none."""
    need = MATTERS * split.extra_s
    data = {row: s for row, s in split.data.items() if s >= need}
    compute = {row: s for row, s in split.compute.items() if s >= need}
    least_wait = min(split.comm.values(), default=0.0)
    claims: list[Claim | None] = []
    if data:
        claims.append(_data_claim(facts, split, data))
    if compute:
        claims += _compute_claims(facts, split)
    if least_wait >= need and not any(s >= ALIKE * least_wait for s in (*data.values(), *compute.values())):
        claims.append(net_claim(facts, least_wait / split.extra_s))
    found = [_priced(facts, split, claim) for claim in claims if claim is not None]
    return tuple(sorted(found, key=lambda claim: -claim.weight))


def _priced(facts: Facts, split: Split, claim: Claim) -> Claim:
    """The claim with its counterfactual: the step without the seconds that it explains."""
    now = float(facts.shifts.level[split.step])
    told = {"step_s": now - min(claim.weight, 1.0) * split.extra_s, "step_now_s": now}
    return Claim(
        cause=claim.cause,
        subject=claim.subject,
        row=claim.row,
        weight=claim.weight,
        evidence_for=(facts.evidence(split.step), *claim.evidence_for),
        evidence_against=claim.evidence_against,
        counterfactual=told,
        neighbour=claim.neighbour,
    )


# -- waiting for data --------------------------------------------------------------------------------------------------


def _data_claim(facts: Facts, split: Split, data: Mapping[int, float]) -> Claim:
    """Storage, its neighbour, memory or the host's CPUs: whatever the waiting loaders depend on and is itself in trouble."""
    worst = max(data, key=lambda row: data[row])
    weight = data[worst] / split.extra_s
    around = frozenset().union(*(facts.graph.upstream(facts.entity(row)) for row in data))
    scope = around if facts.graph.causes else facts.scope
    proof = (facts.evidence(worst), *(facts.evidence(row) for row in _hurt(facts, (Role.LOADER_QUEUE,), scope)[:1]))
    memory = memory_claim(facts, scope, weight)
    if memory is not None:
        return memory
    storage = _hurt(facts, (Role.DISK_LATENCY, Role.DISK_QUEUE), scope)
    cpu = _hurt(facts, (Role.CPU_PRESSURE, Role.CPU_BUSY), scope)
    if storage:
        against = tuple(facts.evidence(row) for row in cpu[:1])
        return _storage_claim(facts, storage, weight, (*proof, *map(facts.evidence, storage[:2])), against)
    healthy = [row for row in facts.rows(Role.DISK_LATENCY, scope) if not facts.hurts(row)]
    subject = facts.entity(cpu[0]) if cpu else facts.entity(worst)
    support = (*proof, *map(facts.evidence, cpu[:2]), *(facts.evidence(row, "storage is as usual") for row in healthy[:1]))
    return Claim(cause=Cause.PREP_STALL, subject=subject, row=cpu[0] if cpu else worst, weight=weight, evidence_for=support)


def _storage_claim(
    facts: Facts, storage: list[int], weight: float, proof: tuple[Evidence, ...], against: tuple[Evidence, ...]
) -> Claim:
    """A neighbour where another tenant's use rose first and enough to matter, else the storage itself."""
    subject = facts.entity(storage[0])
    neighbour = _neighbour(facts, subject, facts.since(storage[0]), (Role.DISK_RATE, Role.NET_RATE))
    if neighbour is None:
        return Claim(
            cause=Cause.IO_STALL, subject=subject, row=storage[0], weight=weight, evidence_for=proof, evidence_against=against
        )
    who = facts.entity(neighbour)
    return Claim(
        cause=Cause.NOISY_NEIGHBOUR,
        subject=who,
        row=neighbour,
        weight=weight,
        evidence_for=(*proof, facts.evidence(neighbour, f"{who} uses {subject} more than usual")),
        evidence_against=against,
        neighbour=who,
    )


def _neighbour(facts: Facts, resource: str, since: float, roles: tuple[Role, ...]) -> int | None:
    """The tenant's row that rose most on a resource, not after the resource suffered; None where none rose by a half."""
    tenants = [e for e in facts.graph.causes.get(resource, ()) if facts.graph.type(e) in ("tenant", "job")]
    rows = [row for role in roles for row in facts.rows(role, tenants)]
    guard = 2 * facts.rich.panel.step_s
    risen = [row for row in rows if facts.rose(row, 0.5) and facts.since(row) <= since + guard]
    return max(risen, key=facts.rise) if risen else None


def memory_claim(facts: Facts, scope: frozenset[str], weight: float) -> Claim | None:
    """Memory pressure: stalls, major faults or swapping up, with little memory left."""
    pressed = _hurt(facts, (Role.MEM_PRESSURE,), scope)
    for row in pressed:
        host = facts.entity(row)
        scarce = [r for r in facts.rows(Role.MEM_FREE, {host}) if facts.fell(r, 0.3)]
        if scarce or not facts.rows(Role.MEM_FREE, {host}):
            proof = tuple(map(facts.evidence, (row, *scarce[:1])))
            return Claim(cause=Cause.MEMORY_PRESSURE, subject=host, row=row, weight=weight, evidence_for=proof)
    return None


# -- computing ---------------------------------------------------------------------------------------------------------


def _compute_claims(facts: Facts, split: Split) -> list[Claim | None]:
    """Greedy cover of the computing time: what all ranks share, then what a stage shares, then what is left on ranks."""
    need = MATTERS * split.extra_s
    left = dict(split.compute)
    claims: list[Claim | None] = []
    shared = float(np.quantile(list(left.values()), 1 - WHOLE)) if len(left) > 1 else 0.0
    if shared >= need:
        claims.append(_whole_claim(facts, left, float(np.median(list(left.values()))) / split.extra_s))
        left = _peeled(left, left)
    for row in facts.rows(Role.COMPUTE):
        ranks = [r for r in left if facts.graph.type(facts.entity(row)) == "stage" and _within(facts, r, row)]
        if ranks and min(left[r] for r in ranks) >= need and len(ranks) < len(left):
            claims.append(_stage_claim(facts, row, min(left[r] for r in ranks) / split.extra_s))
            left = _peeled(left, ranks)
    slow = {row: s for row, s in left.items() if s >= need and s >= ALIKE * max(left.values())}
    hosts = _shared_host(facts, slow, max(slow.values()) / split.extra_s) if slow else None
    return [*claims, *([hosts] if hosts else [_rank_claim(facts, row, s / split.extra_s) for row, s in slow.items()][:MOST])]


def _within(facts: Facts, rank: int, group: int) -> bool:
    return facts.entity(rank) in facts.graph.upstream(facts.entity(group))


def _peeled(left: Mapping[int, float], members: Iterable[int]) -> dict[int, float]:
    """What remains of the rises once the members' common part is explained."""
    rows = list(members)
    common = float(np.median([left[row] for row in rows]))
    return {row: rise - common if row in rows else rise for row, rise in left.items()}


def _whole_claim(facts: Facts, slow: Mapping[int, float], weight: float) -> Claim | None:
    """All ranks compute longer: more work per step, else something that they share."""
    worst = max(slow, key=lambda row: slow[row])
    more = [row for row in facts.rows(Role.SAMPLES) if facts.rose(row, 0.1)]
    if more:
        jobs = [row for row in more if facts.graph.type(facts.entity(row)) == "job"]
        row = (jobs or more)[0]
        job = facts.entity(facts.rows(Role.STEP)[0]) if facts.rows(Role.STEP) else facts.entity(row)
        proof = (facts.evidence(worst), facts.evidence(row, f"work per step of {facts.entity(row)}"))
        return Claim(cause=Cause.LOAD_CHANGE, subject=job, row=row, weight=weight, evidence_for=proof)
    shared = gpu_reason(facts, facts.scope, worst, weight) or memory_claim(facts, facts.scope, weight)
    return shared or cpu_claim(facts, facts.scope, weight)


def _stage_claim(facts: Facts, row: int, weight: float) -> Claim:
    """A pipeline stage all of whose ranks compute longer while the others' do not."""
    others = [r for r in facts.rows(Role.COMPUTE) if facts.graph.type(facts.entity(r)) == "stage" and r != row]
    proof = (facts.evidence(row), *(facts.evidence(r) for r in others[:1]))
    return Claim(cause=Cause.STAGE_IMBALANCE, subject=facts.entity(row), row=row, weight=weight, evidence_for=proof)


def _shared_host(facts: Facts, slow: Mapping[int, float], weight: float) -> Claim | None:
    """Slow ranks that share a host in trouble."""
    shared = frozenset.intersection(*(facts.graph.upstream(facts.entity(row)) for row in slow))
    return memory_claim(facts, shared, weight) or (cpu_claim(facts, shared, weight) if len(slow) > 1 else None)


def _rank_claim(facts: Facts, row: int, weight: float) -> Claim:
    """One slow rank: its GPU, its share of the data, its host, else a straggler without a known reason."""
    entity = facts.entity(row)
    around = facts.graph.upstream(entity)
    reason = gpu_reason(facts, around, row, weight)
    if reason is not None:
        return reason
    more = [r for r in facts.rows(Role.SAMPLES, around) if facts.rose(r, 0.1)]
    if more and not all(facts.rose(r, 0.1) for r in facts.rows(Role.SAMPLES)):
        proof = (facts.evidence(row), facts.evidence(more[0], f"work per step of {facts.entity(more[0])}"))
        return Claim(cause=Cause.DATA_IMBALANCE, subject=facts.entity(more[0]), row=more[0], weight=weight, evidence_for=proof)
    host = memory_claim(facts, around, weight) or cpu_claim(facts, around, weight)
    if host is not None:
        return host
    waits = {r: facts.rise(r) for r in facts.rows(Role.COMM_WAIT) if facts.graph.type(facts.entity(r)) != "collective"}
    least = min(waits, key=lambda r: waits[r]) if waits else None
    waiting = [facts.evidence(least, f"{entity} waits least for the others")] if least is not None else []
    told = (facts.evidence(row), *waiting)
    return Claim(cause=Cause.STRAGGLER, subject=entity, row=row, weight=weight, evidence_for=told)


def gpu_reason(facts: Facts, around: frozenset[str], slow: int, weight: float) -> Claim | None:
    """Errors, heat or a power cap on a GPU: the bits decide, clocks and temperatures support."""
    errors = [
        row for row in facts.rows(Role.GPU_ERROR, around) if facts.shifts.worse[row] > 0 and facts.shifts.score[row] >= 2.0
    ]
    clocks = [row for row in facts.rows(Role.GPU_CLOCK, around) if facts.fell(row)]
    hot = [row for row in facts.rows(Role.GPU_TEMP, around) if facts.rose(row)]
    thermal = [row for row in facts.rows(Role.THERMAL, around) if facts.rose(row)] or (hot if clocks and hot else [])
    capped = [row for row in facts.rows(Role.POWER_CAP, around) if facts.rose(row)]
    capped = capped or [row for row in facts.rows(Role.POWER_LIMIT, around) if facts.fell(row) and clocks]
    choices = ((Cause.THERMAL_THROTTLE, thermal, hot), (Cause.POWER_CAP, capped, ()), (Cause.GPU_FAULT, errors, ()))
    for cause, rows, more in choices:
        if rows:
            row = max(rows, key=lambda r: float(facts.shifts.score[r]))
            proof = tuple(map(facts.evidence, dict.fromkeys((slow, row, *more[:1], *clocks[:1]))))
            return Claim(cause=cause, subject=facts.entity(row), row=row, weight=weight, evidence_for=proof)
    return None


def cpu_claim(facts: Facts, scope: frozenset[str], weight: float) -> Claim | None:
    """A host whose CPUs are fought over: pressure (or load) up and hardly any idle time."""
    rows = _hurt(facts, (Role.CPU_PRESSURE, Role.CPU_BUSY), scope)
    if not rows:
        return None
    proof = tuple(facts.evidence(row) for row in rows[:2])
    return Claim(cause=Cause.CPU_CONTENTION, subject=facts.entity(rows[0]), row=rows[0], weight=weight, evidence_for=proof)


# -- waiting for others ------------------------------------------------------------------------------------------------


def net_claim(facts: Facts, weight: float) -> Claim | None:
    """All ranks wait longer for each other and none computes longer: the network, at its worst declared part."""
    rows = _hurt(facts, (Role.NET_CONGESTION, Role.NET_ERROR, Role.NET_LATENCY), facts.scope)
    waits = sorted(facts.rows(Role.COMM_WAIT), key=lambda row: -facts.z(row))
    proof = tuple(facts.evidence(row) for row in (*waits[:1], *rows[:2]))
    if not rows:
        links = [e for e in facts.scope if facts.graph.type(e) in ("collective", "link")]
        subject = sorted(links)[0] if links else (facts.entity(waits[0]) if waits else "")
        row = waits[0] if waits else -1
        return (
            Claim(cause=Cause.NET_CONTENTION, subject=subject, row=row, weight=weight, evidence_for=proof) if subject else None
        )
    shared = [row for row in rows if facts.graph.type(facts.entity(row)) == "link"] or rows
    subject = facts.entity(shared[0])
    neighbour = _neighbour(facts, subject, facts.since(shared[0]), (Role.NET_RATE,))
    if neighbour is not None:
        who = facts.entity(neighbour)
        told = (*proof, facts.evidence(neighbour, f"{who} uses {subject} more than usual"))
        return Claim(cause=Cause.NOISY_NEIGHBOUR, subject=who, row=neighbour, weight=weight, evidence_for=told, neighbour=who)
    return Claim(cause=Cause.NET_CONTENTION, subject=subject, row=shared[0], weight=weight, evidence_for=proof)


def _hurt(facts: Facts, roles: Iterable[Role], scope: frozenset[str]) -> list[int]:
    """Rows of the roles that hurt for sure, highest score first."""
    rows = [row for role in roles for row in facts.rows(role, scope) if facts.hurts(row)]
    return sorted(rows, key=lambda row: (-float(facts.shifts.score[row]), row))
