"""Server-sent events: a hint that something changed, so that a page re-reads at once instead of guessing.

The event carries ids, not data: data has one door. Subscribers are capped; a full house answers 204, which tells a
browser's EventSource to stay away, and pages fall back to polling.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from aiops import codec
from aiops.api import page
from aiops.api.view import Seen, View

router = APIRouter(prefix="/api/v1", tags=["events"], dependencies=[Depends(page.only_known)])
MOST = 32
LOOK_S = 1.0
KEEPALIVE_S = 15.0
LONGEST_S = 600.0  # clients reconnect; a forgotten tab does not hold a slot for ever


@router.get("/events")
async def events(view: Seen, request: Request) -> Response:
    """A stream of `changed` events with the newest cycle, orders and readiness."""
    taken: set[int] = request.app.state.subscribers
    if len(taken) >= MOST:
        return Response(status_code=204)
    return StreamingResponse(_stream(view, request, taken), media_type="text/event-stream")


async def _stream(view: View, request: Request, taken: set[int]) -> AsyncIterator[bytes]:
    """Events until the client leaves; the first one comes at once."""
    slot, seen, quiet_s, total_s = id(request), b"", 0.0, 0.0
    taken.add(slot)
    try:
        while total_s < LONGEST_S and not await request.is_disconnected():
            mark = codec.encode(await view.read(_mark, view))
            if mark != seen:
                yield b"event: changed\ndata: " + mark + b"\n\n"
                seen, quiet_s = mark, 0.0
            elif quiet_s >= KEEPALIVE_S:
                yield b": still here\n\n"
                quiet_s = 0.0
            await asyncio.sleep(LOOK_S)
            quiet_s, total_s = quiet_s + LOOK_S, total_s + LOOK_S
    finally:
        taken.discard(slot)


def _mark(view: View) -> dict[str, Any]:
    """What identifies the present state; equal marks mean that there is nothing new to read."""
    status = view.status()
    return {
        "last_cycle_at": status.last_cycle_at,
        "ready": status.ready,
        "halted": status.halted,
        "leader": status.leader,
        "orders": [order.id for order in view.store.orders(view.clock.now())],
    }
