"""The nouns. Frozen values that every other module speaks in; no behaviour beyond reading them.

Units: seconds, bytes, watts, ratios in 0..1; times are float Unix seconds UTC. What can be absent is `None`, or NaN
inside an array: missing is never zero. Labels are sorted pairs, so that equal keys are equal bytes. Arrays are float64
and read-only by convention. Everything here survives `codec.encode`/`codec.decode` unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = tuple[tuple[str, str], ...]
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


# -- samples and series ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class SeriesKey:
    """What identifies a series: catalogue metric name and sorted labels."""

    metric: str
    labels: Labels = ()

    @classmethod
    def of(cls, metric: str, **labels: str) -> SeriesKey:
        """Key from keyword labels, sorted by name."""
        return cls(metric, tuple(sorted(labels.items())))

    @classmethod
    def parse(cls, text: str) -> SeriesKey:
        """Inverse of `str(key)`; ValueError for a text that no key has."""
        metric, _, inner = text.partition("{")
        pairs = _LABEL.findall(inner)
        unescaped = {name: re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), value) for name, value in pairs}
        key = cls.of(metric, **unescaped)
        if str(key) != text or not _METRIC.fullmatch(metric):
            raise ValueError(f'expected metric{{label="value"}} with labels in order, found {text[:80]!r}')
        return key

    def label(self, name: str) -> str | None:
        """Value of one label, or None where the series does not carry it."""
        return next((value for key, value in self.labels if key == name), None)

    def __str__(self) -> str:
        """Prometheus notation, `metric{a="b"}`: the text form used as a forecast target and in URLs."""
        escaped = (v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for _, v in self.labels)
        inner = ",".join(f'{k}="{v}"' for (k, _), v in zip(self.labels, escaped, strict=True))
        return f"{self.metric}{{{inner}}}" if inner else self.metric


@dataclass(frozen=True, slots=True)
class Batch:
    """All samples of one scrape: one time, n keys, (n,) values. Columns instead of a row object per sample."""

    time: float
    keys: tuple[SeriesKey, ...]
    values: Floats

    @classmethod
    def of(cls, time: float, pairs: Iterable[tuple[SeriesKey, float]]) -> Batch:
        """Batch from (key, value) pairs; non-finite values are left out, because a stored NaN would mean nothing."""
        kept = [(key, value) for key, value in pairs if np.isfinite(value)]
        return cls(time, tuple(key for key, _ in kept), np.array([value for _, value in kept], dtype=np.float64))


class Match(StrEnum):
    """How a matcher compares a label."""

    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label; an absent label counts as the empty string, as in Prometheus."""

    label: str
    value: str
    op: Match = Match.EQUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Series of one metric over (now - window_s, now]; `step_s` 0 gives raw points, else the last point per step."""

    metric: str
    matchers: tuple[Matcher, ...] = ()
    window_s: float
    step_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A three-valued value: fresh (`value` and `stale` False), stale (`value` and `stale` True), unreadable (None)."""

    value: float | None
    stale: bool = False
    at: float | None = None

    @property
    def fresh(self) -> bool:
        """True where the value may be acted upon."""
        return self.value is not None and not self.stale


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points of one key: `times` (n,) strictly increasing, `values` (n,), NaN where the source said 'missing'."""

    key: SeriesKey
    times: Floats
    values: Floats

    def latest(self, now: float, max_age_s: float) -> Reading:
        """The newest finite point as a three-valued reading at `now`."""
        finite = np.flatnonzero(np.isfinite(self.values))
        if not len(finite):
            return Reading(None)
        at = float(self.times[finite[-1]])
        return Reading(float(self.values[finite[-1]]), stale=not 0 <= now - at <= max_age_s, at=at)


# -- what is foreseen and found ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Quantiles of one target ahead of `made_at`.

    `times` (h,); `quantiles` (q,) ascending in 0..1; `values` (q, h), not crossing, finite. `skill` is 1 - loss/loss of the
    better naive rule in the rolling backtest; `coverage` the share of truths inside the 5-95 % band. `refused` is None
    where the forecast may be acted upon, else the named reason why only reactive rules may be used.
    """

    target: str
    made_at: float
    times: Floats
    quantiles: Floats
    values: Floats
    model: str
    skill: float | None = None
    coverage: float | None = None
    refused: str | None = None

    def at_quantile(self, q: float) -> Floats:
        """(h,) values at quantile `q`, linear between stored quantiles, clamped to the outermost."""
        return np.array([np.interp(q, self.quantiles, column) for column in self.values.T], dtype=np.float64)


