"""Ending what a daemon that died, hung or lost its lease has begun, and only that: nothing new is judged here.

Moves and stops take several writes, and the first of them leaves its intent on the Job (`begun`). The leader looks through the
mirrored Jobs for such marks every second, which costs no request, and reads an object afresh before it ends what it names.
Every write is guarded by the version that was read: a daemon that wakes up in the middle of its own action and the leader that
ends it for it cannot both have an effect. Holds end here too: placeholders whose promise was taken back while nobody evicted
them go, and those that have got what their owner's pods wait for make room for these. And a
boost (`boost.py`) goes with the quota of its Workload.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from aiops.action import Outcome
from aiops.backends.kubernetes import account, boost, holds, moving, placeholders, stopping
from aiops.backends.kubernetes.begun import Move, Stop
from aiops.backends.kubernetes.desk import Answer, Desk, Place
from aiops.backends.kubernetes.kinds import JOBS
from aiops.backends.kubernetes.marks import CLAIM, STOPPING
from aiops.backends.kubernetes.records import JobRecord, PodRecord, WorkloadRecord
from aiops.errors import Temporary

_LATE_S = 60.0  # a Job's controller replaces a lost pod within seconds, and a proof is good for 30 s (safety.md I9)
Opened = Callable[[str], Desk]
"""Gives the desk of an action by its id."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Where something that was begun may be seen."""

    jobs: Sequence[JobRecord]
    pods: Sequence[PodRecord]
    workloads: Sequence[WorkloadRecord]


def finish(opened: Opened, seen: Unfinished) -> tuple[str, ...]:
    """End what was begun on these objects; what was ended, in words. One that cannot be ended now does not keep others from it.

    Raises what the last of those raised: Refused, NotSent, Lost.
    """
    told, trouble = [], None
    looks = chain(_jobs(opened, seen.jobs), _boosts(opened, seen.workloads), _holds(opened, seen.jobs, seen.pods))
    for step in looks:
        try:
            told += [row for row in [step()] if row]
        except Temporary as error:
            trouble = error
    if trouble is not None and not told:
        raise trouble
    return tuple(told)


def _jobs(opened: Opened, jobs: Iterable[JobRecord]) -> Iterator[Callable[[], str | None]]:
    for job in jobs:
        place = Place(JOBS, job.meta.namespace, job.meta.name)
        if "moving" in job.meta.marks and job.suspended:
            yield lambda place=place: _job(opened, place, "move")  # type: ignore[misc]
        if "stopping" in job.meta.marks:
            yield lambda place=place: _job(opened, place, "stop")  # type: ignore[misc]


def _job(opened: Opened, place: Place, what: str) -> str | None:
    """One look at one Job: what was ended, or None where there is nothing to end, or not yet."""
    found = opened("").find(place)
    if found is None:
        return None
    move, stop = Move.of(found), Stop.of(found)
    answer: Answer | None = None
    if what == "move" and move is not None:
        answer = moving.complete(opened(move.id), place, move)
    elif what == "stop" and stop is not None:
        answer = _stopped(opened(stop.id), place, stop)
    if answer is None or answer[0] in (Outcome.STALE, Outcome.UNKNOWN):
        return None  # not yet, or others have changed it: a person reads that in the job's reason
    return f"{what} of {place.namespace}/{place.name}: {answer[1]}"


def _stopped(desk: Desk, place: Place, stop: Stop) -> Answer | None:
    """End a stop; None while a budget keeps one of its pods, or while whoever began it may still be at it.

    A run that is still whole must be judged afresh, and one whose stop was begun more than a minute ago is left alone: its Job
    has replaced what was lost, and may have got on from there.
    """
    found = desk.find(place)
    if found is None:
        return None
    run, _, pods = stopping.run_of(desk, place, found)
    if not 0 <= desk.now - stop.at <= _LATE_S:
        notes: dict[str, str | None] = {STOPPING: None} if run == stop.run_id else stopping.ended(found, stop)
        return desk.write(place, found, notes) or (Outcome.FAILED, "cut off too long ago: left as it is")
    if run == stop.run_id or [why for pod in pods if pod.uid in stop.pods for why in [stopping.evict(desk, pod)] if why]:
        return None
    return desk.write(place, found, stopping.ended(found, stop)) or (Outcome.DONE, "what was left of a stopped run is evicted")


def _holds(opened: Opened, jobs: Iterable[JobRecord], pods: Sequence[PodRecord]) -> Iterator[Callable[[], str | None]]:
    desk, standing = opened(""), dict[str, list[PodRecord]]()
    for pod in pods:
        if (
            pod.live
            and pod.meta.namespace == desk.settings.state_namespace
            and pod.meta.labels.get(CLAIM, "").startswith(holds.PREFIX)
        ):
            standing.setdefault(pod.meta.labels[CLAIM], []).append(pod)
    if not standing:
        return
    promised = account.read(desk)[1]  # after the pods were seen: a hold is in the account before its first placeholder is
    over = standing.keys() - holds.claims(promised, desk.now)
    if over:
        yield lambda: _withdrawn(desk, over)
    for name, owner, claim in holds.owed(promised, desk.now):
        if _has_come(standing.get(claim, ()), owner, jobs, pods):
            yield lambda name=name, claim=claim: _left(desk, name, claim)  # type: ignore[misc]


def _boosts(opened: Opened, workloads: Iterable[WorkloadRecord]) -> Iterator[Callable[[], str | None]]:
    desk = opened("")
    for row in workloads:
        if boost.outlived(desk.settings, row):
            yield lambda row=row: boost.take_back(desk, row)  # type: ignore[misc]


def _has_come(standing: Collection[PodRecord], owner: str, jobs: Iterable[JobRecord], pods: Iterable[PodRecord]) -> bool:
    """Whether all of a hold's placeholders have their room, and pods of its owner, the Job `namespace/name`, wait for one."""
    uids = {job.uid for job in jobs if f"{job.meta.namespace}/{job.meta.name}" == owner}
    waits = any(pod.live and not pod.node and pod.owner is not None and pod.owner.uid in uids for pod in pods)
    return bool(standing) and waits and all(pod.node for pod in standing)


def _left(desk: Desk, name: str, claim: str) -> str | None:
    answer = holds.leave(desk, name, claim)
    return answer[1] if answer is not None and answer[0] is Outcome.DONE else None


def _withdrawn(desk: Desk, over: Collection[str]) -> str | None:
    """Placeholders of holds that were released, or replaced by their next fence, and whose eviction was cut off."""
    stays = placeholders.withdraw(desk, lambda name: name in over)
    return None if stays else f"placeholders of {len(over)} ended holds are evicted"
