"""Knative's Pod Autoscaler (defaults): stable and panic windows.

Tick 2 s; stable window 60 s, panic window 6 s; panic when the panic window wants at least 200 % of what is ready; no shrink
in panic, which lasts until a stable window has passed without cause; up-rate 1000, down-rate 2; target 70 %.
"""

from __future__ import annotations

import math
from typing import ClassVar

from aiops.sim.baselines.seen import Seen, ceil

STABLE_S, PANIC_S = 60, 6
PANIC_RATIO = 2.0
UP_RATE, DOWN_RATE = 1000.0, 2.0


class Kpa:
    """One KPA. The target per replica is the scenario's, which is 70 % of capacity unless it says otherwise."""

    period_s: ClassVar[int] = 2

    def __init__(self) -> None:
        self._panic_since: float | None = None
        self._panic_most = 0

    def target(self, seen: Seen) -> int:
        """See `Scaler.target`."""
        ready = max(1, seen.ready)
        most, least = math.ceil(UP_RATE * ready), math.floor(ready / DOWN_RATE)
        stable, panic = (min(max(ceil(seen.mean(s) / seen.target), least), most) for s in (STABLE_S, PANIC_S))
        if ceil(seen.mean(PANIC_S) / seen.target) / ready >= PANIC_RATIO:
            if self._panic_since is None:
                self._panic_most = 0
            self._panic_since = seen.now
        elif self._panic_since is not None and seen.now - self._panic_since >= STABLE_S:
            self._panic_since = None
        if self._panic_since is None:
            return seen.clip(stable)
        self._panic_most = max(self._panic_most, stable, panic, seen.replicas)
        return seen.clip(self._panic_most)
