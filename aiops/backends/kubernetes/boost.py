"""What a preemption by Kueue would cost, said where Kueue reads it: `kueue.x-k8s.io/priority-boost` on a job's Workload.

Kueue (0.17 and later, feature gate PriorityBoost, alpha) adds that number to the Workload's priority wherever it compares
priorities within a ClusterQueue. Here it is a knob of the job, `priority-boost`, that an ordinary `tune_job` turns: each change
is decided, admitted and recorded like any other action. How much is right is the policy's business (`policies/boost.py`).

Only what Kueue has admitted is ever boosted: a boosted Workload that waits would come before its peers and could push one of
them off, which would then be boosted in turn. So `finishing` takes a boost back as soon as its Workload loses its quota.
"""

from __future__ import annotations

from aiops.action import Outcome, TuneJob
from aiops.backends.kubernetes import marks, records, runs, stopping, versions
from aiops.backends.kubernetes.connection import Object
from aiops.backends.kubernetes.declare import KubernetesSettings
from aiops.backends.kubernetes.desk import Answer, Desk, Place
from aiops.backends.kubernetes.kinds import JOBS, WORKLOADS
from aiops.backends.kubernetes.records import WorkloadRecord
from aiops.model import JobState, Knob

KNOB = "priority-boost"


def knobs(settings: KubernetesSettings, row: WorkloadRecord) -> tuple[Knob, ...]:
    """The knob of an admitted job; none where boosts are off, or somebody else boosts it."""
    if not settings.kueue_boost or not row.admitted or row.boost is None:
        return ()
    return (Knob(name=KNOB, value=float(row.boost), least=0.0, most=float(settings.kueue_boost)),)


def change(desk: Desk, action: TuneJob) -> Answer:
    """Give the run's Workload another boost, if run and boost are as judged. Raises Refused, NotSent, Lost."""
    place = _job(action)
    job = desk.find(place)
    kept = None if job is None else _workload(desk, place, job)
    if job is None or kept is None:
        return Outcome.STALE, f"Kueue has no Workload of a job {action.job}"
    at, found = kept
    if marks.done(found, desk.id):
        return Outcome.ALREADY, "its annotation names this action"
    if action.knob != KNOB or not 0 <= action.value <= desk.settings.kueue_boost or action.value != int(action.value):
        return Outcome.STALE, f"there is no knob {action.knob} that could be {action.value:g}"
    moved = _moved(desk, (place, job), found, action)
    if moved:
        return Outcome.STALE, moved
    notes = {**marks.recorded(found, desk.id), **marks.boosted(int(action.value))}
    return desk.write(at, found, notes) or (Outcome.DONE, "")


def present(desk: Desk, action: TuneJob) -> bool:
    """Whether the action's change was made to the job's Workload. Raises Refused, NotSent, Lost."""
    place = _job(action)
    job = desk.find(place)
    kept = None if job is None else _workload(desk, place, job)
    return kept is not None and marks.done(kept[1], desk.id)


def outlived(settings: KubernetesSettings, row: WorkloadRecord) -> bool:
    """Whether a boost of ours must go: its Workload has lost its quota, or no such boost is configured any more."""
    return bool(row.boost) and (not row.admitted or (row.boost or 0) > settings.kueue_boost)


def take_back(desk: Desk, row: WorkloadRecord) -> str | None:
    """Remove a boost that has to go by a fresh look too; None where there is none. Raises Refused, NotSent, Lost."""
    place = Place(versions.served(desk.connection, WORKLOADS), row.namespace, row.name)
    found = desk.find(place)
    if found is None or not outlived(desk.settings, records.workload(found)):
        return None
    stale = desk.write(place, found, marks.boosted(0))
    return None if stale else f"the boost of Workload {row.namespace}/{row.name} is taken back"


def _moved(desk: Desk, job: tuple[Place, Object], found: Object, action: TuneJob) -> str:
    """What is not as it was judged; '' where all is."""
    run, row, pods = stopping.run_of(desk, *job)
    state, now = runs.state(row, pods), marks.boost(found)
    if run != action.run_id or state is not JobState.RUNNING:
        return f"run is {run}, {state.value}, not {action.run_id}"
    if not records.workload(found).admitted:
        return "Kueue has not admitted it, or evicts it"
    return "" if now == action.was else f"boost is {'not of aiops' if now is None else now}, not {action.was:g}"


def _job(action: TuneJob) -> Place:
    namespace, _, name = action.job.partition("/")
    return Place(JOBS, namespace, name if "/" not in name else "")  # three parts: another controller's work


def _workload(desk: Desk, place: Place, job: Object) -> tuple[Place, Object] | None:
    """The Workload that Kueue keeps for this very Job, and where; Kueue labels it with the Job's uid."""
    uid, kind = job["metadata"]["uid"], versions.served(desk.connection, WORKLOADS)
    query = {"labelSelector": f"kueue.x-k8s.io/job-uid={uid}"}
    rows: list[Object] = desk.connection.get(kind.path(place.namespace), query)["items"]
    found = next((row for row in rows if records.workload(row).owner == uid), None)
    return None if found is None else (Place(kind, place.namespace, str(found["metadata"]["name"])), found)
