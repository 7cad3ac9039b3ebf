"""A fault that lasts stays a fault: what the last diagnosis found keeps its id and its beginning, and ends when it is over.

Comes after the findings of one moment. A rolling baseline forgets: after half its length a fault is what is usual. So a
finding remembers what was usual before (its evidence), and holds until its reading is back there. Pure; the store remembers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from aiops.diagnose.derive import Rich
from aiops.diagnose.facts import RECENT_S
from aiops.diagnose.shift import nan_median
from aiops.model import Cause, Evidence, Finding

LOST_S = 600.0
"""A diagnosis older than this is no memory: the daemon was away, and what it knew may have ended and begun again."""
HALF = 0.5
"""Share of the way to the faulty level that a reading must still be at: nearer to usual than to faulty is recovered."""
LONGEST_S = 86_400.0
"""After a day a change is how things are: a bigger model, another data set."""
ENDS_BY_ITSELF = (Cause.LOAD_CHANGE, Cause.EXHAUSTION)
"""No faults: a new load is the new usual at once, and a warning is made anew by every forecast."""


def continued(found: Sequence[Finding], known: Sequence[Finding], rich: Rich, now: float) -> tuple[Finding, ...]:
    """The findings with the ids and beginnings that they had before, and those of `known` that still hold though unseen."""
    recent = sorted((one for one in known if 0 <= now - one.at <= LOST_S), key=lambda one: one.at)
    before = {(one.cause, one.subject): one for one in recent}
    newest = [one for one in before.values() if one.at == recent[-1].at]  # what it did not hold ended or was revised
    held = tuple(_held(found, newest, rich, now))
    unexplained = {one.sli for one in held if one.sli is not None}
    kept = [one for one in found if not (one.cause is Cause.UNKNOWN and one.sli in unexplained)]
    return (*(_renamed(one, before.get((one.cause, one.subject))) for one in kept), *held)


def _renamed(one: Finding, before: Finding | None) -> Finding:
    """The finding under the id of its episode: cause, subject and when it began."""
    if before is not None:
        return replace(one, id=before.id, since=before.since)
    since = one.since if one.since is not None else one.at
    return replace(one, id=f"{one.id}@{since:.0f}", since=since)


def _held(found: Sequence[Finding], before: Iterable[Finding], rich: Rich, now: float) -> Iterator[Finding]:
    """What was found before, is not found now, and whose reading has not come back."""
    told = {(one.cause, one.subject) for one in found}
    explained = {one.sli for one in found if one.sli is not None and one.cause is not Cause.UNKNOWN}
    index = {f"{e}:{m}": i for i, (e, m) in enumerate(zip(rich.panel.entities, rich.panel.metrics, strict=True))}
    for one in before:
        if (one.cause, one.subject) in told or one.sli in explained or one.cause in ENDS_BY_ITSELF:
            continue
        proof = _reading(one)
        row = index.get(proof.series or "") if proof is not None else None
        began = one.since if one.since is not None else one.at
        if proof is not None and row is not None and now - began <= LONGEST_S and _lasts(rich, row, proof, now):
            yield replace(one, at=now)


def _reading(one: Finding) -> Evidence | None:
    """The evidence that tells whether it is over: the SLI's own, else the first that names a series."""
    named = [fact for fact in one.evidence_for if fact.series is not None and fact.value is not None]
    return next((fact for fact in named if fact.series == one.sli), named[0] if named else None)


def _lasts(rich: Rich, row: int, proof: Evidence, now: float) -> bool:
    """True where the newest readings are still nearer to the faulty than to the usual level; of a frozen one, the same."""
    newest = rich.panel.values[[row], int(np.searchsorted(rich.panel.times, now - RECENT_S)) :]
    level, faulty = float(nan_median(newest)[0]), float(proof.value or 0.0)
    if not np.isfinite(level):
        return False
    if proof.baseline is None:
        return bool(np.isclose(level, faulty, rtol=1e-9))
    way = faulty - proof.baseline
    return bool(way != 0 and (level - proof.baseline) / way >= HALF)
