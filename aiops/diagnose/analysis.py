"""One diagnosis from end to end: panel and declared graph in, ranked causes with a typed verdict out. Pure.

`analyse` is the road for files and simulator, `examine` its second half, which the live door (`engine.py`) shares: find
the window, measure, rank, judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from aiops.diagnose.confidence import HISTORY, Readings, confidence, readings
from aiops.diagnose.derive import Rich, enrich
from aiops.diagnose.edges import unsupported
from aiops.diagnose.facts import Facts, by_role
from aiops.diagnose.graph import Graph, with_named_edges
from aiops.diagnose.judge import judge, noticed
from aiops.diagnose.meaning import Role
from aiops.diagnose.onset import turned, window_of
from aiops.diagnose.panel import Panel, sound
from aiops.diagnose.rank import Suspect, suspects
from aiops.diagnose.report import Hypothesis, Report
from aiops.diagnose.resources import Claim
from aiops.diagnose.shift import AFTER_S, LATE_S, measure
from aiops.diagnose.split import PARTS
from aiops.errors import UserError
from aiops.model import Cause

SECONDS = (Role.STEP, *PARTS, Role.CPU_WAIT, Role.HOST_TIME, Role.CHECKPOINT, Role.PREP, Role.LOADER_QUEUE)
"""Rows that say where the seconds of a step are, and no resource."""
TELLING_Z = 2.0
"""Scales below which a row is no evidence worth reading, though its worst moment ranked its entity."""


def analyse(panel: Panel, graph: Graph, at: float, sli: str | None = None) -> Report:
    """Diagnose what was noticed at `at` on `sli` (`entity:metric`, or None for 'anything').

    UserError where the SLI names no series, the data do not reach `at`, or the panel has no times in order.
    """
    return investigate(panel, graph, at, sli).report


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # NaN and infinity stand for 'unknown' and are dealt with
def investigate(panel: Panel, graph: Graph, at: float, sli: str | None = None) -> Analysis:
    """As `analyse`, with the facts behind the report."""
    panel = sound(panel)
    first, last = float(panel.times[0]), float(panel.times[-1])
    if not first - panel.step_s / 2 <= at <= last + LATE_S:
        raise UserError(f"expected a time from {first:.0f} to {last:.0f}, where the data are, found {at:.0f}")
    graph = with_named_edges(graph, panel.entities)
    rich = enrich(panel.until(max(at, first) + AFTER_S), graph)
    row = find_sli(rich.panel, sli) if sli else _default_sli(rich, graph)
    return examine(turned(rich, at, row), graph, at, row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """A report, the facts behind it and what its confidence was read from, and whether the SLI got worse at all."""

    report: Report
    facts: Facts
    readings: Readings
    noticed: bool


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def examine(rich: Rich, graph: Graph, at: float, sli: int | None) -> Analysis:
    """Measure, rank and judge one SLI row (None: whatever deviates most) of an enriched panel."""
    facts = gather(rich, graph, at, sli)
    ranked = suspects(rich, facts.shifts, graph, sli)
    claims = judge(facts, ranked, at)
    seen = readings(facts, ranked, claims)
    report = Report(
        at=at,
        sli=facts.series(facts.sli) if facts.sli is not None else None,
        onset=_onset(facts),
        verdict=claims[0].cause if claims else Cause.UNKNOWN,
        confidence=confidence(seen),
        causes=hypotheses(facts, _others(facts, ranked, claims), claims),
        notes=_notes(facts),
    )
    return Analysis(report=report, facts=facts, readings=seen, noticed=noticed(facts))


def _others(facts: Facts, ranked: tuple[Suspect, ...], claims: tuple[Claim, ...]) -> tuple[Suspect, ...]:
    """The suspects beside the claims. Where a claim explains a step, its seconds are spoken for: the rest is ranked without.

    Else the ranks and loaders in which the first cause shows would stand before a second cause.
    """
    if not any("step_s" in claim.counterfactual for claim in claims):
        return ranked
    seconds = [row for role in SECONDS for row in facts.roles.get(role, ())]
    score = facts.shifts.score.copy()
    score[seconds] = 0.0
    return suspects(facts.rich, replace(facts.shifts, score=score), facts.graph, facts.sli)


def gather(rich: Rich, graph: Graph, at: float, sli: int | None) -> Facts:
    """Window and shifts for one SLI row, or for the rows that deviate most."""
    window = window_of(rich, graph, at, sli)
    entities = frozenset(rich.panel.entities) | frozenset(graph.types)
    scope = graph.upstream(rich.panel.entities[sli]) if sli is not None and graph.causes else entities
    return Facts(
        rich=rich,
        graph=graph,
        window=window,
        shifts=measure(rich.panel, rich.meanings, window),
        sli=sli,
        scope=scope,
        roles=by_role(rich),
    )


def find_sli(panel: Panel, sli: str) -> int:
    """Row of `entity:metric`. UserError names some that exist."""
    names = [f"{e}:{m}" for e, m in zip(panel.entities, panel.metrics, strict=True)]
    if sli in names:
        return names.index(sli)
    alike = [name for name in names if name.partition(":")[0] == sli.partition(":")[0]] or names
    raise UserError(f"no series {sli!r}: expected ENTITY:METRIC, for example {', '.join(alike[:3])}")


def _default_sli(rich: Rich, graph: Graph) -> int | None:
    """The step time of the job that nothing else depends on, where there is exactly one; else no single SLI."""
    steps = [i for i, m in enumerate(rich.meanings) if m.role is Role.STEP]
    causes = {cause for parents in graph.causes.values() for cause in parents}
    top = [i for i in steps if rich.panel.entities[i] not in causes] or steps
    return top[0] if len(top) == 1 else None


def _onset(facts: Facts) -> float | None:
    """Time of the change point, None where there is no clear one."""
    times, window = facts.rich.panel.times, facts.window
    return float(times[window.onset]) if window.clear and window.onset < len(times) else None


def hypotheses(facts: Facts, ranked: tuple[Suspect, ...], claims: tuple[Claim, ...]) -> tuple[Hypothesis, ...]:
    """Claims first, in their order, then every other entity by its score."""
    scores = {suspect.entity: suspect for suspect in ranked}
    top = max((suspect.score for suspect in ranked), default=0.0)
    found: dict[str, Hypothesis] = {}
    for place, claim in enumerate(claims):
        if claim.subject not in found:
            score = max(top + len(claims) - place, scores[claim.subject].score if claim.subject in scores else 0.0)
            found[claim.subject] = _claimed(facts, claim, score)
    for suspect in ranked:
        if suspect.entity not in found:
            found[suspect.entity] = _suspected(facts, suspect)
    return tuple(found.values())


def _claimed(facts: Facts, claim: Claim, score: float) -> Hypothesis:
    chain = _chain(facts, claim.on or claim.subject, frozenset(_seen(facts, claim)))
    chain = (*chain, claim.subject) if claim.on else chain
    return Hypothesis(
        entity=claim.subject,
        metric=facts.rich.panel.metrics[claim.row] if claim.row >= 0 else None,
        verdict=claim.cause,
        score=score,
        chain=chain,
        evidence_for=claim.evidence_for,
        evidence_against=(*claim.evidence_against, *unsupported(facts, chain)),
        counterfactual=dict(claim.counterfactual),
        neighbour=claim.neighbour,
    )


def _suspected(facts: Facts, suspect: Suspect) -> Hypothesis:
    seen = suspect.row >= 0 and suspect.score > 0 and abs(facts.z(suspect.row)) >= TELLING_Z
    return Hypothesis(
        entity=suspect.entity,
        metric=facts.rich.panel.metrics[suspect.row] if suspect.row >= 0 else None,
        verdict=Cause.UNKNOWN,
        score=suspect.score,
        chain=_chain(facts, suspect.entity),
        evidence_for=(facts.evidence(suspect.row),) if seen else (),
    )


def _seen(facts: Facts, claim: Claim) -> Iterator[str]:
    """Entities that the evidence of a claim is about."""
    told = {fact.series for fact in claim.evidence_for}
    return (facts.entity(row) for row in range(len(facts.rich.panel.entities)) if facts.series(row) in told)


def _chain(facts: Facts, entity: str, through: frozenset[str] = frozenset()) -> tuple[str, ...]:
    if facts.sli is None:
        return (entity,)
    return facts.graph.chain(entity, facts.entity(facts.sli), through)[::-1]


def _notes(facts: Facts) -> tuple[str, ...]:
    notes = []
    if not facts.graph.causes:
        notes.append("no topology was given: causes and victims cannot be told apart by dependency, so confidence is lower")
    victim = facts.entity(facts.sli) if facts.sli is not None else ""
    if victim and facts.graph.causes and victim not in facts.graph.causes:
        notes.append(f"nothing is declared that {victim} depends on; edges lead from the effect to the cause")
    if facts.window.baseline < HISTORY:
        notes.append(f"only {facts.window.baseline} points of normal history: confidence is lower")
    if not facts.window.clear:
        notes.append("no clear onset was found: the whole stretch that a late detector may have missed was compared")
    return tuple(notes)
