"""Where the seconds of a step went: the accounting identity step = compute + data wait + comm wait, per rank.

Reads facts; `verdicts` traces each share to its cause. Knows no resource and no verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from aiops.diagnose.facts import Facts
from aiops.diagnose.meaning import Role

PARTS = (Role.DATA_WAIT, Role.COMM_WAIT, Role.COMPUTE)
PART = 0.15
"""Least rise of a part, and of the step, as a share of the usual step, that says that it got longer though noise hides it."""
MORE = 0.1
"""Least growth of the work per step that counts: lengths of sequences vary by less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One job's step: row of its step time, its extra seconds, and per-rank rises (s per step) by row."""

    step: int
    extra_s: float
    data: Mapping[int, float]
    comm: Mapping[int, float]
    compute: Mapping[int, float]


def split_of(facts: Facts) -> Split | None:
    """The split of the job that the SLI belongs to, where its step got longer and anything of the split is measured."""
    steps = facts.rows(Role.STEP)
    step = facts.sli if facts.sli in steps else next(iter(steps), None)
    if step is None:
        return None
    data, comm, compute = (_rises(facts, role) for role in PARTS)
    extra_s = _extra(facts, step, {**data, **comm, **compute})
    return None if extra_s is None else Split(step=step, extra_s=extra_s, data=data, comm=comm, compute=compute)


def hooked(facts: Facts) -> bool:
    """True where any part of the step is measured, so that nothing about it need be guessed."""
    return any(_rises(facts, role) for role in PARTS)


def _extra(facts: Facts, step: int, parts: Mapping[int, float]) -> float | None:
    """Extra seconds of a step; where the step is too noisy to tell, those of a part that rose for sure and that it followed."""
    own, usual = facts.rise(step), abs(float(facts.shifts.usual[step]))
    counted = [facts.rise(row) for row in facts.rows(Role.STEP_MEAN, {facts.entity(step)})]
    if not parts or facts.rose(step):
        return next((s for s in counted if s > 0), own) if parts else None
    most = max((s for row, s in parts.items() if facts.rose(row) and s >= PART * usual), default=np.inf)
    return max(own, most) if np.isfinite(most) and own >= PART * usual else None


def more_work(facts: Facts) -> list[int]:
    """Rows of the work per step, the job's own first, where every one that is a rank's rose: the job has more to do."""
    rows = [row for row in facts.rows(Role.SAMPLES) if "micro_batches" not in facts.rich.panel.metrics[row]]
    more = [row for row in rows if facts.rose(row, MORE)]
    ranks = {facts.entity(row) for row in rows if facts.graph.type(facts.entity(row)) != "job"}
    if not more or ranks - {facts.entity(row) for row in more}:
        return []
    return sorted(more, key=lambda row: facts.graph.type(facts.entity(row)) != "job")


def _rises(facts: Facts, role: Role) -> dict[int, float]:
    """Rise per rank; rows of jobs, stages and collectives are sums over ranks and are left out where ranks report."""
    rows = [row for row in facts.rows(role) if np.isfinite(facts.rise(row))]
    ranks = [row for row in rows if facts.graph.type(facts.entity(row)) not in ("job", "stage", "collective")]
    return {row: facts.rise(row) for row in (ranks or rows)}


def uneven_work(facts: Facts, around: frozenset[str]) -> int | None:
    """The row by which a rank has more to do per step than before while others have not; None where it has not.

    Samples say it best; of a rank that counts none, the bytes that its GPU takes in. A batch size in force that is as it was
    forbids it: a few steps between two readings are counted one too many easily.
    """
    for role in (Role.SAMPLES, Role.INPUT):
        mine = facts.rows(role, around)
        as_before = {facts.entity(row) for row in mine if "batch_size" in facts.rich.panel.metrics[row] and not facts.rose(row)}
        more = [row for row in mine if facts.rose(row, MORE) and facts.entity(row) not in as_before]
        if more and not all(facts.rose(row, MORE) for row in facts.rows(role)):
            return more[0]
        if mine:
            return None
    return None
