"""What a person may declare: nodes, services, jobs, queues, links, volumes of one machine, as strict YAML.

Only shapes and their checks. A wrong value becomes one ConfigError that names file, key and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from aiops import codec
from aiops.errors import ConfigError
from aiops.model import SeriesKey, TaskClass
from aiops.settings import Seconds, Section, invalid, load_yaml

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SIZE = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("expected a name of 1-63 letters, digits, '.', '_' or '-', starting with a letter or digit")
    return value


def _size(value: object) -> float:
    """Bytes from a number or a text such as `512Mi`, `16G` (powers of two)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    text = str(value).strip().lower().removesuffix("b").removesuffix("i")
    factor = _SIZE.get(text[-1:], 0)
    try:
        return float(text[:-1] if factor else text) * (factor or 1)
    except ValueError:
        raise ValueError(f"expected a size such as 512Mi or 16G, found {value!r}") from None


def _environment(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: str(item) if isinstance(item, int | float) else item for key, item in value.items()}
    return value


Name = Annotated[str, BeforeValidator(_name)]
Size = Annotated[float, BeforeValidator(_size), Field(ge=0, lt=1e18)]
Command = Annotated[tuple[str, ...], Field(min_length=1)]
Environment = Annotated[dict[str, str], BeforeValidator(_environment)]
Nonnegative = Annotated[float, Field(ge=0, lt=1e10)]
S = TypeVar("S", bound=Section)


class Run(Section):
    """What every process group has: its command (an argument list, no shell), where it runs, what it may use."""

    command: Command
    cwd: Path | None = None
    env: Environment = Field(default_factory=dict)
    gpus: int = Field(default=0, ge=0, le=1024)
    gpu_type: str = ""
    cpu_cores: Nonnegative = 0.0
    memory: Size = 0.0
    tenant: str = ""
    priority: int = 0
    protected: bool = False
    volumes: tuple[Name, ...] = ()
    kill_wait: Seconds = 5.0

    @property
    def digest(self) -> str:
        """Identity of what a process group was started from; another digest means that it is out of date."""
        chosen = (self.command, str(self.cwd), self.env, self.gpus, self.cpu_cores, self.memory)
        return codec.digest(chosen)[:12]


R = TypeVar("R", bound=Run)


class Health(Section):
    """How a replica says that it is ready: an HTTP path on its port, or a command that ends with 0."""

    path: str = ""
    command: tuple[str, ...] = ()
    timeout: Seconds = Field(default=0.5, le=5.0)
    failures: int = Field(default=3, ge=1, le=100)
    start_timeout: Seconds = 300.0
    restart_after: Seconds = 60.0

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.path) == bool(self.command):
            raise ValueError("expected exactly one of path and command")
        if self.path and not self.path.startswith("/"):
            raise ValueError("expected a path that starts with /")
        return self


class Metrics(Section):
    """Where a replica's own metrics are: a path on its port, its request counter and, if it has one, its latency summary."""

    path: str = "/metrics"
    counter: str = "http_requests_total"
    latency: str = "http_request_seconds"


class ServiceSpec(Run):
    """A replicated service; `target` is the right value of the load series per replica, `slo` bounds the mean answer time."""

    replicas: int = Field(default=1, ge=0, le=1000)
    min: int = Field(default=1, ge=0, le=1000)
    max: int = Field(default=8, ge=0, le=1000)
    target: float = Field(gt=0)
    load: str = ""
    slo: Seconds | None = None
    health: Health | None = None
    metrics: Metrics | None = None
    drain: Seconds = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min <= self.replicas <= self.max:
            raise ValueError(f"expected min <= replicas <= max, found {self.min}, {self.replicas}, {self.max}")
        return self


class Knob(Section):
    """One number of a job that may be tuned while it runs, with its hard bounds."""

    value: float
    min: float
    max: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min <= self.value <= self.max:
            raise ValueError(f"expected min <= value <= max, found {self.min}, {self.value}, {self.max}")
        return self


class JobSpec(Run):
    """A batch job; submitted once, when it is first seen."""

    queue: Name = "default"
    gang: str = ""
    preemptible: bool = False
    task_class: TaskClass = TaskClass.UNKNOWN
    runtime: Seconds | None = None
    checkpoint_s: Seconds | None = None
    restart_s: Seconds | None = None
    checkpoint_signal: Literal["USR1", "USR2", ""] = ""
    compresses: bool = False
    held: bool = False
    knobs: dict[Name, Knob] = Field(default_factory=dict)


