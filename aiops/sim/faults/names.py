"""Ids of the entities of a world, and the declared graph: what depends on what, as inventory and scheduler would know it."""

from __future__ import annotations

from typing import Any

from aiops.sim.faults.world import World


class Names:
    """Ids by entity index."""

    def __init__(self, world: World) -> None:
        seats: dict[int, int] = {}
        self.gpus: list[str] = []
        for host in world.gpu_host.tolist():
            self.gpus.append(f"gpu-{host}-{seats.get(host, 0)}")
            seats[host] = seats.get(host, 0) + 1
        self.hosts = [f"host-{index}" for index in range(world.hosts)]
        self.nics = [f"nic-{index}" for index in range(world.hosts)]
        self.links = [f"link-{index}" for index in range(world.links)]
        self.volumes = [f"vol-{index}" for index in range(world.volumes)]
        self.loaders = [f"loader-{job.name}-{rank}" for job in world.jobs for rank in range(job.ranks)]
        self.jobs = [job.name for job in world.jobs]
        self.rings = [f"ring-{job.name}" for job in world.jobs]
        self.stages = [[f"{job.name}-stage-{n}" for n in range(job.stages)] if job.stages > 1 else [] for job in world.jobs]
        self.services = [f"service-{index}" for index in range(world.services)]
        self.tenants = list(world.tenants)


def topology(world: World) -> dict[str, Any]:
    """`entities` and `edges` of `topology.yaml`; an edge runs from the effect to the cause that it depends on."""
    names = Names(world)
    edges = _job_edges(world, names)
    for gpu, host in zip(names.gpus, world.gpu_host, strict=True):
        edges.append((gpu, names.hosts[host]))
    for rank, loader in enumerate(names.loaders):
        edges += [
            (names.gpus[rank], loader),
            (loader, names.volumes[world.rank_volume[rank]]),
            (loader, names.hosts[world.gpu_host[rank]]),
        ]
    edges += [(nic, names.links[world.host_link[host]]) for host, nic in enumerate(names.nics)]
    edges += [(names.volumes[volume], tenant) for tenant, volume in zip(names.tenants, world.tenant_volume, strict=True)]
    edges += [(service, names.gpus[world.ranks + index]) for index, service in enumerate(names.services)]
    kinds = {
        "job": names.jobs,
        "collective": names.rings,
        "stage": [stage for stages in names.stages for stage in stages],
        "gpu": names.gpus,
        "loader": names.loaders,
        "host": names.hosts,
        "nic": names.nics,
        "link": names.links,
        "volume": names.volumes,
        "tenant": names.tenants,
        "service": names.services,
    }
    return {
        "entities": [{"id": entity, "type": kind} for kind, ids in kinds.items() for entity in ids],
        "edges": [{"from": effect, "to": cause} for effect, cause in edges],
    }


def _job_edges(world: World, names: Names) -> list[tuple[str, str]]:
    edges = []
    for index, job in enumerate(world.jobs):
        ring, stages = names.rings[index], names.stages[index]
        edges.append((names.jobs[index], ring))
        edges += [(names.jobs[index], stage) for stage in stages]
        for rank in range(job.first, job.first + job.ranks):
            edges.append((ring, names.gpus[rank]))
            edges.append((stages[world.rank_stage[rank]] if stages else names.jobs[index], names.gpus[rank]))
        hosts = sorted(set(world.gpu_host[job.slice].tolist()))
        if len(hosts) > 1:
            edges += [(ring, names.nics[host]) for host in hosts]
    return edges
