"""KEDA's metrics-api: `valueLocation: desired_replicas` with `targetValue: "1"` (deploy/keda-scaledobject.yaml).

Anything but a fresh forecast with skill is a 503, so that KEDA's own fallback holds; so is an engaged kill switch, for an
autoscaler that follows our figure is an effect of ours.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from aiops.api import page, recommend
from aiops.api.problem import missing, stale
from aiops.api.view import Seen, View, answer
from aiops.model import Service

router = APIRouter(prefix="/api/v1/keda", tags=["keda"], dependencies=[Depends(page.only_known)])
Horizon = Annotated[float, Query(ge=0, le=86400, allow_inf_nan=False)]
Quantile = Annotated[float, Query(ge=0.5, le=0.99, allow_inf_nan=False)]


@router.get("/{target}")
async def keda(
    view: Seen, target: str, horizon: Horizon = recommend.HORIZON_S, quantile: Quantile = recommend.QUANTILE
) -> Response:
    """The load of service `target` foreseen at `quantile` up to `horizon` seconds ahead, and the replicas that carry it."""
    if view.status().halted:
        raise stale("kill_switch", "the kill switch is engaged")
    service = await _service(view, target)
    now = view.clock.now()
    newest = {f.target: f for f in await view.read(view.store.forecasts, 0.0)}
    forecast = newest.get(str(service.load))
    ask = recommend.Ask(horizon_s=horizon, quantile=quantile, max_age_s=max_age_s(view))
    advice = recommend.advise(service, forecast, ask, now)
    made_at = forecast.made_at if forecast is not None else now
    return answer(
        {
            "value": advice.value,
            "desired_replicas": advice.replicas,
            "horizon_seconds": horizon,
            "quantile": quantile,
            "generated_at": datetime.fromtimestamp(made_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "age_seconds": max(0.0, round(now - made_at, 1)),
            "fresh": True,
        }
    )


def max_age_s(view: View) -> float:
    """The oldest forecast that is still served."""
    return recommend.PERIODS * view.settings.every.forecast


async def _service(view: View, name: str) -> Service:
    snapshot = await view.snapshot()
    age = view.clock.now() - snapshot.cluster.at
    if age > max(60.0, recommend.PERIODS * view.settings.every.tick):
        raise stale("cluster_stale", f"the newest picture of the cluster is {age:.0f} s old")
    for service in snapshot.cluster.services:
        if service.name == name:
            return service
    raise missing("service", name)
