"""What a finding is about, in the cluster's own terms: which job suffers, over which link, beside which neighbour. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from aiops.model import Cause, Cluster, Finding, Job, JobState, Link
from policies.wires import links_of

STALLS = frozenset(
    {
        Cause.IO_STALL, Cause.PREP_STALL, Cause.NET_CONTENTION, Cause.NOISY_NEIGHBOUR, Cause.CPU_CONTENTION,
        Cause.MEMORY_PRESSURE,
    }
)  # fmt: skip
"""Causes that something other than more GPUs helps against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A running job that suffers from a cause; `link` and `neighbour` where the finding leads to one."""

    cause: Cause
    job: Job
    finding: Finding
    link: Link | None = None
    neighbour: Job | None = None

    @property
    def name(self) -> str:
        """What the decisions about it carry as their cause: equal for as long as the trouble is the same."""
        return label(self.cause, self.job)


def label(cause: Cause, job: Job) -> str:
    """Text by which a trouble is known in the record."""
    return f"{cause.value} of {job.id}"


def sufferer(label: str) -> str:
    """The job that a trouble of this label is about, whether or not it is still there; '' for another text."""
    cause, _, job = label.partition(" of ")
    return job if any(cause == one.value for one in STALLS) else ""


def troubles(cluster: Cluster, findings: tuple[Finding, ...], confidence: float) -> tuple[Trouble, ...]:
    """What is surely wrong now and somebody can do something about, surest first; one per job and cause."""
    found: dict[str, Trouble] = {}
    for finding in sorted(findings, key=lambda one: (-one.confidence, one.id)):
        if finding.cause not in STALLS or finding.confidence < confidence or finding.horizon_s is not None:
            continue
        for job in suffering(cluster, finding):
            neighbour = _job(cluster, finding.neighbour or "")
            if neighbour is None or neighbour.id != job.id:
                link = _link(cluster, finding, job, neighbour)
                one = Trouble(cause=finding.cause, job=job, finding=finding, link=link, neighbour=neighbour)
                found.setdefault(one.name, one)
    return tuple(found.values())


def suffering(cluster: Cluster, finding: Finding) -> list[Job]:
    """Running jobs whose slow steps the finding explains: named by its SLI, else by its chain or subject; by id."""
    for text in (finding.sli or "", *finding.chain, finding.subject):
        kind, _, rest = text.partition(":")
        name = rest.split(":")[0].split("/")[0]
        job = _job(cluster, f"job:{name}") if kind in ("job", "rank", "loader") else None
        if job is not None:
            return [job]
    return []


def _job(cluster: Cluster, entity: str) -> Job | None:
    name = entity.removeprefix("job:")
    return next((job for job in cluster.jobs if job.id == name and job.state is JobState.RUNNING), None)


def _link(cluster: Cluster, finding: Finding, job: Job, neighbour: Job | None) -> Link | None:
    """The link that the finding names, else the one narrowest link that victim and neighbour share."""
    named = [link for link in cluster.links if _names(link, cluster) & {finding.subject, *finding.chain}]
    if named:
        return named[0]
    mine = {link.name for link in links_of(cluster, job)}
    shared = [link for link in links_of(cluster, neighbour) if link.name in mine] if neighbour is not None else []
    return min(shared, key=lambda link: (link.capacity_bytes_per_s, link.name), default=None)


def _names(link: Link, cluster: Cluster) -> set[str]:
    """Entities of a diagnosis that are this link: the device itself, or a volume that it serves."""
    nodes = [link.node] if link.node else [node.name for node in cluster.nodes]
    devices = {f"{kind}:{node}/{link.device}" for kind in ("disk", "nic") for node in nodes if link.device}
    served = {volume.name for volume in cluster.volumes if volume.link == link.name}
    volumes = {f"volume:{name}" for name in served} | {f"volume:{node}/{name}" for name in served for node in nodes}
    return devices | volumes | {f"link:{link.name}", f"nic:{link.name}"}
