"""Baselines by the names of the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiops.model import Floats
from aiops.sim.baselines.aibrix import Aibrix
from aiops.sim.baselines.crane import Dsp
from aiops.sim.baselines.hpa import METRIC_S, Hpa
from aiops.sim.baselines.kpa import Kpa
from aiops.sim.baselines.oracle import Oracle
from aiops.sim.baselines.seen import Scaler, Seen

WEEK_S, AHEAD_S = 7 * 86400, 1800


def last_week_max(seen: Seen) -> float:
    """The larger of the load now and the maximum of the same metric in last week's next 30 minutes (a rule of Mimir's)."""
    start = len(seen.rates) - WEEK_S
    if start < 0:
        return seen.mean(METRIC_S)
    minutes = seen.rates[start : start + AHEAD_S].reshape(-1, 60).mean(axis=1)
    return max(seen.mean(METRIC_S), float(minutes.max()))


BASELINES: Mapping[str, Callable[[Floats, int], Scaler]] = {
    "hpa": lambda rates, lead_s: Hpa(),
    "kpa": lambda rates, lead_s: Kpa(),
    "crane": lambda rates, lead_s: Hpa(Dsp()),
    "last-week-max": lambda rates, lead_s: Hpa(last_week_max),
    "aibrix": lambda rates, lead_s: Aibrix(),
    "oracle": Oracle,
}
"""Name -> a fresh scaler for one service; the load of the whole trace and the longest start-up are for the oracle alone."""
