"""Records into a `Cluster`. Pure: the same records and the same now give the same picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from aiops.backends.kubernetes import boost, runs
from aiops.backends.kubernetes.account import Account
from aiops.backends.kubernetes.declare import KubernetesSettings
from aiops.backends.kubernetes.marks import CLAIM
from aiops.backends.kubernetes.records import (
    AutoscalerRecord,
    JobRecord,
    NodeRecord,
    PodRecord,
    PriorityRecord,
    ScalableRecord,
    WorkloadRecord,
)
from aiops.model import Cluster, Gpu, Job, JobState, Link, Node, NodeState, Pool, Queue, SeriesKey, Service

_SAMPLES = 8  # start-up times kept per service: enough for a median, recent enough to follow a new image


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Everything that the mirrors hold. `scalables` by plural name."""

    nodes: tuple[NodeRecord, ...]
    pods: tuple[PodRecord, ...]
    scalables: Mapping[str, tuple[ScalableRecord, ...]]
    jobs: tuple[JobRecord, ...]
    priorities: tuple[PriorityRecord, ...]
    autoscalers: tuple[AutoscalerRecord, ...]
    workloads: tuple[WorkloadRecord, ...] = ()


def cluster(settings: KubernetesSettings, records: Records, promised: Account, now: float) -> Cluster:
    """The whole picture at `now`; placeholders are promises, not work."""
    by_owner: dict[str, list[PodRecord]] = {}
    pods = tuple(pod for pod in records.pods if not _is_placeholder(settings, pod))
    for pod in pods:
        if pod.owner is not None:
            by_owner.setdefault(pod.owner.uid, []).append(pod)
    priorities = {row.name: row.value for row in records.priorities}
    priorities[""] = next((row.value for row in records.priorities if row.default), 0)
    nodes = tuple(sorted((_node(settings, row) for row in records.nodes), key=lambda node: node.name))
    known = frozenset(node.name for node in nodes)
    return Cluster(
        at=now, backend="kubernetes", nodes=nodes, jobs=_jobs(settings, replace(records, pods=pods), by_owner, priorities, now),
        services=_services(records, known, priorities), pools=_pools(settings, nodes),
        holds=promised.live(now),
        queues=tuple(
            Queue(name=name, quota_gpus=row.quota_gpus, lends=row.lends, borrows=row.borrows, priority=row.priority)
            for name, row in sorted(settings.queues.items())
        ),
        links=tuple(
            Link(name=name, kind=row.kind, capacity_bytes_per_s=row.capacity, parent=row.parent)
            for name, row in sorted(settings.links.items())
        ),
    )  # fmt: skip


def _is_placeholder(settings: KubernetesSettings, pod: PodRecord) -> bool:
    return pod.meta.namespace == settings.state_namespace and CLAIM in pod.meta.labels


def _node(settings: KubernetesSettings, row: NodeRecord) -> Node:
    labels, marks, name = row.meta.labels, row.meta.marks, row.meta.name
    if not row.ready:
        state = NodeState.DOWN
    elif row.unschedulable:
        state = NodeState.DRAINING if "draining" in marks else NodeState.CORDONED
    else:
        state = NodeState.READY
    memory = labels.get("nvidia.com/gpu.memory", "")  # MiB, from GPU feature discovery
    gpu = Gpu(
        uuid="", index=0, model=labels.get("nvidia.com/gpu.product", ""),
        memory_bytes=float(memory) * 2**20 if memory.isdecimal() else None,
    )  # fmt: skip
    return Node(
        name=name, uid=row.uid, pool=pool_of(settings, labels), state=state,
        gpus=tuple(replace(gpu, uuid=f"SLOT-{name}-{i}", index=i, healthy=i < row.usable) for i in range(row.gpus)),
        cpu_cores=row.cpu_cores, memory_bytes=row.memory_bytes, rack=labels.get(settings.rack_label, ""),
        reason=marks.get("reason", "") or ("" if row.ready else row.trouble), protected=marks.get("protected") == "true",
        labels=tuple(sorted(labels.items())),
    )  # fmt: skip


def pool_of(settings: KubernetesSettings, labels: Mapping[str, str]) -> str:
    """The pool that a node with these labels is in."""
    return next((labels[name] for name in settings.pool_labels if labels.get(name)), "default")


def _pools(settings: KubernetesSettings, nodes: Iterable[Node]) -> tuple[Pool, ...]:
    groups: dict[str, list[Node]] = {name: [] for name in settings.pools}
    for node in nodes:
        groups.setdefault(node.pool, []).append(node)
    return tuple(
        Pool(
            name=name, nodes=len(rows), version=str(len(rows)),
            min_nodes=settings.pools[name].min if name in settings.pools else len(rows),
            max_nodes=settings.pools[name].max if name in settings.pools else len(rows),
            gpu_type=next((gpu.model for node in rows for gpu in node.gpus), ""),
        )
        for name, rows in sorted(groups.items())
    )  # fmt: skip


