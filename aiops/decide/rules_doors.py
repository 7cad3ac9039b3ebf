"""Invariants of what goes in and out beside the decisions: poorer inputs, callers' orders, alerts, samples.

Records of decisions alone do not show these. Who checks them passes what else was seen: how to decide again (`Trace.again`) and
what callers, receivers and writers got at the doors (`Trace.doors`). Where that is not passed, the rules say nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from aiops.action import Action, ScalePool, ScaleService, destructive, target
from aiops.decide.limits import Limits
from aiops.decide.trace import Answer, Trace
from aiops.model import Series
from aiops.snapshot import Decided, Snapshot

Broken = Iterator[tuple[str, str]]
LATE_S = 120.0  # how much newer the newest sample is that a delayed input lacks


def no_bolder(trace: Trace, limits: Limits) -> Broken:
    """I6: with any one input gone, late or NaN, nothing destructive is wished for that was not, and no more of it.

    Forecasts are no such input: without one the reactive rule stands, by I27, and it may shrink what a forecast held.
    """
    if trace.again is None:
        return
    for seen, decided in trace.cycles:
        whole = _harm(decided)
        for lost, poorer in _poorer(seen):
            for name, much in _harm(trace.again(poorer)).items():
                if much > whole.get(name, 0):
                    yield seen.id, f"{name} would be hit harder without {lost}"


def _harm(decided: Decided) -> dict[str, int]:
    """How much is wished to be taken from each target."""
    hurting = (one.action for one in decided.decisions if destructive(one.action))
    return {f"{action.kind} {target(action)}": _much(action) for action in hurting}


def _much(action: Action) -> int:
    match action:
        case ScaleService():
            return action.was - action.replicas
        case ScalePool():
            return action.was - action.nodes
        case _:
            return 1


def _poorer(seen: Snapshot) -> Iterator[tuple[str, Snapshot]]:
    """The snapshot with one query's series gone, late, or unreadable."""
    for id, found in seen.series.items():
        late = tuple(_until(one, seen.now - LATE_S) for one in found)
        blank = tuple(replace(one, values=np.full_like(one.values, np.nan)) for one in found)
        for lost, left in ((id, ()), (f"the newest of {id}", late), (f"the values of {id}", blank)):
            yield lost, replace(seen, series={**seen.series, id: left})


def _until(series: Series, at: float) -> Series:
    old = series.times <= at
    return replace(series, times=series.times[old], values=series.values[old])


def audited(trace: Trace, limits: Limits) -> Broken:
    """I23: whoever was told that an order was taken, it was durable before he was told."""
    kept = {row.id: row.at for row in trace.doors.orders}
    for one in trace.doors.answers:
        if 200 <= one.status < 300 and not kept.get(one.order, float("inf")) <= one.at:
            yield one.order or one.key, f"answered {one.status} without an earlier audit row"


def idempotent(trace: Trace, limits: Limits) -> Broken:
    """I24: one key, one body, one answer, one effect; another body under it is refused."""
    first: dict[tuple[str, str], Answer] = {}
    for one in (one for one in trace.doors.answers if one.key):
        taken = 200 <= one.status < 300
        before = first.get((one.caller, one.key))
        if before is None:
            first |= {(one.caller, one.key): one} if taken else {}
        elif one.asked != before.asked and one.status != 422:
            yield one.key, f"another body under a used key was answered {one.status}"
        elif one.asked == before.asked and taken and one.told != before.told:
            yield one.key, "the same request was answered differently"
    for id, count in Counter(row.id for row in trace.doors.orders).items():
        if count > 1:
            yield id, f"{count} orders of one request"


def delivered(trace: Trace, limits: Limits) -> Broken:
    """I25: each notice reached its receiver, is dead and seen, or still waits; under one id, in order per group."""
    doors = trace.doors
    group = {one.id: one.group for one in doors.notices}
    settled = {one.id for one in doors.notices if one.done}
    got, dead = set(doors.received), set(doors.dead)
    yield from ((id, "received, but nobody had sent it") for id in sorted(got - group.keys()))
    yield from ((id, "neither delivered nor dead, yet no longer tried") for id in sorted(settled - got - dead))
    order: dict[str, list[str]] = defaultdict(list)
    for id in dict.fromkeys(one for one in doors.received if one in group):
        order[group[id]].append(id)
    for name, ids in order.items():
        sent = [one.id for one in doors.notices if one.group == name and one.id in got]
        if ids != sent:
            yield name, "received in another order than it happened"


def kept(trace: Trace, limits: Limits) -> Broken:
    """I26: what was acknowledged can be read, once, with the value that was acknowledged first."""
    told: dict[tuple[str, float], float] = {}
    for name, at, value in trace.doors.acknowledged:
        told.setdefault((name, at), value)
    found: dict[tuple[str, float], list[float]] = defaultdict(list)
    for name, at, value in trace.doors.readable:
        found[name, at].append(value)
    for (name, at), value in told.items():
        if found.get((name, at)) != [value]:
            yield name, f"{value:g} at {at:.3f} was acknowledged; read back: {found.get((name, at), [])}"
