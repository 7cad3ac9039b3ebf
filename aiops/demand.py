"""What is asked of the cluster beside what it has, as samples: GPUs per pool and queue, lost ones, traffic per link, fill.

The backend's picture knows these and no collector does. Stored each cycle, they are forecast and run out like anything that
is scraped. Knows the picture and the store's port; nothing of forecasts or policies. What is not known gives no sample.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

from aiops import traffic
from aiops.model import Batch, Cluster, Job, JobState, NodeState, SeriesKey
from aiops.ports import SeriesStore
from aiops.snapshot import Snapshot, query_id

PLACELESS = (JobState.QUEUED, JobState.HELD, JobState.DONE, JobState.FAILED, JobState.CANCELLED)
"""States in which a job holds no GPU."""

TRAFFIC_S = 2 * traffic.NOW_S
"""Counters of two minutes: `traffic.use` wants six rates, and its "now" is the last minute."""

Samples = Iterator[tuple[SeriesKey, float]]


def sampled(cluster: Cluster, store: SeriesStore) -> Batch:
    """All of them, at the picture's time."""
    used = link_traffic(cluster, store)
    return Batch.of(cluster.at, [*pools(cluster), *lost(cluster), *queues(cluster), *links(cluster, used), *volumes(cluster)])


def pools(cluster: Cluster) -> Samples:
    """Per pool the GPUs that serve what is asked, and the GPUs that are held or waited for.

    Waiting jobs name no pool: by priority and submission, each counts where its GPU type is and most is idle, as a scheduler
    would place it. A job that is held back asks for nothing, nor does one that is larger than any pool may ever be.
    """
    has, asked, kinds, most = capacity(cluster), held_by_pool(cluster), gpu_types(cluster), ceilings(cluster)
    for job in sorted(waiting(cluster), key=lambda one: (-one.priority, one.submitted_at, one.id)):
        suited = (name for name in sorted(kinds) if kinds[name] and (not job.gpu_type or job.gpu_type in kinds[name]))
        fitting = [name for name in suited if job.gpus <= most.get(name, job.gpus)]
        if fitting:
            asked[max(fitting, key=lambda name: has[name] - asked[name])] += job.gpus
    for name in sorted({name for name in kinds if kinds[name]} | asked.keys()):
        yield SeriesKey.of("pool_gpus", pool=name), float(has[name])
        yield SeriesKey.of("pool_gpus_demanded", pool=name), asked[name]


def capacity(cluster: Cluster) -> defaultdict[str, float]:
    """GPUs by pool that serve what is asked: the healthy ones of nodes that take work, and what runs on cordoned nodes has."""
    found = kept(cluster)
    for node in cluster.nodes:
        if node.state is NodeState.READY:
            found[node.pool] += sum(gpu.healthy for gpu in node.gpus)
    return found


def kept(cluster: Cluster) -> defaultdict[str, float]:
    """GPUs by pool of what runs on cordoned nodes: it asks for no other place. What a draining node has, does.

    Of a service only the replicas that are ready are known to be somewhere.
    """
    pool_of = {node.name: node.pool for node in cluster.nodes if node.state is NodeState.CORDONED}
    found: defaultdict[str, float] = defaultdict(float)
    on = [(job.gpus, job.nodes) for job in holding(cluster)]
    on += [(one.ready * one.gpus_per_replica, one.nodes) for one in cluster.services]
    for gpus, names in on:
        for name in names:
            if gpus and name in pool_of:
                found[pool_of[name]] += gpus / len(names)
    return found


def gpu_types(cluster: Cluster) -> dict[str, set[str]]:
    """GPU types by pool, by its declaration and by what its nodes have; empty for a pool without GPUs."""
    kinds = {pool.name: {pool.gpu_type} - {""} for pool in cluster.pools}
    for node in cluster.nodes:
        kinds.setdefault(node.pool, set()).update(gpu.model for gpu in node.gpus)
    return kinds


def ceilings(cluster: Cluster) -> dict[str, int]:
    """The most GPUs that a pool may ever have; nothing for one without a bound, or without a node to tell the size."""
    sizes: dict[str, int] = {}
    for node in cluster.nodes:
        sizes[node.pool] = max(sizes.get(node.pool, 0), len(node.gpus))
    return {pool.name: pool.max_nodes * sizes[pool.name] for pool in cluster.pools if pool.max_nodes and sizes.get(pool.name)}