class Cause(StrEnum):
    """Typed verdicts of a diagnosis; `UNKNOWN` and `LOAD_CHANGE` are legal answers, not failures."""

    IO_STALL = "io_stall"
    PREP_STALL = "prep_stall"
    NET_CONTENTION = "net_contention"
    STRAGGLER = "straggler"
    STAGE_IMBALANCE = "stage_imbalance"
    DATA_IMBALANCE = "data_imbalance"
    THERMAL_THROTTLE = "thermal_throttle"
    POWER_CAP = "power_cap"
    NOISY_NEIGHBOUR = "noisy_neighbour"
    CPU_CONTENTION = "cpu_contention"
    MEMORY_PRESSURE = "memory_pressure"
    GPU_FAULT = "gpu_fault"
    SERVICE_FAULT = "service_fault"
    SENSOR_FAULT = "sensor_fault"
    LOAD_CHANGE = "load_change"
    EXHAUSTION = "exhaustion"
    ANOMALY = "anomaly"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One fact for or against a cause, in words and numbers; `series` names what can be plotted."""

    text: str
    series: str | None = None
    value: float | None = None
    baseline: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong or will be: a typed cause on a subject, with its chain and evidence.

    `confidence` is a calibrated probability in 0..1; `score` orders hypotheses. `horizon_s` is set on early warnings:
    seconds from `at` until the limit is crossed. `counterfactual` maps a named quantity to what it would be without the cause.
    """

    id: str
    at: float
    cause: Cause
    subject: str
    score: float
    confidence: float
    since: float | None = None
    sli: str | None = None
    chain: tuple[str, ...] = ()
    evidence_for: tuple[Evidence, ...] = ()
    evidence_against: tuple[Evidence, ...] = ()
    counterfactual: Mapping[str, float] = field(default_factory=dict)
    neighbour: str | None = None
    horizon_s: float | None = None
    summary: str = ""


# -- the cluster -------------------------------------------------------------------------------------------------------


class NodeState(StrEnum):
    """Whether a node takes work; DOWN nodes count as unhealthy."""

    READY = "ready"
    CORDONED = "cordoned"
    DRAINING = "draining"
    DOWN = "down"
    OFF = "off"


