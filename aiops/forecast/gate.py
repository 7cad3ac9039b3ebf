"""Whether a forecast may be acted upon, and what stands in where there is none.

Scaling is reactive unless a forecast has earned its say: skill against last value and seasonal naive, and an honest band
(policy rules 4 and 6). The reason for a refusal is part of the record.
"""

from __future__ import annotations

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


def fallback(grid: Grid, steps: int, quantiles: Floats) -> Floats:
    """(q, steps) the last value's band. ValueError where nothing was ever known: that has no forecast, not one of zero."""
    return LastValue().predict(grid, steps, quantiles)
