"""How far one run of a job is, and how much of that would survive: closed formulas instead of an event per checkpoint.

A run works, and after every `interval_s` of work writes a checkpoint for `cost_s`, in which it does not work. What it had at
the beginning of a checkpoint is durable at its end. Knows nothing of nodes, queues or who looks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One run from `begin` on, with `base` seconds of work behind it that are durable then.

    Until `begin` (restarting, or writing a checkpoint that was asked for) only `before` is durable. `written_at` is when this
    very run completed its checkpoint of `before`, `asked` says that `begin` completes another one of its own.
    """

    begin: float
    base: float
    before: float
    interval_s: float = math.inf
    cost_s: float = 0.0
    written_at: float | None = None
    asked: bool = False

    def _written(self, now: float) -> int:
        """Regular checkpoints completed since `begin`."""
        return 0 if math.isinf(self.interval_s) else max(0, int((now - self.begin) // (self.interval_s + self.cost_s)))

    def done(self, now: float) -> float:
        """Seconds of work in the run's memory."""
        count = self._written(now)
        if not count:
            return self.base + min(max(0.0, now - self.begin), self.interval_s)
        rest = now - self.begin - count * (self.interval_s + self.cost_s)
        return self.base + count * self.interval_s + min(rest, self.interval_s)

    def durable(self, now: float) -> float:
        """Seconds of work that a restart would begin with."""
        if now < self.begin:
            return self.before
        count = self._written(now)
        return self.base + count * self.interval_s if count else self.base

    def checkpointed_at(self, now: float) -> float | None:
        """When this run completed its newest checkpoint; None before its first one."""
        if now < self.begin:
            return self.written_at
        count = self._written(now)
        if count:
            return self.begin + count * (self.interval_s + self.cost_s)
        return self.begin if self.asked else self.written_at

    def end(self, total_s: float) -> float:
        """When `total_s` seconds of work are done; nobody writes a checkpoint of a finished job."""
        left = max(0.0, total_s - self.base)
        writes = 0 if math.isinf(self.interval_s) else max(0, math.ceil(left / self.interval_s) - 1)
        return self.begin + left + writes * self.cost_s

    def ask(self, now: float) -> Course:
        """The same run writing a checkpoint because it was asked for one: at once, or as soon as it has restarted."""
        if self.asked and now < self.begin:
            return self  # it is writing one already
        start = max(now, self.begin)
        return replace(
            self,
            begin=start + self.cost_s,
            base=self.done(start),
            before=self.durable(start),
            written_at=self.checkpointed_at(start),
            asked=True,
        )
