"""What the daemon stores of the cluster's own picture: demand beside capacity, per pool, queue, link and volume."""

from dataclasses import replace

import numpy as np
import pytest

from aiops import demand
from aiops.model import (
    Batch,
    Cluster,
    Gpu,
    Job,
    JobState,
    Link,
    Node,
    NodeState,
    Pool,
    Queue,
    SeriesKey,
    Service,
    Volume,
)
from aiops.store.memory import MemoryStore

NOW = 1000.0


def node(name: str, pool: str = "a", gpus: int = 8, state: NodeState = NodeState.READY, model: str = "H100") -> Node:
    cards = tuple(Gpu(uuid=f"{name}-{i}", index=i, model=model, healthy=i != 7 or name != "sick") for i in range(gpus))
    return Node(name=name, uid=name, pool=pool, state=state, gpus=cards)


def job(name: str, gpus: int, state: JobState = JobState.QUEUED, nodes: tuple[str, ...] = (), **more) -> Job:
    said = {"queue": "q", "submitted_at": 900.0, **more}
    return Job(id=name, run_id=name, name=name, state=state, gpus=gpus, nodes=nodes, **said)


def service(pool: str, replicas: int, ready: int, gpus: int) -> Service:
    return Service(
        name="web", uid="web", version="1", pool=pool, replicas=replicas, ready=ready, min_replicas=0, max_replicas=9,
        load=SeriesKey.of("load"), target=1.0, gpus_per_replica=gpus,
    )  # fmt: skip


def told(samples, metric: str, **labels: str) -> float | None:
    return dict(samples).get(SeriesKey.of(metric, **labels))


CORDONED = (node("n1"), node("n2", "b", 8, NodeState.CORDONED))
TWO = (node("n1"), node("n2", pool="b", model="A100"))


@pytest.mark.parametrize(
    ("nodes", "jobs", "services", "has", "asked"),
    [
        (TWO, (), (), (8, 8), (0, 0)),  # idle: zero is known, not missing
        (TWO, (job("r", 4, JobState.RUNNING, ("n1",)), job("w", 6)), (), (8, 8), (4, 6)),  # the waiting go where most is idle
        (TWO, (job("r", 8, JobState.RUNNING, ("n1",)), job("w", 16, gpu_type="H100")), (), (8, 8), (24, 0)),  # type decides
        (TWO, (job("w", 2, gpu_type="MI300"),), (), (8, 8), (0, 0)),  # no pool could ever run it
        (TWO, (job("g", 8, JobState.STARTING, ("n1", "n2")),), (), (8, 8), (4, 4)),  # a gang over two pools
        (TWO, (job("h", 4, JobState.HELD), job("d", 4, JobState.DONE, ("n1",))), (), (8, 8), (0, 0)),  # neither asks
        (TWO, (), (service("b", 3, 1, 2),), (8, 8), (0, 6)),  # what a service was promised is demand before it is ready
        ((node("sick"), node("n2", "b", 8, NodeState.DRAINING)), (), (), (7, 0), (0, 0)),
        # What runs on a cordoned node asks for its GPUs and has them; its idle ones take no work
        (CORDONED, (job("r", 6, JobState.RUNNING, ("n2",)),), (), (8, 6), (0, 6)),
        (CORDONED, (job("r", 6, JobState.RUNNING, ("n2",)), job("w", 6)), (), (8, 6), (6, 6)),
        (CORDONED, (), (replace(service("b", 2, 2, 3), nodes=("n2",)),), (8, 6), (0, 6)),
        # What runs on a draining node must find another place
        ((node("n1"), node("n2", "b", 8, NodeState.DRAINING)), (job("r", 6, JobState.RUNNING, ("n2",)),), (), (8, 0), (0, 6)),
    ],
)
def test_gpus_of_a_pool_and_what_is_asked_of_them(nodes, jobs, services, has, asked):
    seen = Cluster(at=NOW, backend="t", nodes=nodes, jobs=jobs, services=services)
    found = list(demand.pools(seen))
    assert tuple(told(found, "pool_gpus", pool=name) for name in "ab") == has
    assert tuple(told(found, "pool_gpus_demanded", pool=name) for name in "ab") == asked


