"""Typed verdicts on a training job: where a step's extra seconds went, and which declared resource explains them.

The step is split by arithmetic (step = compute + data wait + comm wait + checkpoint); each share is then traced to evidence
that must be there and evidence that must not. A rule returns a `Claim` or nothing; abstaining is legal. Knows no file format.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from aiops.diagnose.facts import SURE_RATIO, Facts
from aiops.diagnose.meaning import Role
from aiops.diagnose.resources import (
    NETWORK,
    Claim,
    cpu_claim,
    crowded,
    fought_over,
    gpu_reason,
    hurting,
    memory_claim,
    net_claim,
    slow_storage,
    storage_claim,
)
from aiops.diagnose.split import Split, more_work, uneven_work
from aiops.model import Cause, Evidence

MATTERS = 0.3
"""Least share of the extra step time that a cause must explain to be named: two causes at once leave each at least this."""
ALIKE = 0.5
"""Ranks whose rise is at least this share of the largest are slow together: the rest of the spread is measurement."""
MOST = 4
"""Ranks named at most: more slow ones without a common reason are one unknown reason."""
UNHOOKED = 0.5
"""Weight of a claim that rests on a resource in trouble alone, without the seconds that it cost."""
IN_PROPORTION = 1.5
"""How much more than in proportion a step may grow with the work in it: caches and queues get fuller."""
RANKS = ("rank", "gpu")
"""Types of the entities that compute."""
WHOLE = 0.75
"""Share of the ranks from which a rise is one of the whole job."""


def job_claims(facts: Facts, split: Split) -> tuple[Claim, ...]:
    """Causes of a slower step, most seconds first. Empty where the evidence names none."""
    need = MATTERS * split.extra_s
    data = {row: s for row, s in split.data.items() if s >= need}
    compute = {row: s for row, s in split.compute.items() if s >= need}
    claims: list[Claim | None] = []
    if data:
        claims += _data_claims(facts, split, data)
    if compute:
        claims += _compute_claims(facts, split)
    claims += _wait_claims(facts, split, bool(data), bool(compute))
    found = [_priced(facts, split, claim) for claim in claims if claim is not None]
    load = _load_claim(facts, split)
    if load is not None:  # what the owner asked for explains the seconds, whichever part of the step shows them
        return (_priced(facts, split, load), *(claim for claim in found if claim.cause is not Cause.LOAD_CHANGE))
    return tuple(sorted(found, key=lambda claim: -claim.weight))


def _load_claim(facts: Facts, split: Split) -> Claim | None:
    """More work in every step of every rank, and a step not much longer than that asks for."""
    more = more_work(facts)
    if not more or split.extra_s > IN_PROPORTION * facts.ratio(more[0]) * abs(float(facts.shifts.usual[split.step])):
        return None
    jobs = [row for row in more if facts.graph.type(facts.entity(row)) == "job"]
    row = (jobs or more)[0]
    proof = (facts.evidence(row, f"work per step of {facts.entity(row)}"),)
    return Claim(cause=Cause.LOAD_CHANGE, subject=facts.entity(split.step), row=row, weight=1.0, evidence_for=proof)


def _wait_claims(facts: Facts, split: Split, data: bool, compute: bool) -> list[Claim | None]:
    """Waiting for each other: what all ranks share is the network's, the spread is for the rank that waits least."""
    waits = split.comm
    need, least = MATTERS * split.extra_s, min(waits.values(), default=0.0)
    spread = max(waits.values(), default=0.0) - least
    if len(waits) > 1 and not data and not compute and spread >= max(need, least):
        late = min(waits, key=lambda row: waits[row])  # its own computing is not measured, but all wait for it
        return [_rank_claim(facts, late, spread / split.extra_s)]
    own = max((s for s in (*split.data.values(), *split.compute.values()) if s >= need), default=0.0)
    if least >= need and own < ALIKE * least:
        return [net_claim(facts, least / split.extra_s)]
    left = min(least, split.extra_s - own)  # what a slow rank makes the others wait, it does not wait itself
    if left >= need and hurting(facts, NETWORK, facts.scope):
        return [net_claim(facts, left / split.extra_s)]
    return []


