"""What the world does under a drive, one second after the other.

Every tick takes the parts in the order in which one causes the next: heat and power -> clock -> compute; others' load ->
CPU and memory -> preparing batches; demand -> queue at the volume -> reading; supply and demand -> prefetch queue -> data
wait; traffic -> transfer; slowest rank -> everybody's comm wait -> step. Loops (a slower step reads less) close over the
tick before. Queues are processor sharing: a volume divides its speed among the requests in flight, so that a tenant with
many in flight gets much.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from aiops.sim.faults.drive import Drive
from aiops.sim.faults.world import Floats, World

POWER_EXPONENT = 2.4  # dynamic power over clock: voltage falls with frequency, between square and cube
THERMAL_S = 25.0  # time constant of a GPU's heat sink
CONTROL_PER_K = 0.05  # share of the clock that firmware takes away per degree above its limit
PAGE_CLUSTER_S = 0.004  # what a major fault costs the thread that meets it
SLACK_S = 0.0008  # a batch that is ready still has to be handed over


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What happened, (ticks, entities) each, before any sensor looked."""

    step_s: Floats  # ranks
    compute_s: Floats
    data_s: Floats
    comm_s: Floats
    saving: Floats  # 1 while the rank writes a checkpoint
    queue: Floats
    supply: Floats  # batches per second
    clock: Floats  # gpus
    watts: Floats
    celsius: Floats
    thermal: Floats  # 1 while that is what holds the clock down
    capped: Floats
    active: Floats
    volume_inflight: Floats  # volumes
    volume_read: Floats
    volume_busy: Floats
    volume_read_s: Floats
    tenant_read: Floats  # tenants
    host_cores: Floats  # hosts: cores in use
    host_waiting: Floats
    host_memory: Floats  # share in use
    host_paging: Floats
    nic_traffic: Floats
    nic_queue: Floats
    link_traffic: Floats  # links
    link_queue: Floats
    service_busy: Floats  # services
    service_s: Floats


class _State:
    """What one tick hands to the next."""

    def __init__(self, world: World) -> None:
        self.celsius = world.ambient_c + world.kelvin_per_watt * (world.idle_watts + world.busy_watts) * 0.8
        self.active = np.full(world.gpus, 0.75)
        self.step = world.compute_s * 1.4
        self.queue = world.workers * 2.0
        self.supply = 1.0 / self.step
        self.inflight = np.full(world.volumes, 1.0)
        self.memory = world.memory_used.copy()


def run(world: World, drive: Drive, rng: np.random.Generator) -> Trace:
    """The trace of a drive; the same generator gives the same trace."""
    state = _State(world)
    phase = rng.uniform(0.0, 1.0, len(world.jobs))
    ticks = [_tick(world, drive, state, tick, phase) for tick in range(drive.ticks)]
    return Trace(**{field.name: np.array([tick[field.name] for tick in ticks]) for field in fields(Trace)})


def _tick(world: World, drive: Drive, state: _State, tick: int, phase: Floats) -> dict[str, Floats]:
    seen = _heat(world, drive, state, tick)
    seen |= _host(world, drive, state, tick)
    seen |= _storage(world, drive, state, tick, seen)
    seen |= _network(world, drive, state, tick)
    seen |= _step(world, drive, state, tick, seen, phase)
    return seen | _services(world, drive, state, tick, seen)


def _heat(world: World, drive: Drive, state: _State, tick: int) -> dict[str, Floats]:
    limit = world.limit_watts * drive.power_limit[tick]
    dynamic = world.busy_watts * (0.25 + 0.75 * state.active)
    capped = np.clip((limit - world.idle_watts) / dynamic, 0.02, 1.0) ** (1.0 / POWER_EXPONENT)
    heated = np.clip(1.0 - CONTROL_PER_K * (state.celsius - world.slow_above_c), 0.25, 1.0)
    clock = np.minimum(capped, heated)
    watts = world.idle_watts + dynamic * clock**POWER_EXPONENT
    rest = world.ambient_c + world.kelvin_per_watt * drive.cooling[tick] * watts
    state.celsius = state.celsius + (rest - state.celsius) / THERMAL_S
    return {
        "clock": clock,
        "watts": watts,
        "celsius": state.celsius,
        "thermal": ((heated < 0.995) & (heated <= capped)).astype(float),
        "capped": ((capped < 0.995) & (capped < heated)).astype(float),
    }


def _host(world: World, drive: Drive, state: _State, tick: int) -> dict[str, Floats]:
    rank_host = world.gpu_host[: world.ranks]
    own = np.bincount(rank_host, state.supply * world.prep_s * drive.prep[tick], world.hosts) / world.cores
    wanted = own + drive.host_load[tick]
    state.memory = state.memory + (world.memory_used + drive.host_memory[tick] - state.memory) / 5.0
    used = np.minimum(state.memory, 0.995)
    return {
        "host_crowd": np.maximum(wanted, 1.0),  # the scheduler is fair: everything runs that much slower
        "host_cores": np.minimum(wanted, 1.0) * world.cores,
        "host_waiting": np.clip((wanted - 0.75) / 0.5, 0.0, 1.0),
        "host_memory": used,
        "host_paging": np.clip((used - 0.94) / 0.05, 0.0, 1.0),
    }


