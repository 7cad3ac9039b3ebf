"""Findings that share a cause, as one incident: when it opened, what was thought, what was done, whether it is over.

Pure: built from the finding history and the admissions of a window, so that it needs no state of its own and a restart
forgets nothing. Two findings belong together where they name the same cause on the same root (the end of the chain, else
the neighbour, else the subject) and are never further apart than `QUIET_S`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from aiops.action import Admission, target
from aiops.model import Cause, Finding

QUIET_S = 1800.0  # Alertmanager's habit is five minutes; a cause that returns within half an hour is the same one
NO_INCIDENT = (Cause.LOAD_CHANGE,)  # a legal answer that calls for nobody


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of an incident's timeline."""

    at: float
    what: str
    ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What is known of one cause over time; `hypotheses` best first, `timeline` oldest first, `actions` admission ids."""

    id: str
    cause: Cause
    root: str
    subject: str
    opened_at: float
    updated_at: float
    open: bool
    confidence: float
    summary: str
    neighbour: str | None
    subjects: tuple[str, ...]
    hypotheses: tuple[Finding, ...]
    timeline: tuple[Moment, ...]
    actions: tuple[str, ...]


def incidents(history: Iterable[Finding], current: Sequence[Finding], admissions: Sequence[Admission]) -> tuple[Incident, ...]:
    """Incidents out of a window's findings, open ones first, then the newest; `current` is the newest diagnosis."""
    groups: dict[tuple[Cause, str], list[list[Finding]]] = {}
    known = {finding.id: finding for finding in (*history, *current)}
    for finding in sorted(known.values(), key=lambda one: (one.at, one.id)):
        if finding.cause in NO_INCIDENT:
            continue
        runs = groups.setdefault((finding.cause, root(finding)), [])
        if not runs or _start(finding) - runs[-1][-1].at > QUIET_S:
            runs.append([])
        runs[-1].append(finding)
    live = {finding.id for finding in current}
    built = (_incident(members, live, admissions) for runs in groups.values() for members in runs)
    return tuple(sorted(built, key=lambda one: (not one.open, -one.updated_at, one.id)))


def root(finding: Finding) -> str:
    """What the finding blames: the end of its chain, else the neighbour, else its subject."""
    return finding.chain[-1] if finding.chain else finding.neighbour or finding.subject


def _start(finding: Finding) -> float:
    return finding.at if finding.since is None else finding.since


def _incident(members: list[Finding], live: set[str], admissions: Sequence[Admission]) -> Incident:
    ranked = sorted(members, key=lambda one: (-one.score, -one.confidence, one.id))
    best, opened_at = ranked[0], min(_start(one) for one in members)
    subjects = tuple(dict.fromkeys(one.subject for one in members))
    ids = {one.id for one in members}
    done = [a for a in admissions if a.decision.cause in ids or (a.at >= opened_at and target(a.decision.action) in subjects)]
    seen = [Moment(at=_start(one), what=f"{one.cause.value}: {one.subject}", ref=one.id) for one in members]
    decided = [Moment(at=a.at, what=f"{a.decision.policy}: {a.decision.action.kind}", ref=a.id) for a in done]
    return Incident(
        id=f"incident-{sha256(f'{best.cause}|{root(best)}|{opened_at:.0f}'.encode()).hexdigest()[:16]}",
        cause=best.cause,
        root=root(best),
        subject=best.subject,
        opened_at=opened_at,
        updated_at=max(one.at for one in members),
        open=bool(ids & live),
        confidence=max(one.confidence for one in members),
        summary=best.summary,
        neighbour=best.neighbour,
        subjects=subjects,
        hypotheses=tuple(ranked),
        timeline=tuple(sorted(seen + decided, key=lambda moment: moment.at)),
        actions=tuple(a.id for a in done),
    )
