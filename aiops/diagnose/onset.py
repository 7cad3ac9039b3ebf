"""When did it begin: the window of a diagnosis from its SLI, from a part of the step, or from whatever deviates most.

Comes before any scoring. Turns rows into deviations in scales and gives them to `shift.find_window`; decides no cause.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aiops.diagnose.derive import Rich
from aiops.diagnose.graph import Graph
from aiops.diagnose.meaning import Role
from aiops.diagnose.shift import Window, baseline_end, find_window, nan_median, robust, signs
from aiops.diagnose.split import PART, PARTS
from aiops.metrics import Bad
from aiops.model import Floats

POOLED = 10
"""Rows whose mean deviation stands in for an SLI where none is named: few enough to see one entity's fault."""
POOLED_CAP = 20.0
"""Scales at which one row stops adding to that mean, so that a single broken sensor does not set the onset."""


def window_of(rich: Rich, graph: Graph, at: float, sli: int | None) -> Window:
    """Baseline and evidence columns for one SLI row, or for the rows that deviate most.

    The onset of a step time too noisy to show one is that of the part of the step which grew most.
    """
    window = find_window(track(rich, at, sli), rich.panel, at)
    if window.clear or sli is None or rich.meanings[sli].role is not Role.STEP:
        return window
    members = graph.upstream(rich.panel.entities[sli]) if graph.causes else frozenset(rich.panel.entities)
    rows = [i for i, m in enumerate(rich.meanings) if m.role in PARTS and rich.panel.entities[i] in members]
    best = max((_part_window(rich, at, row, sli) for row in rows), key=lambda found: found[0], default=(0.0, window))
    return replace(best[1], strength=window.strength) if best[0] > 0 else window


def turned(rich: Rich, at: float, sli: int | None) -> Rich:
    """The meanings, with the bad direction of an SLI that nobody knows taken from the data: it got worse, so where it went.

    All rows of the same metric follow.
    """
    if sli is None or rich.meanings[sli].known:
        return rich
    up = track(rich, at, sli)
    if find_window(up, rich.panel, at).strength >= find_window(-up, rich.panel, at).strength:
        return rich
    name, told = rich.panel.metrics[sli], replace(rich.meanings[sli], worse=Bad.DOWN)
    return replace(rich, meanings=tuple(told if rich.panel.metrics[i] == name else m for i, m in enumerate(rich.meanings)))


def _part_window(rich: Rich, at: float, row: int, sli: int) -> tuple[float, Window]:
    """Seconds per step by which a part grew, with its window; 0 where that is not clear or too little to matter."""
    start = baseline_end(rich.panel.times, rich.panel.step_s, at)
    usual, scale = robust(rich.panel.values[[row, sli], :start])
    window = find_window((rich.panel.values[row] - usual[0]) / scale[0], rich.panel, at)
    grown = float(nan_median(rich.panel.values[[row], window.onset : window.end])[0] - usual[0])
    return (grown if window.clear and grown >= PART * abs(float(usual[1])) else 0.0), window


def track(rich: Rich, at: float, sli: int | None) -> Floats:
    """(t,) deviation in scales of the SLI in its bad direction, or the mean of the `POOLED` most deviating rows."""
    baseline = baseline_end(rich.panel.times, rich.panel.step_s, at)
    if sli is not None:
        told = rich.meanings[sli]
        values = rich.panel.values[sli][None]
        usual, scale = robust(values[:, :baseline])
        track: Floats = ((values - usual[:, None]) / scale[:, None])[0]
        return np.abs(track) if told.worse is Bad.NONE else track * (-1.0 if told.worse is Bad.DOWN else 1.0)
    scored = np.flatnonzero([m.worse is not Bad.NONE for m in rich.meanings])
    values = rich.panel.values[scored] * signs(rich.meanings)[scored][:, None]
    usual, scale = robust(values[:, :baseline])
    with np.errstate(invalid="ignore"):
        z = (values - usual[:, None]) / scale[:, None]
    z = np.sort(np.minimum(np.where(np.isfinite(z), z, 0.0), POOLED_CAP), axis=0)[-POOLED:]
    pooled = z.mean(axis=0) if len(z) else np.zeros(values.shape[1])
    usual, scale = robust(pooled[None, :baseline])
    return np.asarray((pooled - usual[0]) / scale[0], dtype=np.float64)
