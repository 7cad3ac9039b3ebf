"""What monitoring makes of a trace: series under the names of the metric catalogue, with noise, steps and gaps.

Counters count, gauges are rounded as the hardware rounds them. A labelled series carries its labels in the metric's name.
A broken sensor is made here, because it changes nothing in the world.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aiops.sim.faults.drive import Drive
from aiops.sim.faults.names import Names
from aiops.sim.faults.physics import Trace
from aiops.sim.faults.world import Floats, World

Row = tuple[str, str, Floats]
"""Entity, metric, (ticks,) values; NaN where the sensor said nothing."""

BASE_HERTZ = 1.755e9
GPU_MEMORY_BYTES = 85.9e9
CORE_IDLE = 'node_cpu_seconds_total{mode="idle"}'
CORE_USER = 'node_cpu_seconds_total{mode="user"}'


@dataclass(frozen=True, slots=True)
class Breakage:
    """A sensor that from tick `since` on stands still (`value` None) or claims `value`."""

    entity: str
    metric: str
    since: int
    value: float | None = None


LIES = (
    ("gpu_sm_active_ratio", 0.0),
    ("gpu_temperature_celsius", 0.0),
    ("gpu_temperature_celsius", 127.0),
    ("gpu_power_watts", 0.0),
)
"""What broken sensors are known to say."""


def read(world: World, drive: Drive, trace: Trace, rng: np.random.Generator, broken: Breakage | None = None) -> list[Row]:
    """All series of a case."""
    rows = [*_gpus(world, drive, trace, rng), *_ranks(world, drive, trace, rng), *_jobs(world, drive, trace, rng)]
    rows += [*_hosts(world, trace, rng), *_volumes(world, trace, rng), *_networks(world, drive, trace, rng)]
    rows += _services(world, drive, trace, rng)
    return [(entity, metric, _break(entity, metric, _gaps(values, rng), broken)) for entity, metric, values in rows]


def noisy(values: Floats, rng: np.random.Generator, spread: float = 0.01) -> Floats:
    """Measured values: a lognormal factor, new at every reading."""
    return np.asarray(values * np.exp(rng.normal(0.0, spread, len(values))))


def counted(rate: Floats, rng: np.random.Generator, spread: float = 0.01) -> Floats:
    """A counter that has run for a while and grows by a measured rate."""
    return np.asarray(rng.uniform(0.0, 1e5) * max(float(rate[0]), 0.0) + np.cumsum(noisy(rate, rng, spread)))


def events(rate: Floats, rng: np.random.Generator) -> Floats:
    """A counter of whole events."""
    return np.cumsum(rng.poisson(rate)).astype(float)


def _gaps(values: Floats, rng: np.random.Generator) -> Floats:
    return np.where(rng.random(len(values)) < 0.002, np.nan, values)


def _break(entity: str, metric: str, values: Floats, broken: Breakage | None) -> Floats:
    if broken is None or entity != broken.entity or metric.partition("{")[0] != broken.metric:
        return values
    stuck = values.copy()
    known = values[: broken.since][np.isfinite(values[: broken.since])]
    stuck[broken.since :] = known[-1] if broken.value is None else broken.value
    return stuck


def _gpus(world: World, drive: Drive, trace: Trace, rng: np.random.Generator) -> Iterator[Row]:
    stepping = np.ones((drive.ticks, world.gpus))
    stepping[:, : world.ranks] = (trace.compute_s + trace.comm_s) / trace.step_s * (1.0 - trace.saving)
    stepping[:, world.ranks :] = trace.service_busy
    for gpu, name in enumerate(Names(world).gpus):
        used = GPU_MEMORY_BYTES * rng.uniform(0.5, 0.9)
        pinned = np.clip(rng.normal(0.99, 0.004, drive.ticks), 0.0, 1.0)
        busy = pinned if world.pinned_utilisation and gpu < world.ranks else np.clip(noisy(stepping[:, gpu], rng), 0.0, 1.0)
        active = np.clip(noisy(trace.active[:, gpu] * rng.uniform(0.7, 0.95), rng, 0.015), 0.0, 1.0)
        yield name, "gpu_utilization_ratio", np.round(busy, 2)
        yield name, "gpu_sm_active_ratio", np.round(active, 4)
        yield name, "gpu_power_watts", np.round(noisy(trace.watts[:, gpu], rng), 1)
        yield name, "gpu_power_limit_watts", world.limit_watts[gpu] * np.round(drive.power_limit[:, gpu], 2)
        yield name, "gpu_temperature_celsius", np.round(trace.celsius[:, gpu] + rng.normal(0.0, 0.4, drive.ticks))
        yield name, "gpu_clock_hertz", np.round(trace.clock[:, gpu] * BASE_HERTZ / 15e6) * 15e6
        yield name, 'gpu_throttle_active{reason="sw_thermal"}', trace.thermal[:, gpu]
        yield name, 'gpu_throttle_active{reason="sw_power_cap"}', trace.capped[:, gpu]
        yield name, "gpu_memory_used_bytes", np.full(drive.ticks, np.round(used, -6))
        yield name, "gpu_xid_errors_total", events(drive.xid[:, gpu], rng)
        yield name, 'gpu_ecc_errors_total{kind="uncorrected"}', events(drive.ecc[:, gpu], rng)


def _ranks(world: World, drive: Drive, trace: Trace, rng: np.random.Generator) -> Iterator[Row]:
    names = Names(world)
    steps = (1.0 - trace.saving) / trace.step_s
    for rank in range(world.ranks):
        rate, gpu, loader = steps[:, rank], names.gpus[rank], names.loaders[rank]
        samples = world.batch_samples[rank] * drive.batch[:, rank]
        yield gpu, "job_compute_seconds_total", counted(rate * trace.compute_s[:, rank], rng, 0.004)
        yield gpu, "job_comm_wait_seconds_total", counted(rate * trace.comm_s[:, rank], rng, 0.02)
        yield gpu, 'gpu_pcie_bytes_total{direction="rx"}', counted(rate * world.batch_bytes[rank] * drive.batch[:, rank], rng)
        yield loader, "job_data_wait_seconds_total", counted(rate * trace.data_s[:, rank], rng, 0.05)
        yield loader, "job_samples_total", counted(rate * samples, rng, 0.002)
        yield (
            loader,
            "job_loader_queue_batches",
            np.maximum(np.round(trace.queue[:, rank] + rng.normal(0, 0.3, drive.ticks), 1), 0),
        )


def _jobs(world: World, drive: Drive, trace: Trace, rng: np.random.Generator) -> Iterator[Row]:
    names = Names(world)
    for index, job in enumerate(world.jobs):
        mine, saving = job.slice, trace.saving[:, job.first]
        rate = (1.0 - saving) / trace.step_s[:, job.first]
        samples = (world.batch_samples[mine] * drive.batch[:, mine]).sum(1)
        yield names.jobs[index], "job_step_duration_seconds", _shown(noisy(trace.step_s[:, job.first], rng, 0.008), saving)
        yield names.jobs[index], "job_steps_total", counted(rate, rng, 0.004)
        yield names.jobs[index], "job_samples_total", counted(rate * samples, rng, 0.004)
        yield names.jobs[index], "job_checkpoint_seconds_total", np.cumsum(saving)
        yield names.rings[index], "job_comm_wait_seconds_total", counted(rate * trace.comm_s[:, mine].mean(1), rng, 0.02)
        for stage, name in enumerate(names.stages[index]):
            ranks = np.flatnonzero((world.rank_job == index) & (world.rank_stage == stage))
            yield name, "job_compute_seconds_total", counted(rate * trace.compute_s[:, ranks].mean(1), rng, 0.004)


def _shown(step: Floats, saving: Floats) -> Floats:
    """The client's gauge: while a checkpoint is written, the age of the step that waits for it."""
    shown, age = step.copy(), 0.0
    for tick in np.flatnonzero(saving):
        age = age + 1.0 if tick and saving[tick - 1] else 1.0
        shown[tick] = max(step[tick], age)
    return shown


