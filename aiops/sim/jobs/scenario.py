"""A scenario of jobs: what cluster, whose share is how large, how jobs checkpoint and stop. Every mistake names its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from aiops.errors import ConfigError
from aiops.settings import Seconds, Section, invalid, load_yaml
from aiops.sim.cluster.scenario import PoolSpec


class JobPool(PoolSpec):
    """Like nodes; `rack` nodes share a rack (0: all do)."""

    rack: int = Field(default=0, ge=0, le=20_000)
    tflops: float | None = Field(default=None, gt=0)
    interconnect: str = ""


class QueueSpec(Section):
    """One queue and the GPUs that it may always have."""

    name: str = Field(min_length=1)
    quota: int = Field(ge=0, le=1_000_000)
    lends: bool = True
    borrows: bool = True
    priority: int = 0
    min_runtime: Seconds = 600.0


class Habits(Section):
    """What the trace does not say of its jobs. Without `checkpoint_interval` they write no checkpoints and cannot be asked.

    `stop` is 30 s, Slurm's KillWait; a checkpoint of 30 s and a restart of 60 s are what our own examples need at most.
    """

    checkpoint_interval: Seconds | None = None
    checkpoint: Seconds = 30.0
    restart: Seconds = 60.0
    stop: Seconds = 30.0


class Arrivals(Section):
    """Synthetic jobs, where no trace is given: Poisson arrivals, log-normal durations, sizes drawn from `sizes`."""

    queue: str
    per_hour: float = Field(gt=0, le=100_000)
    sizes: tuple[int, ...] = Field(default=(1, 1, 1, 2, 4, 8), min_length=1)
    median: Seconds = 600.0
    p90: Seconds = 14_400.0
    priority: int = 0


class JobScenario(Section):
    """The whole scenario. What happens within `warm_up` only fills the cluster and is not scored."""

    name: str = Field(min_length=1)
    length: Seconds | None = None
    warm_up: float = Field(default=0.0, ge=0, description="seconds from the first submission that are not scored")
    tick: Seconds = Field(default=10.0, description="how often the daemon's cycle runs")
    pools: tuple[JobPool, ...] = Field(min_length=1)
    queues: tuple[QueueSpec, ...] = Field(min_length=1)
    jobs: Habits = Habits()
    arrivals: tuple[Arrivals, ...] = ()
    policies: dict[str, dict[str, Any]] = Field(default={"preempt": {}, "rebalance": {}, "reclaim": {}})
    limits: dict[str, Any] = Field(default={})

    @property
    def gpus(self) -> int:
        """All GPUs of the cluster."""
        return sum(pool.nodes * pool.gpus for pool in self.pools)

    @model_validator(mode="after")
    def _consistent(self) -> JobScenario:
        for what, names in (("pools", [p.name for p in self.pools]), ("queues", [q.name for q in self.queues])):
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"expected each name once in {what}, found {twice[0]} twice")
        promised = sum(queue.quota for queue in self.queues)
        if promised > self.gpus:
            raise ValueError(f"expected quotas of at most the {self.gpus} GPUs of the pools together, found {promised}")
        known = {queue.name for queue in self.queues}
        alien = next((one.queue for one in self.arrivals if one.queue not in known), None)
        if alien is not None:
            raise ValueError(f"arrivals: expected one of {', '.join(sorted(known))}, found {alien!r}")
        return self


def is_of_jobs(path: Path) -> bool:
    """Whether the scenario of a file is one of jobs: it has queues."""
    return "queues" in load_yaml(path)


def read_scenario(path: Path) -> JobScenario:
    """The scenario of a file. ConfigError names the file, the key and what was expected."""
    try:
        return JobScenario(**load_yaml(path))
    except ValidationError as error:
        raise invalid(error, str(path)) from None
    except TypeError as error:
        raise ConfigError(str(path), "", f"expected the keys of a scenario: {error}") from None
