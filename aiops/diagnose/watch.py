"""What a host says without any job telling how fast it goes: pressure, storage, network, heat and errors, by absolute limits.

Live only. A job's or service's SLI is better evidence; this finds what hurts where nothing reports one. The limits are levels
that operators act on whatever was usual, and a row must also have left its usual range.
"""

from __future__ import annotations

from aiops.diagnose.facts import Facts
from aiops.diagnose.meaning import Role
from aiops.diagnose.resources import Claim, crowded
from aiops.diagnose.sensors import sensor_claims
from aiops.model import Cause

_LIMITS: tuple[tuple[Cause, Role, float, tuple[Role, ...]], ...] = (
    # cause, deciding role, least level (share of time, events per second), supporting roles that name the part
    (Cause.IO_STALL, Role.IO_PRESSURE, 0.2, (Role.DISK_LATENCY, Role.DISK_QUEUE, Role.DISK_BUSY)),
    (Cause.MEMORY_PRESSURE, Role.MEM_PRESSURE, 0.05, (Role.MEM_FREE,)),
    (Cause.CPU_CONTENTION, Role.CPU_PRESSURE, 0.3, (Role.CPU_BUSY,)),
    (Cause.THERMAL_THROTTLE, Role.THERMAL, 0.5, (Role.GPU_TEMP, Role.GPU_CLOCK)),
    (Cause.POWER_CAP, Role.POWER_CAP, 0.5, (Role.POWER_LIMIT, Role.GPU_CLOCK)),
    (Cause.GPU_FAULT, Role.GPU_ERROR, 1e-9, ()),
    (Cause.NET_CONTENTION, Role.NET_ERROR, 1.0, (Role.NET_CONGESTION,)),
)


def host_claims(facts: Facts) -> tuple[Claim, ...]:
    """One claim per cause and part that is beyond its limit and its usual range, then broken sensors."""
    found: dict[tuple[Cause, str], Claim] = {}
    for cause, role, limit, support in _LIMITS:
        for row in facts.rows(role):
            if facts.shifts.level[row] >= limit and facts.rose(row):
                claim = _claim(facts, cause, row, support)
                found.setdefault((claim.cause, claim.subject), claim)
    return (*found.values(), *sensor_claims(facts))


def _claim(facts: Facts, cause: Cause, row: int, support: tuple[Role, ...]) -> Claim:
    """The claim on the worst part that supports it (the disk, not the host that waits for it)."""
    around = facts.graph.upstream(facts.entity(row))
    parts = [r for role in support for r in facts.rows(role, around) if facts.hurts(r)]
    part = max(parts, key=lambda r: float(facts.shifts.score[r]), default=row)
    subject = facts.entity(part) if cause in (Cause.IO_STALL, Cause.NET_CONTENTION) else facts.entity(row)
    proof = tuple(map(facts.evidence, dict.fromkeys((row, *parts[:2]))))
    claim = Claim(cause=cause, subject=subject, row=row, weight=0.5, evidence_for=proof)
    return crowded(facts, claim, (Role.CPU_BUSY,)) if cause in (Cause.CPU_CONTENTION, Cause.MEMORY_PRESSURE) else claim
