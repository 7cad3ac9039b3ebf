"""Time, and the only file that may read it.

`now()` is the wall clock, Unix seconds UTC: used for labels on things. `elapsed()` is monotonic: used for durations, so
that a stepped wall clock ends no lease or cooldown early. Everything else is handed one `now` per cycle.
"""

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Where the wiring gets its time."""

    def now(self) -> float:
        """Wall-clock Unix seconds, UTC."""
        ...

    def elapsed(self) -> float:
        """Monotonic seconds since an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        """Wall-clock Unix seconds, UTC."""
        return time.time()

    def elapsed(self) -> float:
        """Monotonic seconds that include suspend, so that a laptop's nap does not prolong a lease."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(slots=True)
class ManualClock:
    """A clock that tests and simulations move by hand; wall and monotonic time can be moved apart."""

    wall: float = 0.0
    monotonic: float = 0.0

    def now(self) -> float:
        """The wall time set by hand."""
        return self.wall

    def elapsed(self) -> float:
        """The monotonic time set by hand."""
        return self.monotonic

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both clocks."""
        self.wall += seconds
        self.monotonic += seconds

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock alone, as NTP or a careless admin would."""
        self.wall += seconds
