"""Kubernetes' Horizontal Pod Autoscaler (autoscaling/v2 defaults), on load per replica.

Sync 15 s; tolerance 0.1; desired = ceil(current * metric / target); a replica that is not ready counts 100 % when shrinking
and 0 % when growing; down-stabilisation is the maximum of the recommendations of 300 s, growing is not stabilised; growth
per 15 s is at most +100 % or +4, whichever is larger; shrinking is not limited.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import ClassVar

from aiops.sim.baselines.seen import Seen, ceil

TOLERANCE = 0.1
STABILISE_S = 300.0
METRIC_S = 30
"""metrics-server averages over about this long."""


class Hpa:
    """One HPA; `demand` is the metric it looks at, by default the load of the last 30 s."""

    period_s: ClassVar[int] = 15

    def __init__(self, demand: Callable[[Seen], float] = lambda seen: seen.mean(METRIC_S)) -> None:
        self._demand = demand
        self._wished: deque[tuple[float, int]] = deque()

    def target(self, seen: Seen) -> int:
        """See `Scaler.target`."""
        wish = seen.clip(desired(seen, self._demand(seen)))
        self._wished.append((seen.now, wish))
        while self._wished[0][0] < seen.now - STABILISE_S:
            self._wished.popleft()
        if wish > seen.replicas:
            return min(wish, max(2 * seen.replicas, seen.replicas + 4))
        return min(seen.replicas, max(count for _, count in self._wished))


def desired(seen: Seen, load: float) -> int:
    """Replicas by HPA's formula, before bounds, stabilisation and rate limits."""
    if not seen.ready:
        return seen.replicas  # no metrics: HPA leaves things as they are
    ratio = load / (seen.ready * seen.target)
    if abs(ratio - 1) <= TOLERANCE:
        return seen.replicas
    missing = seen.replicas - seen.ready
    if not missing:
        return ceil(ratio * seen.ready)
    assumed = missing * seen.target if ratio < 1 else 0.0
    careful = (load + assumed) / (seen.replicas * seen.target)
    if abs(careful - 1) <= TOLERANCE or (careful < 1) != (ratio < 1):
        return seen.replicas
    return ceil(careful * seen.replicas)
