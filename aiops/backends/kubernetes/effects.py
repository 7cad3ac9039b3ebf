"""What each action does to the API server's objects, and how to see later that it was done.

Every effect on one object is one merge patch that carries the object's uid and version, and the action's id among its
annotations: it happens to the very object that was judged, once, and says so for ever.
"""

from __future__ import annotations

from aiops.action import (
    Action,
    ConfirmHold,
    Cordon,
    Drain,
    HoldCapacity,
    LimitBandwidth,
    Migrate,
    Outcome,
    Preempt,
    ReleaseBandwidth,
    ReleaseHold,
    RequestCheckpoint,
    ReserveBandwidth,
    Resume,
    Rollback,
    ScalePool,
    ScaleService,
    TuneJob,
    Uncordon,
)
from aiops.backends.kubernetes import bandwidth, boost, holds, marks, moving, pools, scaling, stopping
from aiops.backends.kubernetes.connection import Object
from aiops.backends.kubernetes.desk import Answer, Desk, Place
from aiops.backends.kubernetes.kinds import JOBS, NODES, Kind

SUPPORTS = frozenset(
    {
        "scale_service", "request_checkpoint", "preempt", "migrate", "resume", "cordon", "uncordon", "drain", "rollback",
        "hold_capacity", "confirm_hold", "release_hold", "reserve_bandwidth", "release_bandwidth", "limit_bandwidth",
        "scale_pool",
    }
)  # fmt: skip


def carry_out(desk: Desk, action: Action) -> Answer:
    """Do the action now, or say why not. Raises Refused, NotSent, Lost."""
    real = action.action if isinstance(action, Rollback) else action
    match real:
        case HoldCapacity() | ConfirmHold() | ReleaseHold():
            return holds.change(desk, real)
        case ReserveBandwidth() | ReleaseBandwidth() | LimitBandwidth():
            return bandwidth.change(desk, real)
        case ScalePool():
            return pools.change(desk, real, back=isinstance(action, Rollback))
        case TuneJob() if desk.settings.kueue_boost:
            return boost.change(desk, real)
        case _:
            return _on_object(desk, real)


def _on_object(desk: Desk, real: Action) -> Answer:
    """Actions on one object of the cluster."""
    place = place_of(desk, real)
    if place is None:
        return Outcome.UNSUPPORTED, f"kubernetes backend has no {real.kind}"
    found = desk.find(place)
    if found is None:
        return Outcome.STALE, f"{place.path} does not exist"
    if marks.done(found, desk.id):
        if isinstance(real, ScaleService) and not scaling.took(desk, place, found, real):
            return Outcome.FAILED, "the server keeps the mark of this action, but not its change"
        return Outcome.ALREADY, "its annotation names this action"
    match real:
        case ScaleService():
            return scaling.scale(desk, place, found, real)
        case Cordon() | Uncordon():
            return _cordon(desk, place, found, real)
        case Drain():
            return stopping.drain(desk, place, found, real)
        case RequestCheckpoint():
            return stopping.request_checkpoint(desk, place, found, real)
        case Preempt():
            return stopping.preempt(desk, place, found, real)
        case Migrate():
            return moving.migrate(desk, place, found, real)
        case Resume():
            return _resume(desk, place, found, real)
        case _:
            return Outcome.UNSUPPORTED, f"kubernetes backend has no {real.kind}"


def present(desk: Desk, action: Action) -> bool:
    """Whether the action's effect is there. Raises Refused, NotSent, Lost."""
    real = action.action if isinstance(action, Rollback) else action
    match real:
        case HoldCapacity() | ConfirmHold() | ReleaseHold():
            return holds.present(desk, real)
        case ReserveBandwidth() | ReleaseBandwidth() | LimitBandwidth():
            return bandwidth.present(desk, real)
        case ScalePool():
            return pools.present(desk, real)
        case TuneJob():
            return boost.present(desk, real)
        case _:
            return _on_object_present(desk, real)


def _on_object_present(desk: Desk, real: Action) -> bool:
    place = place_of(desk, real)
    found = desk.find(place) if place is not None else None
    if place is None or found is None:
        return False
    if isinstance(real, ScaleService):
        return scaling.took(desk, place, found, real)
    if marks.done(found, desk.id):
        return True
    return isinstance(real, Preempt) and stopping.stops(found, desk.id) and stopping.has_stopped(desk, place, found, real)


def place_of(desk: Desk, action: Action) -> Place | None:
    """Where the object that an action changes lives; None where the action is none of ours."""
    match action:
        case ScaleService():
            namespace, _, rest = action.service.partition("/")
            plural, _, name = rest.partition("/")
            kind = next((row for row in desk.settings.scalable_kinds if row.plural == plural), Kind("", "v1", "", True))
            return Place(kind, namespace, name if kind.plural and "/" not in name else "")
        case Cordon() | Uncordon() | Drain():
            return Place(NODES, "", action.node)
        case RequestCheckpoint() | Preempt() | Migrate() | Resume():
            namespace, _, name = action.job.partition("/")
            return Place(JOBS, namespace, name if "/" not in name else "")  # three parts: another controller's work
        case _:
            return None


def _cordon(desk: Desk, place: Place, found: Object, action: Cordon | Uncordon) -> Answer:
    if found["metadata"]["uid"] != action.uid:
        return Outcome.STALE, f"node {action.node} is {found['metadata']['uid']}, not {action.uid}"
    closes = isinstance(action, Cordon)
    reason = action.reason if isinstance(action, Cordon) else None
    notes = {**marks.recorded(found, desk.id), marks.REASON: reason, marks.DRAINING: None}
    refused = desk.write(place, found, notes, spec={"unschedulable": True if closes else None})
    return refused or (Outcome.DONE, "")


def _resume(desk: Desk, place: Place, found: Object, action: Resume) -> Answer:
    if found["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name"):
        return Outcome.FAILED, "Kueue admits this job: to resume it here would overrun its quota"
    if not found["spec"].get("suspend") or stopping.run_of(desk, place, found)[0] != action.run_id:
        return Outcome.STALE, f"job {action.job} is not suspended as run {action.run_id}"
    notes = {**marks.recorded(found, desk.id), marks.MOVING: None}
    return desk.write(place, found, notes, spec={"suspend": False}) or (Outcome.DONE, "")
