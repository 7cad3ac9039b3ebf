"""Pools of nodes in the simulator: starts take their time, only idle nodes go, and the cluster-autoscaler's rules by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from aiops.action import Admission, Decision, Effect, Outcome, ScalePool
from aiops.sim.baselines.nodes import Change, ClusterAutoscaler, Group, bins
from aiops.sim.cluster.backend import SimBackend
from aiops.sim.cluster.load import Loads
from aiops.sim.cluster.nodes import ordered
from aiops.sim.cluster.report import simulate, stage_of
from aiops.sim.cluster.scenario import ColdStart, NodePool, Scenario, ServiceSpec
from aiops.sim.cluster.world import World

POOL = NodePool(name="p", nodes=1, gpus=8, min_nodes=1, max_nodes=4, node_start=ColdStart(p50=100.0, p90=100.0))
CHAT = ServiceSpec(
    name="chat", pool="p", gpus_per_replica=4, capacity=10.0, max_replicas=50, slo=2.0, cold_start=ColdStart(p50=20, p90=20)
)  # fmt: skip


@contextmanager
def silent(what: str) -> Iterator[Any]:
    yield lambda share: None


def test_a_replica_waits_for_its_node_and_the_node_for_its_start() -> None:
    # Given one node of eight GPUs, and an order of four replicas of four
    it = World([POOL], [CHAT], 1)
    it.scale("chat", 4, 0.0)
    fleet, group = it.fleets["chat"], it.groups["p"]
    assert (fleet.placed, it.waiting("p")) == (2, [4, 4])
    # When a node is ordered at second 10
    it.scale_pool("p", 2, 10.0)
    assert (group.size, len(group.free)) == (2, 1)
    # Then it is there 100 s later, and its replicas 20 s after that: what counts is from the order of the replica on
    it.advance(109.0)
    assert (fleet.placed, fleet.ready) == (2, 2)
    it.advance(110.0)
    assert (fleet.placed, fleet.ready) == (4, 2)
    it.advance(130.0)
    assert (fleet.placed, fleet.ready) == (4, 4)
    assert (list(group.start_s), list(fleet.start_s)) == ([100.0], [20.0, 20.0, 130.0, 130.0])
    assert ordered(group, 8.0, 4).tolist() == [1, 1, 2, 2], "paid for from the order on"


def test_work_is_moved_off_a_node_before_it_goes() -> None:
    it = World([POOL.model_copy(update={"nodes": 3})], [CHAT], 1)
    it.seed_ready("chat", 3, 0.0)
    (alone,) = [name for name in it.nodes_of("chat") if it.on(name) == [4]]
    with pytest.raises(AssertionError, match="in use"):
        it.scale_pool("p", 2, 1.0, (alone,))
    it.evict(alone, 1.0)
    assert it.groups["p"].idle(alone)
    assert (it.fleets["chat"].placed, it.fleets["chat"].ready) == (3, 2)
    it.advance(21.0)
    assert it.fleets["chat"].ready == 3


def wish(action: ScalePool, id: str = "a") -> Admission:
    return Admission(id=id, at=0.0, decision=Decision(policy="t", action=action, reason="t"))


def test_the_backend_changes_a_pool_once_and_only_as_it_was_seen() -> None:
    it = World([POOL], [CHAT], 1)
    loads = Loads(start=0.0, rates={"chat": np.ones(1000)}, per_request={"chat": 1.0})
    backend = SimBackend(it, loads)
    (pool,) = backend.observe(0.0).pools
    assert (pool.nodes, pool.min_nodes, pool.max_nodes) == (1, 1, 4)
    grow = ScalePool(pool="p", version=pool.version, nodes=3, was=1)
    assert backend.apply(wish(grow), 0.0).outcome is Outcome.DONE
    assert backend.apply(wish(grow), 0.0).outcome is Outcome.ALREADY
    assert backend.apply(wish(grow, "b"), 0.0).outcome is Outcome.STALE, "the version has moved on"
    assert backend.probe(wish(grow), 0.0) is Effect.PRESENT
    # When the nodes are there and a replica is on the first
    it.advance(100.0)
    it.seed_ready("chat", 1, 100.0)
    seen = backend.observe(100.0)
    assert [node.removable for node in seen.nodes] == [True] * 3
    (busy,) = seen.services[0].nodes
    idle = next(node.name for node in seen.nodes if node.name != busy)
    version = seen.pools[0].version
    for remove, why in (((busy,), "work runs on"), ((), "must name"), ((idle, idle), "must name")):
        receipt = backend.apply(wish(ScalePool(pool="p", version=version, nodes=2, was=3, remove=remove), f"c{remove}"), 100.0)
        assert receipt.outcome is Outcome.STALE and why in receipt.detail
    assert backend.apply(wish(ScalePool(pool="p", version=version, nodes=9, was=3), "d"), 100.0).outcome is Outcome.STALE
    gone = wish(ScalePool(pool="p", version=version, nodes=2, was=3, remove=(idle,)), "e")
    assert backend.probe(gone, 100.0) is Effect.ABSENT
    assert backend.apply(gone, 100.0).outcome is Outcome.DONE
    assert backend.probe(gone, 100.0) is Effect.PRESENT
    assert idle not in {node.name for node in backend.observe(100.0).nodes}
    assert len(backend.effects) == 2


def group(now: float, on: dict[str, list[int]], starting: int = 0, waiting: tuple[int, ...] = (), high: int = 9) -> Group:
    free = {name: 8 - sum(parts) for name, parts in on.items()}
    return Group(now=now, gpus=8, low=1, high=high, free=free, on=on, starting=starting, waiting=waiting)


@pytest.mark.parametrize(
    ("waiting", "free", "opened"),
    [((), [8], 0), ((8,), [8], 0), ((4, 4), [4], 1), ((8, 8, 4), [4], 2), ((4, 4, 4), [], 2), ((6, 6), [8], 1)],
)
def test_new_nodes_by_first_fit(waiting: tuple[int, ...], free: list[int], opened: int) -> None:
    assert bins(waiting, free, 8) == opened


def test_the_autoscaler_by_hand() -> None:
    it = ClusterAutoscaler()
    # It grows for what waits, less what is on its way, up to its bound
    assert it.change(group(0.0, {"a": [8]}, waiting=(8, 8))) == Change(nodes=3)
    assert it.change(group(10.0, {"a": [8]}, starting=2, waiting=(8, 8))) == Change(nodes=3)
    assert ClusterAutoscaler().change(group(0.0, {"a": [8]}, waiting=(8,) * 20, high=4)) == Change(nodes=4)
    # Ten minutes after the growth and ten of being unneeded, what is empty goes at once
    calm = {"a": [8], "b": [], "c": []}
    assert it.change(group(20.0, calm)) == Change(nodes=3)
    assert it.change(group(610.0, calm)) == Change(nodes=3), "unneeded for 590 s"
    assert it.change(group(620.0, calm)) == Change(nodes=1, remove=("b", "c"))


def test_the_autoscaler_moves_work_off_a_node_that_is_less_than_half_used() -> None:
    it = ClusterAutoscaler()
    spread = {"a": [4], "b": [2], "c": [4, 4]}
    assert it.change(group(0.0, spread)).drain == ""
    assert it.change(group(600.0, spread)) == Change(nodes=2, remove=("b",), drain="b"), "its two fit a, which is half used"
    full = {"a": [4, 4], "b": [2], "c": [4, 4]}
    it = ClusterAutoscaler()
    it.change(group(0.0, full))
    assert it.change(group(600.0, full)) == Change(nodes=3), "what is on b fits nowhere else"


def test_a_whole_simulation_scales_nodes_within_every_rule() -> None:
    pool = {"name": "p", "nodes": 2, "gpus": 8, "min_nodes": 1, "max_nodes": 30, "node_start": {"p50": 120, "p90": 180}}
    chat = {
        "name": "chat", "pool": "p", "gpus_per_replica": 2, "capacity": 10, "max_replicas": 100,
        "latency": "100ms", "slo": "1s", "cold_start": {"p50": 21, "p90": 41},
    }  # fmt: skip
    load = {"service": "chat", "mean": 100, "daily": 0.8}
    world = Scenario(
        name="nodes", history="1h", length="8h", pools=[pool], services=[chat], load=[load],
        limits={"nodes_ratio": 0.5, "gpus": 240, "approve_gpus": 64},
    )  # fmt: skip
    report = simulate(stage_of(world, None, 0), ("hpa",), "here", silent)
    own, other = report["policies"]["prescale"], report["baselines"]["hpa"]
    assert own["invariant_violations"] == own["policies_failed"] == 0, own["violations"]
    for run in (own, other):
        assert run["pools"]["p"]["scale_ups"] > 0
        assert run["pools"]["p"]["scale_downs"] > 0
        assert 8 < run["pools"]["p"]["node_hours"] < 240


@pytest.mark.parametrize("bad", [{"min_nodes": 3}, {"max_nodes": 1}, {"min_nodes": 5, "max_nodes": 2}])
def test_contradictory_bounds_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="min_nodes <= nodes <= max_nodes"):
        NodePool(name="p", nodes=2, **bad)
