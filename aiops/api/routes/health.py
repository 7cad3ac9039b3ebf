"""Liveness, readiness and version. The first never fails while the process can answer."""

from __future__ import annotations

from fastapi import APIRouter, Response

from aiops import __version__
from aiops.api.problem import stale
from aiops.api.view import Seen, answer

router = APIRouter(tags=["health"])


@router.head("/-/healthy", include_in_schema=False)
@router.get("/-/healthy")
async def healthy() -> Response:
    """The process answers; nothing else is claimed."""
    return Response("aiops is healthy.\n", media_type="text/plain")


@router.head("/-/ready", include_in_schema=False)
@router.get("/-/ready")
async def ready(view: Seen) -> Response:
    """Ready to be relied upon, or 503 with the reason."""
    status = view.status()
    if not status.ready:
        raise stale("not_ready", status.reason or "starting")
    return Response("aiops is ready.\n", media_type="text/plain")


@router.get("/api/v1/version")
async def version() -> Response:
    """What is running."""
    return answer({"name": "aiops", "version": __version__, "api": "v1"})
