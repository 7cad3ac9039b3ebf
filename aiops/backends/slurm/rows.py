"""slurmctld's answers as typed rows: jobs and nodes from JSON of any version, the rest from `scontrol -o show`. Pure.

JSON before 23.02 has plain numbers and one state; later versions have `{"set", "infinite", "number"}` and lists of states.
Both are read by the same lines. Names and comments are written by users and never used to find another field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiops.backends.slurm import gres
from aiops.backends.slurm.hostlist import expand

_NONE = 4294967294  # NO_VAL: how 32-bit fields say 'not set'
_FIELD = re.compile(r"(\w[\w:/]*)=(\S*)")
_SIGNS = {"*": "NOT_RESPONDING", "~": "POWERED_DOWN", "#": "POWERING_UP", "!": "POWER_DOWN", "%": "POWERING_DOWN"}
_PROSE = re.compile(r" (?:Reason|Comment|Extra)=")
Raw = Mapping[str, Any]

TERMINAL = frozenset(
    {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "PREEMPTED"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job record. (id, submit, restarts) is the identity of a run; `gpu_ids` are (node, index) where known.

    `ended_by` is the signal that ended it; None where that is not known, or where it ended with an exit status.
    """

    id: int
    submit: float
    restarts: int
    states: frozenset[str]
    reason: str = ""
    array_job: int = 0
    array_task: int | None = None
    unsplit: bool = False
    het: bool = False
    batch: bool = True
    name: str = ""
    user: str = ""
    account: str = ""
    qos: str = ""
    partition: str = ""
    start: float | None = None
    priority: int = 0
    nice: int = 0
    nodes: tuple[str, ...] = ()
    required_nodes: tuple[str, ...] = ()
    gpus: int = 0
    gpu_type: str = ""
    gpu_ids: tuple[tuple[str, int], ...] = ()
    cpus: float = 0.0
    memory_bytes: float = 0.0
    licences: tuple[tuple[str, int], ...] = ()
    limit_s: float | None = None
    admin_comment: str = ""
    ended_by: int | None = None

    @property
    def run_id(self) -> str:
        """Identity of this run of this id: a reused id has another submit time, a requeue another count."""
        return f"{int(self.submit)}-{self.restarts}"

    @property
    def address(self) -> str:
        """How a command names exactly this record: an array's own id would name all of its tasks."""
        return str(self.id) if self.array_task is None else f"{self.array_job}_{self.array_task}"

    @property
    def held(self) -> bool:
        """True where it waits for a release."""
        return "PENDING" in self.states and ("held" in self.reason.lower() or "SPECIAL_EXIT" in self.states)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """One node; `states` are the base state and its flags, upper case."""

    name: str
    address: str
    states: frozenset[str]
    gres: str = ""
    features: str = ""
    partitions: tuple[str, ...] = ()
    reason: str = ""
    cpus: float = 0.0
    memory_bytes: float = 0.0
    allocated_cpus: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """One reservation of nodes, licences or both."""

    name: str
    start: float
    end: float
    nodes: tuple[str, ...] = ()
    licences: tuple[tuple[str, int], ...] = ()
    users: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """What of slurmctld's configuration we must honour."""

    cluster: str
    version: str
    slurm_uid: int
    slurm_user: str
    preempt_exempt_s: float
    max_batch_requeue: int
    power_saving: bool


def number(value: Any, otherwise: float = 0.0) -> float:
    """A number in either notation; `otherwise` where it is not set or infinite."""
    if isinstance(value, Mapping):
        value = value.get("number") if value.get("set") and not value.get("infinite") else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value >= _NONE:
        return otherwise
    return float(value)


def _states(*values: Any) -> frozenset[str]:
    flat = [item for value in values for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]
    return frozenset(part for item in flat for part in item.upper().split("+") if part)


def job(raw: Raw) -> JobRow:
    """One entry of `jobs`. ValueError, KeyError or TypeError where it is not one."""
    nodes = expand(raw.get("nodes") or "")
    gpus, kind, ids = _gpus(raw, nodes)
    task, start = raw.get("array_task_id"), number(raw.get("start_time"))
    array = int(number(raw.get("array_job_id")))
    task_number = None if task is None or number(task, -1) < 0 or not array else int(number(task))
    count = max(number(raw.get("node_count")), 1.0)
    memory = number(raw.get("memory_per_node")) * count or number(raw.get("memory_per_cpu")) * number(raw.get("cpus"))
    return JobRow(
        id=int(raw["job_id"]), submit=number(raw["submit_time"]), restarts=int(number(raw.get("restart_cnt"))),
        states=_states(raw["job_state"]), reason=str(raw.get("state_reason") or ""), array_job=array, array_task=task_number,
        unsplit=bool(raw.get("array_task_string")), het=number(raw.get("het_job_id")) > 0,
        batch=bool(raw.get("batch_flag")), name=str(raw.get("name") or ""), user=str(raw.get("user_name") or ""),
        account=str(raw.get("account") or ""), qos=str(raw.get("qos") or ""), partition=str(raw.get("partition") or ""),
        start=start or None,
        priority=int(number(raw.get("priority"))), nice=int(number(raw.get("nice"))), nodes=nodes,
        required_nodes=expand(raw.get("required_nodes") or ""), gpus=gpus, gpu_type=kind, gpu_ids=ids,
        cpus=number(raw.get("cpus")), memory_bytes=memory * 2**20,
        licences=tuple(sorted(gres.licences(raw.get("licenses") or "").items())),
        limit_s=number(raw.get("time_limit")) * 60 or None, admin_comment=str(raw.get("admin_comment") or ""),
    )  # fmt: skip


