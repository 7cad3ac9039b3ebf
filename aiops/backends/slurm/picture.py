"""slurmctld's picture as a `Cluster`: pure, from rows alone.

A pool is a set of like nodes (GPU type, powered on demand or not); a queue is a partition; a licence that stands for
bandwidth is a link, accounted and not enforced. What Slurm itself preempts shows as a stopping job, and is left alone.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from aiops import codec
from aiops.backends.slurm import gres
from aiops.backends.slurm.declare import SlurmSettings
from aiops.backends.slurm.marks import is_cordon, is_ours
from aiops.backends.slurm.query import Picture
from aiops.backends.slurm.rows import Controller, JobRow, NodeRow
from aiops.model import (
    Checkpoint,
    Cluster,
    Gpu,
    Job,
    JobState,
    Labels,
    Link,
    Node,
    NodeState,
    Pool,
    Queue,
    Volume,
)  # fmt: skip

_OFF = {"POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN", "POWERING_UP", "POWER_UP", "REBOOT_ISSUED"}
_DOWN = {"DOWN", "ERROR", "FAIL", "FAILING", "UNKNOWN", "NOT_RESPONDING", "NO_RESPOND", "FUTURE", "INVALID", "INVALID_REG"}
_BUSY = {"ALLOCATED", "MIXED", "COMPLETING"}
_JOB = {
    "COMPLETED": JobState.DONE, "CANCELLED": JobState.CANCELLED, "FAILED": JobState.FAILED, "TIMEOUT": JobState.FAILED,
    "NODE_FAIL": JobState.FAILED, "OUT_OF_MEMORY": JobState.FAILED, "BOOT_FAIL": JobState.FAILED, "DEADLINE": JobState.FAILED,
    "PREEMPTED": JobState.STOPPING, "SUSPENDED": JobState.SUSPENDED, "STOPPED": JobState.SUSPENDED, "RUNNING": JobState.RUNNING,
}  # fmt: skip

_NOT_FOR_ROOM = re.compile(
    r"Dependency|BeginTime|DeadLine|Licenses|JobArrayTaskLimit|QOS|Assoc|Account|Partition|Invalid|BadConstraints|MaxMemPerLimit"
    r"|Reservation|ReqNodeNotAvail|NodeDown|BurstBuffer"  # a maintenance window keeps a job waiting whoever is stopped
)
"""Beginnings of Slurm's reasons (squeue(1), JOB REASON CODES) for which a job waits however many nodes are free."""


Answers = Mapping[str, tuple[float | None, Checkpoint | None]]
"""By job id: when the run was asked for a checkpoint, and its newest one."""


def cluster(seen: Picture, settings: SlurmSettings, controller: Controller, answers: Answers) -> Cluster:
    """The whole cluster; `answers` are those of the runs that were looked at."""
    nodes = tuple(sorted((_node(row, settings, controller) for row in seen.nodes), key=lambda node: node.name))
    names = {node.name for node in nodes}
    return Cluster(
        at=seen.at, backend="slurm", nodes=nodes, pools=tuple(_pools(nodes, seen.nodes)),
        jobs=tuple(_job(row, settings, names, answers) for row in sorted(seen.jobs, key=lambda row: row.id)),
        queues=tuple(_queues(seen, max(settings.min_runtime, controller.preempt_exempt_s))),
        links=tuple(_links(seen, settings)), volumes=tuple(_volumes(seen, settings)),
        holds=tuple(sorted(row.name for row in seen.reservations if is_ours(row.name) and row.end > seen.at)),
    )  # fmt: skip


def node_uid(row: NodeRow, cluster: str) -> str:
    """Identity of a node: its name in this cluster and where that name leads; a cloud node's next instance is another one."""
    return f"{cluster}/{row.name}@{row.address}"


def node_state(row: NodeRow) -> NodeState:
    """Slurm's states and flags as ours. A drain that we or others ask for takes no new work; what runs goes on."""
    if row.states & _OFF:
        return NodeState.OFF
    if row.states & _DOWN:
        return NodeState.DOWN
    if row.states & {"DRAIN", "DRAINED", "DRAINING"}:
        return NodeState.DRAINING if row.states & _BUSY and not is_cordon(row.reason) else NodeState.CORDONED
    return NodeState.READY


def in_service(rows: Iterable[NodeRow]) -> set[str]:
    """Names of the nodes that take work."""
    return {row.name for row in rows if node_state(row) is NodeState.READY}


def job_state(row: JobRow) -> JobState:
    """Slurm's states and flags as ours."""
    if "COMPLETING" in row.states or "REQUEUED" in row.states or "SIGNALING" in row.states:
        return JobState.STOPPING
    if "CONFIGURING" in row.states:
        return JobState.STARTING
    if "PENDING" in row.states:
        return JobState.HELD if row.held else JobState.QUEUED
    return next((state for name, state in _JOB.items() if name in row.states), JobState.STOPPING)


def room_would_start(reason: str) -> bool:
    """Whether a pending job with this reason would start if nodes were free; a reason that is not known says yes."""
    return _NOT_FOR_ROOM.match(reason) is None


def pool_name(row: NodeRow) -> str:
    """Like nodes together: GPU type, and whether Slurm powers them on demand."""
    _, kind = gres.asked_gpus(row.gres)
    return (kind or ("gpu" if gres.asked_gpus(row.gres)[0] else "cpu")) + ("-cloud" if "CLOUD" in row.states else "")