def _hosts(world: World, trace: Trace, rng: np.random.Generator) -> Iterator[Row]:
    for host, name in enumerate(Names(world).hosts):
        cores, used = world.cores[host], trace.host_cores[:, host]
        paging = trace.host_paging[:, host]
        yield name, CORE_IDLE, counted(np.maximum(cores - used, 0.0), rng)
        yield name, CORE_USER, counted(used, rng)
        yield name, "node_load1", noisy(used + trace.host_waiting[:, host] * cores, rng, 0.03)
        yield name, "node_pressure_cpu_waiting_seconds_total", counted(0.002 + 0.95 * trace.host_waiting[:, host], rng, 0.05)
        yield name, "node_pressure_memory_waiting_seconds_total", counted(0.8 * paging, rng, 0.1)
        yield (
            name,
            "node_memory_MemAvailable_bytes",
            noisy(world.memory_bytes[host] * (1 - trace.host_memory[:, host]), rng, 0.003),
        )
        yield name, "node_vmstat_pgmajfault", events(0.5 + 4000.0 * paging, rng)


def _volumes(world: World, trace: Trace, rng: np.random.Generator) -> Iterator[Row]:
    names = Names(world)
    for volume, name in enumerate(names.volumes):
        reads = trace.volume_read[:, volume] / 2.0**20
        yield name, "node_disk_reads_completed_total", counted(reads, rng)
        yield name, "node_disk_read_bytes_total", counted(trace.volume_read[:, volume], rng)
        yield name, "node_disk_read_time_seconds_total", counted(reads * trace.volume_read_s[:, volume], rng, 0.03)
        yield name, "node_disk_io_time_seconds_total", counted(trace.volume_busy[:, volume], rng, 0.02)
        yield name, "node_disk_io_now", rng.poisson(trace.volume_inflight[:, volume]).astype(float)
    for tenant, name in enumerate(names.tenants):
        yield name, "node_disk_read_bytes_total", counted(trace.tenant_read[:, tenant], rng, 0.03)


