"""Findings that share a cause, as one incident: since when, what was thought, what would help, what was done, is it over.

Pure: built from the finding history, the ledger and the orders of a window, so that it needs no state of its own and a restart
forgets nothing. Two findings belong together where they name the same cause on the same root (the end of the chain, else the
neighbour, else the subject) and are never further apart than `QUIET_S`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from aiops.action import Admission, Entry, Order, target
from aiops.diagnose.remedies import Remedy, remedies
from aiops.model import Cause, Evidence, Finding

QUIET_S = 1800.0  # Alertmanager's habit is five minutes; a cause that returns within half an hour is the same one
NO_INCIDENT = (Cause.LOAD_CHANGE,)  # a legal answer that calls for nobody
ALIASES = {"host": "node", "disk": "link", "nic": "link", "volume": "link", "tenant": "job"}
"""What an action's target calls the kind of entity that a finding names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was decided and ordered in the window: admissions (refusals included), ledger entries, operators' orders."""

    admissions: Sequence[Admission] = ()
    entries: Sequence[Entry] = ()
    orders: Sequence[Order] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of an incident's timeline; `kind` is opened, updated, acted, refused, ordered or resolved."""

    at: float
    kind: str
    what: str
    ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One decision about an incident and what became of it; `state` is the ledger's, or the reason of the refusal."""

    id: str
    at: float
    policy: str
    action: str
    target: str
    permitted: bool
    state: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What is known of one cause over time; `hypotheses` best first, `timeline` oldest first, `actions` admission ids."""

    id: str
    cause: Cause
    root: str
    subject: str
    opened_at: float
    updated_at: float
    resolved_at: float | None
    open: bool
    confidence: float
    summary: str
    neighbour: str | None
    subjects: tuple[str, ...]
    hypotheses: tuple[Finding, ...]
    evidence: tuple[Evidence, ...]
    remedies: tuple[Remedy, ...]
    timeline: tuple[Moment, ...]
    actions: tuple[str, ...]
    done: tuple[Done, ...]


def incidents(history: Iterable[Finding], current: Sequence[Finding], record: Record) -> tuple[Incident, ...]:
    """Incidents out of a window's findings, open ones first, then the newest; `current` is the newest diagnosis."""
    groups: dict[tuple[Cause, str], list[list[Finding]]] = {}
    known = {finding.id: finding for finding in (*history, *current)}
    for finding in sorted(known.values(), key=lambda one: (_start(one), one.id)):
        if finding.cause in NO_INCIDENT:
            continue
        runs = groups.setdefault((finding.cause, root(finding)), [])
        if not runs or _start(finding) - max(one.at for one in runs[-1]) > QUIET_S:
            runs.append([])
        runs[-1].append(finding)
    live = {finding.id for finding in current}
    built = (_incident(members, live, record) for runs in groups.values() for members in runs)
    return tuple(sorted(built, key=lambda one: (not one.open, -one.updated_at, one.id)))


def root(finding: Finding) -> str:
    """What the finding blames: the end of its chain, else the neighbour, else its subject."""
    return finding.chain[-1] if finding.chain else finding.neighbour or finding.subject


def concerns(name: str, changed: str) -> bool:
    """True where an action's target (`node/n1`, `link/nic0/job-7`) is the entity that a finding names (`host:n1`)."""
    kind, *rests = re.split("[:/]", name, maxsplit=1)
    rest = rests[0] if rests else ""
    what, *path = changed.split("/")
    return name == changed or (ALIASES.get(kind, kind) == what and bool({rest, rest.rpartition("/")[2]} & set(path)))


def _start(finding: Finding) -> float:
    return finding.at if finding.since is None else finding.since


def _incident(members: list[Finding], live: set[str], record: Record) -> Incident:
    ranked = sorted(members, key=lambda one: (-one.score, -one.confidence, one.id))
    best, opened_at, updated_at = ranked[0], min(map(_start, members)), max(one.at for one in members)
    done, orders = _done(members, opened_at, record), _orders(members, opened_at, record)
    still = any(one.id in live for one in members)
    facts = {fact.series or fact.text: fact for one in reversed(ranked) for fact in one.evidence_for}
    return Incident(
        id=f"incident-{sha256(f'{best.cause}|{root(best)}|{opened_at:.0f}'.encode()).hexdigest()[:16]}",
        cause=best.cause,
        root=root(best),
        subject=best.subject,
        opened_at=opened_at,
        updated_at=updated_at,
        resolved_at=None if still else updated_at,
        open=still,
        confidence=max(one.confidence for one in members),
        summary=best.summary,
        neighbour=best.neighbour,
        subjects=tuple(dict.fromkeys(one.subject for one in members)),
        hypotheses=tuple(ranked),
        evidence=tuple(facts.values()),
        remedies=remedies(best.cause, best.subject, best.chain, best.neighbour),
        timeline=tuple(sorted(_moments(members, still, done, orders), key=lambda moment: moment.at)),
        actions=tuple(one.id for one in done),
        done=done,
    )


def _done(members: Sequence[Finding], opened_at: float, record: Record) -> tuple[Done, ...]:
    """Decisions that name a finding as their cause, or change what it is about after it opened; oldest first."""
    ids, entries = {one.id for one in members}, {entry.admission.id: entry for entry in record.entries}
    names = {name for one in members for name in (one.subject, root(one), one.neighbour) if name}
    found = []
    for one in sorted(record.admissions, key=lambda admission: (admission.at, admission.id)):
        changed = target(one.decision.action)
        if one.decision.cause in ids or (one.at >= opened_at and any(concerns(name, changed) for name in names)):
            found.append(_outcome(one, entries.get(one.id), changed))
    return tuple(found)


def _outcome(one: Admission, entry: Entry | None, changed: str) -> Done:
    told = one.detail
    if entry is not None:
        told = entry.verdict.detail if entry.verdict else entry.receipt.detail if entry.receipt else told
    state = one.denied.value if one.denied else entry.state.value if entry else "admitted"
    return Done(
        id=one.id,
        at=one.at,
        policy=one.decision.policy,
        action=one.decision.action.kind,
        target=changed,
        permitted=one.permitted,
        state=state,
        detail=told,
    )


def _orders(members: Sequence[Finding], opened_at: float, record: Record) -> list[Order]:
    """Operators' orders about the findings or what they are about."""
    names = {name for one in members for name in (one.id, one.subject, root(one), one.cause.value)}
    return [order for order in record.orders if order.at >= opened_at and order.target in names]


def _moments(members: Sequence[Finding], still: bool, done: Sequence[Done], orders: Sequence[Order]) -> Iterator[Moment]:
    """The timeline in any order."""
    first = min(members, key=lambda one: (_start(one), one.id))
    for one in members:
        kind = "opened" if one is first else "updated"
        yield Moment(at=_start(one), kind=kind, what=f"{one.cause.value}: {one.subject}", ref=one.id)
    for act in done:
        told = f"{act.policy}: {act.action} {act.target}, {act.state}"
        yield Moment(at=act.at, kind="acted" if act.permitted else "refused", what=told, ref=act.id)
    for order in orders:
        yield Moment(at=order.at, kind="ordered", what=f"{order.by}: {order.kind.value} {order.target}", ref=order.id)
    last = max(members, key=lambda one: (one.at, one.id))
    if not still:
        yield Moment(at=last.at, kind="resolved", what=f"{last.cause.value}: {last.subject} was last seen", ref=last.id)
