"""A random cluster: every number of a world, drawn from plausible ranges.

Sizes and speeds are round numbers of present hardware (a data-centre GPU draws 300-700 W and slows down above 83-90
degrees, a NIC carries 12-50 GB/s, a shared volume serves 2-10 GB/s); the ranges are wide on purpose, so that nobody can
tune to one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aiops.sim.faults.world import Floats, Ints, Job, World

TENANTS = ("ads", "etl", "bio", "vision", "search")


@dataclass(frozen=True, slots=True)
class _Plan:
    """Who is where: decided first, everything else follows."""

    hosts: int
    per_host: int
    jobs: tuple[Job, ...]
    services: int

    @property
    def ranks(self) -> int:
        return sum(job.ranks for job in self.jobs)

    @property
    def of_job(self) -> Ints:
        """(ranks,) index of each rank's job."""
        return np.repeat(np.arange(len(self.jobs)), [job.ranks for job in self.jobs])

    @property
    def host_of(self) -> Ints:
        """(ranks,) index of each rank's host; hosts are filled one after the other."""
        return np.repeat(np.arange(self.hosts), self.per_host)[: self.ranks]


def draw_world(rng: np.random.Generator, pipeline: bool = False, spread: bool = False) -> World:
    """A random cluster; `pipeline` makes the first job one of stages, `spread` gives it hosts enough to need the network."""
    plan = _plan(rng, pipeline, spread)
    compute = rng.uniform(0.15, 0.9, len(plan.jobs))[plan.of_job] * rng.normal(1.0, 0.006, plan.ranks)
    prep = compute * rng.uniform(0.4, 1.2, len(plan.jobs))[plan.of_job]
    tenants = tuple(f"tenant-{name}" for name in rng.permutation(TENANTS)[: rng.integers(2, 5)])
    parts = _gpus(rng, plan) | _hosts(rng, plan, prep / compute) | _network(rng, plan, compute)
    parts |= _storage(rng, plan, compute, len(tenants))
    return World(
        jobs=plan.jobs,
        hosts=plan.hosts,
        tenants=tenants,
        services=plan.services,
        rank_job=plan.of_job,
        rank_stage=np.concatenate([np.arange(job.ranks) * job.stages // job.ranks for job in plan.jobs]),
        compute_s=compute,
        batch_samples=(2.0 ** rng.integers(3, 9, len(plan.jobs)).astype(np.float64))[plan.of_job],
        prep_s=prep,
        workers=np.ceil(rng.uniform(2.0, 4.0, len(plan.jobs)))[plan.of_job],
        service_busy=rng.uniform(0.25, 0.5, plan.services),
        service_latency_s=rng.uniform(0.02, 0.4, plan.services),
        pinned_utilisation=bool(rng.random() < 0.5),
        **parts,
    )


def _plan(rng: np.random.Generator, pipeline: bool, spread: bool) -> _Plan:
    hosts = int(rng.integers(3, 6))
    per_host = int(rng.choice([2, 4, 8], p=[0.4, 0.45, 0.15]))
    first = int(rng.integers(2, hosts)) if spread or pipeline or rng.random() < 0.7 else 1
    jobs = [_job(rng, "job-a", 0, first * per_host, _stages(rng, first * per_host) if pipeline else 1)]
    jobs.append(_job(rng, "job-b", jobs[0].ranks, (hosts - first) * per_host, 1))
    return _Plan(hosts, per_host, tuple(jobs), int(rng.integers(0, 2)))


def _gpus(rng: np.random.Generator, plan: _Plan) -> dict[str, Any]:
    gpus = plan.ranks + plan.services
    busy = np.full(gpus, rng.uniform(250.0, 600.0))
    idle = busy * rng.uniform(0.12, 0.2)
    slow_above, ambient = rng.uniform(82.0, 89.0), rng.uniform(24.0, 34.0)
    # Cooling is built so that full power ends 8 to 20 degrees below the slow-down threshold.
    cooling = (slow_above - rng.uniform(8.0, 20.0) - ambient) / (busy + idle) * rng.normal(1.0, 0.03, gpus)
    return {
        "gpu_host": np.concatenate([plan.host_of, rng.integers(0, plan.hosts, plan.services)]),
        "idle_watts": idle,
        "busy_watts": busy,
        "limit_watts": np.round((busy + idle) * rng.uniform(1.03, 1.2), -1),
        "ambient_c": np.full(gpus, ambient),
        "kelvin_per_watt": cooling,
        "slow_above_c": np.full(gpus, slow_above),
    }


def _hosts(rng: np.random.Generator, plan: _Plan, loader_cores: Floats) -> dict[str, Any]:
    needed = np.bincount(plan.host_of, loader_cores, plan.hosts)
    return {
        "cores": np.ceil(needed / rng.uniform(0.3, 0.6, plan.hosts)) + 2,
        "memory_bytes": np.full(plan.hosts, 2.0 ** rng.integers(37, 41)),
        "memory_used": rng.uniform(0.3, 0.7, plan.hosts),
    }


def _network(rng: np.random.Generator, plan: _Plan, compute: Floats) -> dict[str, Any]:
    links = int(rng.integers(1, 3))
    nic = np.full(plan.hosts, rng.choice([12.5e9, 25e9, 50e9]))
    link_of = np.arange(plan.hosts) * links // plan.hosts
    # On an idle network the exchange of gradients takes 15 to 40 % of the compute time.
    share = rng.uniform(0.15, 0.4, len(plan.jobs))[plan.of_job]
    return {
        "message_bytes": share * compute * nic[0] / plan.per_host,
        "host_link": link_of,
        "nic_bytes_per_s": nic,
        "link_bytes_per_s": np.bincount(link_of, nic, links) * rng.uniform(1.0, 1.5, links),
    }


def _storage(rng: np.random.Generator, plan: _Plan, compute: Floats, tenants: int) -> dict[str, Any]:
    volumes = int(rng.integers(1, 4))
    volume_of = rng.integers(0, volumes, len(plan.jobs))[plan.of_job]
    wanted = rng.uniform(0.05, 0.6, len(plan.jobs))[plan.of_job] * 1e9
    demand = np.bincount(volume_of, wanted, volumes)
    reading = rng.uniform(0.15, 0.45, volumes)  # share of a volume that its own jobs use when all is well
    capacity = np.where(demand > 0, demand / reading, rng.uniform(2e9, 1e10, volumes))
    tenant_volume = rng.integers(0, volumes, tenants)
    tenant_volume[rng.integers(tenants)] = volume_of[0]  # somebody shares what the first job reads
    return {
        "rank_volume": volume_of,
        "batch_bytes": wanted * compute,
        "volume_bytes_per_s": capacity,
        "volume_latency_s": rng.uniform(0.0005, 0.006, volumes),
        "stream_bytes_per_s": capacity * rng.uniform(0.2, 0.5, volumes),
        "tenant_volume": tenant_volume,
    }


def _stages(rng: np.random.Generator, ranks: int) -> int:
    """At least two ranks in each stage: of one alone nobody could say whether the rank or the stage is slow."""
    return int(rng.choice([n for n in (2, 3, 4) if ranks % n == 0 and ranks >= 2 * n]))


def _job(rng: np.random.Generator, name: str, first: int, ranks: int, stages: int) -> Job:
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
