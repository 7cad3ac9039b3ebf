"""Which running work uses which link: read from the inventory, for the policies that act on links. Pure."""

from __future__ import annotations

from aiops.model import Cluster, Job, JobState, Link, Share


def users(cluster: Cluster, link: Link) -> tuple[Job, ...]:
    """Running jobs whose traffic goes over a link: they mount what it serves, or run on the nodes below it; by id."""
    below = _below(cluster, link)
    volumes = {volume.name for volume in cluster.volumes if volume.link in below}
    nodes = {one.node for one in cluster.links if one.name in below and one.node}
    return tuple(job for job in _running(cluster) if volumes & set(job.volumes) or (not volumes and nodes & set(job.nodes)))


def _below(cluster: Cluster, link: Link) -> set[str]:
    """A link and all under it; one pass, for a cluster has a thousand links and each is asked about."""
    children: dict[str, list[str]] = {}
    for one in cluster.links:
        children.setdefault(one.parent, []).append(one.name)
    found, waiting = {link.name}, [link.name]
    while waiting:
        new = [name for name in children.get(waiting.pop(), ()) if name not in found]
        found.update(new)
        waiting += new
    return found


def links_of(cluster: Cluster, job: Job) -> tuple[Link, ...]:
    """The links that a running job's traffic goes over."""
    return tuple(link for link in cluster.links if any(one.id == job.id for one in users(cluster, link)))


def share(link: Link, owner: str) -> Share:
    """What an owner has of a link; nothing where the cluster was told nothing."""
    return next((one for one in link.shares if one.owner == owner), Share(owner=owner))


def present(cluster: Cluster, owner: str) -> bool:
    """Whether `job/NAME` runs or `service/NAME` is there."""
    kind, _, name = owner.partition("/")
    if kind == "service":
        return any(service.name == name for service in cluster.services)
    return any(job.id == name for job in _running(cluster))


def _running(cluster: Cluster) -> list[Job]:
    live = (JobState.STARTING, JobState.RUNNING)
    return sorted((job for job in cluster.jobs if job.state in live), key=lambda job: job.id)
