"""A small cluster that lies, loses replies and crashes its daemon, run by the real loop; it ends with `check`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from aiops.action import (
    Admission,
    Cordon,
    Decision,
    Drain,
    Effect,
    Migrate,
    Mode,
    Order,
    OrderKind,
    Outcome,
    Preempt,
    Receipt,
    Rollback,
    ScalePool,
    ScaleService,
    target,
)
from aiops.clock import ManualClock
from aiops.codec import decode
from aiops.decide.check import EffectRecord, Trace, Violation, check
from aiops.decide.limits import Limits
from aiops.errors import Fenced, Unreadable
from aiops.loop import House, Memory, run_cycle
from aiops.model import Checkpoint, Cluster, Gpu, Job, JobState, Link, Node, NodeState, Pool, SeriesKey, Service
from aiops.snapshot import Decided, Need, Snapshot
from aiops.store.memory import MemoryStore

Wish = Callable[[Snapshot], Decision]
KINDS = (
    "scale_service", "scale_pool", "preempt", "migrate", "drain", "cordon", "rollback", "hold_capacity", "confirm_hold",
    "release_hold", "reserve_bandwidth",
)  # fmt: skip


class Crash(BaseException):
    """The daemon dies at this very point."""


@dataclass
class Scripted:
    """A policy that wishes for what a test tells it to."""

    name: ClassVar[str] = "x"
    every_s: ClassVar[float] = 1.0
    wishes: list[Wish] = field(default_factory=list)

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> "Scripted":
        return cls()

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        return ()

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        return [wish(snapshot) for wish in self.wishes]


def _job(i: int, now: float) -> Job:
    return Job(
        id=f"j{i}", run_id=f"r{i}", name=f"job{i}", queue="q", state=JobState.RUNNING, gpus=8, submitted_at=now - 9e3,
        tenant=f"t{i % 3}", nodes=(f"n{i}",), protected=i == 5,
    )  # fmt: skip


@dataclass
class Liar:
    """The cluster. `mood` is how it treats the next calls."""

    clock: ManualClock
    store: MemoryStore
    name: ClassVar[str] = "liar"
    supports: frozenset[str] = frozenset(KINDS)
    mood: str = "honest"
    blind: bool = False
    idempotent: bool = True
    epoch: int = 0
    log: list[EffectRecord] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    services: dict[str, Service] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    proofs: bool = True

    def __post_init__(self) -> None:
        load = SeriesKey.of("load")
        self.services = {
            name: Service(
                name=name, uid=f"u-{name}", version="1", pool="p", replicas=4, ready=4, min_replicas=1, max_replicas=9,
                load=load, target=1.0, protected=name == "vault",
            )
            for name in ("web", "api", "vault")
        }  # fmt: skip
        gpus = tuple(Gpu(uuid=f"g{i}", index=i) for i in range(8))
        self.nodes = {f"n{i}": Node(name=f"n{i}", uid=f"u{i}", pool="p", state=NodeState.READY, gpus=gpus) for i in range(10)}
        self.jobs = {f"j{i}": _job(i, self.clock.now()) for i in range(8)}

    def observe(self, now: float) -> Cluster:
        if self.mood == "unreadable":
            raise Unreadable("half a picture")
        links = (
            Link(name="nic", kind="nic", capacity_bytes_per_s=10.0, parent="rack"),
            Link(name="rack", kind="rack", capacity_bytes_per_s=8.0),
        )
        proof = Checkpoint(id="c", run_id="", at=now - 50.0, read_at=now - 5.0, verified=self.proofs)
        jobs = (replace(job, checkpoint=replace(proof, run_id=job.run_id)) for job in self.jobs.values())
        pool = Pool(name="p", nodes=len(self.nodes), min_nodes=2, max_nodes=10, version=str(len(self.nodes)))
        return Cluster(
            at=now, backend="liar", nodes=tuple(self.nodes.values()), jobs=tuple(jobs), services=tuple(self.services.values()),
            links=links, pools=(pool,),
        )  # fmt: skip

    def apply(self, admission: Admission, now: float) -> Receipt:
        if self.mood == "crash before":
            raise Crash
        if self.mood == "refuse":
            return Receipt(id=admission.id, outcome=Outcome.STALE)
        if admission.id in self.done and self.idempotent:
            return Receipt(id=admission.id, outcome=Outcome.ALREADY)
        if self.mood not in ("do nothing", "lose request"):
            self._effect(admission, now)
        if self.mood == "crash after":
            raise Crash
        unsure = self.mood in ("lose reply", "lose request")
        return Receipt(id=admission.id, outcome=Outcome.UNKNOWN if unsure else Outcome.DONE)

    def _effect(self, admission: Admission, now: float) -> None:
        action = admission.decision.action
        self.done.add(admission.id)
        self.log.append(
            EffectRecord(
                id=admission.id, kind=action.kind, target=target(action), at=now, elapsed=self.clock.elapsed(),
                epoch=self.epoch, leader_epoch=self.store.epoch(),
            )
        )  # fmt: skip
        real = action.action if isinstance(action, Rollback) else action
        if isinstance(real, ScaleService):
            seen = self.services[real.service]
            half = (seen.replicas + real.replicas) // 2 if self.mood == "half" else real.replicas
            self.services[real.service] = replace(seen, replicas=half, version=str(int(seen.version) + 1))
        elif isinstance(real, ScalePool):
            self.nodes = {name: node for name, node in self.nodes.items() if name not in real.remove}
        elif isinstance(real, Preempt):
            job = self.jobs[real.job]
            self.jobs[real.job] = replace(job, run_id=job.run_id + "'", evictions=(*job.evictions, now))

    def probe(self, admission: Admission, now: float) -> Effect:
        if self.blind:
            return Effect.UNREADABLE
        action = admission.decision.action
        real = action.action if isinstance(action, Rollback) else action
        if isinstance(real, ScaleService):
            there = self.services[real.service].replicas == real.replicas
        else:
            there = admission.id in self.done and self.mood != "stale read"
        return Effect.PRESENT if there else Effect.ABSENT

    def close(self) -> None:
        pass


@dataclass
class World:
    """The daemon's house around the liar, and hands to move it."""

    limits: dict[str, Any] = field(default_factory=dict)
    mode: Mode = Mode.ACT

    def __post_init__(self) -> None:
        self.clock, self.store, self.memory = ManualClock(1e9, 100.0), MemoryStore(), Memory()
        self.cluster = Liar(self.clock, self.store)
        self.policy = Scripted()
        self.policies: dict[str, Any] = {"x": self.policy}
        self.modes: dict[str, Mode] = {"x": self.mode}
        self.orders = 0
        self.epoch = self.cluster.epoch = self.store.acquire("me", self.clock.now(), 1e5) or 0

    def cycle(self, *wishes: Wish, after: float = 10.0) -> Decided | None:
        """One cycle of the real loop; None where it abstained, crashed or was fenced off."""
        self.clock.advance(after)
        self.policy.wishes = list(wishes)
        house = House(
            store=self.store, backend=self.cluster, policies=self.policies, clock=self.clock, modes=self.modes,
            rules={name: {} for name in self.policies}, limits=self.limits, halted=lambda: False, leads=lambda: True,
            announce=lambda snapshot, decided: None,
        )  # fmt: skip
        try:
            return run_cycle(house, self.memory, self.clock.now(), self.epoch)
        except Crash:
            self.memory = Memory()
        except Fenced:
            self.cluster.mood = "honest"
        return None

    def order(self, kind: OrderKind, target: str = "", by: str = "ann", until: float | None = None) -> None:
        self.orders += 1
        self.store.put_order(Order(id=str(self.orders), at=self.clock.now(), by=by, kind=kind, target=target, until=until))

    def takeover(self) -> None:
        """Another daemon takes the lease and is the one that runs from now on."""
        self.clock.advance(2e5)
        self.memory = Memory()
        self.epoch = self.cluster.epoch = self.store.acquire(f"d{self.epoch}", self.clock.now(), 1e5) or self.epoch

    def mood(self, mood: str) -> None:
        self.cluster.mood = mood

    def trace(self) -> Trace:
        ids = list(self.store._cycles)  # as they came: the wall clock may have jumped
        cycles = tuple((seen, decode(Decided, data)) for seen, data in map(self.store.cycle, ids))
        return Trace(cycles=cycles, entries=self.store.entries(0.0), effects=tuple(self.cluster.log), now=self.clock.now())

    def violations(self) -> tuple[Violation, ...]:
        return check(self.trace(), Limits.from_settings(self.limits, "t"))


