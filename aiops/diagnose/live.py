"""The live room: a cluster and its stored series become a panel and a declared graph.

Entities are named `kind:name` (`gpu:<uuid>`, `disk:<node>/<device>`, `rank:<job>/<rank>`). The graph comes from the inventory
and the scheduler: a job depends on its ranks, a rank on its GPU, its host and what hangs on it. Knows no statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from aiops.diagnose.graph import Graph, link
from aiops.diagnose.meaning import Role, meaning
from aiops.diagnose.panel import Panel, from_points
from aiops.metrics import CATALOGUE, Bad, Kind
from aiops.model import Cluster, JobState, Query, Series, SeriesKey

WINDOW_S = 3600.0
STEP_S = 10.0
_PICTURE = ("cluster_", "pool_", "queue_", "link_", "volume_")  # a diagnosis looks at the cluster itself: `scheduler`
_LEFT_OUT = ("aiops_", "node_filesystem_", "gpu_process_", "gpu_health_state", "job_knob_value", *_PICTURE)
_JOB_WIDE = ("job_step_duration_seconds", "job_steps_total", "job_samples_total", "job_checkpoint_seconds_total")
_VIRTUAL = ("lo", "veth", "docker", "br-", "loop", "ram", "zram")
"""Devices that no cable and no disk belongs to: their counters repeat what the real ones say."""


def needs() -> tuple[Query, ...]:
    """Every catalogue series that a diagnosis reads: an hour at 10 s."""
    names = [
        name
        for name, row in CATALOGUE.items()
        if not name.startswith(_LEFT_OUT)
        and row.kind is not Kind.HISTOGRAM
        and (row.bad is not Bad.NONE or meaning(name).role is not Role.OTHER or name in _JOB_WIDE)
    ]
    return tuple(Query(metric=name, window_s=WINDOW_S, step_s=STEP_S) for name in (*names, "service_latency_seconds"))


def to_panel(cluster: Cluster, series: Sequence[Series]) -> Panel | None:
    """Series as a panel of entities; None where there is no finite point."""
    named = places(cluster, series)
    if not any(np.isfinite(one.values).any() for one, _, _ in named):
        return None
    sizes = [len(one.times) for one, _, _ in named]
    return from_points(
        np.repeat(np.array([entity for _, entity, _ in named], dtype=object), sizes),
        np.repeat(np.array([metric for _, _, metric in named], dtype=object), sizes),
        np.concatenate([one.times for one, _, _ in named]),
        np.concatenate([one.values for one, _, _ in named]),
    )


def places(cluster: Cluster, series: Sequence[Series]) -> list[tuple[Series, str, str]]:
    """The series that a diagnosis looks at, each with its entity and metric."""
    lone = cluster.nodes[0].name if len(cluster.nodes) == 1 else ""
    leads = _lead_ranks(series)
    return [(one, *place(one.key, lone, leads)) for one in series if _wanted(one.key)]


def _wanted(key: SeriesKey) -> bool:
    return not key.metric.startswith(_LEFT_OUT) and not (key.label("device") or "").startswith(_VIRTUAL)


def _lead_ranks(series: Iterable[Series]) -> dict[str, str]:
    """The lowest rank of each job: it speaks for the job where all ranks say the same."""
    ranks: dict[str, set[str]] = {}
    for one in series:
        job, rank = one.key.label("job_id"), one.key.label("rank")
        if job is not None and rank is not None:
            ranks.setdefault(job, set()).add(rank)
    return {job: min(found, key=lambda rank: (len(rank), rank)) for job, found in ranks.items()}


def place(key: SeriesKey, lone_node: str, leads: dict[str, str]) -> tuple[str, str]:
    """Entity and metric (with the labels that the entity does not hold) of a stored series."""
    labels = dict(key.labels)
    node = labels.pop("node", lone_node)
    name = key.metric
    if name.startswith("gpu_"):
        entity = f"gpu:{labels.pop('uuid', '') or node + '/' + labels.get('gpu', '0')}"
        labels.pop("gpu", None)
    elif name.startswith("job_"):
        job, rank = labels.pop("job_id", ""), labels.pop("rank", "")
        labels.pop("run_id", None)
        whole = not rank or (rank == leads.get(job) and name in _JOB_WIDE)
        entity = f"job:{job}" if whole else f"rank:{job}/{rank}"
    elif name.startswith("service_"):
        entity = f"service:{labels.pop('service', '')}"
    elif name.startswith("queue_"):
        entity = f"queue:{labels.pop('queue', '')}"
    elif name.startswith("cgroup_"):
        entity = f"cgroup:{node}{labels.pop('cgroup', '')}"
    else:
        entity = _host_part(name, node, labels)
    inner = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return entity, f"{name}{{{inner}}}" if inner else name


def _host_part(name: str, node: str, labels: dict[str, str]) -> str:
    if name.startswith("node_disk_"):
        return f"disk:{node}/{labels.pop('device', '')}"
    if name.startswith(("node_network_", "node_infiniband_")):
        return f"nic:{node}/{labels.pop('device', '')}"
    if name.startswith(("node_mountstats_", "lustre_")):
        return f"volume:{node}/{labels.pop('export', None) or labels.pop('target', '')}"
    return f"host:{node}"


def _tenant_pairs(cluster: Cluster, types: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What a newcomer can get in the way of: its hosts and their devices, and the volumes that it shares with other jobs."""
    tenants = {name.partition(":")[2] for name in types if name.startswith("tenant:")}
    for job in cluster.jobs:
        if job.id not in tenants:
            continue
        sharing = {node for one in cluster.jobs if set(one.volumes) & set(job.volumes) for node in one.nodes}
        for name in types:
            kind, _, rest = name.partition(":")
            node = rest.partition("/")[0]
            if (kind in ("host", "disk", "volume", "nic") and node in job.nodes) or (kind == "volume" and node in sharing):
                yield name, f"tenant:{job.id}"