def _gpus(raw: Raw, nodes: tuple[str, ...]) -> tuple[int, str, tuple[tuple[str, int], ...]]:
    """(count, type, (node, index) pairs): what is given where it runs, else what is asked for in any of the four ways."""
    detail = [row for row in raw.get("gres_detail") or () if isinstance(row, str)]
    ids = tuple((node, i) for node, row in zip(nodes, detail, strict=False) for i in gres.indices(row))
    given, kind = gres.tres_gpus(raw.get("tres_alloc_str") or "")
    if not given and nodes:
        given, kind = sum(gres.asked_gpus(row)[0] for row in detail), gres.asked_gpus(",".join(detail))[1]
    if not given:
        given, kind = gres.tres_gpus(raw.get("tres_req_str") or "")
    for field, times in (("tres_per_job", 1), ("tres_per_node", raw.get("node_count")), ("tres_per_task", raw.get("tasks"))):
        if not given:
            one, kind = gres.asked_gpus(raw.get(field) or "")
            given = int(one * max(number(times), 1.0))
    return given, kind, ids


def node(raw: Raw) -> NodeRow:
    """One entry of `nodes`."""
    features = raw.get("active_features") or raw.get("features") or ""
    return NodeRow(
        name=str(raw["name"]), address=f"{raw.get('address') or ''}:{int(number(raw.get('port')))}",
        states=_states(raw["state"], raw.get("state_flags") or []), gres=str(raw.get("gres") or ""),
        features=",".join(features) if isinstance(features, list) else str(features),
        partitions=tuple(raw.get("partitions") or ()), reason=str(raw.get("reason") or ""), cpus=number(raw.get("cpus")),
        memory_bytes=number(raw.get("real_memory")) * 2**20, allocated_cpus=number(raw.get("alloc_cpus")),
    )  # fmt: skip


def node_shown(line: str) -> NodeRow:
    """One line of `scontrol -o show node`. What people and programs wrote (reason, comment) stands last and is not searched."""
    head, _, _ = _PROSE.sub("\n", line, count=1).partition("\n")
    row = dict(reversed(_FIELD.findall(head)))
    return NodeRow(
        name=row["NodeName"], address=f"{row.get('NodeAddr', '')}:{row.get('Port', 0)}", gres=_absent(row.get("Gres")),
        states=_flagged(row["State"].upper()), features=_absent(row.get("ActiveFeatures")),
        partitions=tuple(filter(None, row.get("Partitions", "").split(","))), cpus=float(row.get("CPUTot", 0)),
        reason=line.partition(" Reason=")[2].strip(), memory_bytes=float(row.get("RealMemory", 0)) * 2**20,
        allocated_cpus=float(row.get("CPUAlloc", 0)),
    )  # fmt: skip


def _flagged(text: str) -> frozenset[str]:
    """`IDLE+CLOUD`, `DOWN*`: newer versions write flags as words, older ones as a sign at the end."""
    plain = text.rstrip("*~#!%$@^-")
    return frozenset((*plain.split("+"), *(_SIGNS[sign] for sign in text[len(plain) :] if sign in _SIGNS)))


def _absent(text: str | None) -> str:
    return "" if text in (None, "(null)") else str(text)


def shown(text: str) -> Iterable[dict[str, str]]:
    """Records of `scontrol -o show`: one a line. Only for what administrators write, never for jobs."""
    return [dict(_FIELD.findall(line)) for line in text.splitlines() if "=" in line]


def reserved(text: str) -> tuple[Reserved, ...]:
    """`scontrol -o show reservation`, times as Unix seconds."""
    return tuple(
        Reserved(
            name=row["ReservationName"], start=float(row["StartTime"]), end=float(row["EndTime"]),
            nodes=expand(row.get("Nodes", "")), users=row.get("Users", ""),
            licences=tuple(sorted(gres.licences(row.get("Licenses", "")).items())),
        )
        for row in shown(text) if "ReservationName" in row
    )  # fmt: skip


def licence_totals(text: str) -> dict[str, tuple[int, int]]:
    """`scontrol -o show licenses` as {name: (total, used + reserved)}."""
    rows = [row for row in shown(text) if "LicenseName" in row]
    return {row["LicenseName"]: (int(row["Total"]), int(row["Used"]) + int(row.get("Reserved", 0))) for row in rows}


def controller(text: str) -> Controller:
    """`scontrol show config`. ValueError where what we must honour is not in it."""
    row = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in text.splitlines())}
    owner = re.fullmatch(r"(\S+?)\((\d+)\)", row.get("SlurmUser", ""))
    if owner is None:
        raise ValueError("no SlurmUser in the configuration")
    return Controller(
        cluster=row.get("ClusterName", "slurm"), version=row.get("SLURM_VERSION", ""), slurm_uid=int(owner[2]),
        slurm_user=owner[1],
        preempt_exempt_s=duration(row.get("PreemptExemptTime", "")),
        max_batch_requeue=int(row.get("MaxBatchRequeue", "5") if row.get("MaxBatchRequeue", "5").isdigit() else 5),
        power_saving=row.get("ResumeProgram", "(null)") != "(null)",
    )  # fmt: skip


def duration(text: str) -> float:
    """Seconds of `[days-][hours:]minutes:seconds`; 0 for NONE, UNLIMITED and the like."""
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in parts) or len(parts) not in (2, 3) or (dash and not days.isdigit()):
        return 0.0
    hours, minutes, seconds = (int(part) for part in ("0", *parts)[-3:])
    return float(int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds)