def pool_version(pool: str, nodes: Iterable[NodeRow]) -> str:
    """What a compare-and-set on a pool presents: which of its nodes are on."""
    return codec.digest([row.name for row in sorted(nodes, key=lambda row: row.name) if _on(row, pool)])[:12]


def powered(row: NodeRow) -> bool:
    """True where a node is on or on its way: Slurm keeps POWERED_DOWN beside POWERING_UP for a moment."""
    return bool(row.states & {"POWERING_UP", "POWER_UP"}) or not row.states & {"POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN"}


def _on(row: NodeRow, pool: str) -> bool:
    return pool_name(row) == pool and powered(row)


def _node(row: NodeRow, settings: SlurmSettings, controller: Controller) -> Node:
    count, kind = gres.asked_gpus(row.gres)
    rack = next((name for name in row.features.split(",") if name.startswith("rack")), "")
    labels: Labels = tuple(sorted({("feature." + name, "1") for name in row.features.split(",") if name}))
    state = node_state(row)
    return Node(
        name=row.name, uid=node_uid(row, controller.cluster), pool=pool_name(row), state=state, cpu_cores=row.cpus,
        gpus=tuple(Gpu(uuid=f"{row.name}/gpu{i}", index=i, model=kind) for i in range(count)), rack=rack,
        memory_bytes=row.memory_bytes, reason=row.reason, protected=row.name in settings.protected_nodes, labels=labels,
        removable="CLOUD" in row.states,
    )  # fmt: skip


def is_protected(row: JobRow, settings: SlurmSettings) -> bool:
    """True where the site said hands off: account, user, QOS or partition."""
    return (
        row.account in settings.protected_accounts
        or row.user in settings.protected_users
        or row.qos in settings.protected_qos
        or bool(set(row.partition.split(",")) & set(settings.protected_partitions))
    )


def needs_no_checkpoint(row: JobRow, settings: SlurmSettings) -> bool:
    """True where the site said that such work may be stopped as it stands, by partition or QOS; the daemon asks for a proof."""
    return row.partition in settings.preemptible_partitions or row.qos in settings.preemptible_qos


def _job(row: JobRow, settings: SlurmSettings, names: set[str], answers: Answers) -> Job:
    state = job_state(row)
    if state is JobState.QUEUED and not room_would_start(row.reason):
        state = JobState.HELD  # nobody is stopped, and no node started, for what would not use it
    ended = state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
    asked_at, proof = answers.get(str(row.id), (None, None))
    placed = () if state in (JobState.QUEUED, JobState.HELD) or ended else row.nodes
    return Job(
        id=str(row.id), run_id=row.run_id, name=row.name, queue=row.partition, state=state, gpus=row.gpus,
        submitted_at=row.submit, tenant=row.account or row.user, priority=row.priority, gpu_type=row.gpu_type,
        cpu_cores=row.cpus, memory_bytes=row.memory_bytes, nodes=tuple(name for name in placed if name in names),
        gpu_uuids=tuple(f"{node}/gpu{i}" for node, i in row.gpu_ids) if placed else (), runtime_s=row.limit_s,
        started_at=row.start if placed else None, checkpoint=proof, checkpoint_requested_at=asked_at if placed else None,
        protected=is_protected(row, settings),
        preemptible=needs_no_checkpoint(row, settings), reason=row.reason if row.reason != "None" else "",
        volumes=tuple(one.volume for name, _ in row.licences if (one := settings.bandwidth(name)) and one.volume),
    )  # fmt: skip


def _pools(nodes: Iterable[Node], found: Iterable[NodeRow]) -> Iterable[Pool]:
    kept = {row.name: row for row in found}
    by_pool = defaultdict(list)
    for node in nodes:
        by_pool[node.pool].append(node)
    for name, members in sorted(by_pool.items()):
        on = [node for node in members if _on(kept[node.name], name)]
        cloud = [node for node in members if "CLOUD" in kept[node.name].states]
        yield Pool(
            name=name, gpu_type=next((gpu.model for node in members for gpu in node.gpus), ""), nodes=len(on),
            min_nodes=len(members) - len(cloud), max_nodes=len(members), version=pool_version(name, kept.values()),
        )  # fmt: skip


def _queues(seen: Picture, min_runtime_s: float) -> Iterable[Queue]:
    gpus = Counter({row.name: gres.asked_gpus(row.gres)[0] for row in seen.nodes})
    for name, members in sorted(seen.partitions.items()):
        # Neither lends nor borrows: a job in another partition does not show whose it was, so no loan could be called back.
        quota = sum(gpus[node] for node in members)
        yield Queue(name=name, quota_gpus=quota, lends=False, borrows=False, min_runtime_s=min_runtime_s)


def _links(seen: Picture, settings: SlurmSettings) -> Iterable[Link]:
    for name, (total, used) in sorted(seen.licences.items()):
        unit = settings.bandwidth(name)
        if unit is not None:
            yield Link(
                name=name, kind=unit.kind, capacity_bytes_per_s=total * unit.unit_bytes_per_s,
                used_bytes_per_s=used * unit.unit_bytes_per_s,
            )  # fmt: skip


def _volumes(seen: Picture, settings: SlurmSettings) -> Iterable[Volume]:
    for name in sorted(seen.licences):
        unit = settings.bandwidth(name)
        if unit is not None and unit.volume:
            yield Volume(name=unit.volume, link=name)
