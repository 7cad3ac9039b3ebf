"""Invariants of the moment: what happens is what was permitted just now, to the object that was meant, on what was measured.

Read from the records alone, like the other rules; nothing here asks the code that decided.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from aiops.action import ScaleService, target
from aiops.codec import encode
from aiops.decide.limits import Limits
from aiops.decide.trace import Trace
from aiops.model import Series, Service
from aiops.snapshot import Snapshot

Broken = Iterator[tuple[str, str]]
MOMENT_S = 60.0  # a cycle's actions go out one after the other within it; what is later was decided on another world


def prompt(trace: Trace, limits: Limits) -> Broken:
    """I7: an effect follows the cycle that permitted it, or the one that looked again and sent it once more, at once."""
    looked: dict[str, list[float]] = defaultdict(list)
    for seen, decided in trace.cycles:
        for id in (*(a.id for a in decided.admissions if a.permitted), *decided.resend):
            looked[id].append(seen.now)
    for effect in trace.effects:
        waited = min((effect.at - at for at in looked[effect.id] if at <= effect.at), default=0.0)
        if waited > MOMENT_S:
            yield effect.id, f"happened {waited:.0f} s after anybody had looked"


def same_object(trace: Trace, limits: Limits) -> Broken:
    """I8: what is sent once more still goes to the very object that was meant, not to one of the same name."""
    by_id = {entry.admission.id: entry.admission.decision.action for entry in trace.entries}
    for seen, decided in trace.cycles:
        for id in decided.resend:
            action = by_id.get(id)
            meant = getattr(action, "uid", None) or getattr(action, "run_id", None)
            if action is not None and meant is not None and meant not in _identities(seen, target(action)):
                yield id, f"{target(action)} is no longer {meant}"


def _identities(seen: Snapshot, name: str) -> set[str]:
    cluster = seen.cluster
    found = {s.uid for s in cluster.services if name == f"service/{s.name}"}
    found |= {n.uid for n in cluster.nodes if name == f"node/{n.name}"}
    return found | {j.run_id for j in cluster.jobs if name == f"job/{j.id}"}


def measured(trace: Trace, limits: Limits) -> Broken:
    """I27: a forecast alone takes nothing away: a service shrinks only while its load is freshly measured beside it."""
    for seen, admission in trace.permitted():
        action = admission.decision.action
        if not isinstance(action, ScaleService) or action.replicas >= action.was:
            continue
        service = next((s for s in seen.cluster.services if s.name == action.service), None)
        if service is None or seen.forecast(str(service.load)) is None:
            continue
        if not any(one.latest(seen.now, limits.max_input_age_s).fresh for one in _loads(seen, service)):
            yield admission.id, f"{service.name} shrinks on a forecast; its load is not measured"


def _loads(seen: Snapshot, service: Service) -> list[Series]:
    return [one for found in seen.series.values() for one in found if one.key == service.load]


def answered(trace: Trace, limits: Limits) -> Broken:
    """I30: every wish has its answer, in order, under its id; and a replay gives the same bytes."""
    for seen, decided in trace.cycles:
        asked = [(f"{seen.id}-{number}", decision) for number, decision in enumerate(decided.decisions)]
        if [(a.id, a.decision) for a in decided.admissions] != asked:
            yield seen.id, f"{len(asked)} wishes, {len(decided.admissions)} answers, or another order"
        if trace.again is not None and encode(trace.again(seen)) != encode(decided):
            yield seen.id, "deciding again gives other bytes"
