"""The annotations by which aiops and the owners of objects talk; all below `aiops.io/`.

Owners write `target`, `load`, `min-replicas`, `max-replicas`, `tenant`, `protected`, `preemptible`, `checkpoint`. aiops writes
`last-actions` (ids of the actions done to the object, newest first), `begun`, `checkpoint-requested`, `reason`,
`draining`, `boost`, and the journals `moving` and `stopping` (`begun.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFIX = "aiops.io/"
ACTIONS = "aiops.io/last-actions"
BEGUN = "aiops.io/begun"
REASON = "aiops.io/reason"
DRAINING = "aiops.io/draining"
MOVING = "aiops.io/moving"
STOPPING = "aiops.io/stopping"
REQUESTED = "aiops.io/checkpoint-requested"
CHECKPOINT = "aiops.io/checkpoint"
BOOST = "aiops.io/boost"
KUEUE_BOOST = "kueue.x-k8s.io/priority-boost"
CLAIM = "aiops.io/claim"
"""Label of a placeholder pod: the promise that it stands for."""
_KEPT = 32  # ids per object: hours of actions at the cooldowns of any policy, and far below the 256-KiB limit of annotations


def of(found: Mapping[str, Any]) -> dict[str, str]:
    """The `aiops.io/` annotations of an object, without the prefix."""
    rows = found["metadata"].get("annotations") or {}
    return {key.removeprefix(PREFIX): str(value) for key, value in rows.items() if key.startswith(PREFIX)}


def done(found: Mapping[str, Any], id: str) -> bool:
    """Whether the object says that action `id` was done to it."""
    return id in of(found).get("last-actions", "").split()


def begun(found: Mapping[str, Any], id: str) -> bool:
    """Whether the object says that action `id` was begun on it."""
    return of(found).get("begun", "") == id


def recorded(found: Mapping[str, Any], id: str) -> dict[str, str]:
    """The annotation that adds `id`, for the same patch as its effect."""
    known = [row for row in of(found).get("last-actions", "").split() if row != id]
    return {ACTIONS: " ".join([id, *known][:_KEPT])}


def boost(found: Mapping[str, Any]) -> int | None:
    """What aiops adds to the priority of a Workload: 0 where nobody adds anything, None where somebody else does.

    Others may write Kueue's annotation too: only a value that aiops also wrote down as its own is its own.
    """
    rows = found["metadata"].get("annotations") or {}
    value = str(rows.get(KUEUE_BOOST) or "")
    if not value:
        return 0
    return int(value) if value == rows.get(BOOST) and value.isdecimal() else None


def boosted(value: int) -> dict[str, str | None]:
    """The annotations that add `value` to the priority of a Workload; none at all for 0."""
    text = str(value) if value else None
    return {KUEUE_BOOST: text, BOOST: text}


def guarded(found: Mapping[str, Any], annotations: Mapping[str, str | None], **rest: Any) -> dict[str, Any]:
    """A merge patch that fails with 409 unless the object is still the very one, in the very version, that was read."""
    meta = {"uid": found["metadata"]["uid"], "resourceVersion": found["metadata"]["resourceVersion"]}
    return {"metadata": {**meta, "annotations": dict(annotations)}, **rest}
