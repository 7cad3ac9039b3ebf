"""Who knows the rate and not the noise: how few replica-hours anybody could do with who cannot foresee chance.

It is told what no product knows: the mean load of every minute from its first second on, and the mean of the quarter of an hour
around it, half of which is still to come. Room it must keep only for what the coming minutes differ from that by chance:
`spare` times the square root of that mean. A bound like the oracle; beside it, it shows what foreseeing chance itself is worth.
Not a proof: the room that it keeps is one rule of many.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.ndimage import uniform_filter1d

from aiops.model import Floats
from aiops.sim.baselines.seen import Seen, ceil

MINUTE_S, AROUND = 60, 15


class KnownRate:
    """Knows `rates` (n,) of the whole trace from its first second; `spare` is in roots of the load per second."""

    period_s: ClassVar[int] = 5

    def __init__(self, rates: Floats, spare: float) -> None:
        minutes = rates[: len(rates) // MINUTE_S * MINUTE_S].reshape(-1, MINUTE_S).mean(axis=1)
        around = uniform_filter1d(minutes, AROUND, mode="nearest")
        self._wanted: Floats = np.maximum(minutes, around + spare * np.sqrt(around))

    def target(self, seen: Seen) -> int:
        """See `Scaler.target`."""
        minute = min(len(seen.rates) // MINUTE_S, len(self._wanted) - 1)
        return seen.clip(ceil(float(self._wanted[minute]) / seen.target))
