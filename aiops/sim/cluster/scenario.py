"""A scenario: what cluster, which services, how fast they start and answer. Read from YAML; every mistake names its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from aiops.errors import ConfigError
from aiops.settings import Seconds, Section, invalid, load_yaml, seconds
from aiops.sim.perturb import Perturbations


class PoolSpec(Section):
    """Like nodes."""

    name: str = Field(min_length=1)
    gpu_type: str = ""
    nodes: int = Field(ge=0, le=20_000)
    gpus: int = Field(default=8, ge=0, le=1024)


class ColdStart(Section):
    """Seconds from the order of a replica to ready, log-normal between its median and its 90 % quantile."""

    p50: Seconds
    p90: Seconds

    @model_validator(mode="after")
    def _ordered(self) -> ColdStart:
        if self.p90 < self.p50:
            raise ValueError(f"expected p90 of at least p50 ({self.p50:g} s)")
        return self


class NodePool(PoolSpec):
    """Like nodes that may be given back and ordered: `nodes` at the beginning, `node_start` from the order of one to ready."""

    min_nodes: int | None = Field(default=None, ge=0, le=20_000)
    max_nodes: int | None = Field(default=None, ge=0, le=20_000)
    node_start: ColdStart = ColdStart(p50=180.0, p90=300.0)

    @property
    def low(self) -> int:
        """Nodes that it always has."""
        return self.nodes if self.min_nodes is None else self.min_nodes

    @property
    def high(self) -> int:
        """Nodes that it may have."""
        return self.nodes if self.max_nodes is None else self.max_nodes

    @property
    def elastic(self) -> bool:
        """Whether anybody may scale it."""
        return self.low < self.high

    @model_validator(mode="after")
    def _ordered(self) -> NodePool:
        if not self.low <= self.nodes <= self.high:
            raise ValueError(f"expected min_nodes <= nodes <= max_nodes, found {self.low}, {self.nodes}, {self.high}")
        return self


class Work(Section):
    """How much load one request, one prompt token, one output token is."""

    requests: float = Field(default=1.0, ge=0)
    prompt_tokens: float = Field(default=0.0, ge=0)
    output_tokens: float = Field(default=0.0, ge=0)


class ServiceSpec(Section):
    """One replicated service. `capacity` is the load per second at which a replica is full; `target` is 70 % of it."""

    name: str = Field(min_length=1)
    pool: str
    gpus_per_replica: int = Field(default=0, ge=0, le=1024)
    capacity: float = Field(gt=0)
    target: float = Field(default=0.0, ge=0)
    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(ge=1, le=100_000)
    latency: Seconds = Field(default=0.1, description="of a request that does not wait")
    slo: Seconds = Field(description="the 95 % latency must stay below")
    cold_start: ColdStart = ColdStart(p50=10.0, p90=10.0)
    work: Work = Work()

    @property
    def right_load(self) -> float:
        """Load per second that a replica should have."""
        return self.target or 0.7 * self.capacity

    @model_validator(mode="after")
    def _consistent(self) -> ServiceSpec:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"expected min_replicas of at most max_replicas ({self.max_replicas})")
        if self.target > self.capacity:
            raise ValueError(f"expected a target of at most the capacity ({self.capacity:g})")
        if self.slo <= self.latency:
            raise ValueError(f"expected an slo above the latency of a request that does not wait ({self.latency:g} s)")
        return self


class Shape(Section):
    """Synthetic requests for a service, where no trace is given: a daily wave with bursts."""

    service: str
    mean: float = Field(gt=0, description="requests per second")
    daily: float = Field(default=0.5, ge=0, lt=1, description="height of the daily wave, as a share of the mean")
    bursts_per_day: float = Field(default=0.0, ge=0, le=1000)
    burst: float = Field(default=1.0, ge=0, description="height of a burst, as a share of the mean")
    burst_length: Seconds = 600.0


class Stall(Section):
    """A volume under a service slows down `at` after the simulated span begins; the diagnosis tells `diagnosed` later."""

    service: str
    at: float = Field(ge=0)
    length: Seconds
    slowdown: float = Field(gt=1, le=1000)
    in_flight: bool = Field(default=False, description="the load counts requests in flight: it rises with the slowdown")
    diagnosed: float | None = Field(default=60.0, ge=0, description="null: never")

    @field_validator("at", "diagnosed", mode="before")
    @classmethod
    def _in_seconds(cls, value: object) -> object:
        return None if value is None else seconds(value)


class Scenario(Section):
    """The whole scenario. Rows of the trace before `history` has passed teach the forecasts and are not simulated."""

    name: str = Field(min_length=1)
    history: Seconds = 7 * 86400.0
    length: Seconds | None = None
    pools: tuple[NodePool, ...] = Field(min_length=1)
    services: tuple[ServiceSpec, ...] = Field(min_length=1)
    load: tuple[Shape, ...] = ()
    policies: dict[str, dict[str, Any]] = Field(default={"prescale": {}})
    limits: dict[str, Any] = Field(default={})
    stalls: tuple[Stall, ...] = ()
    perturb: Perturbations = Perturbations()

    @model_validator(mode="after")
    def _named(self) -> Scenario:
        for what, names in (("pools", [p.name for p in self.pools]), ("services", [s.name for s in self.services])):
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"expected each name once in {what}, found {twice[0]} twice")
        known = {service.name for service in self.services}
        for what, names in (("load", [s.service for s in self.load]), ("stalls", [s.service for s in self.stalls])):
            if alien := next((name for name in names if name not in known), None):
                raise ValueError(f"{what}: expected a service of {', '.join(sorted(known))}, found {alien!r}")
        sizes = {pool.name: pool.gpus for pool in self.pools}
        for service in self.services:
            if service.pool not in sizes:
                raise ValueError(f"service {service.name}: expected a pool of {', '.join(sizes)}, found {service.pool!r}")
            if service.gpus_per_replica > sizes[service.pool]:
                raise ValueError(f"service {service.name}: a replica does not fit a node of {sizes[service.pool]} GPUs")
        return self


def read_scenario(path: Path) -> Scenario:
    """The scenario of a file. ConfigError names the file, the key and what was expected."""
    try:
        return Scenario(**load_yaml(path))
    except ValidationError as error:
        raise invalid(error, str(path)) from None
    except TypeError as error:
        raise ConfigError(str(path), "", f"expected the keys of a scenario: {error}") from None