def test_a_pool_without_gpus_is_silent_and_one_scaled_to_nothing_is_not():
    pools = (Pool(name="cpu"), Pool(name="spot", gpu_type="L4", max_nodes=4))
    found = list(demand.pools(Cluster(at=NOW, backend="t", nodes=(node("c", "cpu", 0),), pools=pools, jobs=(job("w", 2),))))
    assert told(found, "pool_gpus", pool="cpu") is None
    assert (told(found, "pool_gpus", pool="spot"), told(found, "pool_gpus_demanded", pool="spot")) == (0, 2)


def test_lost_gpus_are_told_of_the_nodes_that_lost_some():
    """How long a GPU has been gone is known only if each look is kept."""
    found = list(demand.lost(Cluster(at=NOW, backend="t", nodes=(node("sick"), node("well")))))
    assert found == [(SeriesKey.of("node_gpus_lost", node="sick"), 1.0)]
    batch = demand.sampled(Cluster(at=NOW, backend="t", nodes=(node("sick"),)), MemoryStore())
    assert found[0][0] in batch.keys


def test_what_a_pool_may_never_hold_is_not_asked_of_it():
    """Else the pool grows to its bound for a job that does not fit then either, and stays there for as long as it waits."""
    small, large = Pool(name="a", nodes=1, min_nodes=0, max_nodes=2), Pool(name="b", nodes=1, min_nodes=0, max_nodes=4)
    asked = {}
    for gpus in (16, 17, 33):
        seen = Cluster(at=NOW, backend="t", nodes=(node("n1"), node("n2", "b")), pools=(small, large), jobs=(job("w", gpus),))
        asked[gpus] = tuple(told(demand.pools(seen), "pool_gpus_demanded", pool=name) for name in "ab")
    assert asked == {16: (16, 0), 17: (0, 17), 33: (0, 0)}


def test_a_queue_could_hold_its_own_and_the_idle_and_no_more_than_its_quota_unless_it_borrows():
    jobs = (
        job("r", 4, JobState.RUNNING, ("n1",), queue="own"),
        job("o", 2, JobState.RUNNING, ("n2",), queue="other"),
        job("w1", 8, queue="own", submitted_at=400.0),
        job("w2", 1, queue="own", submitted_at=990.0),
    )
    queues = (
        Queue(name="own", quota_gpus=6, borrows=False),
        Queue(name="other", quota_gpus=2),
        Queue(name="new", quota_gpus=1),
    )
    found = list(demand.queues(Cluster(at=NOW, backend="t", nodes=TWO, jobs=jobs, queues=queues)))
    assert [told(found, "queue_gpus", queue=name) for name in ("own", "other", "new")] == [6, 12, 10]
    assert told(found, "queue_gpus_demanded", queue="own") == 13
    assert told(found, "queue_jobs_waiting", queue="own") == 2
    assert told(found, "queue_oldest_wait_seconds", queue="own") == 600
    assert told(found, "queue_oldest_wait_seconds", queue="new") == 0


def test_a_link_tells_what_its_device_counts_and_nothing_where_it_is_not_measured():
    store = MemoryStore()
    for at in np.arange(NOW - 120, NOW + 1, 10):
        rates = (("node_disk_read_bytes_total", 30.0), ("node_disk_written_bytes_total", 12.0))
        store.append(Batch.of(at, [(SeriesKey.of(name, device="sda", node="n1"), rate * at) for name, rate in rates]))
    links = tuple(
        Link(name=name, kind="disk", capacity_bytes_per_s=100.0, node="n1", device=device)
        for name, device in (("disk", "sda"), ("dark", "sdb"))
    )
    volume = Volume(name="scratch", link="disk", size_bytes=9.0, used_bytes=4.0)
    seen = Cluster(at=NOW, backend="t", links=links, volumes=(volume, Volume(name="lost", size_bytes=9.0)))
    batch = demand.sampled(seen, store)
    found = list(zip(batch.keys, batch.values.tolist(), strict=True))
    assert told(found, "link_traffic_bytes_per_s", link="disk") == pytest.approx(42.0)
    assert told(found, "link_traffic_bytes_per_s", link="dark") is None
    assert told(found, "link_capacity_bytes_per_s", link="dark") == 100.0
    assert (told(found, "volume_used_bytes", volume="scratch"), told(found, "volume_used_bytes", volume="lost")) == (4.0, None)
