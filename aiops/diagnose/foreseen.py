"""Was it foreseen? An SLI that has forecasts is judged by what they missed, not against its rolling past alone.

A latency that grows every Monday morning is no news, and one that stays where it was while it ought to fall is. A moment is
held only against a forecast that was made before anything can have gone wrong then, or it would have learnt the fault. Pure;
knows no model, only quantiles.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aiops.diagnose.derive import Rich
from aiops.diagnose.facts import RECENT_S
from aiops.diagnose.meaning import Role
from aiops.diagnose.panel import Panel
from aiops.diagnose.shift import LATE_S, nan_median
from aiops.metrics import Bad
from aiops.model import Floats, Forecast, Series

Foreseen = Mapping[tuple[str, str], Sequence[Forecast]]
"""Usable forecasts by entity and metric, oldest first."""
ENOUGH = 30
"""Columns of a baseline that have to have been foreseen before residuals replace the readings: 5 minutes at 10 s."""


@dataclass(frozen=True, slots=True)
class Band:
    """What was foreseen for each column (t,), NaN where nothing was: the outermost quantiles, and the range of the median.

    A forecast is of means over its step; when within it a change comes is not foreseen. So each is the range over the
    steps around the moment.
    """

    least: Floats
    low: Floats
    high: Floats
    most: Floats

    def missed_by(self, values: Floats) -> Floats:
        """(t,) how far values lie above (positive) or below the median's range; 0 inside it, NaN where nothing was foreseen."""
        return np.asarray(values - np.clip(values, self.low, self.high), dtype=np.float64)


def by_row(forecasts: Iterable[Forecast], named: Sequence[tuple[Series, str, str]]) -> Foreseen:
    """The forecasts of each (entity, metric) that may be acted upon."""
    usable: dict[str, list[Forecast]] = {}
    for one in sorted(forecasts, key=lambda one: one.made_at):
        if one.refused is None and len(one.times):
            usable.setdefault(one.target, []).append(one)
    return {(entity, metric): usable[str(one.key)] for one, entity, metric in named if str(one.key) in usable}


def band_of(made: Sequence[Forecast], times: Floats) -> Band:
    """For every moment the newest forecast that was made `LATE_S` before it and reaches it."""
    band = Band(*(np.full(len(times), np.nan) for _ in range(4)))
    for one in made:
        mine = (times >= max(one.made_at + LATE_S, one.times[0])) & (times <= one.times[-1])
        step = float(one.times[1] - one.times[0]) if len(one.times) > 1 else 0.0
        around = times[mine][None] + np.array([[-step], [0.0], [step]])
        low, middle, high = (np.interp(around, one.times, row) for row in (one.values[0], one.at_quantile(0.5), one.values[-1]))
        band.least[mine], band.most[mine] = low.min(axis=0), high.max(axis=0)
        band.low[mine], band.high[mine] = middle.min(axis=0), middle.max(axis=0)
    return band


def against(rich: Rich, foreseen: Foreseen, roles: Collection[Role]) -> tuple[Rich, Mapping[int, Band]]:
    """The panel with what forecasts missed in place of the readings of foreseen rows of these roles, and every row's band.

    Laid around what is foreseen for the newest column, so that the numbers stay readable. A row whose forecasts reach the
    newest column but too little of the past to know their errors keeps its readings; its band still counts.
    """
    panel, values, bands = rich.panel, rich.panel.values.copy(), {}
    for i, key in enumerate(zip(panel.entities, panel.metrics, strict=True)):
        band = band_of(foreseen[key], panel.times) if key in foreseen and rich.meanings[i].role in roles else None
        if band is None or not np.isfinite(band.most[-1]):
            continue
        bands[i] = band
        missed = band.missed_by(panel.values[i])
        if np.isfinite(missed[panel.times < panel.times[-1] - LATE_S]).sum() >= ENOUGH:
            values[i] = (band.low[-1] + band.high[-1]) / 2 + missed
    return (replace(rich, panel=replace(panel, values=values)) if bands else rich), bands


def as_foreseen(band: Band, panel: Panel, row: int, worse: Bad) -> bool:
    """True where the newest readings of a panel as measured lie within the outermost quantile on the bad side."""
    recent = panel.times >= panel.times[-1] - RECENT_S
    level = float(nan_median(panel.values[[row]][:, recent])[0])
    return bool(level >= band.least[-1] if worse is Bad.DOWN else level <= band.most[-1])
