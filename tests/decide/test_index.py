"""The lookups that the gates share give what a walk over the whole snapshot gives, on whatever the lying world leaves."""

import random

from lying_world import World, drain, preempt, scale

from aiops.action import EntryState, Outcome, ScalePool, destructive, target
from aiops.decide.blast import blast
from aiops.decide.index import Index
from aiops.model import NodeState
from aiops.snapshot import Snapshot

MOODS = ("honest", "lose reply", "lose request", "do nothing", "refuse", "half")


def histories(seed: int) -> list[Snapshot]:
    """Snapshots of a random run."""
    chance, world = random.Random(seed), World(limits={"breaker_failures": 1000})
    for _ in range(40):
        world.mood(chance.choice(MOODS))
        node = world.cluster.nodes["n1"]
        state = chance.choice([NodeState.READY, NodeState.DOWN])
        world.cluster.nodes["n1"] = type(node)(name=node.name, uid=node.uid, pool=node.pool, state=state, gpus=node.gpus)
        wishes = [scale("web", chance.randint(0, 9)), preempt(f"j{chance.randint(0, 7)}"), drain(f"n{chance.randint(0, 9)}")]
        world.cycle(*chance.sample(wishes, 2), after=chance.choice([10.0, 100.0, 400.0]))
    return [seen for seen, _ in world.trace().cycles]


def test_lookups_are_what_a_walk_finds() -> None:
    for snapshot in (one for seed in range(4) for one in histories(seed)):
        index, cluster = Index(snapshot), snapshot.cluster
        refused = (Outcome.STALE, Outcome.UNSUPPORTED)
        touching = [
            e for e in snapshot.history
            if e.state is not EntryState.EXPIRED
            and not (e.state is EntryState.FAILED and e.receipt is not None and e.receipt.outcome in refused)
        ]  # fmt: skip
        assert list(index.entries) == touching
        for name in {target(e.admission.decision.action) for e in touching}:
            same = [e for e in touching if target(e.admission.decision.action) == name]
            assert index.by_target[name] == same
        assert list(index.in_flight) == [e for e in touching if e.state in (EntryState.INTENT, EntryState.SENT)]
        hurting = [e for e in touching if destructive(e.admission.decision.action)]
        assert list(index.damage) == [(e, blast(e.admission.decision.action, cluster)) for e in hurting]
        assert not any(isinstance(e.admission.decision.action, ScalePool) for e, _ in index.scaled_away)
        assert index.present == {"p": len(cluster.nodes)}
        assert index.well.get("p", 0) == sum(n.state is not NodeState.DOWN for n in cluster.nodes)
        assert all(index.jobs[job.id] == job for job in cluster.jobs)
        assert index.protected == {"j5", "vault"}
