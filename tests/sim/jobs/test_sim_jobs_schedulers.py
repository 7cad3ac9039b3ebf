"""Other schedulers against tables worked by hand: 2 nodes of 4 GPUs, queues a and b of 4 GPUs each."""

import math
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.model import JobState
from aiops.sim.baselines.jobs import SCHEDULERS
from aiops.sim.jobs.scenario import JobScenario
from aiops.sim.jobs.trace import Submitted
from aiops.sim.jobs.world import World

FIELDS = {
    "name": "two", "pools": [{"name": "p", "nodes": 2, "gpus": 4}], "policies": {},
    "queues": [{"name": "a", "quota": 4}, {"name": "b", "quota": 4}],
    "jobs": {"checkpoint": 10, "restart": 20, "stop": 30},
}  # fmt: skip


def job(
    id: str, submit: float, gpus: int = 4, duration: float = 1000.0, priority: int = 0, interval: float = math.inf
) -> Submitted:
    return Submitted(
        id=id, submit=submit, gpus=gpus, duration_s=duration, queue=id[0], priority=priority, interval_s=interval
    )  # fmt: skip


def run(scheduler: str, jobs: Iterable[Submitted], until: float = 1e6) -> World:
    world = World(JobScenario(**FIELDS), jobs, SCHEDULERS[scheduler]())
    world.close(until)
    return world


def starts(world: World) -> dict[str, float | None]:
    return {one.id: one.first_start for one in (*world.ended, *world.jobs.values())}


def test_without_lending_a_queue_waits_beside_idle_gpus() -> None:
    world = run("no-lending", [job("a1", 0), job("a2", 10)])
    assert starts(world) == {"a1": 0.0, "a2": 1000.0}
    assert world.counted.queued_gpu_s == 4 * 990


def test_who_does_not_fit_is_passed_over_but_not_under_fifo() -> None:
    jobs = [job("a1", 0, gpus=2), job("a2", 10, gpus=4), job("a3", 20, gpus=2)]
    assert starts(run("no-lending", jobs)) == {"a1": 0.0, "a3": 20.0, "a2": 1020.0}
    assert starts(run("fifo", jobs)) == {"a1": 0.0, "a2": 1000.0, "a3": 2000.0}


def test_priority_stops_the_lowest_and_then_the_oldest_and_loses_what_was_not_durable() -> None:
    # Given a1 and a2 fill their queue's quota, and an important job of two GPUs comes at 500
    world = run("priority", [job("a1", 0, gpus=2), job("a2", 100, gpus=2), job("a9", 500, gpus=2, priority=5)])
    assert starts(world)["a9"] == 530.0, "30 s to leave"
    assert [one.id for one in world.ended if one.evictions] == ["a1"], "the oldest of the lowest"
    # And so it is where the quota has room but the nodes have not
    jobs = [job("a1", 0, gpus=3), job("a2", 100, gpus=3), job("a9", 500, gpus=2, priority=5)]
    wide = JobScenario(**{**FIELDS, "queues": [{"name": "a", "quota": 8}]})
    world = World(wide, jobs, SCHEDULERS["priority"]())
    world.close(1e6)
    assert starts(world)["a9"] == 530.0, "30 s to leave"
    assert [one.id for one in world.ended if one.evictions] == ["a1"]
    assert world.counted.lost_gpu_s == 3 * (500 + 20 + 30), "no checkpoint: all work, restart and leaving"


def test_newest_first_borrows_at_once_and_gives_back_the_newest() -> None:
    jobs = [job("a1", 0), job("a2", 10, gpus=2), job("a3", 20, gpus=2), job("b1", 500, gpus=2)]
    world = run("newest-first", jobs)
    assert starts(world) == {"a1": 0.0, "a2": 10.0, "a3": 20.0, "b1": 530.0}
    stopped = {one.id: one.evictions for one in world.ended if one.evictions}
    assert stopped == {"a3": [500.0]}
    assert world.counted.reclaims == [30.0]
    # And a3 waits out its requeue delay of 60 s, then for room: a1 ends at 1000
    a3 = next(one for one in world.ended if one.id == "a3")
    assert a3.started_at == 1000.0
    assert a3.ended_at == 1000.0 + 20 + 1000


def test_newest_first_stops_the_newest_of_its_own_queue_where_nobody_borrowed() -> None:
    world = run(
        "newest-first", [job("a1", 0, gpus=2), job("a2", 100, gpus=2), job("b1", 0), job("a9", 500, gpus=2, priority=5)]
    )
    assert [one.id for one in world.ended if one.evictions] == ["a2"]


def test_a_checkpointed_job_goes_on_from_its_last_checkpoint() -> None:
    jobs = [job("a1", 0), job("a2", 10, gpus=4, interval=100.0, duration=400.0), job("b1", 265, gpus=4)]
    world = run("newest-first", jobs)
    a2 = next(one for one in world.ended if one.id == "a2")
    # a2 borrowed at 10; checkpoints complete at 120 and 230; stopped at 265 with 235 s worked, 200 durable
    assert world.counted.lost_gpu_s == pytest.approx(4 * (35 + 20 + 30))
    assert a2.started_at == 1000.0
    assert a2.ended_at == pytest.approx(1000 + 20 + 200 + 10), "two more hundreds, one checkpoint between them"


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 3000), st.sampled_from([1, 2, 3, 4, 8]), st.integers(0, 2000),
                  st.integers(0, 2), st.sampled_from([60.0, 600.0, math.inf])),
        min_size=1, max_size=25),
    scheduler=st.sampled_from(sorted(SCHEDULERS)),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_no_gpu_is_given_twice_and_what_can_run_does(rows: list[tuple[str, int, int, int, int, float]], scheduler: str) -> None:
    jobs = [
        Submitted(id=f"{queue}{i}", submit=float(at), gpus=gpus, duration_s=float(length), queue=queue, priority=rank,
                  interval_s=every)
        for i, (queue, at, gpus, length, rank, every) in enumerate(rows)
    ]  # fmt: skip
    world = World(JobScenario(**FIELDS), jobs, SCHEDULERS[scheduler]())
    for now in range(0, 6000, 500):
        world.advance(float(now))
        used = sum(one.spec.gpus for one in world.on_nodes.values())
        assert used + sum(world.floor.free.values()) == pytest.approx(8)
        assert min(world.floor.free.values()) > -1e-9
        assert all(world.used[name] <= 4 for name in ("a", "b"))
    world.close(1e7)
    # Whoever fits its own quota has ended; who never could waits (or borrowed), and under fifo its queue waits behind it
    stuck = {one.queue for one in jobs if one.gpus > 4} if scheduler == "fifo" else set()
    left = {one.id for one in world.jobs.values()}
    assert left <= {one.id for one in jobs if one.gpus > 4 or one.queue in stuck}
    assert all(one.state is JobState.QUEUED for one in world.jobs.values())
