"""The cluster of one case: what there is and how things are tied together, drawn at random from plausible ranges.

Sizes and speeds are round numbers of present hardware (a data-centre GPU draws 300-700 W and slows down above 83-90
degrees, a NIC carries 12-50 GB/s, a shared volume serves 2-10 GB/s); the ranges are wide on purpose, so that nobody can
tune to one of them. Arrays are by entity index; ranks of a job are contiguous.
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


def draw_world(rng: np.random.Generator, pipeline: bool = False, spread: bool = False) -> World:
    """A random cluster; `pipeline` makes the first job one of stages, `spread` gives it hosts enough to need the network."""
    hosts = int(rng.integers(3, 6))
    per_host = int(rng.choice([2, 4, 8], p=[0.4, 0.45, 0.15]))
    links, volumes, services = int(rng.integers(1, 3)), int(rng.integers(1, 4)), int(rng.integers(0, 2))
    first_hosts = int(rng.integers(2, hosts)) if spread or pipeline or rng.random() < 0.7 else 1
    jobs = [_draw_job(rng, "job-a", 0, first_hosts * per_host, _stages(rng, first_hosts * per_host) if pipeline else 1)]
    if hosts > first_hosts:
        jobs.append(_draw_job(rng, "job-b", jobs[0].ranks, (hosts - first_hosts) * per_host, 1))
    ranks = sum(job.ranks for job in jobs)
    of_job = np.repeat(np.arange(len(jobs)), [job.ranks for job in jobs])
    stage = np.concatenate([np.arange(job.ranks) * job.stages // job.ranks for job in jobs])
    gpus = ranks + services
    compute = rng.uniform(0.15, 0.9, len(jobs))[of_job] * rng.normal(1.0, 0.006, ranks)
    busy = np.full(gpus, rng.uniform(250.0, 600.0))
    idle = busy * rng.uniform(0.12, 0.2)
    slow_above = rng.uniform(82.0, 89.0)
    ambient = rng.uniform(24.0, 34.0)
    # Cooling is built so that full power ends 8 to 20 degrees below the slow-down threshold.
    cooling = (slow_above - rng.uniform(8.0, 20.0) - ambient) / (busy + idle) * rng.normal(1.0, 0.03, gpus)
    prep = compute * rng.uniform(0.4, 1.2, len(jobs))[of_job]
    workers = np.ceil(rng.uniform(2.0, 4.0, len(jobs)))[of_job]
    volume_of = rng.integers(0, volumes, len(jobs))[of_job]
    reading = rng.uniform(0.15, 0.45, volumes)  # share of a volume that its own jobs use when all is well
    wanted = rng.uniform(0.05, 0.6, len(jobs))[of_job] * 1e9
    demand = np.bincount(volume_of, wanted, volumes)
    capacity = np.where(demand > 0, demand / reading, rng.uniform(2e9, 1e10, volumes))
    tenants = tuple(
        f"tenant-{name}" for name in rng.permutation(["ads", "etl", "bio", "vision", "search"])[: rng.integers(2, 5)]
    )
    nic = np.full(hosts, rng.choice([12.5e9, 25e9, 50e9]))
    # On an idle network the exchange of gradients takes 15 to 40 % of the compute time.
    message = rng.uniform(0.15, 0.4, len(jobs))[of_job] * compute * nic[0] / per_host
    tenant_volume = rng.integers(0, volumes, len(tenants))
    tenant_volume[rng.integers(len(tenants))] = volume_of[0]  # somebody shares what the first job reads
    loader_cores = np.bincount(np.repeat(np.arange(hosts), per_host)[:ranks], (prep / compute), hosts)
    return World(
        jobs=tuple(jobs),
        hosts=hosts,
        tenants=tenants,
        services=services,
        gpu_host=np.concatenate([np.repeat(np.arange(hosts), per_host)[:ranks], rng.integers(0, hosts, services)]),
        rank_job=of_job,
        rank_stage=stage,
        rank_volume=volume_of,
        compute_s=compute,
        batch_bytes=wanted * compute,
        batch_samples=(2.0 ** rng.integers(3, 9, len(jobs)).astype(np.float64))[of_job],
        message_bytes=message,
        prep_s=prep,
        workers=workers,
        idle_watts=idle,
        busy_watts=busy,
        limit_watts=np.round((busy + idle) * rng.uniform(1.03, 1.2), -1),
        ambient_c=np.full(gpus, ambient),
        kelvin_per_watt=cooling,
        slow_above_c=np.full(gpus, slow_above),
        cores=np.ceil(loader_cores / rng.uniform(0.3, 0.6, hosts)) + 2,
        memory_bytes=np.full(hosts, 2.0 ** rng.integers(37, 41)),
        memory_used=rng.uniform(0.3, 0.7, hosts),
        host_link=np.arange(hosts) * links // hosts,
        nic_bytes_per_s=nic,
        link_bytes_per_s=np.bincount(np.arange(hosts) * links // hosts, nic, links) * rng.uniform(1.0, 1.5, links),
        volume_bytes_per_s=capacity,
        volume_latency_s=rng.uniform(0.0005, 0.006, volumes),
        stream_bytes_per_s=capacity * rng.uniform(0.2, 0.5, volumes),
        tenant_volume=tenant_volume,
        service_busy=rng.uniform(0.25, 0.5, services),
        service_latency_s=rng.uniform(0.02, 0.4, services),
        pinned_utilisation=bool(rng.random() < 0.5),
    )


def _stages(rng: np.random.Generator, ranks: int) -> int:
    """At least two ranks in each stage: of one alone nobody could say whether the rank or the stage is slow."""
    return int(rng.choice([n for n in (2, 3, 4) if ranks % n == 0 and ranks >= 2 * n]))


def _draw_job(rng: np.random.Generator, name: str, first: int, ranks: int, stages: int) -> Job:
    saves = rng.random() < 0.25
    return Job(
        name=name,
        first=first,
        ranks=ranks,
        stages=stages,
        overlap=float(rng.uniform(0.2, 0.6)),
        latency_s=float(rng.uniform(0.002, 0.01)),
        checkpoint_every_s=float(rng.uniform(240.0, 700.0)) if saves else np.inf,
        checkpoint_s=float(rng.uniform(3.0, 9.0)),
    )
