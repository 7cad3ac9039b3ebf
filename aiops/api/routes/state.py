"""The daemon's own state in one answer: what the status banner shows, and the effective configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter, Depends, Response

from aiops import __version__
from aiops.action import Mode, Order, OrderKind
from aiops.api import page
from aiops.api.status import CollectorState
from aiops.api.view import Seen, View, answer
from aiops.model import Query

router = APIRouter(prefix="/api/v1", tags=["state"], dependencies=[Depends(page.only_known)])
SECRET_WORDS = ("token", "secret", "password", "key", "credential", "authorization", "dsn")
REDACTED = "<redacted>"


@router.get("/status")
async def status(view: Seen) -> Response:
    """Readiness, leadership, kill switch, collectors, modes per policy, and orders in force."""
    now = view.clock.now()
    own = view.status()
    orders = await view.read(view.store.orders, now)
    return answer(
        {
            "now": now,
            "cluster": view.settings.cluster,
            "backend": next(iter(view.settings.backend)),
            "version": __version__,
            "language": view.settings.language,
            "status": own,
            "collectors": own.collectors or await view.read(collectors, view, now),
            "modes": modes(view, orders),
            "periods": view.settings.every.model_dump(),
            "orders": orders,
        }
    )


def modes(view: View, orders: Iterable[Order]) -> dict[str, str]:
    """How far each policy may go: its setting, or the newest order `policy=mode`, as `decide` reads it."""
    found = {name: policy.mode.value for name, policy in view.settings.policies.items()}
    for order in orders:
        policy, _, mode = order.target.partition("=")
        if order.kind is OrderKind.SET_MODE and policy in found:
            found[policy] = mode if mode in set(Mode) else Mode.OBSERVE.value
    return found


def collectors(view: View, now: float) -> tuple[CollectorState, ...]:
    """Collectors as their own samples tell: the daemon scrapes itself like anything else."""
    found: dict[str, dict[str, float]] = {}
    for metric in ("success", "duration_seconds", "last_success_timestamp_seconds"):
        query = Query(metric=f"aiops_collector_{metric}", window_s=3 * view.settings.every.scrape)
        for series in view.store.read(query, now):
            reading = series.latest(now, query.window_s)
            if reading.value is not None:
                found.setdefault(series.key.label("collector") or "", {})[metric] = reading.value
    return tuple(
        CollectorState(
            name=name,
            ok=values.get("success") == 1.0,
            last_success_at=values.get("last_success_timestamp_seconds"),
            seconds=values.get("duration_seconds"),
        )
        for name, values in sorted(found.items())
        if "success" in values
    )


@router.get("/config")
async def config(view: Seen) -> Response:
    """The effective configuration; whatever may be a secret is redacted."""
    return answer(redact(view.settings.model_dump(mode="json")))


def redact(value: Any, name: str = "") -> Any:
    """A copy without secrets: by the name of the key, and passwords inside URLs. File names are not secret."""
    if isinstance(value, Mapping):
        return {key: redact(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact(inner, name) for inner in value]
    lowered = name.lower()
    if value is not None and any(word in lowered for word in SECRET_WORDS) and not lowered.endswith("_file"):
        return REDACTED
    return _without_password(value) if isinstance(value, str) else value


def _without_password(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not separator or not at:
        return text
    return (
        f"{scheme}://{credentials.partition(':')[0]}:{REDACTED}@{host}"
        if ":" in credentials
        else f"{scheme}://{REDACTED}@{host}"
    )
