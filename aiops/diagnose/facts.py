"""What one diagnosis knows, as questions that verdicts ask: which rows play a role, did they rise, since when.

Everything here is reading; the numbers come from `shift`, the graph from configuration. Amounts are in the row's own unit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from aiops.diagnose.derive import Rich
from aiops.diagnose.graph import Graph
from aiops.diagnose.meaning import Role
from aiops.diagnose.shift import Shifts, Window, baseline_end, measure
from aiops.metrics import Bad
from aiops.model import Evidence

SURE_Z = 4.0
"""Scales beyond usual that count as a fact: the maximum of 300 normal columns lies at 3.4 (expected, Gaussian)."""
SURE_RATIO = 0.05
"""Least change against the usual level that matters to anybody: the run-to-run spread of step times is 1-3 %."""
RECENT_S = 60.0
"""'Now' for what has no SLI of its own: six scrapes of 10 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Rich panel, graph, window and shifts; `sli` is a row or None; `scope` the entities that can show in the SLI."""

    rich: Rich
    graph: Graph
    window: Window
    shifts: Shifts
    sli: int | None
    scope: frozenset[str]
    roles: dict[Role, tuple[int, ...]]

    def rows(self, role: Role, among: Collection[str] | None = None) -> tuple[int, ...]:
        """Rows of a role, of the given entities or of the scope."""
        entities = self.scope if among is None else among
        return tuple(i for i in self.roles.get(role, ()) if self.entity(i) in entities)

    def entity(self, row: int) -> str:
        """Whose row it is."""
        return self.rich.panel.entities[row]

    def rise(self, row: int) -> float:
        """Level in the evidence minus usual, with its own sign; NaN where unknown."""
        return float(self.shifts.level[row] - self.shifts.usual[row])

    def z(self, row: int) -> float:
        """The rise in scales; 0 where unknown."""
        value = float(self.shifts.moved[row])
        return value if np.isfinite(value) else 0.0

    def ratio(self, row: int) -> float:
        """The rise against the usual level; NaN where that is 0 or unknown."""
        usual = abs(float(self.shifts.usual[row]))
        return self.rise(row) / usual if usual > 0 else np.nan

    def rose(self, row: int, ratio: float = SURE_RATIO) -> bool:
        """True where the level went up for sure: in scales and in proportion (any rise from exactly 0 is in proportion)."""
        share = self.ratio(row)
        return self.z(row) >= SURE_Z and (share >= ratio or not np.isfinite(share))

    def fell(self, row: int, ratio: float = SURE_RATIO) -> bool:
        """True where the level went down for sure."""
        return self.z(row) <= -SURE_Z and not self.ratio(row) > -ratio

    def hurts(self, row: int) -> bool:
        """True where the row went its bad way for sure; a row without one never hurts."""
        match self.rich.meanings[row].worse:
            case Bad.UP:
                return self.rose(row)
            case Bad.DOWN:
                return self.fell(row)
            case Bad.NONE:
                return False
            case unreachable:
                assert_never(unreachable)

    def since(self, row: int) -> float:
        """Time at which the row had gone half of its way, looking back to the end of the baseline; inf where it did not."""
        late = self.rich.panel.values[row, self.window.baseline :]
        half = abs(self.rise(row)) / 2
        far = np.flatnonzero(np.abs(late - self.shifts.usual[row]) >= max(half, 2 * float(self.shifts.scale[row])))
        return float(self.rich.panel.times[self.window.baseline + far[0]]) if len(far) else np.inf

    def worst(self, rows: Iterable[int]) -> int | None:
        """The row with the highest score among those that hurt, or None."""
        hurt = [row for row in rows if self.hurts(row)]
        return max(hurt, key=lambda row: (float(self.shifts.score[row]), abs(self.z(row)))) if hurt else None

    def series(self, row: int) -> str:
        """`entity:metric` of a row, as `--sli` takes it."""
        return f"{self.entity(row)}:{self.rich.panel.metrics[row]}"

    def evidence(self, row: int, said: str = "") -> Evidence:
        """One fact with its numbers."""
        usual, level = float(self.shifts.usual[row]), float(self.shifts.level[row])
        what = said or f"{self.rich.meanings[row].role.value} of {self.entity(row)}"
        far = f"{self.z(row):+.1f}" if abs(self.z(row)) < 100 else ("more than +100" if self.z(row) > 0 else "less than -100")
        text = f"{what}: {level:.4g}, usually {usual:.4g} ({far} scales)"
        finite = np.isfinite(level)
        return Evidence(text=text, series=self.series(row), value=level if finite else None, baseline=usual if finite else None)


def recent_facts(rich: Rich, graph: Graph, at: float, recent_s: float = RECENT_S) -> Facts:
    """Facts on the last `recent_s` before `at` (three columns at least) and what followed, for what has no SLI of its own."""
    times = rich.panel.times
    onset = max(0, min(int(np.searchsorted(times, at - recent_s)), len(times) - 3))
    baseline = min(baseline_end(times, rich.panel.step_s, at), max(onset, 1))
    window = Window(baseline=baseline, onset=onset, end=len(times), width=3, strength=0.0, clear=True)
    return Facts(
        rich=rich,
        graph=graph,
        window=window,
        shifts=measure(rich.panel, rich.meanings, window),
        sli=None,
        scope=frozenset(rich.panel.entities) | frozenset(graph.types),
        roles=by_role(rich),
    )


def by_role(rich: Rich) -> dict[Role, tuple[int, ...]]:
    """Rows of every role."""
    found: dict[Role, list[int]] = {}
    for i, told in enumerate(rich.meanings):
        found.setdefault(told.role, []).append(i)
    return {role: tuple(rows) for role, rows in found.items()}
