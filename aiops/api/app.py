"""The application: view, problems, routers, guard. The daemon makes one and gives it to uvicorn.

`create_app` refuses a bind beyond this machine without tokens before anything listens.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.gzip import GZipMiddleware

from aiops import __version__
from aiops.api import exposition, problem
from aiops.api.auth import check_bind, load_tokens
from aiops.api.guard import Guard
from aiops.api.routes import (
    attribution,
    cluster,
    decisions,
    events,
    findings,
    forecasts,
    health,
    incidents,
    keda,
    metrics,
    orders,
    pages,
    series,
    state,
)
from aiops.api.status import Status
from aiops.api.view import Latest, View
from aiops.clock import Clock
from aiops.ports import Store
from aiops.settings import Settings

ROUTERS = (
    health,
    metrics,
    state,
    cluster,
    attribution,
    series,
    forecasts,
    keda,
    findings,
    incidents,
    decisions,
    orders,
    events,
    pages,
)
COMPRESS_BYTES = 2048


def _operation_id(route: APIRoute) -> str:
    return f"{route.tags[0] if route.tags else 'page'}_{route.name}"


def create_app(
    store: Store,
    settings: Settings,
    clock: Clock,
    status: Callable[[], Status],
    kill: Callable[[bool], None] = lambda engaged: None,
) -> FastAPI:
    """The REST interface, /metrics and the dashboard over `store`.

    `kill(True)` must stop effects at once and is called from a worker thread. Raises ConfigError for a wrong token file, and
    for a non-loopback `settings.listen.host` without one.
    """
    check_bind(settings)
    tokens = load_tokens(settings.listen.token_file) if settings.listen.token_file else ()
    app = FastAPI(
        title="aiops",
        version=__version__,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # Swagger's page loads scripts from a CDN
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    view = View(store=store, settings=settings, clock=clock, status=status, kill=kill, latest=Latest(store))
    app.state.view, app.state.subscribers = view, set()
    app.state.exposition = exposition.Exposition(view)
    problem.install(app)
    for module in ROUTERS:
        app.include_router(module.router)
    app.add_middleware(GZipMiddleware, minimum_size=COMPRESS_BYTES, compresslevel=1)
    app.add_middleware(Guard, listen=settings.listen, tokens=tokens, clock=clock)
    return app