def _priced(facts: Facts, split: Split, claim: Claim) -> Claim:
    """The claim with its counterfactual: the step without the seconds that it explains, but no shorter than it used to be."""
    now, usual = float(facts.shifts.level[split.step]), float(facts.shifts.usual[split.step])
    told = {"step_s": max(now - min(claim.weight, 1.0) * split.extra_s, min(usual, now)), "step_now_s": now}
    return replace(claim, evidence_for=(facts.evidence(split.step), *claim.evidence_for), counterfactual=told)


# -- waiting for data --------------------------------------------------------------------------------------------------


def _data_claims(facts: Facts, split: Split, data: Mapping[int, float]) -> list[Claim | None]:
    """Storage, its neighbour, memory or the host's CPUs: whatever the waiting loaders depend on and is itself in trouble.

    Beside memory, which makes everything slow, only a neighbour is named: it rose of its own accord.
    """
    worst = max(data, key=lambda row: data[row])
    weight = data[worst] / split.extra_s
    around = frozenset().union(*(facts.graph.upstream(facts.entity(row)) for row in data))
    scope = around if facts.graph.causes else facts.scope
    proof = (facts.evidence(worst), *(facts.evidence(row) for row in hurting(facts, (Role.LOADER_QUEUE,), scope)[:1]))
    memory = memory_claim(facts, scope, weight)
    storage = slow_storage(facts, scope)
    if storage:
        against = tuple(facts.evidence(row) for row in fought_over(facts, scope)[:1])
        shown = (*proof, *map(facts.evidence, storage[:2]))
        found = storage_claim(facts, storage, weight if memory is None else weight * UNHOOKED, shown, against)
        return [found] if memory is None else [memory, found if found.cause is Cause.NOISY_NEIGHBOUR else None]
    return [memory or _prep_claim(facts, worst, weight, proof, scope)]


def _prep_claim(facts: Facts, worst: int, weight: float, proof: tuple[Evidence, ...], scope: frozenset[str]) -> Claim:
    """Preparing takes the time: storage is as usual, or not measured while the CPUs are idle (then it is the storage)."""
    cpu = fought_over(facts, scope)
    healthy = [row for role in (Role.DISK_LATENCY, Role.DISK_QUEUE) for row in facts.rows(role, scope) if not facts.hurts(row)]
    blind = sorted(entity for entity in scope if facts.graph.type(entity) == "volume")
    if blind and not cpu and not healthy:  # what is not measured is not healthy: storage remains when the CPUs are idle
        return Claim(cause=Cause.IO_STALL, subject=blind[0], row=worst, weight=weight * UNHOOKED, evidence_for=proof)
    subject = facts.entity(cpu[0]) if cpu else facts.entity(worst)
    support = (*proof, *map(facts.evidence, cpu[:2]), *(facts.evidence(row, "storage is as usual") for row in healthy[:1]))
    claim = Claim(cause=Cause.PREP_STALL, subject=subject, row=cpu[0] if cpu else worst, weight=weight, evidence_for=support)
    return crowded(facts, claim, (Role.CPU_BUSY,)) if cpu else claim


# -- computing ---------------------------------------------------------------------------------------------------------