def _jobs(
    settings: KubernetesSettings, records: Records, by_owner: Mapping[str, list[PodRecord]], priorities: Mapping[str, int],
    now: float,
) -> tuple[Job, ...]:  # fmt: skip
    known = frozenset(row.meta.name for row in records.nodes)
    queued = {row.owner: row for row in records.workloads if row.owner}
    out = []
    for row in records.jobs:
        pods = tuple(pod for pod in by_owner.get(row.uid, ()) if pod.live)
        rank = pods[0].priority if pods else priorities.get(row.priority_class, 0)
        job = runs.batch(row, pods, rank, now)
        out.append(_as_queued(settings, job, queued[row.uid]) if row.uid in queued and row.queue else job)
    scaled = (row.meta for rows in records.scalables.values() for row in rows if "target" in row.meta.marks)
    out.extend(runs.foreign(records.pods, {f"{meta.namespace}/{meta.name}" for meta in scaled}))
    # A pod outlives its node's object for a while: work on a node that is gone is on no node of this picture.
    return tuple(
        job if known.issuperset(job.nodes) else replace(job, nodes=tuple(name for name in job.nodes if name in known))
        for job in sorted(out, key=lambda job: job.id)
    )


def _as_queued(settings: KubernetesSettings, job: Job, row: WorkloadRecord) -> Job:
    """The job as Kueue has it in its queue: by Kueue's priority, with Kueue's reason while it waits."""
    waits = job.reason or (row.waits if job.state is JobState.QUEUED else "")
    priority = job.priority if row.priority is None else row.priority
    evictions = () if row.evicted_at is None else (row.evicted_at,)
    knobs = boost.knobs(settings, row)
    return replace(job, priority=priority, reason=waits, evictions=evictions, knobs=knobs)


def _services(records: Records, known: frozenset[str], priorities: Mapping[str, int]) -> tuple[Service, ...]:
    starts, on = _starts(records.pods), _placed(records.pods, known)
    scaled = {(row.namespace, row.kind.lower() + "s", row.target): row.name for row in records.autoscalers}
    out = []
    for plural, rows in records.scalables.items():
        for row in rows:
            if "target" in row.meta.marks:
                rival = scaled.get((row.meta.namespace, plural, row.meta.name), "")
                made = _service(plural, row, starts, (priorities.get(row.priority_class, 0), rival))
                out.append(replace(made, nodes=on.get(f"{row.meta.namespace}/{row.meta.name}", ())))
    return tuple(sorted(out, key=lambda service: service.name))


def _service(plural: str, row: ScalableRecord, starts: Mapping[str, tuple[float, ...]], rank: tuple[int, str]) -> Service:
    marks, name = row.meta.marks, f"{row.meta.namespace}/{plural}/{row.meta.name}"
    priority, rival = rank
    least, most, target, load, wrong = bounds(name, marks, row.replicas)
    return Service(
        name=name, uid=row.uid, version=str(row.generation), pool=marks.get("pool", "default"),
        replicas=row.replicas, ready=row.ready,
        min_replicas=least, max_replicas=most, load=load, target=target, gpus_per_replica=row.ask.gpus,
        start_s=starts.get(f"{row.meta.namespace}/{row.meta.name}", ()), tenant=marks.get("tenant", row.meta.namespace),
        priority=priority, protected=marks.get("protected") == "true" or bool(wrong) or bool(rival),
        reason=wrong or (f"also scaled by HorizontalPodAutoscaler {rival}: left alone" if rival else ""),
    )  # fmt: skip


def bounds(name: str, marks: Mapping[str, str], replicas: int) -> tuple[int, int, float, SeriesKey, str]:
    """Least and most replicas, target, load, and what is wrong with them; wrong annotations pin a service where it is."""
    load = SeriesKey.of("service_requests_per_second", service=name)
    try:
        least, most = int(marks.get("min-replicas", "1")), int(marks["max-replicas"])
        target = float(marks["target"])
        load = SeriesKey.parse(marks["load"]) if "load" in marks else load
    except (KeyError, ValueError) as error:
        return replicas, replicas, 1.0, load, f"aiops.io annotations: {type(error).__name__} {error}"
    if not (0 <= least <= most and 0 < target < float("inf")):
        return replicas, replicas, 1.0, load, f"aiops.io annotations: {least}..{most} replicas, target {target:g}"
    return least, most, target, load, ""


def _placed(pods: Iterable[PodRecord], known: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """The nodes that each workload's pods are on."""
    rows: dict[str, set[str]] = {}
    for pod in pods:
        if pod.owner is not None and pod.live and pod.node in known:
            rows.setdefault(runs.workload(pod, pod.owner), set()).add(pod.node)
    return {name: tuple(sorted(found)) for name, found in rows.items()}


def _starts(pods: Iterable[PodRecord]) -> dict[str, tuple[float, ...]]:
    """Seconds from creation to ready of the newest pods of each workload, oldest first."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for pod in pods:
        if pod.owner is not None and pod.ready_at is not None and pod.owner.kind != "Job":
            rows.setdefault(runs.workload(pod, pod.owner), []).append((pod.ready_at, max(0.0, pod.ready_at - pod.meta.created)))
    return {name: tuple(seconds for _, seconds in sorted(found)[-_SAMPLES:]) for name, found in rows.items()}
