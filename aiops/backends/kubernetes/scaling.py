"""Setting a number of replicas: in the object's own `spec.replicas`, or through its scale subresource.

With `spec.replicas` the number and the action's mark are one write. Behind a scale subresource the number is somewhere in the
object that only the server knows, and a subresource takes no annotations: so the action is begun on the object, scaled by the
version that this gave, and then marked as done. What a crash leaves in between is told by the object's generation. Of a
Deployment that counts annotations too, of everything else the specification only: our mark alone may be one step of it.
"""

from __future__ import annotations

from aiops.action import Outcome, ScaleService
from aiops.backends.kubernetes import marks, picture
from aiops.backends.kubernetes.connection import Object, Refused
from aiops.backends.kubernetes.desk import Answer, Desk, Place


def scale(desk: Desk, place: Place, found: Object, action: ScaleService) -> Answer:
    """Set the replicas of what was just read, if it is what was judged and its owner lets it. Raises Refused, NotSent, Lost."""
    if not place.kind.scaled:
        return _refusal(found, action, found["spec"].get("replicas", 1)) or _at_once(desk, place, found, action)
    now = _scale_of(desk, place)["spec"].get("replicas", 0)
    begun = marks.begun(found, desk.id)
    if begun and now == action.replicas and _steps(found, action):
        return desk.write(place, found, marks.recorded(found, desk.id)) or (Outcome.ALREADY, "begun before, and done")
    return _refusal(found, action, now) or _in_steps(desk, place, found, action)


def took(desk: Desk, place: Place, found: Object, action: ScaleService) -> bool:
    """Whether the scale took effect, be it that others have scaled the object again since."""
    steps = _steps(found, action)
    if marks.done(found, desk.id):
        return steps > 1 or (steps == 1 and _replicas(desk, place, found) == action.replicas)
    if not (place.kind.scaled and marks.begun(found, desk.id)):
        return False
    return steps > 0 and _replicas(desk, place, found) == action.replicas


def _steps(found: Object, action: ScaleService) -> int:
    """How often the object was changed since it was judged; its status is no change."""
    return int(found["metadata"]["generation"]) - int(action.version)


def _replicas(desk: Desk, place: Place, found: Object) -> int:
    where = _scale_of(desk, place) if place.kind.scaled else found
    return int(where["spec"].get("replicas", 0 if place.kind.scaled else 1))


def _refusal(found: Object, action: ScaleService, now: int) -> Answer | None:
    meta = found["metadata"]
    if (meta["uid"], str(meta["generation"])) != (action.uid, action.version):
        return Outcome.STALE, f"is {meta['uid']} generation {meta['generation']}, not {action.uid} {action.version}"
    if now != action.was:
        return Outcome.STALE, f"has {now} replicas, not {action.was}"
    owned = marks.of(found)
    least, most, _, _, wrong = picture.bounds(action.service, owned, now)
    if "target" not in owned or wrong:
        return Outcome.FAILED, wrong or "its owner no longer lets aiops scale it (no annotation aiops.io/target)"
    if not least <= action.replicas <= most:
        return Outcome.FAILED, f"{action.replicas} replicas are outside of {least}..{most}"
    return None


def _at_once(desk: Desk, place: Place, found: Object, action: ScaleService) -> Answer:
    refused = desk.write(place, found, marks.recorded(found, desk.id), spec={"replicas": action.replicas})
    return refused or (Outcome.DONE, f"{action.was} to {action.replicas} replicas")


def _in_steps(desk: Desk, place: Place, found: Object, action: ScaleService) -> Answer:
    marked = found if marks.begun(found, desk.id) else desk.written_to(place, found, {marks.BEGUN: desk.id})
    if isinstance(marked, tuple):
        return marked
    begun = desk.find(place)  # its controller may have written its status since
    if begun is None or begun["metadata"]["generation"] != marked["metadata"]["generation"]:
        return Outcome.STALE, "somebody else changed it in between"
    meta = {"resourceVersion": begun["metadata"]["resourceVersion"]}
    try:
        answer = desk.connection.patch(f"{place.path}/scale", {"metadata": meta, "spec": {"replicas": action.replicas}})
    except Refused as error:
        if error.code in (404, 409):
            return Outcome.STALE, error.message
        raise
    if answer["spec"].get("replicas", 0) != action.replicas:
        return Outcome.UNKNOWN, "the server answered another number than was asked for"
    after = desk.find(place)
    if after is not None:
        desk.write(place, after, marks.recorded(after, desk.id))  # should it lose a race: what was begun says as much
    return Outcome.DONE, f"{action.was} to {action.replicas} replicas"


def _scale_of(desk: Desk, place: Place) -> Object:
    return desk.connection.get(f"{place.path}/scale")
