"""A storage stall under a service: replicas answer slower, what they can carry shrinks, and more of them would not help.

Where a service's load counts requests in flight, the stall inflates it for everyone who looks (Little's law). The diagnosis is
not simulated: it says what it would say, `diagnosed` seconds after the onset (how often that is right: `bench/rootcause.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from aiops.model import Cause, Finding, Floats, SeriesKey
from aiops.sim.cluster.scenario import Stall

Order = tuple[float, int, int]


def slowed(stalls: Iterable[Stall], service: str, since_start: float) -> float:
    """How many times slower the service answers at this moment; 1 where nothing stalls."""
    return max((s.slowdown for s in stalls if s.service == service and 0 <= since_start - s.at < s.length), default=1.0)


def shown(stalls: Iterable[Stall], service: str, rates: Floats, start: int) -> Floats:
    """(n,) load as the service's metric shows it, of (n,) `rates`; `start` is the second at which the simulated span begins."""
    seen = rates
    for one in (s for s in stalls if s.service == service and s.in_flight):
        seen = seen.copy() if seen is rates else seen
        first = start + int(one.at)
        seen[first : first + int(one.length)] *= one.slowdown
    return seen


def carried(stalls: Iterable[Stall], service: str, ready: Floats) -> Floats:
    """(n,) replicas' worth of work that gets done of (n,) ready ones: the volume bounds it, whoever waits for it."""
    done = ready
    for one in (s for s in stalls if s.service == service):
        done = done.copy() if done is ready else done
        first = int(one.at)
        span = slice(first, first + int(one.length))
        done[span] = np.minimum(done[span], ready[min(first, len(ready) - 1)] / one.slowdown)
    return done


def findings(stalls: Iterable[Stall], start: float, now: float) -> tuple[Finding, ...]:
    """What the diagnosis holds at `now`."""
    held = (s for s in stalls if s.diagnosed is not None and s.diagnosed <= now - start - s.at < s.length)
    return tuple(
        Finding(
            id=f"stall-{one.service}-{one.at:.0f}",
            at=now,
            cause=Cause.IO_STALL,
            subject=f"{one.service}-data",
            score=1.0,
            confidence=0.9,
            since=start + one.at,
            sli=str(SeriesKey.of("service_request_seconds", service=one.service)),
            chain=(f"{one.service}-data", one.service),
        )
        for one in held
    )


def scale_ups(stalls: Sequence[Stall], service: str, orders: Iterable[Order], start: float) -> int:
    """Orders of more replicas while the service was stalled."""
    spans = [(start + s.at, start + s.at + s.length) for s in stalls if s.service == service]
    return sum(after > before and any(a <= at < b for a, b in spans) for at, before, after in orders)
