"""Moving a run to other nodes: its Job is suspended, told in its own affinity to avoid the old nodes, and resumed.

A running Job's pod template is immutable, so the scheduler can be told nothing until its pods are gone. Suspension takes them
away without counting them as failures of the Job; before it, the disruption budgets must allow the whole run, and every pod's
eviction is asked of the API server as a dry run, so that budgets have the last word here too. The old nodes are excluded, the
new ones preferred: a Job bound to nodes for ever could not restart once they are gone.

Two guarded writes. The first leaves the intent on the Job (`begun.Move`); whatever cuts off what follows, `complete` reads it
there and ends the move: elsewhere where there still is room for it, else where it was.
"""

from __future__ import annotations

import time
from typing import Any

from aiops.action import Migrate, Outcome, Preempt
from aiops.backends.kubernetes import budgets, marks, stopping
from aiops.backends.kubernetes.begun import Move
from aiops.backends.kubernetes.connection import Object, Refused
from aiops.backends.kubernetes.desk import Answer, Desk, Place
from aiops.backends.kubernetes.kinds import NODES, PODS
from aiops.backends.kubernetes.records import PodRecord, Reader
from aiops.clock import SystemClock

_POLL_S = 0.05
_BY_NAME = "metadata.name"


def migrate(desk: Desk, place: Place, found: Object, action: Migrate) -> Answer:
    """Move the run if it is the one that was judged, its proof holds, the budgets allow it and there is room for it."""
    move = Move.of(found)
    if move is None or move.id != desk.id:
        refused = _refusal(desk, place, found, action)
        if refused is not None:
            return refused
        move = Move(
            id=desk.id, generation=int(found["metadata"]["generation"]) + 1, on_nodes=action.on_nodes,
            to_nodes=action.to_nodes, gpus=action.gpus,
        )  # fmt: skip
        late = desk.write(place, found, move.mark(), spec={"suspend": True})
        if late is not None:
            return late
    return _awaited(desk, place, move)


def complete(desk: Desk, place: Place, move: Move) -> Answer | None:
    """End a move that was begun, by whomever; None while its pods are not gone yet. Raises Refused, NotSent, Lost."""
    found = desk.find(place)
    if found is None:
        return Outcome.UNKNOWN, "the job was deleted in the middle of its move"
    if marks.done(found, move.id):
        return Outcome.DONE, "finished by another hand"
    if Move.of(found) != move or not found["spec"].get("suspend") or found["metadata"]["generation"] != move.generation:
        return Outcome.UNKNOWN, "somebody else resumed or changed the job in the middle of its move"
    if not _may_change(found) or stopping.run_of(desk, place, found)[2]:
        return None
    late = _resume(desk, place, found, move)
    return None if late[0] is Outcome.STALE else late  # STALE: the Job's controller wrote its status in between


def _awaited(desk: Desk, place: Place, move: Move) -> Answer:
    """The second half, once the server lets the template of the suspended Job be changed: within a second for idle pods."""
    until = SystemClock().elapsed() + desk.settings.timeout
    while True:
        answer = complete(desk, place, move)
        if answer is not None:
            return answer
        if SystemClock().elapsed() > until:
            return Outcome.UNKNOWN, "suspended, and its pods do not go yet: the move ends once they are gone"
        time.sleep(_POLL_S)


def _refusal(desk: Desk, place: Place, found: Object, action: Migrate) -> Answer | None:
    run, job, pods = stopping.run_of(desk, place, found)
    if run != action.run_id:
        return Outcome.STALE, f"run is {run}, not {action.run_id}"
    if job.queue or any(row.get("controller") for row in found["metadata"].get("ownerReferences") or ()):
        return Outcome.FAILED, "Kueue or another controller suspends and resumes this job: it is for that to move it"
    stop = Preempt(
        job=action.job, run_id=run, on_nodes=action.on_nodes, checkpoint=action.checkpoint, gpus=action.gpus, lost_gpu_s=0.0
    )
    if not action.checkpoint:
        return Outcome.STALE, "names no checkpoint, and a move always needs one"
    return (
        stopping.refusal(desk, job, pods, stop) or _no_way(action) or _no_room(desk, action.to_nodes, action.gpus)
        or budgets.refusal(desk, place.namespace, pods) or _asked(desk, pods)
    )  # fmt: skip


