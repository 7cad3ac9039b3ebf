"""Lookups shared by all waiting jobs change no decision: the same bytes as asking anew for each of them."""

import random
from collections.abc import Iterator

from aiops.codec import encode
from aiops.model import Checkpoint, Cluster, Gpu, HoldState, Job, JobState, Node, NodeState, Reservation
from aiops.snapshot import Snapshot
from policies.handshake import Case, steps
from policies.preempt import PreemptPolicy, _why
from policies.victims import Room, cheapest, fits, free_gpus, with_leaving

NOW = 1e9


def job(i: int, chance: random.Random, nodes: list[str]) -> Job:
    """A job in any state, with or without a gang, a proof, a young start, protection."""
    state = chance.choice([JobState.RUNNING] * 6 + [JobState.STOPPING] + [JobState.QUEUED] * 4)
    waits = state is JobState.QUEUED
    proof = Checkpoint(
        id="c", run_id=f"r{i}", at=NOW - chance.uniform(0, 4000), read_at=NOW - chance.uniform(0, 40),
        verified=chance.random() < 0.9,
    )  # fmt: skip
    return Job(
        id=f"j{i}", run_id=f"r{i}", name="", queue="q", state=state, gpus=chance.choice([1, 2, 4, 8, 16]),
        submitted_at=NOW - chance.randint(0, 9000), priority=chance.randint(0, 4), protected=chance.random() < 0.05,
        nodes=() if waits else tuple(chance.sample(nodes, chance.choice([1, 1, 2]))),
        started_at=None if waits else NOW - chance.choice([60.0, 700.0, 9000.0]),
        checkpoint=None if waits or chance.random() < 0.3 else proof, gang=chance.choice(["", "", "", f"g{i % 5}"]),
        gpu_type=chance.choice(["", "A", "B"]), cpu_cores=chance.choice([0.0, 0.0, 8.0, 40.0]),
        evictions=(NOW - 9.0,) * chance.choice([0, 0, 3]),
    )  # fmt: skip


def snapshot(seed: int) -> Snapshot:
    """A random crowded moment of two GPU types, with holds."""
    chance = random.Random(seed)
    nodes = tuple(
        Node(
            name=f"n{i}", uid=f"u{i}", pool="p", cpu_cores=chance.choice([0.0, 64.0]),
            state=chance.choice([NodeState.READY] * 5 + [NodeState.CORDONED]),
            gpus=tuple(Gpu(uuid=f"{i}/{k}", index=k, model="AB"[i % 2], healthy=chance.random() < 0.97) for k in range(8)),
        )
        for i in range(2 + seed % 9)
    )  # fmt: skip
    jobs = tuple(job(i, chance, [node.name for node in nodes]) for i in range(4 + seed % 30))
    holds = tuple(
        Reservation(
            name=f"h{i}", owner=f"j{chance.randrange(len(jobs))}", state=chance.choice([HoldState.HELD, HoldState.EXPIRED]),
            fence=1, created_at=NOW, expires_at=NOW + 30, hard_cap_at=NOW + 900, nodes=(chance.choice(nodes).name,),
            gpus=chance.randint(1, 8),
        )
        for i in range(chance.randint(0, 3))
    )  # fmt: skip
    cluster = Cluster(at=NOW, backend="t", nodes=nodes, jobs=jobs)
    return Snapshot(id="s", now=NOW, epoch=1, cluster=cluster, reservations=holds, supports=("hold_capacity",))


def one_by_one(seen: Snapshot) -> Iterator[object]:
    """The rule as it reads, nothing remembered from one waiting job to the next."""
    policy, cluster = PreemptPolicy(), seen.cluster
    waiting = [job for job in cluster.jobs if job.state is JobState.QUEUED]
    for one in sorted(waiting, key=lambda job: (-job.priority, job.submitted_at, job.id)):
        free = free_gpus(cluster)
        coming = with_leaving(free, one, seen)
        chosen = cheapest(Room.of(one, coming, cluster), policy.victims(seen, one))
        if fits(one, free, cluster):
            yield f"{one.id}: fits without stopping anyone"
        elif fits(one, coming, cluster):
            yield f"{one.id}: fits once those that are stopping have left"
        elif chosen is None:
            yield f"{one.id}: would not fit whoever may be stopped; nobody is"
        else:
            yield from steps(seen, Case("preempt", one, chosen, _why(one, chosen)), policy.rule)
            return


def test_the_same_bytes_as_one_by_one() -> None:
    acted = 0
    for seen in map(snapshot, range(400)):
        answers = list(PreemptPolicy().decide(seen))
        assert encode(answers) == encode(list(one_by_one(seen)))
        acted += not all(isinstance(one, str) for one in answers)
    assert acted > 20
