"""The cluster as the newest cycle saw it: whole counts, and paged nodes, jobs and services."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from aiops.api import page
from aiops.api.view import Seen, answer
from aiops.model import Cluster, JobState, NodeState

router = APIRouter(prefix="/api/v1", tags=["cluster"], dependencies=[Depends(page.only_known)])


@router.get("/cluster")
async def cluster(view: Seen) -> Response:
    """Counts and the small lists (pools, queues, links, volumes); nodes, jobs and services have pages of their own."""
    snapshot = await view.snapshot()
    seen = snapshot.cluster
    return answer(
        {
            "at": seen.at,
            "cycle": snapshot.id,
            "name": view.settings.cluster,
            "backend": seen.backend,
            "counts": counts(seen),
            "pools": seen.pools,
            "queues": seen.queues,
            "links": seen.links,
            "volumes": seen.volumes,
            "supports": snapshot.supports,
        }
    )


def counts(seen: Cluster) -> dict[str, Any]:
    """How many nodes and jobs are in which state, and how many GPUs there are, healthy and taken."""
    gpus = [gpu for node in seen.nodes for gpu in node.gpus]
    running = [job for job in seen.jobs if job.state is JobState.RUNNING]
    return {
        "nodes": Counter(node.state for node in seen.nodes),
        "jobs": Counter(job.state for job in seen.jobs),
        "services": len(seen.services),
        "gpus": len(gpus),
        "gpus_healthy": sum(gpu.healthy for gpu in gpus),
        "gpus_in_jobs": sum(job.gpus for job in running),
    }


@router.get("/nodes")
async def nodes(
    view: Seen, limit: page.Limit = 100, after: page.Name = None, pool: page.Name = None, state: NodeState | None = None
) -> Response:
    """Nodes with their GPUs, by name."""
    seen = (await view.snapshot()).cluster
    rows = (n for n in seen.nodes if (pool is None or n.pool == pool) and (state is None or n.state is state))
    return answer({"at": seen.at, **page.named(rows, lambda node: node.name, limit, after)})


@router.get("/jobs")
async def jobs(
    view: Seen,
    limit: page.Limit = 100,
    after: page.Name = None,
    queue: page.Name = None,
    state: Annotated[JobState | None, Query()] = None,
) -> Response:
    """Jobs, queued and running, by id."""
    seen = (await view.snapshot()).cluster
    rows = (j for j in seen.jobs if (queue is None or j.queue == queue) and (state is None or j.state is state))
    return answer({"at": seen.at, **page.named(rows, lambda job: job.id, limit, after)})


@router.get("/services")
async def services(view: Seen, limit: page.Limit = 100, after: page.Name = None) -> Response:
    """Services by name, with the text of the series that measures their load: the forecast target."""
    seen = (await view.snapshot()).cluster
    found = page.named(seen.services, lambda service: service.name, limit, after)
    found["items"] = [{"load_target": str(service.load), "service": service} for service in found["items"]]
    return answer({"at": seen.at, **found})
