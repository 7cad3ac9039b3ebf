"""What is wrong or will be: the newest diagnosis, and the findings of a window."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from aiops.api import page
from aiops.api.problem import missing
from aiops.api.view import Seen, answer
from aiops.model import Cause

router = APIRouter(prefix="/api/v1/findings", tags=["findings"], dependencies=[Depends(page.only_known)])


@router.get("")
async def findings(
    view: Seen, limit: page.Limit = 100, cause: Cause | None = None, subject: page.Name = None, early: bool | None = None
) -> Response:
    """Findings of the newest diagnosis, best first; `early` picks or leaves out early warnings.

    `diagnosed_at` is null while nobody has looked yet: no findings is no all-clear then.
    """
    newest, looked = await view.read(view.store.findings), await view.read(view.store.diagnosed_at)
    kept = [
        f
        for f in newest
        if (cause is None or f.cause is cause)
        and (subject is None or f.subject == subject)
        and (early is None or (f.horizon_s is not None) is early)
    ]
    return answer({"at": view.clock.now(), "diagnosed_at": looked, "items": kept[:limit], "total": len(kept)})


@router.get("/history")
async def history(view: Seen, window: Annotated[page.Span, Depends(page.span)]) -> Response:
    """The latest state of every finding seen in a window, newest first."""
    rows = await view.read(view.store.finding_history, window.since, window.until, window.reach)
    return answer(window.page(rows))


@router.get("/{id}")
async def finding(view: Seen, id: str) -> Response:
    """One finding of the last ninety days by its id."""
    now = view.clock.now()
    for found in await view.read(view.store.findings):
        if found.id == id:
            return answer(found)
    for found in await view.read(view.store.finding_history, now - view.settings.store.records, now, page.DEEPEST):
        if found.id == id:
            return answer(found)
    raise missing("finding", id)
