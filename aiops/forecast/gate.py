"""Whether a forecast may be acted upon, and what stands in where there is none.

Scaling is reactive unless a forecast has earned its say: skill against last value and seasonal naive, and an honest band
(policy rules 4 and 6). The reason for a refusal is part of the record.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiops.forecast.baselines import LastValue
from aiops.model import Floats, Forecast
from aiops.ports import Grid

QUANTILES = (0.05, 0.5, 0.9, 0.95)
COVERAGE = 0.9
"""Nominal coverage of the band between the 0.05 and the 0.95 quantile."""

SLACK = 0.05
NO_SKILL = "no skill against last value and seasonal naive"
DISHONEST = "coverage more than 5 points from nominal"
NO_RECORD = "no record yet"
MARGIN, COVERAGE_MARGIN = 0.02, 0.01
"""How far past a limit a forecast must be before its admission changes: less than this is the noise of four days."""
MIN_POINTS = 12
SINCE_GAP = 3
"""Points after a gap until a forecast speaks again: the first may be part of a step, two make no habit."""

RECENT_POINTS, USUAL = 288, 0.9
"""Distances that say what is usual, and the share of them that is no gap: one that lacks points at random is not refused."""


def refusal(skill: float | None, coverage: float | None, leeway: float = 0.0) -> str | None:
    """Why a forecast may not be acted upon, or None. `leeway` from -1 to 1 moves both limits by the margins."""
    if skill is None or coverage is None:
        return NO_RECORD
    if skill <= -leeway * MARGIN:
        return NO_SKILL
    return DISHONEST if abs(coverage - COVERAGE) > SLACK + leeway * COVERAGE_MARGIN else None


def settle_refusal(made: Forecast, was_accepted: bool) -> str | None:
    """The refusal with hysteresis; one for another reason than skill or coverage stands."""
    if made.refused not in (None, NO_SKILL, DISHONEST, NO_RECORD):
        return made.refused
    return refusal(made.skill, made.coverage, 1.0 if was_accepted else -1.0)


def unready(history: Floats) -> str | None:
    """Why (n,) history cannot be forecast from, or None: too few points, none lately, or too few since a gap.

    What counts as a gap is the series' own matter: longer than two of its usual distances between points. A model that is
    asked within one, or right after it, takes the level of before for that of now and foresees a return to it.
    """
    known = np.flatnonzero(np.isfinite(history))
    if len(known) < MIN_POINTS:
        return f"{len(known)} points"
    longest = patience(known)
    if len(history) - 1 - known[-1] > longest:
        return "no recent point"
    gaps = np.flatnonzero(np.diff(known[-SINCE_GAP - 1 :]) - 1 > longest)
    return f"{SINCE_GAP - int(gaps[-1])} points since a gap" if len(gaps) and gaps[-1] > 0 else None


def patience(known: NDArray[np.int64]) -> int:
    """Steps that may pass without a point, from the (n,) ascending columns of known ones: twice the usual distance."""
    gaps = np.diff(known[-RECENT_POINTS:])
    return 2 * int(np.quantile(gaps, USUAL, method="higher")) if len(gaps) else 2


def fallback(grid: Grid, steps: int, quantiles: Floats) -> Floats:
    """(q, steps) the last value's band. ValueError where nothing was ever known: that has no forecast, not one of zero."""
    return LastValue().predict(grid, steps, quantiles)
