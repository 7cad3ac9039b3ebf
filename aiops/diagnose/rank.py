"""Who is to blame: one score per entity from the scores of its rows and the declared graph.

A root is anomalous in its own state (internal) and in what its users see (external); a victim only in the latter. What an
entity's own causes explain is taken off its external score; what it can contribute to the SLI, in the SLI's own unit times
its share of the load, weighs it; the two-ended test of its edges adds what no node shows. Decides no verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aiops.diagnose.derive import Rich
from aiops.diagnose.graph import Graph
from aiops.diagnose.meaning import Role
from aiops.diagnose.shift import Shifts
from aiops.metrics import Bad, Side
from aiops.model import Floats

EXPLAINS = 3.0
"""Least score of a cause's row before it may explain its effect's: about one window in twenty by chance."""
SAME_KIND = 0.8
"""Weight of 'how much of the SLI's shift could this be'; the rest stays, since units and loads are not always comparable."""
OTHER_KIND = 0.3
"""That contribution for rows of another kind than the SLI (a latency under an availability): unknown, so little."""
OUTSIDE = 0.5
"""Weight of an entity from which nobody declared a way to the SLI: it is no cause, unless an edge was forgotten."""
VANISHED = 4.0
"""Score of an entity whose rows all stopped: as anomalous as about ten scales."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """One entity's score and its three parts; `row` is its most telling row, -1 where it has none."""

    entity: str
    score: float
    internal: float
    external: float
    network: float
    row: int


def suspects(rich: Rich, shifts: Shifts, graph: Graph, sli: int | None) -> tuple[Suspect, ...]:
    """Every entity of graph and telemetry, best first, ties by name; measured edges count for their two ends."""
    measured = {edge.id for edge in graph.edges}
    external = shifts.score * _own_share(rich, shifts, graph) * _contribution(rich, shifts, sli)
    if sli is not None:
        external = external * shifts.fresh
    internal = shifts.score * (shifts.fresh if sli is not None else 1.0)
    inner_scores, outer_scores = internal.tolist(), external.tolist()
    best: dict[str, dict[Side, tuple[float, int]]] = {}
    for i, (entity, told) in enumerate(zip(rich.panel.entities, rich.meanings, strict=True)):
        value = inner_scores[i] if told.side is Side.INTERNAL else outer_scores[i]
        held = best.setdefault(entity, {})
        if told.worse is not Bad.NONE and value > held.get(told.side, (0.0, -1))[0]:
            held[told.side] = (value, i)
    network = dict(_network(rich, shifts, graph))
    gone = _vanished(rich, shifts)
    within = _within(rich, graph, sli)
    found = []
    for entity in (set(graph.types) | set(rich.panel.entities)) - measured:
        parts = best.get(entity, {})
        inner, outer = parts.get(Side.INTERNAL, (0.0, -1)), parts.get(Side.EXTERNAL, (0.0, -1))
        net = network.get(entity, (0.0, -1))
        score = inner[0] + outer[0] + net[0] + (VANISHED if entity in gone else 0.0)
        score *= 1.0 if within is None or entity in within else OUTSIDE
        row = max(inner, outer, net)[1]
        found.append(Suspect(entity=entity, score=score, internal=inner[0], external=outer[0], network=net[0], row=row))
    return tuple(sorted(found, key=lambda suspect: (-suspect.score, suspect.entity)))


def _within(rich: Rich, graph: Graph, sli: int | None) -> frozenset[str] | None:
    """What can show in the SLI; None where that is anything, because nobody declared what the SLI depends on."""
    victim = rich.panel.entities[sli] if sli is not None else ""
    return graph.upstream(victim) if victim in graph.causes else None


def _own_share(rich: Rich, shifts: Shifts, graph: Graph) -> Floats:
    """(m,) 1 - largest shift of a cause in the same metric / own shift, for external rows; 1 where no cause has the metric."""
    index = {key: i for i, key in enumerate(zip(rich.panel.entities, rich.panel.metrics, strict=True))}
    worse, score, share = shifts.worse.tolist(), shifts.score.tolist(), [1.0] * len(shifts.score)
    for i, (entity, metric) in enumerate(zip(rich.panel.entities, rich.panel.metrics, strict=True)):
        if rich.meanings[i].side is Side.INTERNAL or not worse[i] > 0:
            continue
        rows = [index[cause, metric] for cause in graph.causes.get(entity, ()) if (cause, metric) in index]
        explained = max((worse[r] for r in rows if score[r] > EXPLAINS), default=0.0)
        share[i] = max(0.0, 1.0 - explained / worse[i])
    return np.array(share)


def _contribution(rich: Rich, shifts: Shifts, sli: int | None) -> Floats:
    """(m,) how much of the SLI's shift each external row could be: shift times load, over the SLI's shift times load."""
    if sli is None or not shifts.worse[sli] > 0:
        return np.ones(len(shifts.score))
    loads: dict[str, float] = {}
    for i, entity in enumerate(rich.panel.entities):
        if rich.meanings[i].role is Role.LOAD and np.isfinite(shifts.level[i]):
            loads[entity] = float(shifts.level[i])
    own = loads.get(rich.panel.entities[sli], np.nan)
    weight = np.full(len(shifts.score), OTHER_KIND)
    kind, name = rich.meanings[sli].role, rich.panel.metrics[sli]
    same = {entity for entity, metric in zip(rich.panel.entities, rich.panel.metrics, strict=True) if metric == name}
    for i, entity in enumerate(rich.panel.entities):
        alike = entity not in same and rich.meanings[i].role is kind is not Role.OTHER
        if rich.panel.metrics[i] == name or alike:
            traffic = loads.get(entity, np.nan) / own if own > 0 else np.nan
            part = shifts.worse[i] / shifts.worse[sli] * (traffic if np.isfinite(traffic) else 1.0)
            weight[i] = min(1.0, max(0.0, part)) if np.isfinite(part) else 0.0
    return 1.0 - SAME_KIND + SAME_KIND * weight


def _network(rich: Rich, shifts: Shifts, graph: Graph) -> Iterator[tuple[str, tuple[float, int]]]:
    """Per entity the score of its edges' excess: a fault of its network shows on all calls into it, of a link on one."""
    rows = {e: i for i, (e, m) in enumerate(zip(rich.panel.entities, rich.meanings, strict=True)) if m.role is Role.NET_LATENCY}
    into: dict[str, list[int]] = {}
    touching: dict[str, list[int]] = {}
    for edge in graph.edges:
        if edge.id in rows:
            into.setdefault(edge.cause, []).append(rows[edge.id])
            touching.setdefault(edge.cause, []).append(rows[edge.id])
            touching.setdefault(edge.effect, []).append(rows[edge.id])
    for entity, around in touching.items():
        means = [float(np.mean(shifts.score[group])) for group in (into.get(entity), around) if group]
        yield entity, (max(means), max(around, key=lambda i: float(shifts.score[i])))


def _vanished(rich: Rich, shifts: Shifts) -> frozenset[str]:
    """Entities that had two rows at least, all of which stopped while others went on."""
    if shifts.vanished.all():
        return frozenset()
    rows: dict[str, list[bool]] = {}
    for entity, gone in zip(rich.panel.entities, shifts.vanished, strict=True):
        rows.setdefault(entity, []).append(bool(gone))
    return frozenset(entity for entity, gone in rows.items() if len(gone) > 1 and all(gone))
