"""What a metric means to a diagnosis, told by its name: the one table that is extended when a new kind of metric appears.

A meaning has a role (what the typed verdicts reason with), a side (INTERNAL: the state of the thing itself; EXTERNAL: what
its users see of it) and the direction that hurts. A topology's `metrics:` tags outrank the table for side and direction; the
catalogue (`aiops.metrics`) answers for what the table does not name. Knows no values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from aiops.metrics import CATALOGUE, Bad, Side


class Role(StrEnum):
    """What the verdicts need to know of a metric; OTHER is scored, but proves nothing typed."""

    STEP = "step time"
    STEP_MEAN = "mean step time"
    DATA_WAIT = "data wait"
    COMM_WAIT = "communication wait"
    COMPUTE = "compute time"
    CPU_WAIT = "waiting for a CPU"
    HOST_TIME = "host time"
    CHECKPOINT = "checkpoint time"
    LOADER_QUEUE = "loader queue"
    PREP = "preparation time"
    SAMPLES = "work per step"
    INPUT = "input per step"
    IDLE = "idle share"
    SM_ACTIVE = "SM activity"
    GPU_UTIL = "GPU utilisation"
    GPU_CLOCK = "GPU clock"
    GPU_TEMP = "GPU temperature"
    GPU_POWER = "GPU power"
    POWER_LIMIT = "power limit"
    THERMAL = "thermal throttling"
    POWER_CAP = "power capping"
    GPU_ERROR = "GPU errors"
    DISK_LATENCY = "storage latency"
    DISK_QUEUE = "storage queue"
    DISK_BUSY = "storage busy"
    DISK_RATE = "storage throughput"
    NET_LATENCY = "network latency"
    NET_RATE = "network throughput"
    NET_CONGESTION = "congestion marks"
    NET_ERROR = "network errors"
    CPU_BUSY = "CPU busy"
    CPU_PRESSURE = "CPU pressure"
    IO_PRESSURE = "I/O pressure"
    MEM_PRESSURE = "memory pressure"
    MEM_FREE = "memory available"
    MEM_USED = "memory used"
    LATENCY = "latency"
    ERRORS = "errors"
    AVAILABILITY = "availability"
    PRESENCE = "presence"
    LOAD = "load"
    QUEUE_WAIT = "queue wait"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Meaning:
    """Role, side and bad direction of one metric. `known` is False where nobody says what it is."""

    role: Role
    side: Side
    worse: Bad
    known: bool = True


@dataclass(frozen=True, slots=True)
class Tag:
    """A topology's word on metrics whose name matches the glob; None leaves the table's answer."""

    match: str
    side: Side | None = None
    worse: Bad | None = None


_I, _E, _UP, _DOWN, _NONE = Side.INTERNAL, Side.EXTERNAL, Bad.UP, Bad.DOWN, Bad.NONE

_NET = r"(?:network|infiniband|receive|transmit|packet|(?:^|_)(?:nic|link|port|net|rx|tx)(?:_|$))"
_ROWS: tuple[tuple[str, Role, Side, Bad], ...] = (  # the first pattern found in the lower-case name wins
    # training jobs, per rank
    (r"data_?wait|data_?load|input_wait|loader_wait", Role.DATA_WAIT, _E, _UP),
    (r"comm_?wait|comm(unication)?_seconds|collective|all_?reduce|nccl|barrier|bubble", Role.COMM_WAIT, _E, _UP),
    (r"job_cpu_wait", Role.CPU_WAIT, _E, _UP),
    (r"step_(duration|time)|iteration_(duration|time)|step_seconds", Role.STEP, _E, _UP),
    (r"checkpoint", Role.CHECKPOINT, _E, _NONE),
    (r"job_compute|compute_(seconds|time|duration)|forward|backward", Role.COMPUTE, _I, _UP),
    (r"job_host|host_(seconds|time)|optimizer_", Role.HOST_TIME, _I, _UP),
    (r"loader_queue|queue_batches|prefetch|batches_ready", Role.LOADER_QUEUE, _I, _DOWN),
    (r"prep(are|aration|rocess(ing)?)?_(seconds|time)|decode_seconds|transform_seconds|augment", Role.PREP, _I, _UP),
    (r"samples|tokens|batch_size|sequence_len|work_per_step|micro_?batch", Role.SAMPLES, _E, _NONE),
    # GPUs
    (r"job_gpu_idle", Role.IDLE, _E, _UP),
    (r"(throttle|clocks_event|slowdown).*(therm|temp|hw_slowdown)|thermal_(violation|throttl)", Role.THERMAL, _I, _UP),
    (r"(throttle|clocks_event|slowdown).*(power|brake|cap)|power_(violation|throttl|brake)", Role.POWER_CAP, _I, _UP),
    (r"throttle.*(idle|setting|sync|none)", Role.OTHER, _I, _NONE),
    (r"xid|ecc_|_ecc|remap|nvlink_errors|nvlink.*error|pcie_replay|gpu_errors|gpu_up\b|health_state", Role.GPU_ERROR, _I, _UP),
    (r"sm_active|engine_active|tensor_active|sm_occupancy", Role.SM_ACTIVE, _E, _NONE),
    (r"gpu_util", Role.GPU_UTIL, _E, _NONE),
    (r"(gpu|sm|graphics)_clock|clock_hertz", Role.GPU_CLOCK, _I, _DOWN),
    (r"power_limit|power_cap", Role.POWER_LIMIT, _I, _DOWN),
    (r"temperature|_temp\b|celsius", Role.GPU_TEMP, _I, _UP),
    (r"power.*watts|gpu_power|power_(usage|draw)", Role.GPU_POWER, _I, _NONE),
    (r"(?:^|_)fb_(used|free|total|reserved)|frame_?buffer", Role.OTHER, _I, _NONE),
    (r"pcie.*(rx|receive)", Role.INPUT, _E, _NONE),
    (r"pcie|nvlink.*bytes", Role.NET_RATE, _E, _NONE),
    # hosts
    (r"pressure.*cpu|cpu.*(pressure|throttl|steal|waiting)|cfs_throttled|runqueue", Role.CPU_PRESSURE, _I, _UP),
    (r"pressure.*io|io.*pressure|procs_blocked|iowait", Role.IO_PRESSURE, _I, _UP),
    (r"pressure.*mem|mem.*pressure|pgmajfault|oom_kill|pswp|swap_(in|out|used)|mem.*failcnt", Role.MEM_PRESSURE, _I, _UP),
    (r"mem.*(avail|free)|swapfree", Role.MEM_FREE, _I, _DOWN),
    (r"node_memory_|mem.*total", Role.OTHER, _I, _NONE),
    (r"mem(ory)?[^a-z]*(usage|used|working|rss|$|\(|-|_)|\bmem\b|_mem\b", Role.MEM_USED, _I, _UP),
    (r"cpu_count|cpu_cores|cpu_quota", Role.OTHER, _I, _NONE),
    (r"cpu.*idle|idle.*cpu", Role.OTHER, _I, _DOWN),
    (r"cpu", Role.CPU_BUSY, _I, _UP),
    (r"load1\b|procs_running", Role.CPU_BUSY, _I, _UP),
    (r"(?:^|_)gc_", Role.OTHER, _I, _UP),
    # storage
    (r"(volume|disk|storage|nfs|block|io|read|write)_.*(latency|await|response_time|request_time)", Role.DISK_LATENCY, _E, _UP),
    (r"disk_flush", Role.OTHER, _I, _NONE),
    (r"disk_(read|write)_time", Role.DISK_LATENCY, _E, _UP),
    (r"(volume|disk|storage|nfs|io).*(queue|io_now|weighted|inflight|in_flight|outstanding)", Role.DISK_QUEUE, _I, _UP),
    (r"(volume|disk|storage).*(util|busy|io_time)", Role.DISK_BUSY, _I, _UP),
    (r"(disk|volume|storage|(?:^|_)fs)_(free|avail)|free_(disk|space)", Role.OTHER, _I, _DOWN),
    (r"(volume|disk|storage|nfs|lustre|mountstats).*(bytes|throughput|operations|iops|completed)", Role.DISK_RATE, _E, _NONE),
    (r"disk_?io|fs_(reads|writes)|syscall", Role.DISK_BUSY, _I, _UP),
    (r"(?:^|_)iops(?:_|$)", Role.DISK_RATE, _E, _NONE),
    (r"filesystem_(size|files)\b|filesystem_size_bytes", Role.OTHER, _I, _NONE),
    # network
    (r"transmit_wait|cnp_|ecn|pfc|pause|congest|retrans|out_of_sequence|seq_err|ack_timeout", Role.NET_CONGESTION, _E, _UP),
    (_NET + r".*(err|drop|discard|loss|down)|symbol_error", Role.NET_ERROR, _I, _UP),
    (r"(?:^|_)(network|nic|link|net|collective)_.*(latency|rtt|delay)|(?:^|_)rtt(?:_|$)", Role.NET_LATENCY, _E, _UP),
    (r"(?:^|_)(network|nic|link|infiniband|net|bandwidth)_.*(util|queue)", Role.NET_CONGESTION, _I, _UP),
    (r"(?:^|_)(network|nic|link|infiniband)_.*(speed|rate_bytes|carrier|state|_up\b)", Role.NET_ERROR, _I, _DOWN),
    (_NET, Role.NET_RATE, _E, _NONE),
    # neighbours
    (r"^tenant_running$", Role.PRESENCE, _E, _NONE),
    # services
    (r"queue_wait|pending_seconds", Role.QUEUE_WAIT, _E, _UP),
    (r"latency|duration|response_time|requests?_(seconds|time)|(?:^|_)m?rt(?:_|$)|ttft|tpot|itl|^p\d\d", Role.LATENCY, _E, _UP),
    (r"success|availability|\bup\b|^(sr|rr)$", Role.AVAILABILITY, _E, _DOWN),
    (r"hit_?(rate|ratio)", Role.OTHER, _I, _DOWN),
    (r"restart|miss_?(rate|ratio)", Role.OTHER, _I, _UP),
    (r"replicas", Role.OTHER, _I, _NONE),
    (r"error|fail|5xx|4xx|timeout|exception|refused", Role.ERRORS, _E, _UP),
    (r"request|workload|load|qps|rps|throughput|\bops|demand|traffic|arrivals|(?:^|_)tps(?:_|$)|^count$", Role.LOAD, _E, _NONE),
    (r"socket|connections|sessions|threads|goroutines|fds", Role.OTHER, _I, _UP),
    (r"wait|queue|backlog|lag", Role.QUEUE_WAIT, _E, _UP),
)
_TABLE = tuple((re.compile(pattern), Meaning(role, side, worse)) for pattern, role, side, worse in _ROWS)
_UNKNOWN = Meaning(Role.OTHER, _E, Bad.UP, known=False)


def meaning(metric: str, tags: Sequence[Tag] = ()) -> Meaning:
    """Meaning of a metric by name (labels in braces belong to it). Unknown metrics: external, and up is bad, unproven."""
    found = _by_name(metric)
    tag = next((t for t in tags if fnmatchcase(metric, t.match)), None)
    if tag is None:
        return found
    told = replace(found, side=tag.side or found.side, worse=tag.worse or found.worse, known=True)
    if not found.known and told.side is Side.EXTERNAL and told.worse is Bad.NONE:
        return replace(told, role=Role.LOAD)
    return told


def _by_name(metric: str) -> Meaning:
    row = CATALOGUE.get(metric.partition("{")[0])
    stem, brace, labels = metric.partition("{")
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-./ ]", "_", stem).lower() + brace + labels.lower()
    found = next((m for pattern, m in _TABLE if pattern.search(name)), None)
    if row is not None:
        role = found.role if found else Role.OTHER
        return Meaning(role, row.side, row.bad)
    return found or _UNKNOWN
