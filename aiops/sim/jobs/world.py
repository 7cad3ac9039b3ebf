"""Jobs as events in virtual time: they wait, run, checkpoint, are stopped and requeued. The world that all runs share.

Who starts when is the scheduler's business (`aiops/sim/baselines/jobs.py`); it is asked after every event. Time only goes
forward: `advance` before anything else at a new time. What is counted: GPU-seconds waited, used and lost, and how long
capacity that was lent took to come back.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from aiops.model import JobState
from aiops.sim.jobs.course import Course
from aiops.sim.jobs.floor import Floor
from aiops.sim.jobs.scenario import JobScenario
from aiops.sim.jobs.trace import Submitted

ON_NODES = (JobState.RUNNING, JobState.STOPPING)


@dataclass(slots=True)
class SimJob:
    """One job and what became of it so far; `work` is what a restart begins with."""

    spec: Submitted
    state: JobState = JobState.QUEUED
    work: float = 0.0
    course: Course | None = None
    nodes: tuple[str, ...] = ()
    lender: str = ""
    runs: int = 0
    queued_at: float = 0.0
    started_at: float | None = None
    requested_at: float | None = None
    first_start: float | None = None
    ended_at: float | None = None
    not_before: float = 0.0
    blocked_at: float | None = None
    moves_to: tuple[str, ...] = ()
    evictions: list[float] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The job's name."""
        return self.spec.id

    @property
    def run_id(self) -> str:
        """The present run, or the one that it waits for."""
        return f"{self.spec.id}.{self.runs}"


@dataclass(slots=True)
class Counted:
    """GPU-seconds and events of a run of the simulation, from `since` on."""

    since: float = -math.inf
    queued_gpu_s: float = 0.0
    held_gpu_s: float = 0.0
    lost_gpu_s: float = 0.0
    waits: list[float] = field(default_factory=list)
    reclaims: list[float] = field(default_factory=list)
    evictions: int = 0
    lent: int = 0
    moves: int = 0

    def span(self, start: float, end: float) -> float:
        """Seconds of [start, end] that count."""
        return max(0.0, end - max(start, self.since))


class Scheduler(Protocol):
    """Who starts next. Asked after every event; it may start and stop jobs of the world."""

    def fill(self, world: World, now: float) -> None:
        """Start what may start now."""
        ...


