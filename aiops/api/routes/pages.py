"""The dashboard's files: a page, scripts, styles and catalogues out of the package, and nothing else."""

from __future__ import annotations

import mimetypes
from functools import cache
from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from aiops.api.problem import missing

router = APIRouter(include_in_schema=False)
ROOT = files("aiops.api").joinpath("static")


@cache
def _listed() -> dict[str, tuple[bytes, str, str]]:
    """Every file that may be served, with media type and entity tag: a fixed list cannot be traversed out of."""
    found: dict[str, tuple[bytes, str, str]] = {}
    waiting = [("", ROOT)]
    while waiting:
        prefix, folder = waiting.pop()
        for entry in folder.iterdir():
            path = f"{prefix}{entry.name}"
            if entry.is_dir():
                waiting.append((f"{path}/", entry))
            else:
                body = entry.read_bytes()
                media = mimetypes.guess_type(entry.name)[0] or "text/plain"
                charset = "; charset=utf-8" if media.startswith("text/") or media.endswith("json") else ""
                found[path] = (body, media + charset, f'"{sha256(body).hexdigest()[:16]}"')
    return found


@router.get("/")
async def index(request: Request) -> Response:
    """The dashboard."""
    return _file(request, "index.html")


@router.get("/favicon.ico")
async def icon(request: Request) -> Response:
    """The sign in the browser's tab."""
    return _file(request, "icon.svg")


@router.get("/static/{path:path}")
async def static(request: Request, path: str) -> Response:
    """One file of the dashboard."""
    return _file(request, path)


def _file(request: Request, path: str) -> Response:
    if path not in _listed():
        raise missing("file", path)
    body, media, tag = _listed()[path]
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    return Response(body, media_type=media, headers={"ETag": tag})
