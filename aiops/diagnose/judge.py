"""From facts to claims: is anything wrong at all, and if so of which kind. The order of questions is the policy.

1 are the sensors to be believed; 2 did the SLI get worse; 3 is it a job (seconds of a step) or a service; 4 only more load?
Answers are claims, best first; none at all means `unknown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from aiops.diagnose.facts import SURE_Z, Facts, recent_facts
from aiops.diagnose.meaning import Role
from aiops.diagnose.rank import Suspect
from aiops.diagnose.resources import Claim
from aiops.diagnose.sensors import sensor_claims
from aiops.diagnose.split import hooked, split_of
from aiops.diagnose.verdicts import job_claims, unhooked_claims
from aiops.metrics import Bad
from aiops.model import Cause

LOAD_RATIO = 0.15
"""Least growth of the load that can explain a slower service: below, the load is what it always does."""
WORSE_Z, WORSE_SCORE, WORSE_RATIO = 2.5, 3.5, 0.01
"""Scales, score and share by which an SLI must have got worse: together 5 % of normal windows of PetShop's 5-minute data."""
SUSPECT_SCORE = 2.0
"""Least score of the first suspect where the SLI did get worse: a tail of one in fifty alone."""
SENSOR_S = 8.0
"""'Now' for a sensor: it breaks from one reading to the next, and the answer is due in 10 s."""
NO_SERVICE = frozenset(
    {"gpu", "loader", "volume", "nic", "link", "host", "collective", "job", "stage", "tenant", "rank", "queue"}
)
"""Types of entities that are no services."""
LEAD = 0.4
"""Least lead of the first suspect over the second without an SLI: 1 in 40 of 144 normal windows of Nezha reaches it."""


KINDS: Mapping[Role, Cause] = {
    Role.CPU_BUSY: Cause.CPU_CONTENTION,
    Role.CPU_PRESSURE: Cause.CPU_CONTENTION,
    Role.MEM_PRESSURE: Cause.MEMORY_PRESSURE,
    Role.NET_LATENCY: Cause.NET_CONTENTION,
    Role.NET_CONGESTION: Cause.NET_CONTENTION,
    Role.NET_ERROR: Cause.NET_CONTENTION,
    Role.DISK_LATENCY: Cause.IO_STALL,
    Role.DISK_QUEUE: Cause.IO_STALL,
    Role.IO_PRESSURE: Cause.IO_STALL,
    Role.THERMAL: Cause.THERMAL_THROTTLE,
    Role.POWER_CAP: Cause.POWER_CAP,
    Role.GPU_ERROR: Cause.GPU_FAULT,
}
"""What the most telling row of a suspect behind a service says about the kind of its fault."""


def judge(facts: Facts, ranked: tuple[Suspect, ...], at: float) -> tuple[Claim, ...]:
    """Claims, best first; empty where the truth is `unknown`."""
    newest = facts if facts.window.clear else replace(recent_facts(facts.rich, facts.graph, at, SENSOR_S), sli=facts.sli)
    broken = sensor_claims(newest)
    if any(claim.row == facts.sli for claim in broken):
        return tuple(sorted(broken, key=lambda claim: claim.row != facts.sli))
    split = split_of(facts)
    if split is not None:
        claims = job_claims(facts, split)
        return (*claims, *broken) if claims else broken
    if facts.sli is not None and not noticed(facts):
        return broken
    if facts.sli is not None and facts.rich.meanings[facts.sli].role in (Role.STEP, Role.IDLE, Role.SM_ACTIVE, Role.GPU_UTIL):
        return broken if hooked(facts) else (*unhooked_claims(facts), *broken)
    load = _load_claim(facts)
    if load is not None:
        return (load, *broken)
    return (*_service_claims(facts, ranked), *broken)


def noticed(facts: Facts) -> bool:
    """True where the SLI got worse for sure; without an SLI, where the pooled deviation did."""
    if facts.sli is None:
        return facts.window.clear
    worse, score = float(facts.shifts.worse[facts.sli]), float(facts.shifts.score[facts.sli])
    usual, scale = abs(float(facts.shifts.usual[facts.sli])), float(facts.shifts.scale[facts.sli])
    if facts.rich.meanings[facts.sli].worse is Bad.NONE:
        return abs(facts.z(facts.sli)) >= SURE_Z
    return bool(worse >= WORSE_Z * scale and worse >= WORSE_RATIO * usual and score >= WORSE_SCORE)


def lead(ranked: tuple[Suspect, ...]) -> float:
    """How far the first suspect is ahead of the second, as a share of its score."""
    if len(ranked) < 2:
        return 1.0 if ranked else 0.0
    return (ranked[0].score - ranked[1].score) / ranked[0].score if ranked[0].score > 0 else 0.0


def _load_claim(facts: Facts) -> Claim | None:
    """More requests at the SLI's own entity, and nothing else that would explain it."""
    if facts.sli is None:
        return None
    entity = facts.entity(facts.sli)
    grown = [row for row in facts.rows(Role.LOAD, {entity}) if facts.z(row) >= 3.0 and facts.ratio(row) >= LOAD_RATIO]
    if not grown:
        return None
    inner = [
        row
        for role in (Role.GPU_ERROR, Role.THERMAL, Role.POWER_CAP, Role.MEM_PRESSURE, Role.ERRORS)
        for row in facts.rows(role)
        if facts.hurts(row)
    ]
    if inner:
        return None
    proof = (facts.evidence(facts.sli), facts.evidence(grown[0], f"requests to {entity}"))
    return Claim(cause=Cause.LOAD_CHANGE, subject=entity, row=grown[0], weight=1.0, evidence_for=proof)


def _service_claims(facts: Facts, ranked: tuple[Suspect, ...]) -> tuple[Claim, ...]:
    """The first suspect, typed by what it shows inside, else a fault of the service without a known kind."""
    if not ranked or ranked[0].score < SUSPECT_SCORE or ranked[0].row < 0:
        return ()
    if not noticed(facts) and lead(ranked) < LEAD:
        return ()
    first = ranked[0]
    kind = _service_kind(facts, first)
    if kind is Cause.SERVICE_FAULT and facts.graph.type(first.entity) in NO_SERVICE:
        return ()  # a part without a typed fault is a suspect, not a verdict
    proof, without = (facts.evidence(first.row),), sli_without(facts, first.entity)
    return (Claim(cause=kind, subject=first.entity, row=first.row, evidence_for=proof, counterfactual=without),)


def sli_without(facts: Facts, entity: str) -> dict[str, float]:
    """The SLI as it is, and as it would be without what the entity's own row of the same metric rose by; empty where none did.

    An estimate: it takes every request of the SLI to pass the entity, and the callers to add nothing to what they wait.
    """
    if facts.sli is None:
        return {}
    name, now = facts.rich.panel.metrics[facts.sli], float(facts.shifts.level[facts.sli])
    own = next((row for row in range(len(facts.rich.panel.metrics)) if facts.series(row) == f"{entity}:{name}"), None)
    if own is None or not facts.hurts(own):
        return {}
    rise = facts.rise(facts.sli)
    part = min(abs(facts.rise(own)), abs(rise))
    return {"sli": now - float(np.copysign(part, rise)), "sli_now": now} if np.isfinite(part) else {}


def _service_kind(facts: Facts, suspect: Suspect) -> Cause:
    if suspect.network > max(suspect.internal, suspect.external):
        return Cause.NET_CONTENTION
    return KINDS.get(facts.rich.meanings[suspect.row].role, Cause.SERVICE_FAULT)