def _networks(world: World, drive: Drive, trace: Trace, rng: np.random.Generator) -> Iterator[Row]:
    names = Names(world)
    ends = [
        (names.nics, world.nic_bytes_per_s, trace.nic_traffic, trace.nic_queue, drive.nic_speed, drive.nic_errors),
        (names.links, world.link_bytes_per_s, trace.link_traffic, trace.link_queue, drive.link_speed, drive.link_errors),
    ]
    for ids, capacity, traffic, queue, speed, errors in ends:
        for index, name in enumerate(ids):
            full = capacity[index]
            lanes = np.where(speed[:, index] > 0.9, 1.0, np.where(speed[:, index] > 0.45, 0.5, 0.25))
            yield name, "node_infiniband_port_data_transmitted_bytes_total", counted(traffic[:, index], rng)
            yield name, "node_infiniband_port_transmit_wait_total", counted(20.0 + 2e5 * queue[:, index], rng, 0.1)
            yield (
                name,
                "node_infiniband_np_ecn_marked_roce_packets_total",
                events(0.3 + 5e3 * np.clip(queue[:, index] - 0.5, 0.0, None), rng),
            )
            yield name, "node_infiniband_symbol_error_total", events(errors[:, index], rng)
            yield name, "node_infiniband_rate_bytes_per_second", full * lanes


def _services(world: World, drive: Drive, trace: Trace, rng: np.random.Generator) -> list[Row]:
    rows: list[Row] = []
    for index, name in enumerate(Names(world).services):
        rows.append((name, "service_requests_total", counted(drive.requests[:, index] * 50.0, rng, 0.02)))
        rows.append((name, "service_latency_seconds", noisy(trace.service_s[:, index], rng, 0.04)))
    return rows