class NodeSpec(Section):
    """A node: this machine, or one of several virtual nodes on it. `gpus` None means: what NVML finds."""

    pool: Name = "local"
    rack: str = ""
    gpus: int | None = Field(default=None, ge=0, le=64)
    gpu_model: str = "slot"
    gpu_memory: Size | None = None
    cpu_cores: float | None = Field(default=None, gt=0)
    memory: Size | None = None
    protected: bool = False


class QueueSpec(Section):
    """A queue's share of the GPUs."""

    quota_gpus: int = Field(default=0, ge=0)
    lends: bool = True
    borrows: bool = True
    priority: int = 0
    min_runtime: Seconds = 600.0


class LinkSpec(Section):
    """A shared capacity. `device` names a block device (`sda`, `8:0`) or NIC whose traffic it is."""

    kind: Literal["device", "nic", "uplink", "fabric", "storage"] = "device"
    capacity: Size = Field(gt=0)
    parent: str = ""
    device: str = ""


class VolumeSpec(Section):
    """Storage that jobs mount."""

    path: Path | None = None
    link: str = ""


class ClusterSpec(Section):
    """Everything declared about this machine."""

    nodes: dict[Name, NodeSpec] = Field(default_factory=dict)
    services: dict[Name, ServiceSpec] = Field(default_factory=dict)
    jobs: dict[Name, JobSpec] = Field(default_factory=dict)
    queues: dict[Name, QueueSpec] = Field(default_factory=dict)
    links: dict[Name, LinkSpec] = Field(default_factory=dict)
    volumes: dict[Name, VolumeSpec] = Field(default_factory=dict)
    ports: tuple[int, int] = (20000, 20999)

    @model_validator(mode="after")
    def _refers_to_what_exists(self) -> Self:
        low, high = self.ports
        if not 1024 <= low <= high <= 65535:
            raise ValueError("ports: expected two numbers, 1024 <= first <= last <= 65535")
        for name, job in self.jobs.items():
            if self.queues and job.queue not in self.queues:
                raise ValueError(f"jobs.{name}.queue: expected one of: {', '.join(self.queues)}")
            if name in self.services:
                raise ValueError(f"jobs.{name}: expected a name that no service has")
        for name, link in self.links.items():
            if link.parent and link.parent not in self.links:
                raise ValueError(f"links.{name}.parent: expected one of: {', '.join(self.links)}")
        for name, volume in self.volumes.items():
            if volume.link and self.links and volume.link not in self.links:
                raise ValueError(f"volumes.{name}.link: expected one of: {', '.join(self.links)}")
        return self


class LocalSettings(ClusterSpec):
    """The backend's section: what is declared, here or in the file `cluster`, and where its state lies."""

    cluster: Path | None = None
    state_dir: Path = Path("aiops-data/local")
    cgroups: Literal["auto", "off"] = "auto"


def read(section: Mapping[str, Any], where: str) -> LocalSettings:
    """Checked settings; relative `cluster` and `cwd` are taken from the directory of the file that names them."""
    settings = _checked(LocalSettings, section, where, "backend.local")
    base = Path(where).resolve().parent if Path(where).is_file() else Path.cwd()
    if settings.cluster is not None:
        path = base / settings.cluster
        inline = sorted(set(ClusterSpec.model_fields) & settings.model_fields_set)
        if inline:
            raise ConfigError(where, f"backend.local.{inline[0]}", f"expected it in {settings.cluster}, or no `cluster`")
        spec = _checked(ClusterSpec, load_yaml(path), str(path), "")
        settings = settings.model_copy(update={name: getattr(spec, name) for name in ClusterSpec.model_fields})
        base = path.resolve().parent
    return settings.model_copy(
        update={
            "services": {name: _placed(spec, base) for name, spec in settings.services.items()},
            "jobs": {name: _placed(spec, base) for name, spec in settings.jobs.items()},
            "state_dir": Path.cwd() / settings.state_dir,
        }
    )


def _placed(spec: R, base: Path) -> R:
    return spec.model_copy(update={"cwd": base / spec.cwd if spec.cwd else base})


def _checked(kind: type[S], raw: Mapping[str, Any], where: str, prefix: str) -> S:
    try:
        return kind(**raw)
    except ValidationError as error:
        raise invalid(error, where, prefix) from None
    except TypeError as error:
        raise ConfigError(where, prefix, f"expected a mapping of names to values: {error}") from None


def load_key(name: str, spec: ServiceSpec) -> SeriesKey:
    """The series that a service's demand is measured in; by default its request rate."""
    if not spec.load:
        return SeriesKey.of("service_requests_per_second", service=name)
    metric, _, inner = spec.load.partition("{")
    labels = re.findall(r'([A-Za-z_][A-Za-z0-9_]*)="([^"]*)"', inner)
    return SeriesKey(metric, tuple(sorted(labels)))
