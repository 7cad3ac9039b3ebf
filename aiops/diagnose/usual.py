"""What may be called usual: the past without the faults that were in it. Comes before any statistics of a live diagnosis.

A rolling window holds an ended fault for as long as it is long, and until then a new one would have to be larger than the old.
So the columns of earlier findings are forgotten for everything that can show in the same SLI. Pure; the store remembers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aiops.diagnose.derive import Rich
from aiops.diagnose.graph import Graph
from aiops.diagnose.shift import LATE_S
from aiops.model import Cause, Finding

GUARD_S = 60.0
"""Around a finding: it begins before it can be seen, and the load that waited comes after its end."""
ENOUGH = 60
"""Columns that a baseline keeps at least, else nothing is forgotten: ten minutes at 10 s."""
NO_FAULT = (Cause.LOAD_CHANGE, Cause.EXHAUSTION, Cause.ANOMALY)
"""A new load is the new usual at once; a warning is not yet true; what merely left a forecast's band has no cause."""


def without_faults(rich: Rich, graph: Graph, known: Sequence[Finding], now: float) -> Rich:
    """The panel without the columns in which a known fault was at work, on the rows of everything it can be seen with.

    The last `LATE_S` are kept: they are no baseline, and what is in them is to be explained.
    """
    times = rich.panel.times
    past = times < now - LATE_S
    faulty: dict[str, NDArray[np.bool_]] = {}
    for one in known:
        if one.cause in NO_FAULT or one.since is None or one.horizon_s is not None:
            continue
        during = past & (times >= one.since - GUARD_S) & (times <= one.at + GUARD_S)
        for entity in _concerned(graph, one):
            faulty[entity] = faulty.get(entity, np.zeros(len(times), dtype=bool)) | during
    values = rich.panel.values.copy()
    for i, entity in enumerate(rich.panel.entities):
        during = faulty.get(entity, np.zeros(0, dtype=bool))
        if during.any() and (past & ~during & np.isfinite(values[i])).sum() >= ENOUGH:
            values[i, during] = np.nan
    return replace(rich, panel=replace(rich.panel, values=values))


def _concerned(graph: Graph, one: Finding) -> frozenset[str]:
    """The subject, and whatever can show in the victim, where the chain begins."""
    return graph.upstream(one.chain[0] if one.chain else one.subject) | {one.subject}
