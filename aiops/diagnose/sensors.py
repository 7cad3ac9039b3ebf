"""Sensors that cannot be believed: impossible values, frozen readings, readings that contradict their neighbours.

A broken sensor is a finding of its own and never a cause of a slow step. Comes before the verdicts on jobs and services.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aiops.diagnose.facts import Facts
from aiops.diagnose.meaning import Role
from aiops.diagnose.resources import Claim
from aiops.model import Cause, Evidence, Floats

POSSIBLE: dict[Role, tuple[float, float]] = {
    Role.GPU_TEMP: (-20.0, 115.0),  # GPUs shut down at about 100-105 degrees; 127 and 255 are what a dead sensor answers
    Role.GPU_UTIL: (0.0, 1.05),
    Role.SM_ACTIVE: (0.0, 1.05),
    Role.GPU_POWER: (0.0, 2000.0),
    Role.STEP: (0.0, np.inf),
    Role.LATENCY: (0.0, np.inf),
}
"""Ranges outside of which a reading is not a reading."""
ODDS = 16.0
"""-log odds from which a run of equal readings is no accident: 1e-7, for thousands of rows looked at every 30 s."""
COMPLAINT = 7.0
"""The same for the one reading that somebody complains about, when asked: one in a thousand such questions."""
ENOUGH = 20
"""Steps of the baseline from which it is known whether a reading used to change: a daemon that just started knows nothing."""
STANDS = 2
"""Times the longest standstill of its past that a reading must stand still."""
AGREE = 0.1
"""Witnesses that moved by less than this say that nothing happened."""
CONTRADICTED = 0.3
"""A reading that moved by more than this, against all witnesses, is wrong."""
FULL = 0.97
"""Utilisation from which a GPU reads as always busy."""
PHYSICAL = (Role.GPU_TEMP, Role.GPU_POWER, Role.GPU_UTIL, Role.SM_ACTIVE, Role.GPU_CLOCK, Role.CPU_BUSY, Role.MEM_FREE)
"""Roles of sensors proper. A latency's quantile or a queue may well stay at one value; silicon that works never does."""
_ACTIVITY = (Role.SM_ACTIVE, Role.GPU_POWER, Role.GPU_UTIL)


def sensor_claims(facts: Facts) -> tuple[Claim, ...]:
    """Broken sensors, the surest first."""
    found = [*_impossible(facts), *_contradicting(facts), *_frozen(facts)]
    best: dict[str, Claim] = {}
    for claim in sorted(found, key=lambda claim: -claim.weight):
        best.setdefault(claim.subject, claim)
    return tuple(best.values())


def _claim(facts: Facts, row: int, weight: float, text: str) -> Claim:
    level = float(facts.shifts.level[row])
    said = Evidence(text=text, series=facts.series(row), value=level if np.isfinite(level) else None)
    return Claim(cause=Cause.SENSOR_FAULT, subject=facts.entity(row), row=row, weight=weight, evidence_for=(said,))


def _impossible(facts: Facts) -> Iterator[Claim]:
    for role, (low, high) in POSSIBLE.items():
        for row in facts.roles.get(role, ()):
            level = float(facts.shifts.level[row])
            if "ratio" not in facts.rich.panel.metrics[row] and role in (Role.GPU_UTIL, Role.SM_ACTIVE):
                continue  # percent by another exporter
            if level < low or level > high:
                yield _claim(facts, row, 3.0, f"{facts.series(row)} reads {level:g}: possible is {low:g} to {high:g}")


def _contradicting(facts: Facts) -> Iterator[Claim]:
    """One activity reading of a GPU moved far, and every other one, and its computing time, stayed."""
    for entity in dict.fromkeys(facts.entity(row) for row in facts.roles.get(Role.SM_ACTIVE, ())):
        rows = [row for role in _ACTIVITY for row in facts.rows(role, {entity}) if np.isfinite(facts.ratio(row))]
        work = [row for row in facts.rows(Role.COMPUTE, {entity}) if np.isfinite(facts.ratio(row))]
        for row in rows:
            witnesses = [r for r in (*rows, *work) if r != row and not _pinned(facts, r)]
            still = [r for r in witnesses if abs(facts.ratio(r)) < AGREE]
            moved = abs(facts.ratio(row)) > CONTRADICTED and abs(facts.z(row)) > 8
            if moved and len(still) >= 2 and len(still) == len(witnesses):
                told = ", ".join(facts.rich.panel.metrics[r] for r in still)
                yield _claim(facts, row, 2.0, f"{facts.series(row)} moved by {facts.ratio(row):+.0%}, but {told} did not")
        yield from _sudden_heat(facts, entity)