class JobState(StrEnum):
    """Life of a job as every backend maps it; the last three are terminal."""

    QUEUED = "queued"
    HELD = "held"
    STARTING = "starting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    STOPPING = "stopping"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskClass(StrEnum):
    """What bounds a job's speed; declared or profiled."""

    COMPUTE = "compute"
    MEMORY = "memory"
    COMMUNICATION = "communication"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU, or one MIG slice of it (`mig_profile`)."""

    uuid: str
    index: int
    model: str = ""
    memory_bytes: float | None = None
    healthy: bool = True
    mig_profile: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine. `uid` is its identity across reuse of the name; `removable`: its pool may give it back (a cloud node)."""

    name: str
    uid: str
    pool: str
    state: NodeState
    gpus: tuple[Gpu, ...] = ()
    cpu_cores: float = 0.0
    memory_bytes: float = 0.0
    rack: str = ""
    reason: str = ""
    protected: bool = False
    labels: Labels = ()
    removable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Proof of a durable checkpoint: by which run, when complete, and when the proof was last read and verified.

    `verified` means that the completion marker was there and sizes or hash matched the manifest at `read_at`; `reading`, that
    its files are still being hashed: whether they match is not known yet.
    """

    id: str
    run_id: str
    at: float
    read_at: float
    verified: bool
    step: int | None = None
    reading: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """A number of a running job that may be tuned (loader threads, compression level), within its declared hard bounds."""

    name: str
    value: float
    least: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A queued or running job. `run_id` identifies this run: (id, run_id) never names another execution.

    `lender` is the queue on whose idle share it runs, '' for one that runs on its own queue's. `preemptible` work may be
    asked to go for others although it has shown no checkpoint yet; without a proof nothing is stopped, it neither.
    """

    id: str
    run_id: str
    name: str
    queue: str
    state: JobState
    gpus: int
    submitted_at: float
    tenant: str = ""
    priority: int = 0
    gpu_type: str = ""
    cpu_cores: float = 0.0
    memory_bytes: float = 0.0
    nodes: tuple[str, ...] = ()
    gpu_uuids: tuple[str, ...] = ()
    started_at: float | None = None
    checkpoint: Checkpoint | None = None
    checkpoint_requested_at: float | None = None
    checkpoint_s: float | None = None
    restart_s: float | None = None
    preemptible: bool = False
    protected: bool = False
    gang: str = ""
    task_class: TaskClass = TaskClass.UNKNOWN
    evictions: tuple[float, ...] = ()
    lender: str = ""
    runtime_s: float | None = None
    compresses: bool = False
    volumes: tuple[str, ...] = ()
    reason: str = ""
    knobs: tuple[Knob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A replicated service. `load` is the metric that demand is measured in, `target` its right value per replica.

    `start_s` holds the measured seconds from scale-up to ready of recent replicas, oldest first. `version` is what a
    compare-and-set must present (resourceVersion; a counter on one machine). `latency` is the metric of its answer times and
    `slo_s` what that should stay below; None where nobody measures or promises it. `nodes` are those that its replicas are on;
    empty with replicas means that the backend does not tell.
    """

    name: str
    uid: str
    version: str
    pool: str
    replicas: int
    ready: int
    min_replicas: int
    max_replicas: int
    load: SeriesKey
    target: float
    gpus_per_replica: int = 0
    start_s: tuple[float, ...] = ()
    tenant: str = ""
    priority: int = 0
    protected: bool = False
    reason: str = ""
    latency: SeriesKey | None = None
    slo_s: float | None = None
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A set of like nodes that may be scaled. `compute_tflops` and `interconnect` describe it for task matching."""

    name: str
    gpu_type: str = ""
    nodes: int = 0
    min_nodes: int = 0
    max_nodes: int = 0
    version: str = ""
    start_s: tuple[float, ...] = ()
    interconnect: str = ""
    compute_tflops: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue or tenant share: how many GPUs it is entitled to, and whether it lends and borrows."""

    name: str
    quota_gpus: int
    lends: bool = True
    borrows: bool = True
    priority: int = 0
    min_runtime_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one owner (`job/NAME`, `service/NAME`) has of a link: its guarantee, its cap, and its measured use; None: none."""

    owner: str
    guarantee_bytes_per_s: float | None = None
    cap_bytes_per_s: float | None = None
    used_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A capacity that traffic shares: device, NIC, uplink, fabric or storage target; `parent` makes the hierarchy.

    `enforced` says whether caps and guarantees are imposed (tc, the block controller) or only accounted; `accounted` says in
    words what of an enforced link is accounted all the same, '' for nothing. `device` names the NIC or disk
    whose counters are its traffic. `shares` are the guarantees and caps that the cluster was told, sorted by owner.
    """

    name: str
    kind: str
    capacity_bytes_per_s: float
    parent: str = ""
    node: str = ""
    enforced: bool = False
    used_bytes_per_s: float | None = None
    device: str = ""
    shares: tuple[Share, ...] = ()
    accounted: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """Storage that jobs mount, with the link that serves it."""

    name: str
    link: str = ""
    size_bytes: float | None = None
    used_bytes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The backend's whole picture at `at`; never a part of one."""

    at: float
    backend: str
    nodes: tuple[Node, ...] = ()
    jobs: tuple[Job, ...] = ()
    services: tuple[Service, ...] = ()
    pools: tuple[Pool, ...] = ()
    queues: tuple[Queue, ...] = ()
    links: tuple[Link, ...] = ()
    volumes: tuple[Volume, ...] = ()
    holds: tuple[str, ...] = ()


class HoldState(StrEnum):
    """Life of a reservation; the last three are terminal."""

    HELD = "held"
    ACTIVE = "active"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    RELEASED = "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """One hold or active reservation of the two-phase ledger (`decide/reserve.py` moves it).

    `expires_at` ends a hold; renewals move it, never past `hard_cap_at`. `fence` grows with each re-grant of the same
    name, so that a late confirm is refused. `starts_at` in the future makes it an advance reservation, `ends_at` its end.
    """

    name: str
    owner: str
    state: HoldState
    fence: int
    created_at: float
    expires_at: float
    hard_cap_at: float
    nodes: tuple[str, ...] = ()
    gpus: int = 0
    cpu_cores: float = 0.0
    bandwidth_bytes_per_s: Mapping[str, float] = field(default_factory=dict)
    priority: int = 0
    starts_at: float | None = None
    ends_at: float | None = None
    from_forecast: str = ""