class World:
    """All jobs on all nodes."""

    def __init__(self, scenario: JobScenario, jobs: Iterable[Submitted], scheduler: Scheduler) -> None:
        self.scenario, self.habits, self.scheduler = scenario, scenario.jobs, scheduler
        self.floor = Floor(scenario.pools)
        self.quota = {queue.name: queue.quota for queue in scenario.queues}
        self.jobs: dict[str, SimJob] = {}
        self.waiting: dict[str, list[SimJob]] = {queue.name: [] for queue in scenario.queues}
        self.used: dict[str, int] = defaultdict(int)  # by own jobs, without what was borrowed
        self.on_nodes: dict[str, SimJob] = {}
        self.borrowed: dict[str, SimJob] = {}
        self.counted = Counted()
        self.now = -math.inf
        self.ended: list[SimJob] = []
        self._events: list[tuple[float, int, str, str]] = []
        self._count = 0
        self._coming = sorted(jobs, key=lambda job: (job.submit, job.id), reverse=True)

    def next_event(self) -> float:
        """When something happens by itself; infinity where nothing will."""
        submit = self._coming[-1].submit if self._coming else math.inf
        return min(submit, self._events[0][0] if self._events else math.inf)

    def advance(self, now: float) -> None:
        """Let everything happen that is due by `now`, in order, and let the scheduler fill what became free."""
        while (at := self.next_event()) <= now:
            self.now = at
            while self._coming and self._coming[-1].submit <= at:
                self._submit(self._coming.pop())
            while self._events and self._events[0][0] <= at:
                _, _, what, id = heapq.heappop(self._events)
                self._happen(what, id, at)
            self._expire(at)
            self.scheduler.fill(self, at)
        self.now = now
        self._expire(now)

    def start(self, job: SimJob, nodes: tuple[str, ...], now: float, lender: str = "") -> None:
        """Let a waiting job run on these nodes, on its own queue's share or on a lender's."""
        assert job.state is JobState.QUEUED, job.id
        self.floor.take(nodes, job.spec.gpus)
        self.waiting[job.spec.queue].remove(job)
        self.on_nodes[job.id] = job
        if lender:
            self.borrowed[job.id] = job
        else:
            self.used[job.spec.queue] += job.spec.gpus
        self._wait_over(job, now)
        delay = self.habits.restart if job.runs else 0.0
        job.course = Course(
            begin=now + delay, base=job.work, before=job.work, interval_s=job.spec.interval_s, cost_s=self.habits.checkpoint
        )
        job.state, job.nodes, job.lender, job.started_at, job.requested_at = JobState.RUNNING, nodes, lender, now, None
        job.moves_to = ()
        self._at(job.course.end(job.spec.duration_s), f"end {job.run_id}", job.id)
        for name in [name for name, hold in self.floor.holds.items() if hold.owner == job.id]:
            del self.floor.holds[name]
        self.counted.lent += bool(lender)

    def ask(self, job: SimJob, now: float) -> None:
        """Ask a run that can write checkpoints for one; others do not answer."""
        job.requested_at = now
        if job.course is not None and math.isfinite(job.spec.interval_s):
            job.course = job.course.ask(now)
            self._at(job.course.end(job.spec.duration_s), f"end {job.run_id}", job.id)

    def stop(self, job: SimJob, now: float, back_off_s: float = 0.0) -> None:
        """Stop a run; it leaves its nodes after a while and waits again, with what was durable."""
        assert job.state is JobState.RUNNING, job.id
        assert job.course is not None
        kept = job.course.durable(now)
        lost = job.course.done(now) - kept + self.habits.restart + self.habits.stop
        self.counted.lost_gpu_s += job.spec.gpus * lost * (now >= self.counted.since)
        self.counted.evictions += now >= self.counted.since
        job.work, job.course, job.state = kept, None, JobState.STOPPING
        job.evictions.append(now)
        job.not_before = now + self.habits.stop + back_off_s
        self._at(now + self.habits.stop, f"left {job.run_id}", job.id)

    def _submit(self, spec: Submitted) -> None:
        job = self.jobs[spec.id] = SimJob(spec=spec, queued_at=spec.submit)
        self._queue(job)

    def _queue(self, job: SimJob) -> None:
        row = self.waiting[job.spec.queue]
        row.append(job)
        row.sort(key=lambda one: (-one.spec.priority, one.spec.submit, one.id))

    def _happen(self, what: str, id: str, at: float) -> None:
        kind, run_id = what.split(" ", 1)
        job = self.jobs.get(id)
        if job is None or job.run_id != run_id:
            return  # an older run's end, or only a wake-up
        if kind == "left" and job.state is JobState.STOPPING:
            self._leave(job, at)
            job.state, job.queued_at, job.runs = JobState.QUEUED, at, job.runs + 1
            self._queue(job)
            if job.not_before > at:
                self._at(job.not_before, f"again {job.run_id}", id)  # the scheduler is asked then
        elif kind == "end" and job.state is JobState.RUNNING and job.course and job.course.end(job.spec.duration_s) <= at:
            self._leave(job, at)
            job.state, job.ended_at, job.course = JobState.DONE, at, None
            self.ended.append(job)
            del self.jobs[id]  # 68,000 jobs of a trace are not carried through every look

    def _leave(self, job: SimJob, at: float) -> None:
        self.floor.leave(job.nodes, job.spec.gpus)
        del self.on_nodes[job.id]
        if job.lender:
            del self.borrowed[job.id]
        else:
            self.used[job.spec.queue] -= job.spec.gpus
        assert job.started_at is not None
        self.counted.held_gpu_s += job.spec.gpus * self.counted.span(job.started_at, at)
        for hold in self.floor.holds.values():
            hold.bound.discard(job.run_id)  # its GPUs are the hold's from now on
        job.nodes, job.lender = (), ""

    def _wait_over(self, job: SimJob, now: float) -> None:
        counted = self.counted
        counted.queued_gpu_s += job.spec.gpus * counted.span(job.queued_at, now)
        if job.first_start is None:
            job.first_start = now
            if job.spec.submit >= counted.since:
                counted.waits.append(now - job.spec.submit)
        if job.blocked_at is not None:
            counted.reclaims.append(now - job.blocked_at)
            job.blocked_at = None

    def _expire(self, now: float) -> None:
        """Holds end at their term, but not while runs that were stopped for them are still leaving."""
        for name, hold in list(self.floor.holds.items()):
            if hold.bound:
                hold.expires_at = max(hold.expires_at, now + hold.ttl_s)
            elif hold.expires_at <= now:
                del self.floor.holds[name]

    def _at(self, at: float, what: str, id: str) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, what, id))

    def close(self, end: float) -> None:
        """Count what still waits and runs at the end."""
        self.advance(end)
        for job in self.jobs.values():
            if job.state is JobState.QUEUED:
                self.counted.queued_gpu_s += job.spec.gpus * self.counted.span(job.queued_at, end)
                if job.blocked_at is not None:
                    self.counted.reclaims.append(end - job.blocked_at)
            elif job.started_at is not None:
                self.counted.held_gpu_s += job.spec.gpus * self.counted.span(job.started_at, end)
