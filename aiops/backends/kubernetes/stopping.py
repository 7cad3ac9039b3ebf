"""Taking pods away, gently: checkpoint first, then the Eviction API, which honours disruption budgets. Never a delete.

Stopping a run touches several pods, so it cannot be one write. It is begun by a guarded patch of the Job that names the run
and its pods (`begun.Stop`), each eviction names the uid of the pod that was judged, and a second patch records the end. A
crash in between is read back: the run is begun and no longer the same set of pods, so it has stopped; `finishing` then takes
away what is left of it, for half a run computes nothing and keeps its GPUs.
"""

from __future__ import annotations

from aiops.action import Drain, Outcome, Preempt, RequestCheckpoint
from aiops.backends.kubernetes import budgets, marks, runs
from aiops.backends.kubernetes.begun import Stop
from aiops.backends.kubernetes.connection import Object, Refused
from aiops.backends.kubernetes.desk import Answer, Desk, Place
from aiops.backends.kubernetes.kinds import JOBS, PODS
from aiops.backends.kubernetes.records import JobRecord, PodRecord, Reader
from aiops.model import JobState

_STAYING = frozenset({"DaemonSet", "Node"})  # node agents and static pods: a drain leaves them, as kubectl's does


def run_of(desk: Desk, place: Place, found: Object) -> tuple[str, JobRecord, tuple[PodRecord, ...]]:
    """The job's present run as just read: its id, the job and its live pods."""
    reader = Reader(desk.settings.gpu_resources)
    job = reader.job(found)
    # All versions put this label on a Job's pods; the owner's uid then tells a namesake's leftovers apart.
    rows = _pods(desk, reader, PODS.path(place.namespace), {"labelSelector": f"job-name={place.name}"})
    pods = tuple(pod for pod in rows if pod.live and pod.owner is not None and pod.owner.uid == job.uid)
    return runs.run_id(job.uid, pods), job, pods


def _pods(desk: Desk, reader: Reader, path: str, query: dict[str, str]) -> tuple[PodRecord, ...]:
    return tuple(reader.pod(row) for row in desk.connection.get(path, query)["items"])


def request_checkpoint(desk: Desk, place: Place, found: Object, action: RequestCheckpoint) -> Answer:
    """Write the request where the job's own side sees it: `ID RUN TIME`; it answers in `aiops.io/checkpoint`."""
    run, job, pods = run_of(desk, place, found)
    if run != action.run_id or runs.state(job, pods) is not JobState.RUNNING:
        return Outcome.STALE, f"run is {run}, {runs.state(job, pods).value}, not {action.run_id}"
    notes = {**marks.recorded(found, desk.id), marks.REQUESTED: f"{desk.id} {run} {desk.now:.3f}"}
    return desk.write(place, found, notes) or (Outcome.DONE, "requested by annotation")


def preempt(desk: Desk, place: Place, found: Object, action: Preempt) -> Answer:
    """Evict every pod of the run, if it is the run that was judged, its proof still holds, and the budgets allow all of it."""
    run, job, pods = run_of(desk, place, found)
    begun = stops(found, desk.id)
    if run != action.run_id:
        return (Outcome.ALREADY, "the run has stopped") if begun else (Outcome.STALE, f"run is {run}, not {action.run_id}")
    refused = refusal(desk, job, pods, action) or _survives(found) or budgets.refusal(desk, place.namespace, pods)
    if refused is not None:
        return refused
    if not begun:
        stop = Stop(id=desk.id, run_id=run, pods=tuple(sorted(pod.uid for pod in pods)), at=desk.now)
        late = desk.write(place, found, stop.mark())
        if late is not None:
            return late
    return _evict_run(desk, place, pods)


def refusal(desk: Desk, job: JobRecord, pods: tuple[PodRecord, ...], action: Preempt) -> Answer | None:
    """Why this run may not be stopped: it does not run where and as judged, is protected, or its proof does not hold."""
    if runs.state(job, pods) is not JobState.RUNNING:
        return Outcome.STALE, f"run is {runs.state(job, pods).value}, not running"
    nodes, gpus = sorted({pod.node for pod in pods}), sum(pod.ask.gpus for pod in pods)
    if nodes != sorted(action.on_nodes) or gpus != action.gpus:
        return Outcome.STALE, f"run has {gpus} GPUs on {', '.join(nodes)}"
    if job.meta.marks.get("protected") == "true":
        return Outcome.FAILED, "job is protected"
    if not action.checkpoint and job.meta.marks.get("preemptible") == "true":
        return None  # its owner declared that it needs no checkpoint
    proof = runs.checkpoint(job.meta.marks, action.run_id, desk.now)
    if proof is None or proof.id != action.checkpoint:
        return (
            Outcome.STALE,
            f"proven checkpoint of this run is {proof.id if proof else 'none'}, not {action.checkpoint or 'none'}",
        )
    return None


def _survives(found: Object) -> Answer | None:
    """A Job counts an evicted pod as a failure unless its policy says otherwise: the last one allowed ends it for good."""
    spec, status = found["spec"], found.get("status") or {}
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or []
    spared = any(
        rule.get("action") == "Ignore"
        and any(row.get("type") == "DisruptionTarget" for row in rule.get("onPodConditions") or ())
        for rule in rules
    )
    left = int(spec.get("backoffLimit", 6)) - int(status.get("failed", 0))
    if spared or left >= int(spec.get("parallelism", 1)):
        return None
    return Outcome.FAILED, f"eviction could end this job: {left} failures left and no podFailurePolicy that ignores disruptions"


