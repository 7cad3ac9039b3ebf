"""Jobs as runs: who is running, which execution it is, and what proof of a checkpoint it has given.

A run is the set of a job's pods: once one of them is replaced it is another run. Pods of GPU work whose controller is not a
batch Job are jobs too, seen but never touched: aiops does not know how their controller takes the loss of a pod.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

import orjson

from aiops import codec
from aiops.backends.kubernetes.quantity import timestamp
from aiops.backends.kubernetes.records import JobRecord, Owner, PodRecord
from aiops.model import Checkpoint, Job, JobState

_SERVED = frozenset({"ReplicaSet", "StatefulSet", "DaemonSet", "Deployment", "LeaderWorkerSet", "Node"})
"""Controllers of services and of node agents: their pods are no jobs."""


_REPLICATED = frozenset({"ReplicaSet", "StatefulSet"})
"""Of these, those whose replicas may hold GPUs; the pods of a LeaderWorkerSet are in StatefulSets."""
_LEADER_WORKER_SET = "leaderworkerset.sigs.k8s.io/name"


def run_id(uid: str, pods: Iterable[PodRecord]) -> str:
    """Identity of the execution that these live pods are."""
    return f"{uid[:8]}-{codec.digest(tuple(sorted(pod.uid for pod in pods)))[:12]}"


def state(job: JobRecord, pods: Iterable[PodRecord]) -> JobState:
    """The job's state from its own status and its live pods."""
    if job.finished:
        return JobState.DONE if job.finished == "Complete" else JobState.FAILED
    rows = tuple(pods)
    if job.suspended:
        return JobState.STOPPING if rows else JobState.QUEUED if job.queue else JobState.HELD
    if not rows or not all(pod.node for pod in rows):
        return JobState.QUEUED
    return JobState.RUNNING if all(pod.phase == "Running" for pod in rows) else JobState.STARTING


def checkpoint(marks: Mapping[str, str], run: str, now: float) -> Checkpoint | None:
    """The proof that the job's own side left in `aiops.io/checkpoint`; None where it is absent, odd, or of another run.

    JSON: `{"id", "run_id", "at", "verified", "step"}`; `run_id` repeats the one of the request, so that an old answer is no
    proof of this run. Who writes it must have checked the completion marker and the sizes or hashes first.
    """
    try:
        row: Any = orjson.loads(marks.get("checkpoint", ""))
        at, step = row["at"], row.get("step")
        taken = float(at) if isinstance(at, int | float) else timestamp(at)
        if row["run_id"] != run or row["verified"] is not True or taken is None or not 0 <= taken <= now + 1.0:
            return None
        return Checkpoint(
            id=str(row["id"]), run_id=run, at=taken, read_at=now, verified=True, step=int(step) if step is not None else None
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None


def requested_at(marks: Mapping[str, str], run: str, proof: Checkpoint | None) -> float | None:
    """When a checkpoint of this run was asked for that has not been given yet."""
    parts = marks.get("checkpoint-requested", "").split()
    if len(parts) != 3 or parts[1] != run or (proof is not None and proof.id == parts[0]):
        return None
    try:
        return float(parts[2])
    except ValueError:
        return None


def batch(job: JobRecord, pods: tuple[PodRecord, ...], priority: int, now: float) -> Job:
    """A batch Job as a job of the contract."""
    run = run_id(job.uid, pods)
    proof = checkpoint(job.meta.marks, run, now)
    marks, name = job.meta.marks, f"{job.meta.namespace}/{job.meta.name}"
    queue = f"{job.meta.namespace}/{job.queue}" if job.queue else job.meta.namespace
    return Job(
        id=name, run_id=run, name=job.meta.name, queue=queue, state=state(job, pods), gpus=job.ask.gpus * job.pods,
        submitted_at=job.meta.created, tenant=marks.get("tenant", job.meta.namespace), priority=priority,
        cpu_cores=job.ask.cpu_cores * job.pods, memory_bytes=job.ask.memory_bytes * job.pods, nodes=_nodes(pods),
        started_at=max((pod.ready_at or pod.meta.created for pod in pods), default=job.started_at) if pods else None,
        checkpoint=proof, checkpoint_requested_at=requested_at(marks, run, proof),
        preemptible=marks.get("preemptible") == "true",
        protected=marks.get("protected") == "true", gang=name if job.pods > 1 else "", runtime_s=job.deadline_s,
        volumes=tuple(sorted({f"{pod.meta.namespace}/{claim}" for pod in pods for claim in pod.volumes})),
        reason=_cut_off(job) or next((pod.waits for pod in pods if pod.waits), ""),
    )  # fmt: skip


def _cut_off(job: JobRecord) -> str:
    """A suspended job whose move has not ended: the leader ends it, unless somebody changed the job in between."""
    if "moving" not in job.meta.marks or not job.suspended:
        return ""
    return "suspended in the middle of a move, which the leading daemon ends; a resume starts it where it fits"


def foreign(pods: Iterable[PodRecord], shown: Container[str] = ()) -> tuple[Job, ...]:
    """GPU work of other controllers, and bare pods: seen, counted, protected; and the placed replicas of workloads that are
    not among the services (`shown`): who takes their GPUs for free, stops others in vain.
    """
    groups: dict[tuple[str, str, str, str], list[PodRecord]] = {}
    for pod in pods:
        owner = pod.owner
        aside = owner is not None and owner.kind in _REPLICATED and pod.node and workload(pod, owner) not in shown
        if pod.live and pod.ask.gpus and (aside or owner is None or owner.kind not in _SERVED | {"Job"}):
            kind, name, uid = (owner.kind, owner.name, owner.uid) if owner else ("Pod", pod.meta.name, pod.uid)
            groups.setdefault((pod.meta.namespace, kind.lower(), name, uid), []).append(pod)
    return tuple(_foreign(key, tuple(rows)) for key, rows in sorted(groups.items()))


def _foreign(key: tuple[str, str, str, str], pods: tuple[PodRecord, ...]) -> Job:
    namespace, kind, name, uid = key
    replicated = kind in {name.lower() for name in _REPLICATED}  # a drain may move it: its controller makes another
    placed, running = all(pod.node for pod in pods), all(pod.phase == "Running" for pod in pods)
    return Job(
        id=f"{namespace}/{kind}/{name}", run_id=run_id(uid, pods), name=name, queue=namespace,
        state=JobState.RUNNING if running else JobState.STARTING if placed else JobState.QUEUED,
        gpus=sum(pod.ask.gpus for pod in pods), submitted_at=min(pod.meta.created for pod in pods), tenant=namespace,
        priority=max(pod.priority for pod in pods), nodes=_nodes(pods), protected=not replicated,
        started_at=max(pod.ready_at or pod.meta.created for pod in pods) if running else None,
        reason=f"owned by a {kind}: seen, never touched",
    )  # fmt: skip


def workload(pod: PodRecord, owner: Owner) -> str:
    """Namespace and name of what a pod is a replica of; a ReplicaSet is named after its Deployment, with a hash behind."""
    name = owner.name.rpartition("-")[0] if owner.kind == "ReplicaSet" else owner.name
    return f"{pod.meta.namespace}/{pod.meta.labels.get(_LEADER_WORKER_SET, name)}"


def _nodes(pods: Iterable[PodRecord]) -> tuple[str, ...]:
    return tuple(sorted({pod.node for pod in pods if pod.node}))