def held_by_pool(cluster: Cluster) -> defaultdict[str, float]:
    """GPUs by pool that jobs and services hold, or that services were promised; a job's are spread evenly over its nodes."""
    pool_of = {node.name: node.pool for node in cluster.nodes}
    held: defaultdict[str, float] = defaultdict(float)
    for job in holding(cluster):
        for name in job.nodes:
            if job.gpus and name in pool_of:
                held[pool_of[name]] += job.gpus / len(job.nodes)
    for service in cluster.services:
        if service.gpus_per_replica:
            held[service.pool] += max(service.replicas, service.ready) * service.gpus_per_replica
    return held


def waiting(cluster: Cluster) -> list[Job]:
    """Jobs that would start now if there were room."""
    return [job for job in cluster.jobs if job.state is JobState.QUEUED]


def holding(cluster: Cluster) -> list[Job]:
    """Jobs that have their GPUs."""
    return [job for job in cluster.jobs if job.state not in PLACELESS]


def lost(cluster: Cluster) -> Samples:
    """Per node its GPUs that the inventory knows and cannot reach, while there are any: how long that lasts, counts."""
    for node in cluster.nodes:
        if gone := sum(not gpu.healthy for gpu in node.gpus):
            yield SeriesKey.of("node_gpus_lost", node=node.name), float(gone)


def queues(cluster: Cluster) -> Samples:
    """Per queue the GPUs it could hold now, those it holds or waits for, how many jobs wait, and how long the oldest has.

    It could hold its own and the idle ones; where it does not borrow, no more than its quota.
    """
    held: Counter[str] = Counter()
    for job in holding(cluster):
        held[job.queue] += job.gpus
    idle = max(0.0, sum(capacity(cluster).values()) - sum(held_by_pool(cluster).values()))
    most = {queue.name: float(queue.quota_gpus) for queue in cluster.queues if not queue.borrows}
    late: defaultdict[str, list[Job]] = defaultdict(list)
    for job in waiting(cluster):
        late[job.queue].append(job)
    for name in sorted({queue.name for queue in cluster.queues} | held.keys() | late.keys()):
        waited = max((cluster.at - job.submitted_at for job in late[name]), default=0.0)
        yield SeriesKey.of("queue_gpus", queue=name), min(held[name] + idle, most.get(name, float("inf")))
        yield SeriesKey.of("queue_gpus_demanded", queue=name), float(held[name] + sum(job.gpus for job in late[name]))
        yield SeriesKey.of("queue_jobs_waiting", queue=name), float(len(late[name]))
        yield SeriesKey.of("queue_oldest_wait_seconds", queue=name), max(0.0, waited)


def links(cluster: Cluster, used: Mapping[str, float]) -> Samples:
    """Per link its capacity and, where it is measured, its traffic."""
    for link in cluster.links:
        yield SeriesKey.of("link_capacity_bytes_per_s", link=link.name), link.capacity_bytes_per_s
        if link.name in used:
            yield SeriesKey.of("link_traffic_bytes_per_s", link=link.name), used[link.name]


def link_traffic(cluster: Cluster, store: SeriesStore) -> dict[str, float]:
    """Bytes per second by link, as `traffic.use` tells them from the counters of the last two minutes."""
    asked = {query_id(query): replace(query, window_s=TRAFFIC_S) for query in traffic.queries(cluster.links)}
    series = {name: store.read(query, cluster.at) for name, query in asked.items()}
    seen = Snapshot(id="", now=cluster.at, epoch=0, cluster=cluster, series=series)
    uses = {link.name: traffic.use(seen, link) for link in cluster.links}
    return {name: use.now for name, use in uses.items() if use is not None}


def volumes(cluster: Cluster) -> Samples:
    """Per volume its size and what is on it, where both are known."""
    for volume in cluster.volumes:
        if volume.size_bytes is not None and volume.used_bytes is not None:
            yield SeriesKey.of("volume_size_bytes", volume=volume.name), volume.size_bytes
            yield SeriesKey.of("volume_used_bytes", volume=volume.name), volume.used_bytes
