"""The cluster of one case: what there is and how things are tied together (`draw.py` draws one at random).

Arrays are by entity index; ranks of a job are contiguous.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training job over ranks `first .. first + ranks`; `stages` 1 is data parallel, more is a pipeline."""

    name: str
    first: int
    ranks: int
    stages: int
    overlap: float
    latency_s: float
    checkpoint_every_s: float
    checkpoint_s: float

    @property
    def slice(self) -> slice:
        """Its ranks."""
        return slice(self.first, self.first + self.ranks)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All entities. One GPU per rank, then one per service; one NIC per host; hosts hang on links, ranks on volumes."""

    jobs: tuple[Job, ...]
    hosts: int
    tenants: tuple[str, ...]
    services: int
    # per rank (and `gpu_host` also for the GPUs of services)
    gpu_host: Ints
    rank_job: Ints
    rank_stage: Ints
    rank_volume: Ints
    compute_s: Floats
    batch_bytes: Floats
    batch_samples: Floats
    message_bytes: Floats
    prep_s: Floats
    workers: Floats
    # per GPU
    idle_watts: Floats
    busy_watts: Floats
    limit_watts: Floats
    ambient_c: Floats
    kelvin_per_watt: Floats
    slow_above_c: Floats
    # per host, NIC, link, volume, service
    cores: Floats
    memory_bytes: Floats
    memory_used: Floats
    host_link: Ints
    nic_bytes_per_s: Floats
    link_bytes_per_s: Floats
    volume_bytes_per_s: Floats
    volume_latency_s: Floats
    stream_bytes_per_s: Floats
    tenant_volume: Ints
    service_busy: Floats
    service_latency_s: Floats
    pinned_utilisation: bool

    @property
    def ranks(self) -> int:
        """Number of training ranks."""
        return len(self.rank_job)

    @property
    def gpus(self) -> int:
        """Ranks and services have one GPU each."""
        return len(self.gpu_host)

    @property
    def volumes(self) -> int:
        """Number of shared volumes."""
        return len(self.volume_bytes_per_s)

    @property
    def links(self) -> int:
        """Number of switch links."""
        return len(self.link_bytes_per_s)