def _compute_claims(facts: Facts, split: Split) -> list[Claim | None]:
    """Greedy cover of the computing time: what all ranks share, then what a stage shares, then what is left on ranks."""
    need = MATTERS * split.extra_s
    left = dict(split.compute)
    claims: list[Claim | None] = []
    shared = 0.0 if _one_of_many(facts, left) else float(np.quantile(list(left.values()), 1 - WHOLE, method="lower"))
    if shared >= need:
        claims.append(_whole_claim(facts, left, float(np.median(list(left.values()))) / split.extra_s))
        left = _peeled(left, left)
    for stage in sorted(entity for entity in facts.scope if facts.graph.type(entity) == "stage"):
        members = facts.graph.upstream(stage)
        ranks = [r for r in left if facts.entity(r) in members]
        if ranks and min(left[r] for r in ranks) >= need and len(ranks) < len(left):
            claims.append(_stage_claim(facts, stage, ranks[0], min(left[r] for r in ranks) / split.extra_s))
            left = _peeled(left, ranks)
    slow = {row: s for row, s in left.items() if s >= need and s >= ALIKE * max(left.values())}
    hosts = _shared_host(facts, slow, max(slow.values()) / split.extra_s) if slow else None
    if hosts is not None:
        return [*claims, hosts]
    for rank, seconds in list(slow.items())[:MOST]:
        claims += _rank_claims(facts, rank, seconds / split.extra_s)
    return claims


def _one_of_many(facts: Facts, compute: Mapping[int, float]) -> bool:
    """True where one rank is measured and the graph knows others; a job's only rank is the whole job and lags behind nobody."""
    kinds = [facts.graph.type(facts.entity(row)) for row in compute]
    return len(kinds) == 1 and sum(facts.graph.type(name) == kinds[0] for name in facts.scope) > 1 and kinds[0] in RANKS


def _peeled(left: Mapping[int, float], members: Iterable[int]) -> dict[int, float]:
    """What remains of the rises once the members' common part is explained."""
    rows = list(members)
    common = float(np.median([left[row] for row in rows]))
    return {row: rise - common if row in rows else rise for row, rise in left.items()}


def _whole_claim(facts: Facts, slow: Mapping[int, float], weight: float) -> Claim | None:
    """All ranks compute longer: more work per step, else something that they share."""
    worst = max(slow, key=lambda row: slow[row])
    more = more_work(facts)
    if more:
        job = facts.entity(facts.rows(Role.STEP)[0]) if facts.rows(Role.STEP) else facts.entity(more[0])
        proof = (facts.evidence(worst), facts.evidence(more[0], f"work per step of {facts.entity(more[0])}"))
        return Claim(cause=Cause.LOAD_CHANGE, subject=job, row=more[0], weight=weight, evidence_for=proof)
    shared = gpu_reason(facts, facts.scope, worst, weight) or memory_claim(facts, facts.scope, weight)
    return shared or cpu_claim(facts, facts.scope, weight)


def _stage_claim(facts: Facts, stage: str, rank: int, weight: float) -> Claim:
    """A pipeline stage all of whose ranks compute longer while the others' do not."""
    row = next(iter(facts.rows(Role.COMPUTE, {stage})), rank)
    others = [r for r in facts.rows(Role.COMPUTE) if facts.graph.type(facts.entity(r)) == "stage" and r != row]
    proof = (facts.evidence(row), *(facts.evidence(r) for r in others[:1]))
    return Claim(cause=Cause.STAGE_IMBALANCE, subject=stage, row=row, weight=weight, evidence_for=proof)


def _shared_host(facts: Facts, slow: Mapping[int, float], weight: float) -> Claim | None:
    """Slow ranks that share a host in trouble."""
    shared = frozenset.intersection(*(facts.graph.upstream(facts.entity(row)) for row in slow))
    return memory_claim(facts, shared, weight) or (cpu_claim(facts, shared, weight) if len(slow) > 1 else None)


def _rank_claims(facts: Facts, row: int, weight: float) -> list[Claim]:
    """One slow rank's cause; where its GPU is one and it has more to do too, each with its part of the seconds."""
    first = _rank_claim(facts, row, weight)
    more = uneven_work(facts, facts.graph.upstream(facts.entity(row)))
    if more is None or first.cause is Cause.DATA_IMBALANCE:
        return [first]
    part = weight * min(facts.ratio(more) * float(facts.shifts.usual[row]) / facts.rise(row), 1.0)  # in proportion to the work
    if part < MATTERS:
        return [first]
    return [replace(first, weight=weight - part), _uneven_claim(facts, row, more, part)]


