"""Any sequence of wishes, lies, lost replies, crashes, clock jumps, orders and leaders: every invariant holds at the end."""

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from lying_world import World, drain, preempt, scale, wish_for

from aiops.action import ConfirmHold, HoldCapacity, OrderKind, ReleaseHold, ReserveBandwidth
from aiops.codec import decode, encode
from aiops.decide.core import decide
from aiops.model import NodeState
from aiops.snapshot import Snapshot

MOODS = (
    "honest", "lose reply", "lose request", "do nothing", "half", "refuse", "crash before", "crash after", "stale read",
    "unreadable",
)  # fmt: skip
AGES = st.sampled_from([0.0, 0.0, 0.0, 59.0, 61.0, -5.0, 1e4])
EXAMPLES, STEPS = (2000, 200) if "AIOPS_NIGHTLY" in os.environ else (200, 50)
TINY = {"jobs": 3, "policy_jobs": 3, "tenant_jobs": 2, "gpus": 24, "approve_gpus": 24, "protected": ["n3"]}


class Cluster(RuleBasedStateMachine):
    """The real loop and core on a lying cluster."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(limits=dict(TINY))

    def turn(self, *wishes: Any, after: float = 10.0) -> None:
        self.world.cycle(*wishes, after=after)

    @rule(name=st.sampled_from(["web", "api", "vault"]), to=st.integers(-1, 12), age=AGES)
    def scale(self, name: str, to: int, age: float) -> None:
        self.turn(scale(name, to, age=age))

    @rule(jobs=st.lists(st.integers(0, 7), min_size=1, max_size=4, unique=True), move=st.booleans(), age=AGES)
    def preempt(self, jobs: list[int], move: bool, age: float) -> None:
        self.turn(*(preempt(f"j{i}", move, age=age) for i in jobs))

    @rule(nodes=st.lists(st.integers(0, 9), min_size=1, max_size=3), cordon=st.booleans(), age=AGES)
    def drain(self, nodes: list[int], cordon: bool, age: float) -> None:
        self.turn(*(drain(f"n{i}", cordon, age=age) for i in nodes))

    @rule(name=st.sampled_from("hk"), gpus=st.integers(0, 90), fence=st.integers(1, 3), step=st.integers(0, 3))
    def reserve(self, name: str, gpus: int, fence: int, step: int) -> None:
        some = (
            HoldCapacity(hold=name, owner="j1", nodes=(), gpus=gpus, ttl_s=30.0, fence=fence),
            ConfirmHold(hold=name, fence=fence),
            ReleaseHold(hold=name, fence=fence),
            ReserveBandwidth(link="nic", owner=f"j{gpus % 3}", bytes_per_s=gpus / 8),
        )
        self.turn(wish_for(some[step]))

    @rule(seconds=st.sampled_from([1.0, 10.0, 30.0, 70.0, 400.0, 4000.0]))
    def wait(self, seconds: float) -> None:
        self.turn(after=seconds)

    @rule(mood=st.sampled_from(MOODS), blind=st.booleans())
    def mood(self, mood: str, blind: bool) -> None:
        self.world.cluster.mood, self.world.cluster.blind = mood, blind

    @rule(seconds=st.sampled_from([-86400.0, -3600.0, -7.0, 7.0, 3600.0, 86400.0]))
    def wall_clock_jumps(self, seconds: float) -> None:
        self.turn()  # a jump while no daemon runs cannot be noticed: one runs before it and after it
        self.world.clock.step_wall(seconds)
        self.turn()

    @rule(kind=st.sampled_from([OrderKind.KILL, OrderKind.UNKILL, OrderKind.RESET_BREAKER]))
    def order(self, kind: OrderKind) -> None:
        self.world.order(kind)

    @rule(undo=st.booleans(), what=st.sampled_from(["", "x", "service/web", "job/j1"]))
    def pause(self, undo: bool, what: str) -> None:
        self.world.order(OrderKind.UNPAUSE if undo else OrderKind.PAUSE, what)

    @rule(mode=st.sampled_from(["act", "act", "advise", "observe", "yolo"]))
    def set_mode(self, mode: str) -> None:
        self.world.order(OrderKind.SET_MODE, f"x={mode}")

    @rule(down=st.lists(st.integers(0, 9), max_size=4, unique=True), proofs=st.booleans())
    def nodes_fail(self, down: list[int], proofs: bool) -> None:
        cluster = self.world.cluster
        cluster.proofs = proofs
        for i, node in enumerate(sorted(cluster.nodes)):
            old = cluster.nodes[node]
            state = NodeState.DOWN if i in down else NodeState.READY
            cluster.nodes[node] = type(old)(name=old.name, uid=old.uid, pool=old.pool, state=state, gpus=old.gpus)

    @rule(name=st.sampled_from(["web", "api"]), to=st.integers(0, 12))
    def a_human_scales(self, name: str, to: int) -> None:
        old = self.world.cluster.services[name]
        fields = {f: getattr(old, f) for f in old.__slots__}
        self.world.cluster.services[name] = type(old)(**{**fields, "replicas": to, "version": str(int(old.version) + 1)})

    @rule()
    def another_daemon_leads(self) -> None:
        self.world.takeover()

    @rule()
    def the_daemon_restarts(self) -> None:
        self.world.memory = type(self.world.memory)()

    def teardown(self) -> None:
        self.world.mood("honest")
        self.world.cluster.blind = False
        for seconds in (4000.0, 100.0, 100.0):  # the first lets jumps of the clock be forgotten
            self.world.cycle(after=seconds)
        assert self.world.violations() == ()
        for id in self.world.store.cycles(0.0, 1e12)[-5:]:
            seen, _ = self.world.store.cycle(id)
            again = decode(Snapshot, encode(seen))
            assert encode(decide(seen, {})) == encode(decide(again, {}))


Cluster.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
)
TestCluster = Cluster.TestCase
