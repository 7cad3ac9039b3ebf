"""How wrong the forecasts were that have come due: absolute error of the median over the size of what happened.

Worked out from the store, at most once a minute and for a bounded number of targets per scrape: the figure moves slowly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from prometheus_client.core import GaugeMetricFamily, Metric

from aiops.api.samples import parsed
from aiops.metrics import CATALOGUE
from aiops.model import Floats, Forecast, Match, Matcher, Query
from aiops.ports import Store

WINDOW_S = 3600.0
FRESH_S = 60.0
AT_ONCE = 20  # targets that one scrape works out; the others keep their last figure


class Accuracy:
    """The error ratio per target, with when it was worked out; a cache that may be lost."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float | None]] = {}

    def family(self, store: Store, targets: Sequence[str], now: float) -> Metric:
        """`aiops_forecast_abs_error_ratio` of the targets for which forecasts have come due."""
        due = sorted((self._known.get(t, (0.0, None))[0], t) for t in targets)
        for worked_out, target in due[:AT_ONCE]:
            if now - worked_out >= FRESH_S:
                self._known[target] = (now, ratio(store, target, now))
        self._known = {target: self._known[target] for target in targets if target in self._known}
        row = CATALOGUE["aiops_forecast_abs_error_ratio"]
        family = GaugeMetricFamily(row.name, row.help, labels=row.labels)
        for target, (_, value) in sorted(self._known.items()):
            if value is not None:
                family.add_metric([target], value)
        return family


def ratio(store: Store, target: str, now: float) -> float | None:
    """Sum of |median - truth| over sum of |truth|, over points due in the last hour; None where nothing can be compared."""
    made = store.forecast_history(target, now - 2 * WINDOW_S, now)
    metric, labels = parsed(target)
    matchers = tuple(Matcher(name, value, Match.EQUAL) for name, value in labels.items())
    found = [s for s in store.read(Query(metric=metric, matchers=matchers, window_s=WINDOW_S), now) if str(s.key) == target]
    if not found or not made:
        return None
    times, values = found[0].times, found[0].values
    known = np.isfinite(values)
    errors, sizes = zip(*(_compared(one, times[known], values[known], now) for one in made), strict=True)
    size = float(np.sum(sizes))
    return float(np.sum(errors)) / size if size > 0 else None


def _compared(forecast: Forecast, times: Floats, values: Floats, now: float) -> tuple[float, float]:
    """Absolute error and size at the forecast's points that are past and lie between two samples."""
    if not len(times):
        return 0.0, 0.0
    past = (forecast.times <= min(now, times[-1])) & (forecast.times >= times[0])
    truth = np.interp(forecast.times[past], times, values)
    return float(np.abs(forecast.at_quantile(0.5)[past] - truth).sum()), float(np.abs(truth).sum())
