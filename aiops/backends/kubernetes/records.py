"""What is kept of the cluster's objects: small frozen records, parsed on arrival. Everything else is dropped at the door.

A parser raises KeyError, TypeError or ValueError for an object that is not of its kind; then the picture is unreadable.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiops.backends.kubernetes import marks
from aiops.backends.kubernetes.quantity import quantity, timestamp

Object = Mapping[str, Any]
_FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Owner:
    """The controller of an object."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What every record knows of its object. `marks` are its `aiops.io/` annotations without the prefix."""

    namespace: str
    name: str
    uid: str
    created: float
    labels: Mapping[str, str]
    marks: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What one pod asks for; a claim of a device counts once whichever container makes it."""

    gpus: int = 0
    cpu_cores: float = 0.0
    memory_bytes: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRecord:
    """A pod. `ready_at` is when it became ready; `live` that it is neither finished nor going."""

    uid: str
    meta: Meta
    owner: Owner | None
    node: str
    phase: str
    live: bool
    ready_at: float | None
    ask: Ask
    priority: int
    volumes: tuple[str, ...]
    waits: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """A node. `gpus` is its capacity, `usable` what its device plugin reports healthy."""

    uid: str
    meta: Meta
    unschedulable: bool
    ready: bool
    trouble: str
    gpus: int
    usable: int
    cpu_cores: float
    memory_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalableRecord:
    """An object with replicas. `generation` moves with its specification only, `version` with everything."""

    uid: str
    meta: Meta
    generation: int
    version: str
    replicas: int
    ready: int
    ask: Ask
    priority_class: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A batch Job. `queue` is its Kueue queue."""

    uid: str
    meta: Meta
    suspended: bool
    finished: str
    pods: int
    queue: str
    ask: Ask
    priority_class: str
    started_at: float | None
    deadline_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityRecord:
    """A PriorityClass."""

    uid: str
    name: str
    value: int
    default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerRecord:
    """A HorizontalPodAutoscaler: whom it scales."""

    uid: str
    name: str
    namespace: str
    kind: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRecord:
    """What Kueue says of a job: its priority, why it waits ('' once admitted), and when it was last evicted.

    `admitted` means that it has its quota and keeps it; `boost` is what aiops adds to its priority (None: somebody else does).
    """

    uid: str
    namespace: str
    name: str
    owner: str
    priority: int | None
    waits: str
    evicted_at: float | None
    admitted: bool
    boost: int | None


class Reader:
    """Parses objects; knows which resources are GPUs."""

    def __init__(self, gpu_resources: Iterable[str]) -> None:
        self._gpu = tuple(gpu_resources)

    def pod(self, found: Object) -> PodRecord:
        """A pod."""
        meta, spec, status = _meta(found), found.get("spec") or {}, found.get("status") or {}
        phase = str(status.get("phase", "Pending"))
        conditions = {row["type"]: row for row in status.get("conditions") or ()}
        ready, scheduled = conditions.get("Ready", {}), conditions.get("PodScheduled", {})
        return PodRecord(
            uid=meta.uid, meta=meta, owner=_owner(found), node=sys.intern(str(spec.get("nodeName") or "")),
            phase=sys.intern(phase),
            live=phase not in _FINISHED and not found["metadata"].get("deletionTimestamp"),
            ready_at=timestamp(ready.get("lastTransitionTime")) or meta.created if ready.get("status") == "True" else None,
            ask=self._ask(spec), priority=int(spec.get("priority") or 0),
            volumes=tuple(
                row["persistentVolumeClaim"]["claimName"]
                for row in spec.get("volumes") or ()
                if row.get("persistentVolumeClaim")
            ),
            waits=str(scheduled.get("message", ""))[:200] if scheduled.get("status") == "False" else "",
        )  # fmt: skip

    def node(self, found: Object) -> NodeRecord:
        """A node."""
        meta, status = _meta(found), found.get("status") or {}
        rows = {row["type"]: row for row in status.get("conditions") or ()}
        ready = rows.get("Ready", {})
        allocatable = status.get("allocatable") or {}
        usable = self._devices(allocatable)
        return NodeRecord(
            uid=meta.uid, meta=meta, unschedulable=bool((found.get("spec") or {}).get("unschedulable")),
            ready=ready.get("status") == "True", trouble=str(ready.get("message") or ready.get("reason") or "")[:200],
            gpus=max(usable, self._devices(status.get("capacity") or {})), usable=usable,
            cpu_cores=quantity(allocatable.get("cpu", 0)), memory_bytes=quantity(allocatable.get("memory", 0)),
        )  # fmt: skip

    def scalable(self, found: Object) -> ScalableRecord:
        """A Deployment, a StatefulSet, or anything else with `spec.replicas`."""
        meta, spec, status = _meta(found), found.get("spec") or {}, found.get("status") or {}
        pod = _template(spec)
        size = _count((spec.get("leaderWorkerTemplate") or {}).get("size", 1))  # pods in one replica
        return ScalableRecord(
            uid=meta.uid, meta=meta, generation=int(found["metadata"].get("generation", 0)),
            version=str(found["metadata"].get("resourceVersion", "")),
            replicas=_count(spec.get("replicas", 1)), ready=_count(status.get("readyReplicas", 0)), ask=self._ask(pod, size),
            priority_class=str(pod.get("priorityClassName", "")),
        )  # fmt: skip

    def job(self, found: Object) -> JobRecord:
        """A batch Job."""
        meta, spec, status = _meta(found), found.get("spec") or {}, found.get("status") or {}
        ended = [row["type"] for row in status.get("conditions") or () if row.get("status") == "True"]
        pod, deadline = _template(spec), spec.get("activeDeadlineSeconds")
        return JobRecord(
            uid=meta.uid, meta=meta, suspended=bool(spec.get("suspend")),
            finished=next((row for row in ended if row in ("Complete", "Failed")), ""), pods=_count(spec.get("parallelism", 1)),
            queue=meta.labels.get("kueue.x-k8s.io/queue-name", ""), ask=self._ask(pod),
            priority_class=str(pod.get("priorityClassName", "")), started_at=timestamp(status.get("startTime")),
            deadline_s=float(deadline) if deadline is not None else None,
        )  # fmt: skip

    def _ask(self, spec: Object, pods: int = 1) -> Ask:
        """Sum over containers of so many pods; limits stand in for requests, as the API server has it for devices."""
        rows = [row.get("resources") or {} for row in spec.get("containers") or ()]
        asked = [{**(row.get("limits") or {}), **(row.get("requests") or {})} for row in rows]
        return Ask(
            gpus=pods * sum(self._devices(row) for row in asked),
            cpu_cores=pods * sum(quantity(row.get("cpu", 0)) for row in asked),
            memory_bytes=pods * sum(quantity(row.get("memory", 0)) for row in asked),
        )  # fmt: skip

    def _devices(self, resources: Object) -> int:
        return int(sum(quantity(value) for name, value in resources.items() if self._is_gpu(name)))

    def _is_gpu(self, name: str) -> bool:
        return any(name == row or (row[-1] in "-/" and name.startswith(row)) for row in self._gpu)


