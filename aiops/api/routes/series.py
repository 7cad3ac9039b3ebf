"""Samples: which series there are, their newest values, and bounded ranges as columns.

Columns, not a pair per point: a 10,000-point series is two numpy arrays, which orjson writes in one go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from aiops import model
from aiops.api import page
from aiops.api.problem import bad
from aiops.api.view import Seen, View, answer
from aiops.model import Match, Matcher, Series, SeriesKey

router = APIRouter(prefix="/api/v1/series", tags=["series"], dependencies=[Depends(page.only_known)])
MOST_POINTS = 11_000  # per series, Prometheus's own limit
MOST_TOTAL = 500_000  # per answer: 8 MB of float64
MOST_SERIES = 1000
Metric = Annotated[str, Query(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$", max_length=200)]
Matches = Annotated[list[str], Query(max_length=20)]


@router.get("")
async def keys(view: Seen, metric: page.Name = None, limit: page.Limit = 100, after: page.Name = None) -> Response:
    """Known series by name; of one metric if given."""
    known = await view.read(view.store.keys, metric)
    found = page.named(known, str, limit, after)
    found["items"] = [identity(key) for key in found["items"]]
    return answer(found)


@router.get("/latest")
async def latest(view: Seen, metric: Annotated[list[str], Query(max_length=32)], match: Matches = []) -> Response:  # noqa: B006
    """The newest value of every series of some metrics; a series that fell silent for three scrapes is left out."""
    now, window = view.clock.now(), 3 * view.settings.every.scrape
    conditions = matchers(match)
    found = [
        series
        for name in metric
        for series in await view.read(view.store.read, model.Query(metric=name, matchers=conditions, window_s=window), now)
    ]
    readings = ((series.key, series.latest(now, window)) for series in found[: MOST_SERIES * 10])
    return answer({"at": now, "items": [{**identity(key), "value": r.value, "at": r.at} for key, r in readings]})


@router.get("/data")
async def data(
    view: Seen,
    metric: Metric,
    match: Matches = [],  # noqa: B006
    window: Annotated[str, Query(max_length=20)] = "1h",
    step: Annotated[str, Query(max_length=20)] = "0s",
    end: page.Time = None,
) -> Response:
    """Points of matching series over (end - window, end], raw or the last per `step`."""
    window_s, step_s = _duration("window", window), _duration("step", step)
    if window_s <= 0:
        raise bad("window", "a duration above zero such as 30m")
    _check_points(view, window_s, step_s)
    query = model.Query(metric=metric, matchers=matchers(match), window_s=window_s, step_s=step_s)
    found = await view.read(view.store.read, query, view.clock.now() if end is None else end)
    if len(found) > MOST_SERIES or sum(len(series.times) for series in found) > MOST_TOTAL:
        raise bad("match", f"a choice of at most {MOST_SERIES} series and {MOST_TOTAL} points (found {len(found)} series)", 422)
    return answer({"metric": metric, "series": [columns(series) for series in found]})


def _check_points(view: View, window_s: float, step_s: float) -> None:
    apart = step_s or view.settings.every.scrape
    if window_s / apart > MOST_POINTS:
        raise bad("step", f"at least {window_s / MOST_POINTS:.0f}s for this window ({MOST_POINTS} points per series)", 422)


def _duration(key: str, text: str) -> float:
    from aiops.settings import seconds

    try:
        value = seconds(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 366 * 86400.0:
        raise bad(key, "a duration such as 30s, 5m, 12h or 7d, at most 366d")
    return value


def matchers(texts: list[str]) -> tuple[Matcher, ...]:
    """Conditions from `label=value` or `label!=value`. Regular expressions are not taken: one can stall a thread."""
    return tuple(_matcher(text) for text in texts)


def _matcher(text: str) -> Matcher:
    label, separator, value = text.partition("=")
    op = Match.NOT_EQUAL if label.endswith("!") else Match.EQUAL
    label = label.removesuffix("!")
    if not separator or not label.isidentifier() or value.startswith("~") or len(text) > 512:
        raise bad("match", "label=value or label!=value")
    return Matcher(label, value, op)


def identity(key: SeriesKey) -> Mapping[str, Any]:
    """A key as clients want it: its text, its metric, its labels as an object."""
    return {"id": str(key), "metric": key.metric, "labels": dict(key.labels)}


def columns(series: Series) -> Mapping[str, Any]:
    """A series as two arrays; NaN is null."""
    return {**identity(series.key), "times": series.times, "values": series.values}
