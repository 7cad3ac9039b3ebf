"""Was it foreseen? Where an SLI has a forecast, it is judged against that and not against its rolling past alone.

A latency that grows every Monday morning is no news. The forecast must have been made before anything can have gone wrong, or
it would have learnt the fault. Pure; knows no model, only quantiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from aiops.diagnose.facts import RECENT_S
from aiops.diagnose.shift import LATE_S, nan_median
from aiops.metrics import Bad
from aiops.model import Floats, Forecast, Series

Foreseen = Mapping[tuple[str, str], Forecast]
"""Forecasts by entity and metric."""


def by_row(forecasts: Iterable[Forecast], named: Sequence[tuple[Series, str, str]], now: float) -> Foreseen:
    """The newest usable forecast of each (entity, metric) that was made `LATE_S` ago or before and reaches `now`."""
    usable = [f for f in forecasts if f.refused is None and f.made_at <= now - LATE_S and f.times[0] <= now <= f.times[-1]]
    newest = {f.target: f for f in sorted(usable, key=lambda f: f.made_at)}
    return {(entity, metric): newest[str(one.key)] for one, entity, metric in named if str(one.key) in newest}


def as_foreseen(made: Forecast | None, times: Floats, values: Floats, worse: Bad) -> bool:
    """True where the newest readings lie within the outermost quantile of the forecast on the bad side."""
    if made is None:
        return False
    recent = times >= times[-1] - RECENT_S
    level = float(nan_median(values[recent][None])[0])
    edge = made.values[0] if worse is Bad.DOWN else made.values[-1]
    bound = float(np.interp(times[-1], made.times, edge))
    return level >= bound if worse is Bad.DOWN else level <= bound