def _no_way(action: Migrate) -> Answer | None:
    if not action.to_nodes or set(action.to_nodes) & set(action.on_nodes):
        return Outcome.STALE, "names no node to move to, or one that the run is on"
    return None


def _no_room(desk: Desk, to_nodes: tuple[str, ...], gpus: int) -> Answer | None:
    """STALE unless the named nodes are there, open, and have so many GPUs free."""
    reader, free = Reader(desk.settings.gpu_resources), 0
    for name in to_nodes:
        row = desk.find(Place(NODES, "", name))
        node = reader.node(row) if row is not None else None
        if node is None or node.unschedulable or not node.ready:
            return Outcome.STALE, f"node {name} is not there or takes no work"
        here = desk.connection.get(PODS.path(), {"fieldSelector": f"spec.nodeName={name}"})["items"]
        taken = sum(pod.ask.gpus for pod in map(reader.pod, here) if pod.phase not in ("Succeeded", "Failed"))
        free += max(0, node.usable - taken)
    return None if free >= gpus else (Outcome.STALE, f"{', '.join(to_nodes)} have {free} GPUs free, not {gpus}")


def _asked(desk: Desk, pods: tuple[PodRecord, ...]) -> Answer | None:
    """FAILED where the API server would not evict one of them now."""
    for pod in pods:
        stays = stopping.evict(desk, pod, dry_run=True)
        if stays is not None:
            return Outcome.FAILED, stays
    return None


def _may_change(found: Object) -> bool:
    """What the API server asks before it lets a template's scheduling be changed (registry/batch/job/strategy.go).

    Not enough for us: of a young Job whose status is not written yet it would hold while all pods still run.
    """
    status = found.get("status") or {}
    suspended = any(row["type"] == "Suspended" and row["status"] == "True" for row in status.get("conditions") or ())
    return not status.get("active") and (suspended or status.get("startTime") is None)


def _resume(desk: Desk, place: Place, found: Object, move: Move) -> Answer:
    """Start it elsewhere, or, where the room that was judged is gone, as it was."""
    why = _no_room(desk, move.to_nodes, move.gpus)
    if why is not None:
        return _put_back(desk, place, found, why[1])
    affinity = elsewhere(found["spec"]["template"]["spec"].get("affinity") or {}, move)
    notes = {**marks.recorded(found, move.id), marks.MOVING: None}
    try:
        late = desk.write(place, found, notes, spec={"suspend": False, "template": {"spec": {"affinity": affinity}}})
    except Refused as error:
        if error.code != 422:
            raise
        return _put_back(desk, place, found, f"the server refuses to change where it may run: {error.message}")
    return late or (Outcome.DONE, f"away from {', '.join(move.on_nodes)}, to {', '.join(move.to_nodes)} if they have room")


def _put_back(desk: Desk, place: Place, found: Object, why: str) -> Answer:
    late = desk.write(place, found, {marks.MOVING: None}, spec={"suspend": False})
    return late or (Outcome.FAILED, f"resumed where it was: {why}")


def elsewhere(affinity: Object, move: Move | Migrate) -> Object:
    """The affinity with the old nodes excluded from each of its terms and the new ones preferred; earlier moves' marks go."""
    old: Any = affinity.get("nodeAffinity") or {}
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = (old.get(key) or {}).get("nodeSelectorTerms") or [{}]
    away = [{"key": _BY_NAME, "operator": "NotIn", "values": [name]} for name in sorted(move.on_nodes)]
    required = [
        {**term, "matchFields": [*(row for row in term.get("matchFields") or () if row["operator"] != "NotIn"), *away]}
        for term in terms
    ]
    near = [{"key": _BY_NAME, "operator": "In", "values": [name]} for name in sorted(move.to_nodes)]
    preferred = [{"weight": 100, "preference": {"matchFields": [row]}} for row in near]
    node = {key: {"nodeSelectorTerms": required}, "preferredDuringSchedulingIgnoredDuringExecution": preferred}
    return {**affinity, "nodeAffinity": node}
