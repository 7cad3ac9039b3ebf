"""Jobs: submitted once, queued by priority then time, started whole or not at all. Pure: from state to state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from aiops.backends.local import place
from aiops.backends.local.declare import ClusterSpec, JobSpec
from aiops.backends.local.holds import owned_by
from aiops.backends.local.state import HoldRecord, JobRecord, Phase, State, Unit
from aiops.model import JobState, Node

TERMINAL = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
_MIGRATION_WAIT_S = 120.0  # after that a migrating job takes any place rather than none


def declare(state: State, specs: Mapping[str, JobSpec], new_uid: Callable[[], str], now: float) -> State:
    """With each newly declared job submitted; a terminal one is submitted again only when its declaration changed."""
    for name, spec in specs.items():
        known = state.jobs.get(name)
        if known is not None and (known.state not in TERMINAL or known.digest == spec.digest):
            continue
        first = JobState.HELD if spec.held else JobState.QUEUED
        knobs = {knob: row.value for knob, row in spec.knobs.items()}
        state = state.with_job(
            JobRecord(id=name, uid=new_uid(), digest=spec.digest, state=first, submitted_at=now, knobs=knobs)
        )
    return state


def settle(state: State, gone: Mapping[str, int | None], ended: tuple[frozenset[str], str], now: float) -> State:
    """With ended runs judged. `ended` is (units that were signalled to stop, this boot)."""
    for unit in list(state.units.values()):
        kind, _, name = unit.owner.partition("/")
        if kind != "job":
            continue
        job = state.jobs.get(name)
        if unit.id in gone:
            state = state.without_unit(unit.id)
            if job is not None and job.unit == unit.id:
                state = state.with_job(_ended(job, unit, gone[unit.id], ended, now))
        elif job is not None and job.unit == unit.id and unit.phase is Phase.RUNNING and job.state is JobState.STARTING:
            state = state.with_job(replace(job, state=JobState.RUNNING, started_at=job.started_at or now))
    return state


def _ended(job: JobRecord, unit: Unit, code: int | None, ended: tuple[frozenset[str], str], now: float) -> JobRecord:
    signalled, boot = ended
    if job.then is not None and not (code == 0 and unit.id not in signalled):
        return _next(job, job.then, job.reason, now)  # unless it had finished by itself before any signal reached it
    if code == 0:
        return replace(job, state=JobState.DONE, ended_at=now, unit="", then=None, reason="")
    if code is not None:
        return replace(job, state=JobState.FAILED, ended_at=now, unit="", then=None, reason=f"exit {code}")
    if unit.identity is None:
        return _next(job, JobState.QUEUED, "its launcher did not come to run it", now)
    if unit.identity.boot_id != boot:
        return _next(job, JobState.QUEUED, "the machine was restarted", now)
    return replace(job, state=JobState.FAILED, ended_at=now, unit="", then=None, reason="ended unseen, exit status unknown")


def _next(job: JobRecord, state: JobState, reason: str, now: float) -> JobRecord:
    ended_at = now if state in TERMINAL else None
    return replace(
        job, state=state, run=job.run + (state is JobState.QUEUED), unit="", then=None, started_at=None, ended_at=ended_at,
        requested="", requested_at=None, reason=reason,
    )  # fmt: skip


def plan(state: State, spec: ClusterSpec, nodes: tuple[Node, ...], now: float) -> State:
    """With queued jobs started in order; a job that must wait for GPUs lets none behind it overtake onto GPUs."""
    waiting = [job for job in state.jobs.values() if job.state is JobState.QUEUED and job.id in spec.jobs]
    blocked = False
    for gang in _gangs(waiting, spec, list(state.holds.values())):
        wants_gpus = any(spec.jobs[job.id].gpus for job in gang)
        if blocked and wants_gpus:
            continue
        started, reason = _start(state, gang, spec, nodes, now)
        blocked = blocked or (started is None and wants_gpus and reason == _NO_ROOM)
        state = started if started is not None else _told(state, gang, reason)
    return state


_NO_ROOM = "waits for capacity"


def _gangs(waiting: list[JobRecord], spec: ClusterSpec, held: list[HoldRecord]) -> list[list[JobRecord]]:
    """Groups that start together: first those on the move, then those that capacity is held for (nobody else may have it),
    then by priority, submit time and name.
    """

    def rank(job: JobRecord) -> tuple[bool, bool, int, float, str]:
        promised = any(owned_by(hold, f"job/{job.id}") for hold in held)
        return not job.to_nodes, not promised, -spec.jobs[job.id].priority, job.submitted_at, job.id

    groups: dict[str, list[JobRecord]] = {}
    for job in sorted(waiting, key=rank):
        gang = spec.jobs[job.id].gang
        groups.setdefault(f"gang/{gang}" if gang else f"job/{job.id}", []).append(job)
    return list(groups.values())


def _told(state: State, gang: list[JobRecord], reason: str) -> State:
    for job in gang:
        state = state.with_job(replace(job, reason=reason))
    return state


def _start(
    state: State, gang: list[JobRecord], spec: ClusterSpec, nodes: tuple[Node, ...], now: float
) -> tuple[State | None, str]:
    name = spec.jobs[gang[0].id].gang
    members = [key for key, job in spec.jobs.items() if name and job.gang == name]
    absent = [key for key in members if state.jobs[key].state in (JobState.HELD, *TERMINAL)]
    if name and absent:
        return None, f"its gang waits for {', '.join(sorted(absent))}"
    for job in gang:
        if _over_quota(state, spec, job):
            return None, f"queue {spec.jobs[job.id].queue} is at its quota"
        found = _found(state, job, spec.jobs[job.id], nodes, now)
        if found is None:
            return None, _NO_ROOM if _could_ever(spec.jobs[job.id], nodes) else "asks for more than this cluster has"
        state = _started(state, job, spec.jobs[job.id], found, now)
    return state, ""


def _found(state: State, job: JobRecord, spec: JobSpec, nodes: tuple[Node, ...], now: float) -> place.Place | None:
    """Where the job goes: for a while only where it was told to move, then anywhere; a borrower's nodes are a preference."""
    wish = place.Want(
        owner=f"job/{job.id}",
        gpus=spec.gpus,
        gpu_type=spec.gpu_type,
        cpu_cores=spec.cpu_cores,
        memory_bytes=spec.memory,
        exclude=job.exclude_nodes,
    )
    claims, holds = place.taken(state), state.holds.values()
    named = replace(wish, nodes=job.to_nodes, on_gpus=job.to_gpus)
    migrating = bool(job.evictions) and now - job.evictions[-1] < _MIGRATION_WAIT_S
    if job.to_nodes and ((found := place.choose(named, nodes, claims, holds)) or (migrating and not job.lender)):
        return found
    return place.choose(wish, nodes, claims, holds)


