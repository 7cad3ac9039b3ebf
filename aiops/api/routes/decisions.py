"""What was decided and why: admissions and refusals, each with the inputs that it rested on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from aiops.action import Admission, Deny, Entry, target
from aiops.api import page
from aiops.api.problem import missing
from aiops.api.routes.forecasts import band, summary
from aiops.api.view import Seen, View, answer
from aiops.snapshot import Snapshot

router = APIRouter(prefix="/api/v1", tags=["decisions"], dependencies=[Depends(page.only_known)])
Window = Annotated[page.Span, Depends(page.span)]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which decisions to list; what is None does not narrow. `permitted` False lists refusals."""

    policy: page.Name = None
    action: page.Name = None
    target: page.Name = None
    denied: Deny | None = None
    permitted: bool | None = None

    def takes(self, admission: Admission) -> bool:
        """True where `admission` is wanted."""
        wanted = (self.policy, self.action, self.target, self.denied, self.permitted)
        found = (
            admission.decision.policy,
            admission.decision.action.kind,
            target(admission.decision.action),
            admission.denied,
            admission.permitted,
        )
        return all(want is None or want == have for want, have in zip(wanted, found, strict=True))


@router.get("/decisions")
async def decisions(view: Seen, window: Window, only: Annotated[Filter, Depends()]) -> Response:
    """Admissions and refusals of a window, newest first."""
    reach = window.reach if only == Filter() else page.DEEPEST
    rows = await view.read(view.store.admissions, window.since, window.until, reach)
    found = window.page([row for row in rows if only.takes(row)])
    states = await view.read(_states, view, window.since)
    found["items"] = [shown(row, states.get(row.id)) for row in found["items"]]
    return answer(found)


@router.get("/decisions/{id}")
async def decision(view: Seen, id: str) -> Response:
    """One decision with its ledger entry and the recorded inputs that `aiops explain` would decide again on."""
    try:
        admission, cycle = await view.read(view.store.admission, id)
        snapshot, _ = await view.read(view.store.cycle, cycle)
    except KeyError:
        raise missing("decision", id) from None
    states = await view.read(_states, view, admission.at)
    return answer(shown(admission, states.get(id)) | {"cycle": cycle, "inputs": inputs(snapshot)})


@router.get("/entries")
async def entries(view: Seen, since: page.Time = None, open: bool = False, limit: page.Limit = 100) -> Response:
    """Ledger entries, newest last: all open ones, and those changed since (default: the last day)."""
    start = view.clock.now() - 86400.0 if since is None else since
    rows = await view.read(view.store.entries, start, open, page.DEEPEST)
    return answer({"items": rows[-limit:], "total": len(rows)})


@router.get("/reservations")
async def reservations(view: Seen, limit: page.Limit = 100, after: page.Name = None) -> Response:
    """Holds and reservations that are not over, by name."""
    rows = await view.read(view.store.reservations)
    return answer(page.named(rows, lambda reservation: reservation.name, limit, after))


def _states(view: View, since: float) -> dict[str, Entry]:
    return {entry.admission.id: entry for entry in view.store.entries(since - 1.0, False, page.DEEPEST)}


def shown(admission: Admission, entry: Entry | None) -> dict[str, Any]:
    """An admission with its target, and where its action stands; `entry` is None for refusals."""
    standing = None if entry is None else {
        "state": entry.state,
        "changed_at": entry.changed_at,
        "expires_at": entry.expires_at,
        "attempts": entry.attempts,
        "receipt": entry.receipt,
        "verdict": entry.verdict,
    }  # fmt: skip
    return {"target": target(admission.decision.action), "admission": admission, "entry": standing}


def inputs(snapshot: Snapshot) -> Mapping[str, Any]:
    """What the decision could see, without the whole cluster: series by query, forecasts, findings, orders, modes."""
    return {
        "at": snapshot.now,
        "epoch": snapshot.epoch,
        "nodes": len(snapshot.cluster.nodes),
        "jobs": len(snapshot.cluster.jobs),
        "services": len(snapshot.cluster.services),
        "series": {
            query: [{"id": str(s.key), "points": len(s.times), "newest": s.latest(snapshot.now, 60.0)} for s in found[:50]]
            for query, found in snapshot.series.items()
        },
        "forecasts": [summary(f, snapshot.now) | band(f) for f in snapshot.forecasts[:20]],
        "findings": snapshot.findings,
        "orders": snapshot.orders,
        "modes": snapshot.modes,
        "due": snapshot.due,
    }
