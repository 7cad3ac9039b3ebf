"""Who uses how much of whose share of the cluster: quotas, own use, what is lent, who is entitled to start. Pure arithmetic.

A queue's own running jobs count against its quota; a job that was lent capacity counts against its lender's (`Job.lender`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiops.model import Cluster, Job, JobState

DAY_S = 86400.0
ON_NODES = (JobState.STARTING, JobState.RUNNING, JobState.STOPPING, JobState.SUSPENDED)


@dataclass(frozen=True, slots=True)
class Shares:
    """GPUs per queue: its quota, what its own jobs use, what it has lent."""

    quota: Mapping[str, int]
    own: Mapping[str, int]
    lent: Mapping[str, int]

    @classmethod
    def of(cls, cluster: Cluster) -> Shares:
        """The shares of a cluster as it is."""
        own = {queue.name: 0 for queue in cluster.queues}
        lent = dict(own)
        for job in cluster.jobs:
            if job.state in ON_NODES:
                of = lent if job.lender else own
                of[job.lender or job.queue] = of.get(job.lender or job.queue, 0) + job.gpus
        return cls({queue.name: queue.quota_gpus for queue in cluster.queues}, own, lent)

    def spare(self, queue: str) -> int:
        """What the queue may still start of its own, whether or not it is lent at the moment."""
        return self.quota.get(queue, 0) - self.own.get(queue, 0)

    def idle(self, queue: str) -> int:
        """What the queue neither uses nor has lent."""
        return self.spare(queue) - self.lent.get(queue, 0)


def waiting(cluster: Cluster) -> list[Job]:
    """Queued jobs with GPUs, the most important first: by priority of queue and job, then by age, then by name."""
    rank = {queue.name: queue.priority for queue in cluster.queues}
    queued = [job for job in cluster.jobs if job.state is JobState.QUEUED and job.gpus > 0]
    return sorted(queued, key=lambda job: (-rank.get(job.queue, 0), -job.priority, job.submitted_at, job.id))


def entitled(cluster: Cluster, shares: Shares) -> list[Job]:
    """Waiting jobs that fit their own queue's quota together, in order; who does not is passed over."""
    left = {queue: shares.spare(queue) for queue in shares.quota}
    found = []
    for job in waiting(cluster):
        if job.gpus <= left.get(job.queue, 0):
            left[job.queue] -= job.gpus
            found.append(job)
    return found


def evicted(job: Job, now: float) -> int:
    """How often the job was evicted within a day."""
    return sum(now - at < DAY_S for at in job.evictions)


def able(job: Job) -> bool:
    """Whether the job may be asked to stop at a checkpoint."""
    return job.preemptible or job.checkpoint_s is not None