def priority(found: Object) -> PriorityRecord:
    """A PriorityClass."""
    meta = found["metadata"]
    return PriorityRecord(
        uid=str(meta["uid"]), name=str(meta["name"]), value=int(found["value"]), default=bool(found.get("globalDefault"))
    )


def autoscaler(found: Object) -> AutoscalerRecord:
    """A HorizontalPodAutoscaler."""
    meta, ref = found["metadata"], found["spec"]["scaleTargetRef"]
    return AutoscalerRecord(
        uid=str(meta["uid"]),
        name=str(meta["name"]),
        namespace=str(meta["namespace"]),
        kind=str(ref["kind"]),
        target=str(ref["name"]),
    )


def workload(found: Object) -> WorkloadRecord:
    """A Kueue Workload."""
    rows = {row["type"]: row for row in (found.get("status") or {}).get("conditions") or ()}
    owner, priority = _owner(found), (found.get("spec") or {}).get("priority")
    reserved, evicted = rows.get("QuotaReserved", {}), rows.get("Evicted", {})
    return WorkloadRecord(
        uid=str(found["metadata"]["uid"]), namespace=sys.intern(str(found["metadata"].get("namespace") or "")),
        name=str(found["metadata"]["name"]), owner=owner.uid if owner else "",
        priority=int(priority) if priority is not None else None,
        waits="" if reserved.get("status") == "True" else f"Kueue: {reserved.get('message') or 'not yet considered'}"[:200],
        evicted_at=timestamp(evicted.get("lastTransitionTime")) if evicted.get("status") == "True" else None,
        admitted=reserved.get("status") == "True" and evicted.get("status") != "True", boost=marks.boost(found),
    )  # fmt: skip


def _meta(found: Object) -> Meta:
    meta = found["metadata"]
    return Meta(
        namespace=sys.intern(str(meta.get("namespace") or "")), name=str(meta["name"]), uid=str(meta["uid"]),
        created=timestamp(meta.get("creationTimestamp")) or 0.0,
        labels={sys.intern(str(key)): sys.intern(str(value)) for key, value in (meta.get("labels") or {}).items()},
        marks=marks.of(found),
    )  # fmt: skip


def _owner(found: Object) -> Owner | None:
    for row in found["metadata"].get("ownerReferences") or ():
        if row.get("controller"):
            return Owner(sys.intern(str(row["kind"])), sys.intern(str(row["name"])), sys.intern(str(row["uid"])))
    return None


def _template(spec: Object) -> Object:
    """The pod specification inside; a LeaderWorkerSet keeps it one level deeper."""
    inner = spec.get("template") or (spec.get("leaderWorkerTemplate") or {}).get("workerTemplate") or {}
    found: Object = inner.get("spec") or {}
    return found


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"expected a count, found {value!r}")
    return value