def _storage(world: World, drive: Drive, state: _State, tick: int, seen: dict[str, Floats]) -> dict[str, Floats]:
    volume, host = world.rank_volume, world.gpu_host[: world.ranks]
    speed = world.volume_bytes_per_s * drive.volume_speed[tick]
    share = np.minimum(world.stream_bytes_per_s * drive.volume_speed[tick], speed / np.maximum(state.inflight, 1.0))
    latency = world.volume_latency_s * drive.volume_latency[tick] * (1.0 + 0.02 * state.inflight)
    batch = drive.batch[tick]
    read = latency[volume] + world.batch_bytes * batch / share[volume]
    prep = world.prep_s * batch * drive.prep[tick] * (seen["host_crowd"] * (1.0 + 4.0 * seen["host_paging"]))[host]
    able = world.workers / (read + prep)
    supply = np.minimum(able, 1.0 / state.step + np.maximum(world.workers * 2.0 - state.queue, 0.0))
    state.supply = supply
    wish = drive.tenant_reads[tick] * world.volume_bytes_per_s[world.tenant_volume]
    streams = np.minimum(drive.tenant_streams[tick], wish / share[world.tenant_volume])
    inflight = np.bincount(volume, supply * read, world.volumes) + np.bincount(world.tenant_volume, streams, world.volumes)
    state.inflight = 0.5 * state.inflight + 0.5 * inflight
    tenant_read = streams * share[world.tenant_volume]
    own_read = np.bincount(volume, supply * world.batch_bytes * batch, world.volumes)
    total = own_read + np.bincount(world.tenant_volume, tenant_read, world.volumes)
    return {
        "able": able,
        "supply": supply,
        "volume_inflight": state.inflight,
        "volume_read": np.minimum(total, speed),
        "volume_busy": np.clip(total / speed, 0.0, 1.0),
        "volume_read_s": latency + 2.0**20 / share,
        "tenant_read": tenant_read,
    }


def _network(world: World, drive: Drive, state: _State, tick: int) -> dict[str, Floats]:
    host = world.gpu_host[: world.ranks]
    sent = np.bincount(host, _network_bytes(world) / state.step, world.hosts)
    nic = world.nic_bytes_per_s * drive.nic_speed[tick]
    link = world.link_bytes_per_s * drive.link_speed[tick]
    cross = np.minimum(drive.link_cross[tick], 0.97) * link
    through = np.bincount(world.host_link, sent, world.links)
    # A host's share of its link: what foreign traffic leaves, and never less than a fair share against it.
    spare = np.maximum(link - cross, 0.08 * link) / np.bincount(world.host_link, minlength=world.links)
    return {
        "nic_room": np.minimum(nic, spare[world.host_link]),
        "nic_traffic": sent,
        "nic_queue": (sent / nic) ** 2,  # share of time spent sending, squared: time with something waiting behind it
        "link_traffic": np.minimum(through + cross, link),
        "link_queue": np.minimum((through + cross) / link, 1.2) ** 2,
    }


def _network_bytes(world: World) -> Floats:
    """Bytes per rank and step that leave the host; a job on one host stays on its switch inside."""
    many = np.array([len(set(world.gpu_host[job.slice])) > 1 for job in world.jobs])
    return np.where(many[world.rank_job], world.message_bytes, 0.0)


def _step(world: World, drive: Drive, state: _State, tick: int, seen: dict[str, Floats], phase: Floats) -> dict[str, Floats]:
    ranks, host = world.ranks, world.gpu_host[: world.ranks]
    paging = PAGE_CLUSTER_S * 20.0 * seen["host_paging"][host]
    compute = world.compute_s * drive.batch[tick] * drive.compute[tick] / seen["clock"][:ranks] + paging
    per_host = np.bincount(host, _network_bytes(world), world.hosts)
    transfer = np.maximum(per_host / seen["nic_room"], 0.0)
    data, comm, step, saving = np.empty(ranks), np.empty(ranks), np.empty(ranks), np.zeros(ranks)
    for index, job in enumerate(world.jobs):
        mine = job.slice
        slowest = float(np.max(transfer[host[mine]]))
        exposed = job.latency_s + (1.0 - job.overlap) * slowest
        if job.stages > 1:  # the bubble: a pipeline of s stages and 4 s micro-batches idles (s - 1) / 4 s of its time
            exposed += float(np.max(compute[mine])) * (job.stages - 1) / (4.0 * job.stages)
        bare = float(np.max(compute[mine])) + exposed
        empty = np.clip(1.0 - state.queue[mine], 0.0, 1.0)
        data[mine] = SLACK_S + empty * np.maximum(1.0 / seen["able"][mine] - bare, 0.0)
        slow = float(np.max(compute[mine] + data[mine]))
        comm[mine] = exposed + slow - compute[mine] - data[mine]
        step[mine] = slow + exposed
        if np.isfinite(job.checkpoint_every_s):
            since = (tick + phase[index] * job.checkpoint_every_s) % job.checkpoint_every_s
            saving[mine] = float(since < job.checkpoint_s)
    state.step = step
    going = 1.0 - saving
    state.queue = np.clip(state.queue + seen["supply"] - going / step, 0.0, world.workers * 2.0)
    state.active[:ranks] = going * np.minimum(compute, step) / step
    return {"compute_s": compute, "data_s": data, "comm_s": comm, "step_s": step, "saving": saving, "queue": state.queue.copy()}


def _services(world: World, drive: Drive, state: _State, tick: int, seen: dict[str, Floats]) -> dict[str, Floats]:
    slowdown = 1.0 / seen["clock"][world.ranks :]
    busy = np.clip(world.service_busy * drive.requests[tick] * slowdown, 0.0, 0.97)
    state.active[world.ranks :] = busy
    return {
        "active": state.active.copy(),
        "service_busy": busy,
        # Waiting in a processor-sharing queue, softened because a server batches requests.
        "service_s": world.service_latency_s * slowdown * (1.0 + busy**2 / (1.0 - busy) * 0.5),
    }
