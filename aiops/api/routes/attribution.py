"""Whose GPUs they were: intervals of (GPU, job) over a window, and the GPU-seconds of each job; what nobody names is null."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from aiops import model
from aiops.api import page
from aiops.api.problem import bad
from aiops.api.view import Seen, View, answer
from aiops.attribution import UNATTRIBUTED, Tenure, seconds, tenures
from aiops.model import Series
from aiops.settings import seconds as duration

router = APIRouter(prefix="/api/v1", tags=["attribution"], dependencies=[Depends(page.only_known)])
MAPPED = "gpu_job_info"
"""Written for exactly this (collector `gpu_jobs`); a GPU that has it is not looked for among exporters' labels."""
LABELLED = ("gpu_power_watts", "gpu_utilization_ratio", "gpu_engine_active_ratio")
"""What exporters put job labels on; the first that there is tells, since all of one exporter's carry the same labels."""
POINTS = 360  # a GPU over the window: an hour at a scrape of 10 s; a longer window is looked at more coarsely
LONGEST_S = 31 * 86400.0


@dataclass(frozen=True, slots=True)
class Look:
    """The window (until - window_s, until], looked at once per `step_s` (0: every sample)."""

    until: float
    window_s: float
    step_s: float


def looked(view: Seen, window: Annotated[str, Query(max_length=20)] = "1h", end: page.Time = None) -> Look:
    """Dependency: the window that the query asks for; by default the last hour."""
    try:
        window_s = duration(window)
    except ValueError:
        window_s = -1.0
    if not 0 < window_s <= LONGEST_S:
        raise bad("window", "a duration such as 30m, 12h or 7d, at most 31d")
    step_s = window_s / POINTS
    return Look(view.clock.now() if end is None else end, window_s, step_s if step_s > view.settings.every.scrape else 0.0)


@router.get("/attribution")
async def attribution(
    view: Seen,
    look: Annotated[Look, Depends(looked)],
    job: page.Name = None,
    uuid: page.Name = None,
    limit: page.Limit = 100,
    after: page.Name = None,
) -> Response:
    """Intervals by GPU over (end - window, end]; `job` null, and `job=` in the query, are what no label names."""
    found = await view.read(intervals, view, look)
    chosen = [one for one in found if job in (None, one.job) and uuid in (None, one.uuid)]
    shown, held = page.named(chosen, _name, limit, after), seconds(chosen)
    return answer(
        {
            **shown,
            "items": [_row(one) for one in shown["items"]],
            "from": look.until - look.window_s,
            "to": look.until,
            "gpu_seconds": {name: value for name, value in sorted(held.items()) if name != UNATTRIBUTED},
            "unattributed_gpu_seconds": held.get(UNATTRIBUTED, 0.0),
        }
    )


def intervals(view: View, look: Look) -> tuple[Tenure, ...]:
    """Every GPU's tenures in the window; a silence of three looks ends one."""

    def read(metric: str) -> Sequence[Series]:
        query = model.Query(metric=metric, window_s=look.window_s, step_s=look.step_s)
        return [one for one in view.store.read(query, look.until) if one.key.label("uuid")]

    mapped = read(MAPPED)
    known = {one.key.label("uuid") for one in mapped}
    labelled = next((found for metric in LABELLED if (found := read(metric))), [])
    others = [one for one in labelled if one.key.label("uuid") not in known]
    return tenures([*mapped, *others], 3 * max(look.step_s, view.settings.every.scrape))


def _name(one: Tenure) -> str:
    return f"{one.uuid} {one.since:017.3f} {one.job}"


def _row(one: Tenure) -> dict[str, Any]:
    return {"uuid": one.uuid, "job": one.job or None, "from": one.since, "to": one.until}
