"""How long the training threads were ready to run and no CPU was free, as the kernel's scheduler counts it (Linux).

Beside the split of a step, not a part of it: such seconds are hidden in compute, and look like a slow device from outside.
Reads files, therefore only the reporting thread calls it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

TASKS = Path("/proc/self/task")


class Starved:
    """Sums over the training threads of one process; what a thread waited that has ended stays in the sum."""

    def __init__(self, tasks: Path = TASKS) -> None:
        self._tasks = tasks
        self._seconds: dict[int, float] = {}

    def look(self, threads: Iterable[int]) -> float | None:
        """Seconds since the start over these threads (kernel ids) and all earlier ones; None where the kernel tells none."""
        for thread in threads:
            try:
                ran_ns, waited_ns, *_ = map(int, (self._tasks / str(thread) / "schedstat").read_text().split())
            except (OSError, ValueError):
                continue  # ended, no Linux, or a kernel without schedstats
            if ran_ns:  # a kernel that does not count answers zeros: missing is never zero
                self._seconds[thread] = waited_ns / 1e9
        return sum(self._seconds.values()) if self._seconds else None