def _pinned(facts: Facts, row: int) -> bool:
    """A utilisation that always reads full says nothing: it counts a kernel that waits as work."""
    return facts.rich.meanings[row].role is Role.GPU_UTIL and float(facts.shifts.usual[row]) >= FULL


def _sudden_heat(facts: Facts, entity: str) -> Iterator[Claim]:
    """A temperature that leaps within one reading, while power and clock stay: silicon has inertia, sensors have none."""
    for row in facts.rows(Role.GPU_TEMP, {entity}):
        leap = np.abs(np.diff(facts.rich.panel.values[row, max(0, facts.window.baseline - 1) :]))
        others = [r for role in (Role.GPU_POWER, Role.GPU_CLOCK) for r in facts.rows(role, {entity})]
        still = others and all(abs(facts.ratio(r)) < AGREE for r in others if np.isfinite(facts.ratio(r)))
        if len(leap) and np.nanmax(leap, initial=0.0) >= 20.0 and abs(facts.rise(row)) >= 20.0 and still:
            yield _claim(facts, row, 2.0, f"{facts.series(row)} leapt by {np.nanmax(leap):.0f} degrees between two readings")


def _frozen(facts: Facts) -> Iterator[Claim]:
    """Entities whose readings stopped changing, though they used to and others still do."""
    start = facts.window.baseline
    rows = np.array([i for role in PHYSICAL for i in facts.roles.get(role, ())], dtype=np.intp)
    values = facts.rich.panel.values[rows]
    if values.shape[1] - start < 4 or start < 2 or not len(rows):
        return
    steps = np.diff(values[:, :start], axis=1)
    seen = np.isfinite(steps).sum(axis=1)
    repeats = ((steps == 0).sum(axis=1) + 1.0) / (seen + 2.0)
    runs, newest = _trailing(values), values[:, -1]
    pinned = np.array([_pinned(facts, int(row)) for row in rows])
    judged = (repeats < 0.9) & (seen >= ENOUGH) & (newest != 0) & np.isfinite(newest) & ~pinned
    odds = np.where(judged, runs * -np.log(repeats), 0.0)
    found: dict[str, list[int]] = {}
    for i in np.flatnonzero(odds > 3.0).tolist():
        if runs[i] <= STANDS * _longest(values[i, :start]):
            continue  # a coarse reading of a steady thing: its repeats hang together, so the odds overstate
        found.setdefault(facts.entity(int(rows[i])), []).append(i)
    for members in found.values():
        total = float(odds[members].sum())
        complaint = any(int(rows[i]) == facts.sli for i in members)
        if total >= (COMPLAINT if complaint else ODDS):
            i = max(members, key=lambda member: float(odds[member]))
            row = int(rows[i])
            text = f"{facts.series(row)} has read {newest[i]:g} for {int(runs[i])} readings; it used to change"
            yield _claim(facts, row, 1.0 + total / 1000.0, text)


def _longest(values: Floats) -> int:
    """Most steps in a row that brought no change."""
    moved = np.flatnonzero(np.diff(values) != 0)
    return int(np.diff(np.concatenate([[-1], moved, [len(values) - 1]])).max()) - 1


def _trailing(values: Floats) -> Floats:
    """(m,) how many of the newest steps of a row brought no change; missing readings end the run."""
    changed = ~(np.diff(values, axis=1) == 0)
    back = changed[:, ::-1]
    first = np.where(back.any(axis=1), back.argmax(axis=1), back.shape[1])
    return np.asarray(first, dtype=np.float64)
