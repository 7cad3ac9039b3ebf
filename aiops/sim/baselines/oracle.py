"""Perfect foresight, with everybody's sizing rule: what the load cannot be served with fewer replica-hours for.

At each moment it has what the largest one-minute mean load of the coming start-up needs at the target per replica, not a
replica more. It is a bound, not a product: it reads the trace ahead of time.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from aiops.model import Floats
from aiops.sim.baselines.seen import Seen, ceil

MEAN_S = 60


class Oracle:
    """Knows `rates` (n,) of the whole trace from its first second, and the longest start-up."""

    period_s: ClassVar[int] = 5

    def __init__(self, rates: Floats, lead_s: int) -> None:
        smooth = uniform_filter1d(rates, MEAN_S, mode="nearest")
        back = MEAN_S // 2  # a mean around a moment falls before its load does
        size = back + 1 + lead_s + self.period_s
        self._ahead: Floats = np.asarray(maximum_filter1d(smooth, size, mode="nearest", origin=back - size // 2))

    def target(self, seen: Seen) -> int:
        """See `Scaler.target`."""
        return seen.clip(ceil(float(self._ahead[min(len(seen.rates), len(self._ahead) - 1)]) / seen.target))
