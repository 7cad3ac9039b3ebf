"""What all waiting jobs of one look share: the free GPUs, and how many there would be if everybody went who may.

Three hundred may wait for eight thousand GPUs: nodes and jobs are walked once per GPU type and priority, not once for each.
Knows nodes, jobs and holds; not who may be stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from aiops.model import HoldState, Job
from aiops.snapshot import Snapshot
from policies.cores import Left
from policies.victims import Room, Victim, free_gpus, with_leaving


def shape(job: Job) -> tuple[object, ...]:
    """What decides where a job fits: of a thousand that wait, most ask for the same."""
    return job.gpus, job.gpu_type, job.cpu_cores, job.memory_bytes


@dataclass(frozen=True)  # no slots: cached_property needs a place to keep
class Space:
    """Size, free GPUs and cores of the nodes of one type, for whatever job asks."""

    sizes: Mapping[str, int]
    free: Mapping[str, float]
    left: Left

    @cached_property
    def _largest(self) -> int:
        return max(self.sizes.values(), default=0)

    @cached_property
    def _most(self) -> float:
        return max(self.free.values(), default=0.0)

    @cached_property
    def _whole(self) -> int:
        return sum(size for name, size in self.sizes.items() if self.free[name] >= size - 1e-9)

    def enough(self, job: Job) -> bool:
        """As `Room.enough`; node by node only where the GPUs suffice."""
        gpus = self._most >= job.gpus - 1e-9 if self._largest >= job.gpus else self._whole >= job.gpus
        return gpus and self.room(job).enough()

    def room(self, job: Job) -> Room:
        """The same as room for one job."""
        return Room(job, self.sizes, self.free, self.left)


class Crowd:
    """The lookups of one look."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._free = free_gpus(snapshot.cluster)
        live = (one for one in snapshot.reservations if one.state in (HoldState.HELD, HoldState.ACTIVE))
        self._owners = {one.owner.removeprefix("job/") for one in live}
        self._coming: dict[str, dict[str, float]] = {}
        self._spaces: dict[tuple[str, ...], Space] = {}

    def now(self, job: Job) -> Space:
        """What is free."""
        return self._space(("now", job.gpu_type), job, self._free)

    def coming(self, job: Job) -> dict[str, float]:
        """Free GPUs per node once those that are stopping have left, less what is held for others."""
        owner = self._owner(job)
        if owner not in self._coming:
            self._coming[owner] = with_leaving(self._free, job, self._snapshot)
        return self._coming[owner]

    def soon(self, job: Job) -> Space:
        """The same as a space."""
        return self._space(("soon", self._owner(job), job.gpu_type), job, self.coming(job))

    def without(self, job: Job, victims: Sequence[Victim]) -> Space:
        """That space once all `victims` have gone; they are the same for every job of this priority."""
        key = ("without", self._owner(job), job.gpu_type, str(job.priority))
        if key not in self._spaces:
            soon = self.soon(job)
            gone = soon.room(job).after(victims)
            self._spaces[key] = Space(gone.sizes, gone.free, gone.left)
        return self._spaces[key]

    def alike(self, job: Job) -> tuple[object, ...]:
        """Who agrees in this fits where the job fits, and for the same victims."""
        return self._owner(job), job.priority, *shape(job)

    def _owner(self, job: Job) -> str:
        return job.id if job.id in self._owners else ""

    def _space(self, key: tuple[str, ...], job: Job, free: Mapping[str, float]) -> Space:
        if key not in self._spaces:
            room = Room.of(job, free, self._snapshot.cluster)
            self._spaces[key] = Space(room.sizes, room.free, room.left)
        return self._spaces[key]
