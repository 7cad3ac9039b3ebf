"""All forecasts of a panel: candidates, their rolling backtest, the choice, and the reason when none may be acted upon.

The one function that the refresher and the offline commands call. Pure and deterministic; knows no store and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aiops.forecast.bands import known, settle_band
from aiops.forecast.baselines import LastValue, SeasonalNaive
from aiops.model import Floats, Forecast
from aiops.ports import Fitted, Grid

QUANTILES = (0.05, 0.5, 0.9, 0.95)
IN_USE = 0.9
"""The quantile that scaling acts upon: selection is by its loss (policy rule 5)."""

BAND = (0.05, 0.95)
COVERAGE_SLACK = 0.05
"""A band whose coverage is further from nominal may not be acted upon (policy rule 4)."""

BACKTEST_ORIGINS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """How a model did on past origins: mean pinball loss at the quantile in use, coverage of the 5-95 % band, origins."""

    loss: float
    coverage: float
    origins: int


def forecast_one(grid: Grid, candidates: Mapping[str, Fitted], steps: int, quantiles: Floats) -> Forecast:
    """Forecast of one series by the candidate that did best on its past, with skill, coverage and the named refusal."""
    naive: dict[str, Fitted] = {"last_value": LastValue(), "seasonal_naive": SeasonalNaive()}
    records = {name: backtest(model, grid, steps) for name, model in {**candidates, **naive}.items()}
    scored = {name: record for name, record in records.items() if record is not None}
    best = min(scored, key=lambda name: (scored[name].loss, name), default="last_value")
    result = _predict(grid, best, {**candidates, **naive}[best], (steps, quantiles))
    if best not in scored:
        return replace(result, refused="too short")
    beaten = min(scored[name].loss for name in naive if name in scored)
    skill = 1 - scored[best].loss / beaten if beaten > 0 else 0.0
    return replace(result, skill=skill, coverage=scored[best].coverage, refused=refusal(skill, scored[best].coverage))


def refusal(skill: float, coverage: float) -> str | None:
    """Why a forecast may not be acted upon, or None."""
    if skill <= 0:
        return "no skill against last value and seasonal naive"
    if abs(coverage - (BAND[1] - BAND[0])) > COVERAGE_SLACK:
        return "coverage more than 5 points from nominal"
    return None


def backtest(model: Fitted, grid: Grid, steps: int) -> Record | None:
    """Rolling origins over the newest points; None where the model has nothing to say or no truth is known."""
    quantiles = np.array([BAND[0], IN_USE, BAND[1]])
    losses, hits = [], []
    for end in range(len(grid.values) - steps, 0, -max(1, steps))[:BACKTEST_ORIGINS]:
        truth = grid.values[end + steps - 1]
        try:
            low, high, top = model.predict(replace(grid, values=grid.values[:end]), steps, quantiles)[:, -1]
        except ValueError:
            continue
        if np.isfinite(truth):
            losses.append(max(IN_USE * (truth - high), (IN_USE - 1) * (truth - high)))
            hits.append(low <= truth <= top)
    if len(losses) < BACKTEST_ORIGINS // 4:
        return None
    return Record(loss=float(np.mean(losses)), coverage=float(np.mean(hits)), origins=len(losses))


def _predict(grid: Grid, name: str, model: Fitted, ask: tuple[int, Floats]) -> Forecast:
    steps, quantiles = ask
    try:
        band, said = np.asarray(model.predict(grid, steps, quantiles)), name
        if band.shape != (len(quantiles), steps) or not np.isfinite(band).all():
            raise ValueError("nonsense")
        band = settle_band(band, grid.values)
    except ValueError as error:
        band, said = fallback(grid, steps, quantiles), f"last_value(fallback: {error})"
    times = grid.end + grid.step_s * np.arange(1, steps + 1, dtype=np.float64)
    return Forecast(target=str(grid.key), made_at=grid.end, times=times, quantiles=quantiles, values=band, model=said)


def fallback(grid: Grid, steps: int, quantiles: Floats) -> Floats:
    """The last value's band; zeros where nothing was ever known (the caller says so in `model` and refuses)."""
    try:
        known(grid.values)
    except ValueError:
        return np.zeros((len(quantiles), steps))
    return LastValue().predict(grid, steps, quantiles)


def forecast_panel(
    panel: Sequence[Grid], fitted: Mapping[str, Fitted], steps: int, quantiles: Sequence[float] = QUANTILES
) -> tuple[Forecast, ...]:
    """A forecast per series, in the panel's order; none is dropped."""
    asked = np.array(sorted(quantiles), dtype=np.float64)
    return tuple(forecast_one(grid, fitted, steps, asked) for grid in panel)
