"""The faults: each changes the drive from its onset on, and says what a perfect diagnosis would answer.

`strength` 0..1 and beyond scales a fault; `cases.py` raises it until the fault hurts. Every fault of the first job is
placed where the first job is, because that is the job whose step time is watched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from aiops.sim.faults.drive import Drive
from aiops.sim.faults.names import Names
from aiops.sim.faults.world import World

During = slice
Strike = Callable[[World, Drive, During, float, np.random.Generator], str]
"""Change the drive in place during the fault; the id of the entity that is to blame."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: the verdict that is right, others that are not wrong, and what world it needs.

    `hurts` False: the step time need not change (a broken sensor, a load change, nothing at all).
    """

    strike: Strike
    verdict: str
    also: tuple[str, ...] = ()
    hurts: bool = True
    pipeline: bool = False
    spread: bool = False
    service: bool = False


def _rank(world: World, rng: np.random.Generator) -> int:
    """A rank of the first job."""
    return int(rng.integers(world.jobs[0].first, world.jobs[0].first + world.jobs[0].ranks))


def storage_slow(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """A disk that fails slowly: less throughput, longer seeks."""
    volume = int(world.rank_volume[0])
    drive.volume_speed[during, volume] /= 1.0 + 8.0 * strength
    drive.volume_latency[during, volume] *= 1.0 + 20.0 * strength
    return Names(world).volumes[volume]


def storage_neighbour(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """A tenant scans its data set with hundreds of requests in flight, from the volume that the job reads."""
    tenant = int(rng.choice(np.flatnonzero(world.tenant_volume == world.rank_volume[0])))
    drive.tenant_reads[during, tenant] += 1.0 + strength
    drive.tenant_streams[during, tenant] += 256.0 * strength
    return world.tenants[tenant]


def host_cpu(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """Something on the host runs many times more threads than it has cores; the loader's workers get their share."""
    host = int(world.gpu_host[_rank(world, rng)])
    drive.host_load[during, host] += 8.0 * strength
    return Names(world).hosts[host]


def memory_pressure(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """A process grows until the host pages."""
    host = int(world.gpu_host[_rank(world, rng)])
    drive.host_memory[during, host] += (1.0 - world.memory_used[host]) * min(0.93 + 0.1 * strength, 1.05)
    return Names(world).hosts[host]


def net_congestion(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """Foreign traffic fills a link that the ring crosses."""
    link = int(world.host_link[world.gpu_host[_rank(world, rng)]])
    drive.link_cross[during, link] += 0.75 + 0.2 * min(strength, 1.0)
    return Names(world).links[link]


def slow_link(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """A NIC or a switch link loses lanes and retransmits symbols."""
    host = int(world.gpu_host[_rank(world, rng)])
    if rng.random() < 0.5:
        drive.nic_speed[during, host] /= 1.0 + 6.0 * strength
        drive.nic_errors[during, host] += rng.uniform(20.0, 400.0)
        return Names(world).nics[host]
    link = int(world.host_link[host])
    drive.link_speed[during, link] /= 1.0 + 8.0 * strength
    drive.link_errors[during, link] += rng.uniform(20.0, 400.0)
    return Names(world).links[link]


def straggler(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """One GPU computes slowly for no reason that any sensor shows."""
    rank = _rank(world, rng)
    drive.compute[during, rank] *= 1.0 + 1.2 * strength
    return Names(world).gpus[rank]


def stage_imbalance(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """One stage of the pipeline has more to do than the others, on all its ranks."""
    stage = int(rng.integers(world.jobs[0].stages))
    mine = np.flatnonzero((world.rank_job == 0) & (world.rank_stage == stage))
    drive.compute[during, mine] *= 1.0 + 1.2 * strength
    return Names(world).stages[0][stage]


def data_imbalance(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """One rank's shard gives it more samples per step: more to read, to prepare and to compute."""
    rank = _rank(world, rng)
    drive.batch[during, rank] *= 1.0 + 1.2 * strength
    return Names(world).loaders[rank]


def thermal(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """A GPU's cooling fails; it heats up and firmware slows it down."""
    rank = _rank(world, rng)
    drive.cooling[during, rank] *= 1.4 + 1.5 * strength
    return Names(world).gpus[rank]


def power_cap(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """Somebody lowers a GPU's power limit."""
    rank = _rank(world, rng)
    drive.power_limit[during, rank] *= max(0.65 - 0.3 * strength, 0.2)
    return Names(world).gpus[rank]


def gpu_error(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """A GPU with failing memory: errors, and time spent on retries."""
    rank = _rank(world, rng)
    drive.compute[during, rank] *= 1.0 + 1.0 * strength
    drive.ecc[during, rank] += rng.uniform(0.2, 3.0)
    drive.xid[during.start : during.start + 60, rank] += 0.05
    drive.xid[during.start, rank] += 1.0
    return Names(world).gpus[rank]


def bigger_batch(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """The job's owner raises the batch size: longer steps, more samples in each, nothing wrong."""
    drive.batch[during, world.jobs[0].slice] *= 1.3 + 0.9 * strength
    return world.jobs[0].name


def more_requests(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """A service gets more requests and answers them a little later, as it must."""
    drive.requests[during, 0] *= min(1.4 + 0.6 * strength, 0.93 / float(world.service_busy[0]))
    return Names(world).services[0]


def nothing(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """An ordinary window."""
    return world.jobs[0].name


def broken_sensor(world: World, drive: Drive, during: During, strength: float, rng: np.random.Generator) -> str:
    """A GPU's sensor breaks while the GPU is well; `sensors.py` does the rest."""
    return Names(world).gpus[_rank(world, rng)]


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "storage_slow": Kind(storage_slow, "io_stall"),
        "storage_neighbour": Kind(storage_neighbour, "noisy_neighbour"),
        "host_cpu": Kind(host_cpu, "prep_stall", ("cpu_contention",)),
        "net_congestion": Kind(net_congestion, "net_contention", spread=True),
        "slow_link": Kind(slow_link, "net_contention", spread=True),
        "straggler": Kind(straggler, "straggler"),
        "stage_imbalance": Kind(stage_imbalance, "stage_imbalance", pipeline=True),
        "data_imbalance": Kind(data_imbalance, "data_imbalance"),
        "thermal": Kind(thermal, "thermal_throttle"),
        "power_cap": Kind(power_cap, "power_cap"),
        "memory_pressure": Kind(memory_pressure, "memory_pressure"),
        "gpu_error": Kind(gpu_error, "gpu_fault"),
        "sensor_frozen": Kind(broken_sensor, "sensor_fault", hurts=False),
        "sensor_lying": Kind(broken_sensor, "sensor_fault", hurts=False),
        "bigger_batch": Kind(bigger_batch, "load_change", hurts=False),
        "more_requests": Kind(more_requests, "load_change", hurts=False, service=True),
        "normal": Kind(nothing, "none", ("unknown",), hurts=False),
    }
)
"""All kinds by name; `two` (two of those that hurt, at once) is made in `cases.py`."""