def scale(service: str, replicas: int, **changes: Any) -> Wish:
    def wish(seen: Snapshot) -> Decision:
        now = next(s for s in seen.cluster.services if s.name == service)
        action = ScaleService(service=service, uid=now.uid, version=now.version, replicas=replicas, was=now.replicas)
        return _decision(seen, action, changes)

    return wish


def give_back(*nodes: str, **changes: Any) -> Wish:
    def wish(seen: Snapshot) -> Decision:
        (pool,) = seen.cluster.pools
        action = ScalePool(
            pool=pool.name, version=pool.version, nodes=pool.nodes - len(nodes), was=pool.nodes, remove=tuple(nodes)
        )
        return _decision(seen, action, changes)

    return wish


def preempt(job: str, move: bool = False, gpus: int = 8, **changes: Any) -> Wish:
    def wish(seen: Snapshot) -> Decision:
        run = next(j for j in seen.cluster.jobs if j.id == job)
        action: Any = Preempt(job=job, run_id=run.run_id, on_nodes=run.nodes, checkpoint="c", gpus=gpus, lost_gpu_s=1.0)
        if move:
            action = Migrate(job=job, run_id=run.run_id, on_nodes=run.nodes, to_nodes=("n9",), checkpoint="c", gpus=gpus)
        return _decision(seen, action, changes)

    return wish


def drain(node: str, cordon: bool = False, **changes: Any) -> Wish:
    def wish(seen: Snapshot) -> Decision:
        uid = next((n.uid for n in seen.cluster.nodes if n.name == node), "ghost")
        return _decision(seen, (Cordon if cordon else Drain)(node=node, uid=uid, reason="ecc"), changes)

    return wish


def wish_for(action: Any, **changes: Any) -> Wish:
    return lambda seen: _decision(seen, action, changes)


def _decision(seen: Snapshot, action: Any, changes: dict[str, Any]) -> Decision:
    age = changes.get("age", 0.0)
    rest = {key: value for key, value in changes.items() if key != "age"}
    return replace(Decision(policy="x", action=action, reason="told to", within_s=60.0, inputs_at=seen.now - age), **rest)
