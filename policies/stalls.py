"""Whether more replicas would only wait for the same thing: a stall that a diagnosis has named, or one that it may yet name.

A load that counts requests in flight rises when more come, and also when each takes longer: Little's law, in flight = arrivals
x time in the system. Where arrivals alone do not ask for more, the diagnosis gets its time before GPUs are added.
"""

from __future__ import annotations

import re

import numpy as np

from aiops.model import Cause, Finding, Floats, JobState, Series, SeriesKey, Service
from aiops.snapshot import Snapshot
from policies.load import SURGES, known
from policies.trouble import suffering

STALLS = frozenset(
    {Cause.IO_STALL, Cause.PREP_STALL, Cause.NET_CONTENTION, Cause.NOISY_NEIGHBOUR, Cause.STRAGGLER, Cause.SENSOR_FAULT}
)

SHARED = frozenset({Cause.IO_STALL, Cause.NET_CONTENTION, Cause.NOISY_NEIGHBOUR})
"""Those that a new node would share; a slow loader or a straggler is one job's own."""

LEFT_S = 900.0
"""A finding older than this is what a diagnosis that no longer runs has left; `prescale` trusts a forecast as long."""

IN_FLIGHT = re.compile(r"in_?flight|concurren|running|waiting|pending|queue|active|outstanding|ongoing", re.IGNORECASE)
"""Names of what counts requests that are there, not requests that come: vLLM's `num_requests_running`, Ray's `ongoing`."""


def stalled(finding: Finding, service: Service, snapshot: Snapshot, confidence: float) -> bool:
    """A sure stall that names the service; or the service suffers, and the stall is in the chain or under half its pool.

    Whatever else it may suffer from: replicas that wait for storage do not serve a grown load either.
    """
    if finding not in sure(snapshot, confidence) or service.gpus_per_replica == 0:
        return False
    suffers = [one for one in snapshot.findings if names(one.sli or "", service)]
    traced = any(finding.subject in one.chain for one in suffers)
    beneath = bool(suffers) and share_stalled(snapshot, service, confidence) >= 0.5
    return traced or beneath or any(names(part, service) for part in (finding.subject, finding.sli or "", *finding.chain))


def names(entity: str, service: Service) -> bool:
    """Whether an entity of a finding is the service."""
    return service.name in entity.split(":")


def share_stalled(snapshot: Snapshot, service: Service, confidence: float) -> float:
    """Share of the nodes of the service's pool with a sure stall on one of their parts (`disk:NODE/DEVICE`, `host:NODE`)."""
    members = [node.name for node in snapshot.cluster.nodes if node.pool == service.pool]
    return share_of(members, sure(snapshot, confidence))


def stalled_pool(snapshot: Snapshot, pool: str, confidence: float) -> Finding | None:
    """A sure stall of what nodes share, where half of the pool's nodes or of its GPUs that jobs hold suffer from one."""
    shared = [one for one in sure(snapshot, confidence) if one.cause in SHARED]
    if not shared:
        return None
    cluster, members = snapshot.cluster, [node.name for node in snapshot.cluster.nodes if node.pool == pool]
    here = [job for job in cluster.jobs if job.state is JobState.RUNNING and not set(members).isdisjoint(job.nodes)]
    slow = {job.id for one in shared for job in suffering(cluster, one)}
    held, waiting = (sum(job.gpus for job in jobs) for jobs in (here, [job for job in here if job.id in slow]))
    return shared[0] if share_of(members, shared) >= 0.5 or 0 < held <= 2 * waiting else None


def sure(snapshot: Snapshot, confidence: float) -> list[Finding]:
    """Stalls that a diagnosis is sure of and that it has not left behind."""
    known = (one for one in snapshot.findings if one.cause in STALLS and one.confidence >= confidence)
    return [one for one in known if snapshot.now - one.at <= LEFT_S]


def share_of(nodes: list[str], findings: list[Finding]) -> float:
    """Share of these nodes that one of the findings is on a part of."""
    hit = {one.subject.partition(":")[2].partition("/")[0] for one in findings}
    return sum(name in hit for name in nodes) / len(nodes) if nodes else 0.0


def counts_in_flight(load: SeriesKey) -> bool:
    """Whether a load counts requests that wait or are worked on: it rises when answers get slower."""
    return IN_FLIGHT.search(load.metric) is not None and not load.metric.endswith("_total")


Beside = tuple[Series | None, Series | None]


def asked_for(load: Series, beside: Beside, now: float, spans: tuple[float, float]) -> float | None:
    """The load that would be in flight now if each request took its usual time; None where that is not known.

    `beside` is (arrivals per second, seconds to answer), of which one will do: without the first, in flight over the second.
    `spans` is (what is now, what is not yet usual): seconds back from `now`. What is usual is the median before that.
    """
    arrivals, answers = beside
    recent_s, unusual_s = spans
    times, in_flight = known(load, now)
    other = arrivals if arrivals is not None else answers
    if other is None:
        return None
    found = as_of(other, times, recent_s)
    come = found if arrivals is not None else in_flight / np.where(found > 0, found, np.nan)
    each = in_flight / np.where(come > 0, come, np.nan)
    usual = each[(times <= now - unusual_s) & np.isfinite(each)]
    lately = come[(times > now - recent_s) & np.isfinite(come)]
    if len(usual) < SURGES or not len(lately):
        return None
    return float(max(lately.mean(), lately[-1]) * np.median(usual))


def as_of(series: Series, times: Floats, max_age_s: float) -> Floats:
    """(n,) newest value at or before each of (n,) times; NaN where that is older than `max_age_s`."""
    at, values = known(series, np.inf)
    if not len(at):
        return np.full(len(times), np.nan)
    index = np.searchsorted(at, times, side="right") - 1
    near = (index >= 0) & (times - at[index] <= max_age_s)
    return np.asarray(np.where(near, values[index], np.nan))
