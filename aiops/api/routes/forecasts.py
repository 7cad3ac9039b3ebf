"""Forecasts as stored: the newest per target, one target, and what was forecast earlier."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from aiops.api import page
from aiops.api.problem import missing
from aiops.api.view import Seen, View, answer
from aiops.model import Forecast, SeriesKey
from aiops.past import foreseen_as

router = APIRouter(prefix="/api/v1/forecasts", tags=["forecasts"], dependencies=[Depends(page.only_known)])
Target = Annotated[str, Query(min_length=1, max_length=2048)]


@router.get("")
async def forecasts(
    view: Seen, limit: page.Limit = 100, after: page.Name = None, usable: bool | None = None, points: bool = False
) -> Response:
    """The newest forecast per target, by target: model, skill, coverage, age; with `points` the quantiles too."""
    now = view.clock.now()
    newest = await view.read(view.store.forecasts, 0.0)
    chosen = (f for f in newest if usable is None or (f.refused is None) is usable)
    found = page.named(chosen, lambda forecast: forecast.target, limit, after)
    found["items"] = [summary(f, now) | (band(f) if points else {}) for f in found["items"]]
    return answer({"at": now, **found})


@router.get("/one")
async def one(view: Seen, target: Target) -> Response:
    """The newest forecast of one target with its quantiles; the target is a series' text, so it is a query parameter."""
    found = await find(view, target)
    return answer(summary(found, view.clock.now()) | band(found))


@router.get("/history")
async def history(
    view: Seen,
    target: Target,
    since: page.Time = None,
    until: page.Time = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """The newest `limit` forecasts of a target that were made in [since, until] (default: the last day), oldest first."""
    target = foreseen_name(target)
    end = view.clock.now() if until is None else until
    made = await view.read(view.store.forecast_history, target, end - 86400.0 if since is None else since, end)
    return answer({"target": target, "items": [summary(f, end) | band(f) for f in made[-limit:]], "total": len(made)})


async def find(view: View, target: str) -> Forecast:
    """The newest forecast of `target`, or a 404 problem."""
    name = foreseen_name(target)
    for forecast in await view.read(view.store.forecasts, 0.0):
        if forecast.target == name:
            return forecast
    raise missing("forecast target", name)


def foreseen_name(target: str) -> str:
    """The target's own name; of a counter, whose rate is what is forecast, that of its rate (`..._per_s`)."""
    try:
        return str(foreseen_as(SeriesKey.parse(target)))
    except ValueError:
        return target


def summary(forecast: Forecast, now: float) -> dict[str, Any]:
    """Everything about a forecast but its points."""
    return {
        "target": forecast.target,
        "made_at": forecast.made_at,
        "age_seconds": max(0.0, now - forecast.made_at),
        "model": forecast.model,
        "skill": forecast.skill,
        "coverage": forecast.coverage,
        "refused": forecast.refused,
        "reaches": float(forecast.times[-1]) if len(forecast.times) else None,
    }


def band(forecast: Forecast) -> dict[str, Any]:
    """The points: `values[i]` belongs to `quantiles[i]`."""
    return {"times": forecast.times, "quantiles": forecast.quantiles, "values": forecast.values}
