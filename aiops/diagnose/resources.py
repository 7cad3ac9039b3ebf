"""What a resource shows when it is the cause: storage, network, memory, CPUs, GPUs, and the neighbour who uses it up.

Each rule asks declared parts for evidence that must be there, and answers with a `Claim` or None. `verdicts` decides which
resource to ask, by where a step's seconds went. Knows nothing of ranks and splits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from aiops.diagnose.facts import Facts
from aiops.diagnose.meaning import Role
from aiops.metrics import Bad
from aiops.model import Cause, Evidence

PRESSED, SATURATED = 0.1, 0.85
"""Pressure (share of time with a task waiting) and busy share from which tasks get in each other's way."""
MOSTLY = 0.5
"""Share of a rank's extra computing that is waiting for a CPU, from which that is what it is."""
NETWORK = (Role.NET_CONGESTION, Role.NET_ERROR, Role.NET_LATENCY)
"""What shows a part of the network in trouble."""
HEALTHY_Z = 2.0
"""Scales below which a latency is as usual: a normal one lies beyond in one case of forty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A typed cause on a subject. `row` is its most telling row (-1: none), `weight` the share of the SLI's shift explained.

    `on` is the part that a neighbour and its victim share.
    """

    cause: Cause
    subject: str
    row: int = -1
    weight: float = 0.0
    evidence_for: tuple[Evidence, ...] = ()
    evidence_against: tuple[Evidence, ...] = ()
    counterfactual: Mapping[str, float] = field(default_factory=dict)
    neighbour: str | None = None
    on: str = ""


def slow_storage(facts: Facts, scope: frozenset[str]) -> list[int]:
    """Rows that show storage in trouble: its latency up, or its queue (else busy share) up where no latency says otherwise.

    By Little's law a queue grows with the demand too: fewer or equally fast operations forbid to blame the storage.
    """
    well = {
        facts.entity(row)
        for row in facts.rows(Role.DISK_LATENCY, scope)
        if facts.rich.meanings[row].worse is Bad.UP and np.isfinite(facts.rise(row)) and facts.z(row) < HEALTHY_Z
    }
    rest = scope - well
    return hurting(facts, (Role.DISK_LATENCY, Role.DISK_QUEUE), rest) or hurting(facts, (Role.DISK_BUSY,), rest)


def storage_claim(
    facts: Facts, storage: list[int], weight: float, proof: tuple[Evidence, ...], against: tuple[Evidence, ...]
) -> Claim:
    """A neighbour where another tenant's use rose first and enough to matter, else the storage itself."""
    subject = facts.entity(storage[0])
    neighbour = neighbour_on(facts, subject, facts.since(storage[0]), (Role.DISK_RATE, Role.NET_RATE))
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
        on=subject,
    )


def neighbour_on(facts: Facts, resource: str, since: float, roles: tuple[Role, ...]) -> int | None:
    """The tenant's row that rose most on a resource, not after the resource suffered; None where none rose by a half."""
    victim = facts.entity(facts.sli).partition(":")[2] if facts.sli is not None else ""
    tenants = [
        name
        for name in facts.graph.causes.get(resource, ())
        if facts.graph.type(name) in ("tenant", "job") and name.partition(":")[2] != (victim or None)
    ]
    rows = [row for role in (*roles, Role.PRESENCE) for row in facts.rows(role, tenants)]
    guard = 2 * facts.rich.panel.step_s
    risen = [row for row in rows if facts.rose(row, 0.5) and facts.since(row) <= since + guard]
    return max(risen, key=facts.rise) if risen else None


