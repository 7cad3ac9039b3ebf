"""Prophet's shapes between refreshes: whose are due, what was drawn, and why one is missing.

Beside the global model and on its own clock: a service that Prophet fails on is tried again by itself, and nothing else is
learnt anew for it. Knows no workers; results come back as (shapes now and before the held-out moments) or a reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiops.forecast.live import group
from aiops.forecast.voices import Shapes
from aiops.foresight import Plan
from aiops.model import SeriesKey
from aiops.ports import Grid

PROPHET_GROUP = 8
"""Series that one task fits Prophet to: a dozen seconds, so that a fit that hangs, or the deadline, costs few shapes."""

SCALED = frozenset({"service", "pool", "queue"})
"""Labels of series that follow people's days and are scaled for."""

LATE = "fit timed out"
"""What an executor answers for every task that was not done by the deadline, whether it hung, waited or never began."""

Drawn = tuple[tuple[Shapes, Shapes] | None, str]


class Drawings:
    """The shapes of a panel's scaled series, each with the time from which it is due again."""

    def __init__(self, plan: Plan, retry_s: float) -> None:
        self.plan, self.retry_s = plan, min(retry_s, plan.refit_s)
        self.shapes: tuple[Shapes, Shapes] = ({}, {})
        self._due_at: dict[SeriesKey, float] = {}
        self._missing: dict[SeriesKey, str] = {}

    def due(self, panel: Sequence[Grid], end: float) -> list[tuple[Grid, ...]]:
        """The series to fit by `end`, in groups that are one task each; those that have left the panel are forgotten.

        What is due later than any fit could make it was fitted by a clock that ran ahead.
        """
        asked = prophet_series(panel, self.plan.prophet_series)
        there = {grid.key for grid in asked}
        self.shapes = _only(self.shapes[0], there), _only(self.shapes[1], there)
        self._due_at = {key: at for key, at in self._due_at.items() if key in there}
        self._missing = {key: why for key, why in self._missing.items() if key in there}
        waiting = {key for key, at in self._due_at.items() if end < at <= end + self.plan.refit_s}
        return group([grid for grid in asked if grid.key not in waiting], PROPHET_GROUP)

    def adopt(self, groups: Sequence[Sequence[Grid]], results: Sequence[Drawn], end: float, behind: bool) -> None:
        """What was drawn holds until tomorrow; what failed is tried again after a while, its old shape standing meanwhile.

        Of those that were late the first may have hung and waits like a failure; the others were behind it and stay due, as
        all do that were `behind` something else that was late.
        """
        waited = behind
        for part, (shapes, trouble) in zip(groups, results, strict=True):
            if shapes is not None:
                self.shapes = {**self.shapes[0], **shapes[0]}, {**self.shapes[1], **shapes[1]}
                self._settle(part, end + self.plan.refit_s, "not fitted")
            elif trouble == LATE and waited:
                self._settle(part, end, trouble)
            else:
                waited = waited or trouble == LATE
                self._settle(part, end + self.retry_s, trouble)

    def _settle(self, part: Sequence[Grid], at: float, missing: str) -> None:
        self._due_at |= {grid.key: at for grid in part}
        self._missing |= {grid.key: missing for grid in part}

    def of(self, part: Sequence[Grid]) -> tuple[Shapes, Shapes]:
        """The shapes of these series, for now and from before the held-out moments."""
        keys = {grid.key for grid in part}
        return _only(self.shapes[0], keys), _only(self.shapes[1], keys)

    def unheard(self, panel: Sequence[Grid]) -> dict[str, str]:
        """What the record of a series says for which Prophet was asked and has no shape."""
        asked = prophet_series(panel, self.plan.prophet_series)
        without = [grid.key for grid in asked if grid.key not in self.shapes[0]]
        return {str(key): f"(without prophet: {self._missing.get(key, 'not fitted')})" for key in without}


def is_scaled(key: SeriesKey) -> bool:
    """Whether this is the demand of a service, pool or queue: what policies act upon."""
    return any(name in SCALED for name, _ in key.labels)


def prophet_series(panel: Sequence[Grid], most: int) -> tuple[Grid, ...]:
    """The series that Prophet earns its cost on, at most so many: demand of services, pools and queues, not devices."""
    scaled = [grid for grid in panel if is_scaled(grid.key)]
    return tuple(scaled[:most])


def _only(shapes: Shapes, keys: set[SeriesKey]) -> Shapes:
    return {key: shape for key, shape in shapes.items() if key in keys}
