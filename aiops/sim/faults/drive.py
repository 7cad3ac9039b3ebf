"""What acts on the world from outside, tick by tick: other people's load, the machine's health, the job's own settings.

A fault is nothing but a change in here. All arrays are (ticks, entities); 1 means nominal unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiops.sim.faults.world import Floats, World

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """The outside; arrays are filled by `ordinary` and changed in place by faults."""

    compute: Floats  # (t, ranks) work per sample
    batch: Floats  # (t, ranks) samples per step
    prep: Floats  # (t, ranks) CPU work per batch of samples
    volume_speed: Floats  # (t, volumes)
    volume_latency: Floats  # (t, volumes)
    tenant_reads: Floats  # (t, tenants) share of its volume that it would read
    tenant_streams: Floats  # (t, tenants) requests it keeps in flight at most
    host_load: Floats  # (t, hosts) cores taken by others, as a share of all
    host_memory: Floats  # (t, hosts) memory taken by others, as a share of all, beyond the usual
    nic_speed: Floats  # (t, hosts)
    nic_errors: Floats  # (t, hosts) symbol errors per second
    link_speed: Floats  # (t, links)
    link_errors: Floats  # (t, links)
    link_cross: Floats  # (t, links) share of the link that foreign traffic wants
    cooling: Floats  # (t, gpus)
    power_limit: Floats  # (t, gpus)
    xid: Floats  # (t, gpus) events per second
    ecc: Floats  # (t, gpus) uncorrected errors per second
    requests: Floats  # (t, services)

    @property
    def ticks(self) -> int:
        """Number of ticks of one second."""
        return len(self.compute)


def wander(rng: np.random.Generator, ticks: int, width: int, spread: float, memory_s: float = 30.0) -> Floats:
    """(ticks, width) lognormal factors around 1 that forget within `memory_s` (an AR(1) in the logarithm)."""
    keep = np.exp(-1.0 / memory_s)
    shocks = rng.normal(0.0, spread * np.sqrt(1.0 - keep**2), (ticks, width))
    shocks[0] = rng.normal(0.0, spread, width)
    for tick in range(1, ticks):
        shocks[tick] += keep * shocks[tick - 1]
    return np.exp(shocks)


def ordinary(world: World, ticks: int, rng: np.random.Generator) -> Drive:
    """A day like any other: noise on everything, and a slow drift with the time of day on what people load."""
    hour = rng.uniform(0.0, DAY_S)
    seconds = np.arange(ticks)[:, None]
    drift = 1.0 + rng.uniform(0.05, 0.25) * np.sin(2 * np.pi * (seconds + hour) / DAY_S)
    tenants, hosts, ranks, gpus = len(world.tenants), world.hosts, world.ranks, world.gpus
    ones = np.ones
    return Drive(
        compute=wander(rng, ticks, ranks, rng.uniform(0.004, 0.02), 3.0),
        batch=ones((ticks, ranks)),
        prep=wander(rng, ticks, ranks, 0.05, 5.0),
        volume_speed=wander(rng, ticks, world.volumes, 0.03),
        volume_latency=wander(rng, ticks, world.volumes, rng.uniform(0.05, 0.2), 4.0),
        tenant_reads=drift * rng.uniform(0.02, 0.15, tenants) * wander(rng, ticks, tenants, 0.25),
        tenant_streams=ones((ticks, tenants)) * rng.uniform(2.0, 8.0, tenants),
        host_load=drift * rng.uniform(0.05, 0.2, hosts) * wander(rng, ticks, hosts, 0.2, 10.0),
        host_memory=0.01 * (wander(rng, ticks, hosts, 0.3) - 1.0),
        nic_speed=ones((ticks, hosts)),
        nic_errors=np.zeros((ticks, hosts)),
        link_speed=ones((ticks, world.links)),
        link_errors=np.zeros((ticks, world.links)),
        link_cross=drift * rng.uniform(0.02, 0.15, world.links) * wander(rng, ticks, world.links, 0.3, 10.0),
        cooling=wander(rng, ticks, gpus, 0.01),
        power_limit=ones((ticks, gpus)),
        xid=np.zeros((ticks, gpus)),
        ecc=np.zeros((ticks, gpus)),
        requests=drift * wander(rng, ticks, world.services, 0.08, 10.0),
    )
