"""One named model over many origins, so that anyone can compare: refitted at each midnight that its origins pass.

A model that raises, or says nothing or nonsense, is answered for by the last value, and the row says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from aiops.forecast.bands import settle_band
from aiops.forecast.features import DAY_S
from aiops.forecast.gate import fallback
from aiops.forecast.panel import to_grid
from aiops.forecast.rolling import Ask
from aiops.model import Forecast, Series
from aiops.ports import Fitted, Forecaster, Grid

MIN_FIT_DAYS = 1.0
"""With less than a day before midnight, a model is fitted at the origin itself."""


def forecast_with(
    model: Forecaster,
    series: Sequence[Series],
    origins: Sequence[float],
    ask: Ask,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[Forecast]:
    """Forecasts of every series that has a point by then, by one model, in the order of origins, then series."""
    fitted: tuple[float, Fitted] | None = None
    ends = sorted(set(origins))
    for index, origin in enumerate(ends):
        panel = _begun(series, origin, ask.step_s)
        midnight = float(np.floor(origin / DAY_S) * DAY_S)
        early = min((grid.start for grid in panel), default=origin) > midnight - MIN_FIT_DAYS * DAY_S
        at = origin if early else midnight
        if panel and (fitted is None or fitted[0] != at):
            fitted = (at, model.fit(panel if early else _begun(series, at, ask.step_s)))
        if fitted is not None:
            yield from (answer(grid, (model.name, fitted[1]), ask) for grid in panel)
        progress((index + 1) / len(ends))


def _begun(series: Sequence[Series], at: float, step_s: float) -> list[Grid]:
    grids = (to_grid(one, at, step_s) for one in series)
    return [grid for grid in grids if np.isfinite(grid.values).any()]


def answer(grid: Grid, by: tuple[str, Fitted], ask: Ask) -> Forecast:
    """One model's forecast of one series, or the fallback with its reason."""
    name, fitted = by
    try:
        band = np.asarray(fitted.predict(grid, ask.steps, ask.quantiles), dtype=np.float64)
        if band.shape != (len(ask.quantiles), ask.steps) or not np.isfinite(band).all():
            raise ValueError("nonsense")
        band = settle_band(band, grid.values)
    except Exception as error:  # the wall around one model: a third party's may fail in any way
        reason = str(error) if isinstance(error, ValueError) else type(error).__name__
        band, name = fallback(grid, ask.steps, ask.quantiles), f"last_value(fallback: {reason})"
    times = grid.end + ask.step_s * np.arange(1, ask.steps + 1, dtype=np.float64)
    return Forecast(target=str(grid.key), made_at=grid.end, times=times, quantiles=ask.quantiles, values=band, model=name)


def for_steps(model: Forecaster, steps: int) -> Forecaster:
    """The model told how far ahead it will be asked, where it wants to know before it learns."""
    from aiops.forecast.regression import Boosting

    return replace(model, steps=steps) if isinstance(model, Boosting) else model
