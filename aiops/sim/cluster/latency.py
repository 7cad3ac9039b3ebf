"""How long requests wait: a queue per service, the same for every policy. Pure, and after the run: waiting decides nothing.

Two parts. What the ready replicas cannot serve in a second queues as a fluid (Lindley's recursion): overload and cold starts.
What they can serve still waits as in M/M/c with c ready replicas (Erlang's C), at the mean load of the last minute, because
arrivals and service times vary. Both are reckoned in blocks of `BLOCK_S`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from aiops.model import Floats

BLOCK_S = 10
SMOOTH_BLOCKS = 6
FULL = 0.98
"""M/M/c has no steady state at 1: from here on the fluid part tells the delay."""

MOST_SERVERS = 200
"""More replicas than this wait so little that c = 200 at the same load per replica is used."""

NEVER_S = 3600.0
"""The delay while nothing is ready and somebody waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Per block of 10 s, all (b,): requests, `fixed_s` that each takes, the share that waits longer, and their rate 1/s."""

    requests: Floats
    fixed_s: Floats
    queued: Floats
    rate: Floats

    def beyond(self, seconds: float | Floats) -> Floats:
        """(b,) share of requests that took longer than `seconds`."""
        more = np.maximum(0.0, seconds - self.fixed_s)
        return np.where(self.fixed_s > seconds, 1.0, self.queued * np.exp(-self.rate * more))

    def mean_s(self) -> float:
        """Mean latency over all requests."""
        total = float(self.requests.sum())
        each = self.fixed_s + self.queued / self.rate
        return float((self.requests * each).sum() / total) if total else 0.0

    def quantile_s(self, q: float) -> float:
        """Latency that the share `q` of all requests stays below, to a millisecond."""
        total = float(self.requests.sum())
        low, high = 0.0, float(self.fixed_s.max(initial=0.0)) + 1000.0
        while total and high - low > 1e-3:
            middle = (low + high) / 2
            late = float((self.requests * self.beyond(middle)).sum())
            low, high = (middle, high) if late > (1 - q) * total else (low, middle)
        return high if total else 0.0


def waits(load: Floats, ready: Floats, service: tuple[float, float, float]) -> Waits:
    """Waits from (n,) load per second and (n,) ready replicas; `service` is (capacity, load per request, latency alone)."""
    capacity, each, alone_s = service
    blocks = len(load) // BLOCK_S
    fluid = backlog(load, ready * capacity)
    left, served, offered = (by_block(x, blocks) for x in (fluid, ready * capacity, load))
    fixed = alone_s + np.divide(left, served, out=np.where(left > 0, NEVER_S, 0.0), where=served > 0)
    servers = np.maximum(1.0, np.floor(by_block(ready, blocks)))
    smooth = uniform_filter1d(offered, SMOOTH_BLOCKS, mode="nearest", origin=(SMOOTH_BLOCKS - 1) // 2)  # the past minute
    busy = np.minimum(smooth / (servers * capacity), FULL)
    return Waits(
        requests=offered * BLOCK_S / each,
        fixed_s=np.minimum(fixed, alone_s + NEVER_S),
        queued=erlang_c(servers, busy),
        rate=servers * capacity * (1 - busy) / each,
    )


class Meter:
    """What a service's own latency metric shows while the run goes on: the mean of each block, from what happened so far."""

    def __init__(self, service: tuple[float, float, float]) -> None:
        self._capacity, self._each, self._alone_s = service
        self._left = 0.0
        self._recent: deque[float] = deque(maxlen=SMOOTH_BLOCKS)

    def read(self, load: Floats, ready: int, slowed: float = 1.0) -> float:
        """Mean seconds to answer over a block of (n,) load per second with `ready` replicas, `slowed` times slower."""
        can, alone_s = ready * self._capacity / slowed, self._alone_s * slowed
        for arrived in load.tolist():
            self._left = max(0.0, self._left + arrived - can)
        self._recent.append(float(load.mean()))
        if not can:
            return alone_s + (NEVER_S if self._left else 0.0)
        busy = min(sum(self._recent) / len(self._recent) / can, FULL)
        late = float(erlang_c(np.array([float(ready)]), np.array([busy]))[0])
        return alone_s + min(NEVER_S, self._left / can) + late * self._each / (can * (1 - busy))


def backlog(load: Floats, served: Floats) -> Floats:
    """(n,) load left over at the end of each second: max(0, before + load - served)."""
    total = np.cumsum(load - served)
    return np.asarray(total - np.minimum.accumulate(np.minimum(total, 0.0)))


def by_block(values: Floats, blocks: int) -> Floats:
    """(blocks,) means of whole blocks."""
    return np.asarray(values[: blocks * BLOCK_S].reshape(blocks, BLOCK_S).mean(axis=1))


def erlang_c(servers: Floats, busy: Floats) -> Floats:
    """(b,) probability that a request waits in M/M/c with c = `servers` at utilisation `busy` < 1."""
    servers = np.minimum(servers, MOST_SERVERS)
    offered = servers * busy
    blocked = np.ones_like(offered)  # Erlang's B by its recursion over c
    for c in range(1, int(servers.max(initial=0)) + 1):
        blocked = np.where(c <= servers, offered * blocked / (c + offered * blocked), blocked)
    return np.asarray(blocked / (1 - busy * (1 - blocked)))
