"""From what happened to what is reported: SLO-violation minutes, replica-hours, latency, flaps, lead. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from aiops.model import Floats
from aiops.sim.cluster.latency import BLOCK_S, Waits, waits
from aiops.sim.cluster.scenario import ServiceSpec, Stall
from aiops.sim.cluster.stall import carried, scale_ups
from aiops.sim.cluster.world import Fleet, per_second

SLO_QUANTILE = 0.95
FLAP_S = 600.0
"""A change that turns the one before it around within this time is a flap."""

LOOK_S = 3600.0
"""How far from an order its need is looked for."""

TOLERANCE = 0.1
"""A need starts where all rules agree that it does: 10 % over what the replicas should carry."""

Order = tuple[float, int, int]


def score(fleet: Fleet, load: Floats, start: float, by: tuple[float, Sequence[Stall]]) -> dict[str, float | int | None]:
    """The report of one service over (n,) seconds of `load` from `start` on; `by` is the load of a request, and the stalls."""
    spec, (per_request, stalls) = fleet.spec, by
    placed, ready = per_second(fleet, start, len(load))
    waited = waits(load, carried(stalls, spec.name, ready), (spec.capacity, per_request, spec.latency))
    leads = lead_times(fleet.orders, fleet.changes, demand(load, start), spec)
    orders = [order for order in fleet.orders if order[0] >= start]
    hours = len(load) / 3600
    stalled = {"scale_ups_in_stalls": scale_ups(stalls, spec.name, orders, start)} if stalls else {}
    return {
        **stalled,
        "slo_violation_minutes": round(violated(waited, spec.slo) * BLOCK_S / 60, 3),
        "replica_hours": round(float(placed.sum()) / 3600, 3),
        "latency_mean_s": round(waited.mean_s(), 4),
        "latency_p99_s": round(waited.quantile_s(0.99), 3),
        "flaps_per_hour": round(flaps(orders) / hours, 4),
        "scale_ups": sum(after > before for _, before, after in orders),
        "scale_downs": sum(after < before for _, before, after in orders),
        "lead_mean_s": round(float(np.mean(leads)), 1) if leads else None,
        "scale_ups_needed": len(leads),
    }


def violated(waited: Waits, slo_s: float) -> int:
    """Blocks in which more than 5 % of the requests took longer than the SLO."""
    return int(((waited.requests > 0) & (waited.beyond(slo_s) > 1 - SLO_QUANTILE)).sum())


def flaps(orders: Sequence[Order]) -> int:
    """Changes of direction within ten minutes of the change before."""
    turned = 0
    for (then, was, became), (now, before, after) in pairwise(orders):
        turned += now - then <= FLAP_S and (became > was) != (after > before)
    return turned


def demand(load: Floats, start: float) -> tuple[Floats, Floats]:
    """(b,) ends of minutes and (b,) mean load of each."""
    minutes = len(load) // 60
    ends = np.asarray(start + 60.0 * np.arange(1, minutes + 1), dtype=np.float64)
    return ends, np.asarray(load[: minutes * 60].reshape(-1, 60).mean(axis=1), dtype=np.float64)


def lead_times(
    orders: Sequence[Order], changes: Sequence[tuple[float, int, int]], by_minute: tuple[Floats, Floats], spec: ServiceSpec
) -> list[float]:
    """Seconds from ready to needed of each scale-up that was needed within an hour; below zero: it came too late.

    Needed is the first minute in which the load exceeds by a tenth what the replicas before the order should carry; where it
    already did when the order was given, the minute in which that began. One that was taken back before then was not needed.
    """
    times, means = by_minute
    changed_at = np.array([at for at, _, _ in changes])
    found = []
    for number, (at, before, after) in enumerate(orders):
        since = changes[int(np.searchsorted(changed_at, at)) :]
        done = next((then for then, _, ready in since if ready >= after), None)
        index = int(np.searchsorted(times, at))
        over = means > before * spec.right_load * (1 + TOLERANCE)
        if after <= before or done is None or index >= len(times):
            continue
        if index and over[index - 1]:
            calm = np.flatnonzero(~over[:index])
            found.append(float(times[calm[-1] + 1 if len(calm) else 0] - 60.0 - done))
            continue
        later = np.flatnonzero(over[index : index + int(LOOK_S // 60)])
        need = float(times[index + later[0]] - 60.0) if len(later) else np.inf
        if len(later) and all(kept >= after for then, _, kept in orders[number + 1 :] if then < need):
            found.append(need - done)
    return found