def _uneven_claim(facts: Facts, row: int, more: int, weight: float) -> Claim:
    """A rank that has more to do per step than the others."""
    loaders = sorted(name for name in facts.graph.upstream(facts.entity(row)) if facts.graph.type(name) == "loader")
    subject = next(iter(loaders), facts.entity(more))
    proof = (facts.evidence(row), facts.evidence(more, f"work per step of {subject}"))
    return Claim(cause=Cause.DATA_IMBALANCE, subject=subject, row=more, weight=weight, evidence_for=proof)


def _rank_claim(facts: Facts, row: int, weight: float) -> Claim:
    """One slow rank: its GPU, its share of the data, its host, else a straggler without a known reason."""
    entity = facts.entity(row)
    around = facts.graph.upstream(entity)
    reason = gpu_reason(facts, around, row, weight)
    if reason is not None:
        return reason
    more = uneven_work(facts, around)
    if more is not None:
        return _uneven_claim(facts, row, more, weight)
    host = memory_claim(facts, around, weight) or cpu_claim(facts, around, weight)
    if host is not None:
        return host
    waits = {r: facts.rise(r) for r in facts.rows(Role.COMM_WAIT) if facts.graph.type(facts.entity(r)) != "collective"}
    waiting = []
    if len(waits) > 1:
        least, most = min(waits, key=lambda r: waits[r]), max(waits, key=lambda r: waits[r])
        waiting = [facts.evidence(most, f"{facts.entity(most)} waits for it")]
        waiting.append(facts.evidence(least, f"{facts.entity(least)} waits least for the others"))
    told = (facts.evidence(row), *waiting)
    return Claim(cause=Cause.STRAGGLER, subject=entity, row=row, weight=weight, evidence_for=told)


def unhooked_claims(facts: Facts) -> tuple[Claim, ...]:
    """Causes of a slower step of which no split is measured: whatever the job depends on and is in trouble. Half as sure."""
    scope = facts.scope
    storage = slow_storage(facts, scope)
    proof = tuple(facts.evidence(row) for row in storage[:2])
    slow = facts.sli if facts.sli is not None else -1
    choices = (
        _late_gpus(facts),
        gpu_reason(facts, scope, slow, UNHOOKED) if slow >= 0 else None,
        memory_claim(facts, scope, UNHOOKED),
        storage_claim(facts, storage, UNHOOKED, proof, ()) if storage else None,
        cpu_claim(facts, scope, UNHOOKED),
        net_claim(facts, UNHOOKED) if hurting(facts, (Role.NET_CONGESTION, Role.NET_ERROR), scope) else None,
    )
    return tuple(claim for claim in choices if claim is not None)


def _late_gpus(facts: Facts) -> Claim | None:
    """GPUs that stay busy while most of the job's others idle: they are what the others wait for."""
    rows = [row for row in facts.rows(Role.SM_ACTIVE) if np.isfinite(facts.ratio(row))]
    idle = [row for row in rows if facts.fell(row, 0.1)]
    busy = [row for row in rows if facts.ratio(row) > -SURE_RATIO]
    if len(rows) < 3 or len(idle) < ALIKE * len(rows) or not 0 < len(busy) <= len(rows) - len(idle):
        return None
    names = {facts.entity(row) for row in busy}
    for stage in sorted(entity for entity in facts.scope if facts.graph.type(entity) == "stage"):
        if names == facts.graph.upstream(stage) & {facts.entity(row) for row in rows}:
            return _stage_claim(facts, stage, busy[0], UNHOOKED)
    return _rank_claim(facts, busy[0], UNHOOKED) if len(busy) == 1 else None
