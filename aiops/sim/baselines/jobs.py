"""Schedulers of jobs that others run, beside ours in the same world.

`no-lending`    what the cluster itself does under our policies: each queue by priority, then time, within its own quota; who
                does not fit is passed over (Kueue's BestEffortFIFO without a cohort)
`fifo`          the same, but nobody passes the first of a queue (Kueue's StrictFIFO, Slurm without backfill)
`priority`      as `no-lending`, and who outranks others stops the lowest ranked first, oldest first among equals (Slurm's
                PreemptMode=REQUEUE with youngest_first off)
`newest-first`  Kueue with a cohort: what is idle is borrowed at once; who is entitled stops borrowers first, then lower
                priorities of its own queue, the lowest first, newest among equals (requeued after 60 s, doubled each time up
                to 3,600 s)

None asks for a checkpoint before it stops a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from aiops.model import JobState
from aiops.sim.jobs.floor import ROUNDING
from aiops.sim.jobs.world import Scheduler, SimJob, World

BACK_OFF_S, BACK_OFF_MOST_S = 60.0, 3600.0


class NoLending:
    """Each queue within its own quota; `strict` lets nobody pass the first."""

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.back: dict[str, float] | None = None  # what would be free if all borrowers left, less who waits for it

    def fill(self, world: World, now: float) -> None:
        """See `Scheduler.fill`."""
        self.back = None
        for queue, row in world.waiting.items():
            spare = world.quota[queue] - world.used[queue]
            for job in row:
                if job.spec.gpus > spare:
                    job.blocked_at = None  # it waits for its own queue, not for what was lent
                    self.over_quota(world, job, now)
            for job in [job for job in row if job.spec.gpus <= spare] if not self.strict else list(row):
                spare = world.quota[queue] - world.used[queue]
                started = job.spec.gpus <= spare and job.not_before <= now and self.start(world, job, now)
                if spare <= 0 or (self.strict and not started):
                    break

    def over_quota(self, world: World, job: SimJob, now: float) -> None:
        """What is done for a job that its queue's quota does not carry: nothing."""

    def start(self, world: World, job: SimJob, now: float) -> bool:
        """Start the job where it fits; note since when it only waits for what others borrowed."""
        room = world.floor.room(job.id)
        there = bool(job.moves_to) and all(room[n] >= job.spec.gpus / len(job.moves_to) - ROUNDING for n in job.moves_to)
        nodes = job.moves_to if there else world.floor.place(job.spec.gpus, job.spec.gpu_type, room)
        if nodes is None:
            self.blocked(world, job, now)
            return False
        world.start(job, nodes, now)
        return True

    def blocked(self, world: World, job: SimJob, now: float) -> None:
        """It is entitled: while borrowers alone are in its way, its wait is a reclaim's. Nobody's room is counted twice."""
        if job.blocked_at is None and not world.borrowed:
            return
        if self.back is None:
            self.back = returned(world.floor.free, world.borrowed.values())
        nodes = world.floor.place(job.spec.gpus, job.spec.gpu_type, self.back)
        if nodes is None:
            job.blocked_at = None
        else:
            job.blocked_at = now if job.blocked_at is None else job.blocked_at
            for name in nodes:
                self.back[name] -= job.spec.gpus / len(nodes)


class Priority(NoLending):
    """Stops who is outranked, lowest priority and oldest first, until the job fits."""

    def ranked(self, world: World, job: SimJob) -> list[SimJob]:
        """Whom it may stop for this job, in order."""
        lower = [one for one in world.on_nodes.values() if one.spec.priority < job.spec.priority]
        return sorted(lower, key=lambda one: (one.spec.priority, one.started_at or 0.0, one.id))

    def start(self, world: World, job: SimJob, now: float) -> bool:
        """See `NoLending.start`."""
        if super().start(world, job, now):
            return True
        stop_until_it_fits(world, job, self.ranked(world, job), now)
        return False

    def over_quota(self, world: World, job: SimJob, now: float) -> None:
        """See `NoLending.over_quota`: stop who is outranked in its own queue."""
        own = [one for one in self.ranked(world, job) if one.spec.queue == job.spec.queue and not one.lender]
        if own and job.not_before <= now:
            stop_until_it_fits(world, job, own, now)


class NewestFirst(Priority):
    """Borrows at once what is idle; stops borrowers, then who is outranked in its own queue, newest first."""

    def ranked(self, world: World, job: SimJob) -> list[SimJob]:
        """See `Priority.ranked`."""
        mine = (one for one in world.on_nodes.values() if one.spec.queue == job.spec.queue and not one.lender)
        all_of_them = [*world.borrowed.values(), *(one for one in mine if one.spec.priority < job.spec.priority)]
        return sorted(all_of_them, key=lambda one: (not one.lender, one.spec.priority, -(one.started_at or 0.0), one.id))

    def fill(self, world: World, now: float) -> None:
        """See `Scheduler.fill`: the entitled first, then borrowers by priority and time."""
        super().fill(world, now)
        waiting = [job for row in world.waiting.values() for job in row if job.not_before <= now and job.blocked_at is None]
        idle = sum(world.quota.values()) - sum(world.used.values()) - sum(job.spec.gpus for job in world.borrowed.values())
        for job in sorted(waiting, key=lambda one: (-one.spec.priority, one.spec.submit, one.id)):
            if job.spec.gpus > idle:
                continue
            nodes = world.floor.place(job.spec.gpus, job.spec.gpu_type, world.floor.room(job.id))
            if nodes is not None:
                world.start(job, nodes, now, lender="cohort")
                idle -= job.spec.gpus


def stop_until_it_fits(world: World, job: SimJob, ranked: list[SimJob], now: float) -> None:
    """Stop runs in this order until nodes and quota have room for the job once they have left; nobody if they never would."""
    leaving = [one for one in world.on_nodes.values() if one.state is JobState.STOPPING]
    running = [one for one in ranked if one.state is JobState.RUNNING]
    free = returned(world.floor.room(job.id), leaving)
    for count in range(len(running) + 1):
        if count:
            free = returned(free, running[count - 1 : count])
        if carried(world, job, [*leaving, *running[:count]]) and world.floor.place(job.spec.gpus, job.spec.gpu_type, free):
            break
    else:
        return
    for one in running[:count]:
        world.stop(one, now, back_off_s=min(BACK_OFF_S * 2 ** len(one.evictions), BACK_OFF_MOST_S))


def carried(world: World, job: SimJob, gone: Iterable[SimJob]) -> bool:
    """Whether its queue's quota carries the job once these have left."""
    queue = job.spec.queue
    freed = sum(one.spec.gpus for one in gone if one.spec.queue == queue and not one.lender)
    return job.spec.gpus <= world.quota[queue] - world.used[queue] + freed


def returned(free: Mapping[str, float], jobs: Iterable[SimJob]) -> dict[str, float]:
    """Free GPUs per node once these jobs have left."""
    back = dict(free)
    for job in jobs:
        for name in job.nodes:
            back[name] += job.spec.gpus / len(job.nodes)
    return back


SCHEDULERS: Mapping[str, Callable[[], Scheduler]] = {
    "no-lending": NoLending,
    "fifo": lambda: NoLending(strict=True),
    "priority": Priority,
    "newest-first": NewestFirst,
}