def _evict_run(desk: Desk, place: Place, pods: tuple[PodRecord, ...]) -> Answer:
    for count, pod in enumerate(sorted(pods, key=lambda pod: pod.meta.name)):
        problem = evict(desk, pod)
        if problem is not None:
            # half a run is no run: the read that must follow UNKNOWN finds it stopped
            return (Outcome.UNKNOWN if count else Outcome.FAILED), f"{count} of {len(pods)} pods evicted; {problem}"
    _record(desk, place)
    return Outcome.DONE, f"{len(pods)} pods evicted"


def _record(desk: Desk, place: Place) -> None:
    """Say that the run was stopped; should it lose a race: the journal and the new run say as much, and `finishing` comes."""
    found = desk.find(place)
    stop = Stop.of(found) if found is not None else None
    if found is not None and stop is not None and stop.id == desk.id:
        desk.write(place, found, ended(found, stop))


def ended(found: Object, stop: Stop) -> dict[str, str | None]:
    """The annotations that end a stop."""
    return {**marks.recorded(found, stop.id), marks.STOPPING: None}


def stops(found: Object, id: str) -> bool:
    """Whether the object says that a stop by action `id` was begun and not ended."""
    stop = Stop.of(found)
    return stop is not None and stop.id == id


def evict(desk: Desk, pod: PodRecord, dry_run: bool = False) -> str | None:
    """Ask for the eviction of this very pod; None when it goes or is gone, else why it stays for now."""
    meta = pod.meta
    options = {"preconditions": {"uid": pod.uid}}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": meta.name, "namespace": meta.namespace}}
    try:
        path = PODS.path(meta.namespace, meta.name, "eviction")
        desk.connection.create(path, {**body, "deleteOptions": options}, dry_run)
    except Refused as error:
        if error.code in (404, 409):
            return None  # gone, or another pod of the same name: this one no longer runs
        if error.code in (429, 500):  # 500: more than one budget covers the pod, which the API refuses for ever
            return f"{meta.namespace}/{meta.name} must wait: {error.message}"
        raise
    return None


def has_stopped(desk: Desk, place: Place, found: Object, action: Preempt) -> bool:
    """Whether the run that a preemption was begun on is gone."""
    return run_of(desk, place, found)[0] != action.run_id


def drain(desk: Desk, place: Place, node: Object, action: Drain) -> Answer:
    """Cordon the node and evict what may go; jobs without a proven checkpoint are asked for one and left to run."""
    if node["metadata"]["uid"] != action.uid:
        return Outcome.STALE, f"node {action.node} is {node['metadata']['uid']}, not {action.uid}"
    notes = {marks.REASON: action.reason, marks.DRAINING: desk.id}
    refused = desk.write(place, node, notes, spec={"unschedulable": True})
    if refused is not None:
        return refused
    reader = Reader(desk.settings.gpu_resources)
    rows = _pods(desk, reader, PODS.path(), {"fieldSelector": f"spec.nodeName={action.node}"})
    waits = [why for pod in rows if pod.live for why in [_moved_off(desk, pod)] if why]
    if waits:
        return Outcome.FAILED, f"cordoned; {len(waits)} pods stay for now: {'; '.join(waits)[:500]}"
    found = desk.find(place)
    if found is not None:
        desk.write(place, found, marks.recorded(found, desk.id))
    return Outcome.DONE, "cordoned and empty of what can move"


def _moved_off(desk: Desk, pod: PodRecord) -> str | None:
    """None when the pod goes or is no matter of a drain; else why it stays."""
    name = f"{pod.meta.namespace}/{pod.meta.name}"
    if pod.owner is None:
        return f"{name} has no controller: an eviction would lose it"
    if pod.owner.kind in _STAYING:
        return None
    if pod.owner.kind == "Job":
        return _job_moved_off(desk, pod, name)
    if pod.ask.gpus and pod.owner.kind not in ("ReplicaSet", "StatefulSet", "LeaderWorkerSet"):
        return f"{name} belongs to a {pod.owner.kind}: its controller decides"
    return evict(desk, pod)


def _job_moved_off(desk: Desk, pod: PodRecord, name: str) -> str | None:
    assert pod.owner is not None
    place = Place(JOBS, pod.meta.namespace, pod.owner.name)
    found = desk.find(place)
    if found is None:
        return f"{name}: its job is gone"
    run, job, pods = run_of(desk, place, found)
    preemptible = job.meta.marks.get("preemptible") == "true"
    if job.meta.marks.get("protected") == "true" or not (preemptible or runs.checkpoint(job.meta.marks, run, desk.now)):
        if runs.requested_at(job.meta.marks, run, None) is None and runs.state(job, pods) is JobState.RUNNING:
            desk.write(place, found, {marks.REQUESTED: f"{desk.id} {run} {desk.now:.3f}"})
        return f"{name} is asked for a checkpoint"
    refused = _survives(found) or budgets.refusal(desk, pod.meta.namespace, pods)
    return refused[1] if refused is not None else evict(desk, pod)
