"""Is a declared edge borne out by the data? Tested along the chain of the first cause, never learned, never changed.

An edge says that trouble in the cause can show in the effect. Where both ends are measured, something of the one should move
with something of the other, at once or a little later. Where nothing does over enough points, the edge is reported as
unsupported: the declaration may be out of date. That is evidence against the chain, no proof: a quiet edge carries nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np

from aiops.diagnose.facts import Facts
from aiops.metrics import Bad
from aiops.model import Evidence, Floats

LAGS = 3
"""Columns by which an effect may follow its cause: 30 s at the usual step."""
ROWS = 2
"""Rows of an entity that are tried, highest score first: of many, some would move together by chance."""
LEAST_COLUMNS = 10
"""Columns of evidence below which a change is too short to tell a common movement from chance."""
AROUND = 3
"""Columns looked at per column of evidence: with a third of them changed, two rows that change together correlate at 0.67."""
CHANCE = 3.0
"""Rank correlations below this many standard errors of independent rows, 1/sqrt(n), are none: the best of sixteen tried."""


def unsupported(facts: Facts, chain: Sequence[str]) -> tuple[Evidence, ...]:
    """One fact per edge of the chain (victim first) whose ends are measured and do not move together."""
    found = []
    for effect, cause in pairwise(chain):
        ends = _rows(facts, effect), _rows(facts, cause)
        best = strongest(*ends) if all(map(len, ends)) else None
        if best is not None and best[0] < CHANCE / np.sqrt(best[1]):
            moved = f"largest rank correlation {best[0]:.2f} of {best[1]} points"
            found.append(Evidence(text=f"declared edge {effect} <- {cause} is not supported: {moved}", value=best[0]))
    return tuple(found)


def strongest(effect: Floats, cause: Floats) -> tuple[float, int] | None:
    """Largest absolute rank correlation of any row of (r, t) `effect` with any of (s, t) `cause` 0..LAGS columns before.

    With the number of points that it rests on; None where no pair has enough.
    """
    best: tuple[float, int] | None = None
    for lag in range(LAGS + 1):
        for x, y in product(effect[:, lag:], cause[:, : cause.shape[1] - lag]):
            both = np.isfinite(x) & np.isfinite(y)
            n = int(both.sum())
            if n >= AROUND * LEAST_COLUMNS - LAGS:
                rho = abs(_rank_correlation(x[both], y[both]))
                best = (rho, n) if best is None or rho > best[0] else best
    return best


def _rank_correlation(x: Floats, y: Floats) -> float:
    """Spearman's, ties broken by order of time; 0 where a row is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    ranks = [np.argsort(np.argsort(values, kind="stable")) for values in (x, y)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _rows(facts: Facts, entity: str) -> Floats:
    """(r, t) the most telling rows of an entity around the onset; none where the change is too short."""
    window = facts.window
    columns = AROUND * (window.end - window.onset)
    rows = [
        row
        for row in np.flatnonzero(np.array(facts.rich.panel.entities) == entity).tolist()
        if facts.rich.meanings[row].worse is not Bad.NONE and np.isfinite(facts.shifts.level[row])
    ]
    best = sorted(rows, key=lambda row: -float(facts.shifts.score[row]))[: ROWS if columns >= AROUND * LEAST_COLUMNS else 0]
    return facts.rich.panel.values[best][:, max(0, window.end - columns) : window.end]
