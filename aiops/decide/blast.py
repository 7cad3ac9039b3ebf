"""What an action takes away, read from the cluster itself: a policy's own account of its damage is not believed.

Knows actions and the cluster; not who asked, nor what is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiops.action import (
    Action,
    Cordon,
    Drain,
    HoldCapacity,
    LendQueue,
    LimitBandwidth,
    Migrate,
    Preempt,
    ReleaseBandwidth,
    Requeue,
    Rollback,
    ScalePool,
    SetPowerLimit,
    Suspend,
    Uncordon,
    destructive,
)
from aiops.model import Cluster, Job, JobState

Names = frozenset[str]
ON_NODES = (JobState.STARTING, JobState.RUNNING, JobState.SUSPENDED, JobState.STOPPING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blast:
    """Nodes, jobs (with their tenants) and GPUs that lose something; `idle_gpus` are given back with nothing on them."""

    nodes: Names = frozenset()
    jobs: Names = frozenset()
    tenants: Names = frozenset()
    gpus: int = 0
    idle_gpus: int = 0


def blast(action: Action, cluster: Cluster) -> Blast:
    """The damage of carrying out `action` on `cluster`; nothing where it is not destructive.

    A pool gives back idle nodes alone (gate `vacant`), which stops nobody.
    """
    if not destructive(action):
        return Blast()
    nodes = emptied(action)
    on_nodes = sum(len(node.gpus) for node in cluster.nodes if node.name in nodes) if nodes else 0
    if given_back(action) is not None:
        return Blast(idle_gpus=on_nodes)
    jobs = victims(action, cluster)
    claimed = max(getattr(action, "gpus", 0), sum(job.gpus for job in jobs))
    return Blast(
        nodes=nodes,
        jobs=frozenset(job.id for job in jobs) | ({str(action.job)} if hasattr(action, "job") else set()),
        tenants=frozenset(job.tenant for job in jobs if job.tenant),
        gpus=max(claimed, on_nodes),
    )


def victims(action: Action, cluster: Cluster) -> tuple[Job, ...]:
    """Jobs that the action stops, freezes or moves: the one that it names, and all that run on nodes it empties."""
    match action:
        case Preempt() | Requeue() | Suspend() | Migrate():
            return tuple(job for job in cluster.jobs if job.id == action.job)
        case _:
            nodes = emptied(action)
            return tuple(job for job in cluster.jobs if not nodes.isdisjoint(job.nodes)) if nodes else ()


def slowed(action: Action, cluster: Cluster) -> Names:
    """Names of what goes on and gets less: whose share of a link is cut, or what is on a node whose power is."""
    match action:
        case LimitBandwidth() | ReleaseBandwidth():
            kind, _, name = action.owner.partition("/")
            jobs = [job for job in cluster.jobs if kind == "job" and job.id == name and job.state in ON_NODES]
            rest = {service.name for service in cluster.services if kind == "service" and service.name == name}
        case SetPowerLimit():
            jobs = [job for job in cluster.jobs if action.node in job.nodes and job.state in ON_NODES]
            rest = {action.node}
        case Rollback():
            return slowed(action.action, cluster)
        case _:
            return frozenset()
    return frozenset(rest | {name for job in jobs for name in (job.id, job.name, job.tenant) if name})


def given_back(action: Action) -> ScalePool | None:
    """The action, or the one that it puts back, where that shrinks a pool of nodes."""
    inner = action.action if isinstance(action, Rollback) else action
    return inner if isinstance(inner, ScalePool) and destructive(inner) else None


def emptied(action: Action) -> Names:
    """Nodes that no work is on after the action."""
    match action:
        case Drain():
            return frozenset({action.node})
        case ScalePool():
            return frozenset(action.remove)
        case Rollback():
            return emptied(action.action)
        case _:
            return frozenset()


def closed(action: Action) -> Names:
    """Nodes that take no new work after the action."""
    return frozenset({action.node}) if isinstance(action, Cordon) else emptied(action)


def opened(action: Action) -> Names:
    """Nodes that the action brings work to, or declares fit for work."""
    match action:
        case Migrate():
            return frozenset(action.to_nodes)
        case LendQueue() | HoldCapacity():
            return frozenset(action.nodes)
        case Uncordon():
            return frozenset({action.node})
        case _:
            return frozenset()


def opposed(one: Action, other: Action) -> Names:
    """Nodes where the two actions pull in opposite directions: one brings work, the other takes it away."""
    return (closed(one) & opened(other)) | (closed(other) & opened(one))