def _started(state: State, job: JobRecord, spec: JobSpec, found: place.Place, now: float) -> State:
    state = replace(state, serial=state.serial + 1)
    unit = Unit(
        id=f"{job.id}.{state.serial}", owner=f"job/{job.id}", digest=spec.digest, nodes=found.nodes, gpus=found.gpus,
        cpu_cores=spec.cpu_cores, memory_bytes=spec.memory, spawned_at=now,
    )  # fmt: skip
    started = replace(job, state=JobState.STARTING, unit=unit.id, started_at=now, to_nodes=(), to_gpus=(), reason="")
    return state.with_unit(unit).with_job(started)


def _could_ever(spec: JobSpec, nodes: tuple[Node, ...]) -> bool:
    return spec.gpus <= sum(len(node.gpus) for node in nodes)


def _over_quota(state: State, spec: ClusterSpec, job: JobRecord) -> bool:
    """True where the job would take its queue over its own quota; GPUs borrowed by LendQueue count for the lender."""
    wanted, queue = spec.jobs[job.id], spec.jobs[job.id].queue
    if job.lender or not wanted.gpus or queue not in spec.queues:
        return False
    mine = [j for j in state.jobs.values() if j.unit and not j.lender and j.id in spec.jobs and spec.jobs[j.id].queue == queue]
    used = sum(spec.jobs[j.id].gpus for j in mine)
    return used + wanted.gpus > spec.queues[queue].quota_gpus


def stop(state: State, job: JobRecord, kill_wait_s: float, now: float, frees_for: str = "") -> State:
    """With the job's unit told to end now; `job` says what comes after (`then`), `frees_for` the hold that waits for it."""
    unit = state.units.get(job.unit)
    if unit is None:
        return state.with_job(_next(job, job.then or JobState.QUEUED, job.reason, now))
    ending = replace(unit, phase=Phase.STOPPING, term_at=now, kill_at=now + kill_wait_s, frees_for=frees_for)
    return state.with_unit(ending).with_job(replace(job, state=JobState.STOPPING))
