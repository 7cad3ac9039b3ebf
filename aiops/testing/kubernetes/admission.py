"""What the server checks of an object beyond its address: numbers, what of an object may change, priorities of pods.

The few rules of the built-in kinds that a cluster controller can run into. Sources: pkg/apis/batch/validation and
pkg/registry/batch/job/strategy.go (the template of a Job), pkg/apis/core/validation (pods), plugin/pkg/admission/priority.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiops.testing.kubernetes.resources import Resource
from aiops.testing.kubernetes.status import Refused, invalid, malformed

Object = dict[str, Any]
_DIRECTIVES = ("affinity", "nodeSelector", "tolerations", "schedulingGates")
# What of a pod may change; `nodeName` by the scheduler's binding only, which is how this one does it.
_POD_FIELDS = ("nodeName", "activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates")
_FORBIDDEN = "FieldValueForbidden"
_NAMED = ", ".join(_POD_FIELDS)


def check(resource: Resource, new: Object) -> None:
    """400 for numbers of built-in kinds that are none, 422 for those of custom ones and for negative ones."""
    name = new["metadata"]["name"]
    for field in ("replicas", "parallelism", "leaseDurationSeconds", "leaseTransitions"):
        value = (new.get("spec") or {}).get(field)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            if resource.builtin:
                raise malformed(f"cannot unmarshal {value!r} into field .spec.{field} of type int32")
            raise invalid(resource.kind, name, f"spec.{field}: Invalid value: {value!r}", "FieldValueTypeInvalid")
        if value < 0:
            raise invalid(resource.kind, name, f"spec.{field}: Invalid value: {value!r}")


def default(resource: Resource, new: Object) -> None:
    """Fill in what built-in kinds with replicas have when nobody says it."""
    if resource.builtin and "scale" in resource.subresources:
        new.setdefault("spec", {}).setdefault("replicas", 1)


def check_change(resource: Resource, old: Object, new: Object) -> None:
    """422 where an update changes what may not be changed."""
    before, after, name = old.get("spec") or {}, new.get("spec") or {}, new["metadata"]["name"]
    match resource.plural:
        case "jobs" if before.get("template") != after.get("template"):
            if not _only(before.get("template"), after.get("template"), _DIRECTIVES if _parked(old) else ()):
                raise invalid("Job", name, "spec.template: Invalid value: field is immutable")
        case "pods" if not _differs_only(before, after, _POD_FIELDS):
            raise invalid("Pod", name, f"spec: Forbidden: pod updates may not change fields other than {_NAMED}", _FORBIDDEN)


def _parked(job: Object) -> bool:
    status = job.get("status") or {}
    suspended = any(row["type"] == "Suspended" and row["status"] == "True" for row in status.get("conditions") or ())
    return bool(job["spec"].get("suspend")) and not status.get("active") and (suspended or not status.get("startTime"))


def _only(before: Any, after: Any, fields: tuple[str, ...]) -> bool:
    """Whether two pod templates differ in these fields of their pods alone."""
    rest = [{key: value for key, value in (row or {}).items() if key != "spec"} for row in (before, after)]
    return rest[0] == rest[1] and _differs_only((before or {}).get("spec", {}), (after or {}).get("spec", {}), fields)


def _differs_only(before: Object, after: Object, fields: tuple[str, ...]) -> bool:
    keys = (before.keys() | after.keys()) - set(fields)
    return all(before.get(key) == after.get(key) for key in keys)


def prioritise(pod: Object, classes: Iterable[Object]) -> None:
    """Resolve a new pod's priority class; 403 where there is none of that name."""
    spec, rows = pod.setdefault("spec", {}), list(classes)
    wanted = spec.get("priorityClassName")
    found = next((row for row in rows if (row["metadata"]["name"] == wanted if wanted else row.get("globalDefault"))), None)
    if wanted and found is None:
        why = f'pods "{pod["metadata"].get("name", "")}" is forbidden: no PriorityClass with name {wanted} was found'
        raise Refused(403, "Forbidden", why)
    if found is not None:
        spec.setdefault("priorityClassName", found["metadata"]["name"])
        spec["priority"] = found["value"]
        spec["preemptionPolicy"] = found.get("preemptionPolicy", "PreemptLowerPriority")