def to_graph(cluster: Cluster, panel: Panel) -> Graph:
    """What depends on what, from inventory, scheduler and the devices that were measured."""
    types = {entity: _TYPES.get(entity.partition(":")[0], "") for entity in panel.entities}
    pairs = [*_host_pairs(types), *_job_pairs(cluster, types), *_tenant_pairs(cluster, types)]
    for service in cluster.services:
        hosts = [f"host:{node.name}" for node in cluster.nodes if node.pool == service.pool]
        pairs += [(f"service:{service.name}", host) for host in hosts]
    for pair in pairs:
        for entity in pair:
            types.setdefault(entity, _TYPES.get(entity.partition(":")[0], ""))
    return Graph(types=types, causes=link(pairs))


_TYPES = {"disk": "volume", "volume": "volume", "nic": "nic", "host": "host", "gpu": "gpu", "job": "job", "rank": "rank"}
_TYPES |= {"service": "service", "queue": "queue", "cgroup": "tenant", "tenant": "tenant"}


def _host_pairs(types: Iterable[str]) -> Iterator[tuple[str, str]]:
    """A host depends on its disks, volumes and network devices."""
    for entity in types:
        kind, _, name = entity.partition(":")
        if kind in ("disk", "volume", "nic"):
            yield f"host:{name.partition('/')[0]}", entity


def _job_pairs(cluster: Cluster, types: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Job -> rank -> GPU and host; ranks are laid out over the job's nodes and GPUs in order, as schedulers do."""
    for node in cluster.nodes:
        yield from ((f"gpu:{gpu.uuid}", f"host:{node.name}") for gpu in node.gpus)
    names = list(types)
    for job in cluster.jobs:
        if job.state is not JobState.RUNNING:
            continue
        ranks = [name for name in names if name.startswith(f"rank:{job.id}/")]
        ranks = sorted(ranks, key=lambda name: (len(name), name))
        hosts = [f"host:{node}" for node in job.nodes]
        gpus = [f"gpu:{uuid}" for uuid in job.gpu_uuids]
        yield from ((f"job:{job.id}", part) for part in (ranks or [*gpus, *hosts]))
        for i, rank in enumerate(ranks):
            yield from ((rank, gpu) for gpu in ([gpus[i]] if len(gpus) == len(ranks) else gpus))
            yield from ((rank, host) for host in ([hosts[i * len(hosts) // len(ranks)]] if hosts else []))
