"""`/metrics` in the format that the scraper asks for, and two more pages whose names a linter would not take."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from aiops.api import exposition, page, recommend, samples
from aiops.api.routes.keda import max_age_s
from aiops.api.view import Seen

router = APIRouter(tags=["metrics"], dependencies=[Depends(page.only_known)])
ALIAS_AHEAD_S = 900.0


class Families:
    """A prometheus-client collector around a function."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self.collect = collect


@router.get("/metrics")
async def metrics(view: Seen, request: Request) -> Response:
    """Our own figures, the cluster's counts and the newest collected samples; OpenMetrics or text by `Accept`."""
    own: exposition.Exposition = request.app.state.exposition
    return await view.read(_encode, own.collect, request.headers.get("accept", ""))


@router.get("/metrics/predicted")
async def predicted(view: Seen, request: Request) -> Response:
    """Forecasts a quarter of an hour ahead under Grafana's names, `<metric>:predicted{ml_forecast=...}`."""
    now, oldest_s = view.clock.now(), max_age_s(view)

    def collect() -> Iterator[Metric]:
        newest = view.store.forecasts(now - oldest_s)
        return exposition.predicted([f for f in newest if recommend.fresh(f, now, oldest_s)], now, ALIAS_AHEAD_S)

    return await view.read(_encode, collect, request.headers.get("accept", ""))


@router.get("/metrics/raw")
async def raw(view: Seen, request: Request) -> Response:
    """Collected samples under names that linters refuse, such as node_exporter's node_memory_MemAvailable_bytes."""

    def collect() -> Iterator[Metric]:
        return samples.collected(view, view.clock.now(), lambda name: not samples.lints(name))

    return await view.read(_encode, collect, request.headers.get("accept", ""))


def _encode(collect: Callable[[], Iterator[Metric]], accept: str) -> Response:
    """One scrape in the negotiated format, from a registry of its own: nothing of the Python process leaks in."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Families(collect))
    encoder, media_type = choose_encoder(accept)
    return Response(encoder(registry), media_type=media_type)
