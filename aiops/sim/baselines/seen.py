"""What an autoscaler may look at, and what it answers. Equal for all baselines; only the oracle is handed more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

from aiops.model import Floats

ROUNDING = 1e-9
"""A need of 3.0000000001 replicas is three: division noise must not buy a replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One service at `now`: replicas ordered and ready, bounds, right load per replica, and `rates` (n,) per past second."""

    now: float
    replicas: int
    ready: int
    low: int
    high: int
    target: float
    rates: Floats

    def mean(self, window_s: int, back_s: int = 0) -> float:
        """Mean load over `window_s` seconds that ended `back_s` seconds ago; 0 where nothing was recorded yet."""
        end = len(self.rates) - back_s
        part = self.rates[max(0, end - window_s) : max(0, end)]
        return float(part.mean()) if len(part) else 0.0

    def clip(self, wanted: float) -> int:
        """`wanted` replicas, rounded up, within the service's bounds."""
        return min(max(ceil(wanted), self.low), self.high)


class Scaler(Protocol):
    """One autoscaler for one service, asked every `period_s`; it may remember."""

    period_s: ClassVar[int]

    def target(self, seen: Seen) -> int:
        """Replicas that it wants now, within the bounds."""
        ...


def ceil(value: float) -> int:
    """Smallest integer not below `value`, forgiving rounding noise."""
    return math.ceil(value - ROUNDING)
