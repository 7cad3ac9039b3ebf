"""The routes' window onto the house: store, settings, clock and status, read in a thread pool.

Handlers are `async def` and never touch the store on the event loop: `await view.read(store.forecasts, 0.0)`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ParamSpec, TypeVar, cast

from fastapi import Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from aiops import codec
from aiops.api.problem import stale
from aiops.api.status import Status
from aiops.clock import Clock
from aiops.ports import Store
from aiops.settings import Settings
from aiops.snapshot import Snapshot

P = ParamSpec("P")
T = TypeVar("T")
LOOKBACK_S = 3600.0  # a picture of the cluster older than this is not shown as current


@dataclass(slots=True)
class Latest:
    """The newest recorded cycle, decoded once however many requests ask; a cache that may be lost."""

    store: Store
    _id: str = ""
    _snapshot: Snapshot | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def at(self, now: float) -> Snapshot:
        """The newest snapshot of the last hour. Raises a 503 problem where there is none. Blocks: call through `read`."""
        ids = self.store.cycles(now - LOOKBACK_S, now + LOOKBACK_S)
        if not ids:
            raise stale("no_cycle", "no cycle was recorded within the last hour; the daemon's status says why")
        with self._lock:
            if self._snapshot is None or self._id != ids[-1]:
                self._snapshot, self._id = self.store.cycle(ids[-1])[0], ids[-1]
            return self._snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a route may look at, and the one thing it may touch: `kill(True)` engages the kill switch at once."""

    store: Store
    settings: Settings
    clock: Clock
    status: Callable[[], Status]
    kill: Callable[[bool], None]
    latest: Latest
    writing: threading.Lock = field(default_factory=threading.Lock)

    async def read(self, ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Answer of a blocking call, from the thread pool."""
        return await run_in_threadpool(ask, *args, **kwargs)

    async def snapshot(self) -> Snapshot:
        """The newest recorded snapshot, or a 503 problem."""
        return await self.read(self.latest.at, self.clock.now())


def of(request: Request) -> View:
    """The view of the application that serves `request`."""
    return cast(View, request.app.state.view)


Seen = Annotated[View, Depends(of)]


def answer(value: object, status: int = 200) -> Response:
    """A JSON response in canonical form: arrays straight from numpy, NaN as null."""
    return Response(codec.encode(value), status, media_type="application/json")
