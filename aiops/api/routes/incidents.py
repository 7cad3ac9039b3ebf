"""Incidents of a window: findings that share a cause, with their timeline and what was done."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from aiops.api import incidents, page
from aiops.api.problem import missing
from aiops.api.view import Seen, View, answer

router = APIRouter(prefix="/api/v1/incidents", tags=["incidents"], dependencies=[Depends(page.only_known)])
Window = Annotated[page.Span, Depends(page.span)]


@router.get("")
async def listed(view: Seen, window: Window, open: bool | None = None) -> Response:
    """Incidents of a window (default: the last day), open ones first; `open` picks one kind."""
    found = await view.read(_built, view, window.since, window.until)
    return answer(window.page([one for one in found if open is None or one.open is open]))


@router.get("/{id}")
async def one(view: Seen, id: str, window: Window) -> Response:
    """One incident of a window by its id."""
    for found in await view.read(_built, view, window.since, window.until):
        if found.id == id:
            return answer(found)
    raise missing("incident", id)


def _built(view: View, since: float, until: float) -> tuple[incidents.Incident, ...]:
    store = view.store
    history = store.finding_history(since, until, page.DEEPEST)
    record = incidents.Record(
        admissions=store.admissions(since, until, page.DEEPEST),
        entries=store.entries(since, limit=page.DEEPEST),
        orders=store.orders(view.clock.now()),
    )
    return incidents.incidents(history, store.findings(), record)