def memory_claim(facts: Facts, scope: frozenset[str], weight: float) -> Claim | None:
    """Memory pressure: tasks stall for memory, or faults and swapping are up with little memory left."""
    pressed = hurting(facts, (Role.MEM_PRESSURE,), scope)
    for row in pressed:
        host = facts.entity(row)
        scarce = [r for r in facts.rows(Role.MEM_FREE, {host}) if facts.fell(r, 0.3)]
        stalled = "pressure" in facts.rich.panel.metrics[row] and facts.shifts.level[row] >= PRESSED  # proof by itself
        if stalled or scarce or not facts.rows(Role.MEM_FREE, {host}):
            proof = tuple(map(facts.evidence, (row, *scarce[:1])))
            claim = Claim(cause=Cause.MEMORY_PRESSURE, subject=host, row=row, weight=weight, evidence_for=proof)
            return crowded(facts, claim, (Role.MEM_USED, Role.CPU_BUSY))
    return None


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
    """A host whose CPUs are fought over: the job's own threads say so, else pressure (or load) up and hardly any idle time."""
    rows = [*starved(facts, scope), *fought_over(facts, scope)]
    if not rows:
        return None
    proof = tuple(facts.evidence(row) for row in rows[:3])
    hosts = sorted(name for name in facts.graph.upstream(facts.entity(rows[0])) if facts.graph.type(name) == "host")
    subject = hosts[0] if hosts else facts.entity(rows[0])
    claim = Claim(cause=Cause.CPU_CONTENTION, subject=subject, row=rows[0], weight=weight, evidence_for=proof)
    return crowded(facts, claim, (Role.CPU_BUSY,))


def starved(facts: Facts, scope: frozenset[str]) -> list[int]:
    """Rows of ranks whose threads wait for a CPU for most of what their computing grew by, longest first.

    Seconds of the victim itself: they grow where the host's pressure, a share of time, has long been as high as it can be.
    """
    kept = []
    for row in facts.rows(Role.CPU_WAIT, scope):
        grown = [facts.rise(other) for other in facts.rows(Role.COMPUTE, {facts.entity(row)})]
        if facts.hurts(row) and any(facts.rise(row) >= MOSTLY * seconds > 0 for seconds in grown):
            kept.append(row)
    return sorted(kept, key=lambda row: -facts.rise(row))


def crowded(facts: Facts, claim: Claim, roles: tuple[Role, ...]) -> Claim:
    """The claim on a host, with the name of the neighbour that came or rose there first, where there is one."""
    neighbour = neighbour_on(facts, claim.subject, facts.since(claim.row), roles)
    if neighbour is None:
        return claim
    who = facts.entity(neighbour)
    told = facts.evidence(neighbour, f"{who} uses {claim.subject} more than usual")
    return replace(claim, neighbour=who, evidence_for=(*claim.evidence_for, told))


def fought_over(facts: Facts, scope: frozenset[str]) -> list[int]:
    """Rows that show CPUs fought over: pressure a tenth of the time, busy nearly always, or (else) half as much again.

    What a tenant uses is its use, and no fight.
    """
    hosts = frozenset(name for name in scope if facts.graph.type(name) != "tenant")
    rows = hurting(facts, (Role.CPU_PRESSURE, Role.CPU_BUSY), hosts)
    kept = []
    for row in rows:
        level, metric = float(facts.shifts.level[row]), facts.rich.panel.metrics[row]
        pressed = facts.rich.meanings[row].role is Role.CPU_PRESSURE and level >= PRESSED
        busy = level >= SATURATED if "ratio" in metric else facts.ratio(row) >= 0.5
        if pressed or (busy and facts.rich.meanings[row].role is Role.CPU_BUSY):
            kept.append(row)
    return kept


def net_claim(facts: Facts, weight: float) -> Claim | None:
    """All ranks wait longer for each other and none computes longer: the network, at its worst declared part."""
    rows = hurting(facts, NETWORK, facts.scope)
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
    neighbour = neighbour_on(facts, subject, facts.since(shared[0]), (Role.NET_RATE,))
    if neighbour is not None:
        who = facts.entity(neighbour)
        told = (*proof, facts.evidence(neighbour, f"{who} uses {subject} more than usual"))
        blamed = Claim(cause=Cause.NOISY_NEIGHBOUR, subject=who, row=neighbour, weight=weight, evidence_for=told, neighbour=who)
        return replace(blamed, on=subject)
    return Claim(cause=Cause.NET_CONTENTION, subject=subject, row=shared[0], weight=weight, evidence_for=proof)


def hurting(facts: Facts, roles: Iterable[Role], scope: frozenset[str]) -> list[int]:
    """Rows of the roles that hurt for sure, highest score first."""
    rows = [row for role in roles for row in facts.rows(role, scope) if facts.hurts(row)]
    return sorted(rows, key=lambda row: (-float(facts.shifts.score[row]), row))
