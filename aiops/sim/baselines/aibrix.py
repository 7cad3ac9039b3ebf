"""AIBrix's pod autoscaler (defaults): windows of 180 s and 60 s, rates of 2, tolerances of 0.1, HPA's stabilisation.

Loop 10 s; the long window decides, the short one while it wants at least twice what is ready; a need within 10 % of what is
there changes nothing; at most doubled or halved per loop; shrinking waits for the maximum of 300 s of recommendations.
"""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from aiops.sim.baselines.seen import Seen, ceil

STABLE_S, PANIC_S = 180, 60
PANIC_RATIO = 2.0
TOLERANCE = 0.1
RATE = 2.0
STABILISE_S = 300.0


class Aibrix:
    """One AIBrix autoscaler."""

    period_s: ClassVar[int] = 10

    def __init__(self) -> None:
        self._wished: deque[tuple[float, int]] = deque()

    def target(self, seen: Seen) -> int:
        """See `Scaler.target`."""
        ready = max(1, seen.ready)
        panic = seen.mean(PANIC_S) / seen.target >= PANIC_RATIO * ready
        load = max(seen.mean(PANIC_S), seen.mean(STABLE_S)) if panic else seen.mean(STABLE_S)
        ratio = load / (seen.target * max(1, seen.replicas))
        inside = 1 - TOLERANCE <= ratio <= 1 + TOLERANCE
        wish = seen.replicas if inside else ceil(load / seen.target)
        wish = seen.clip(min(max(wish, seen.replicas / RATE), RATE * max(1, seen.replicas)))
        self._wished.append((seen.now, wish))
        while self._wished[0][0] < seen.now - STABILISE_S:
            self._wished.popleft()
        return wish if wish >= seen.replicas else min(seen.replicas, max(count for _, count in self._wished))
