"""Run one policy set or one other scheduler over the same jobs in virtual time.

Under policies the cluster itself schedules as `no-lending` does; the daemon's own cycle runs on top of it, every `tick`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

from aiops import plugins
from aiops.action import Mode
from aiops.clock import ManualClock
from aiops.decide.check import Trace, check
from aiops.decide.limits import Limits
from aiops.loop import House, Memory, run_cycle
from aiops.ports import Policy
from aiops.sim.baselines.jobs import SCHEDULERS, NoLending
from aiops.sim.cluster.backend import EPOCH
from aiops.sim.cluster.shelf import SimStore
from aiops.sim.jobs.backend import JobBackend
from aiops.sim.jobs.scenario import JobScenario
from aiops.sim.jobs.trace import JobTrace
from aiops.sim.jobs.world import Scheduler, World
from aiops.snapshot import Decided, Snapshot

Progress = Callable[[float], None]
STEPS = 200
"""How often the bar moves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What every run of one simulation shares. What happens before `scored` only fills the cluster."""

    scenario: JobScenario
    trace: JobTrace
    start: float
    scored: float
    end: float
    seed: int

    def world(self, scheduler: Scheduler) -> World:
        """A fresh world before its first job."""
        world = World(self.scenario, self.trace.jobs, scheduler)
        world.counted.since = self.scored
        return world


@dataclass(slots=True)
class Run:
    """What one run left behind."""

    world: World
    decisions: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    violations: tuple[str, ...] = ()


class JobShelf(SimStore):
    """A shelf that keeps of each recorded cluster only the jobs that something was decided about: the rest is 99 % of it."""

    def record(self, snapshot: Snapshot, decided: Decided) -> None:
        """See `Ledger.record`."""
        named = {getattr(one.decision.action, "job", "") for one in decided.admissions}
        jobs = tuple(job for job in snapshot.cluster.jobs if job.id in named)
        super().record(replace(snapshot, cluster=replace(snapshot.cluster, jobs=jobs), history=()), decided)


def run_scheduler(stage: Stage, name: str, progress: Progress) -> Run:
    """One of the other schedulers."""
    run = Run(stage.world(SCHEDULERS[name]()))
    for step in range(1, STEPS + 1):
        run.world.advance(stage.start + (stage.end - stage.start) * step / STEPS)
        progress(step / STEPS)
    run.world.close(stage.end)
    return run


def run_policies(stage: Stage, where: str, progress: Progress) -> Run:
    """The scenario's policies, acting, under the scenario's limits."""
    scenario = stage.scenario
    policies = {
        name: cast(Policy, plugins.load("policies", name, section, f"{where}: policies"))
        for name, section in scenario.policies.items()
    }
    limits = Limits.from_settings(scenario.limits, where)
    store, clock, run = JobShelf(), ManualClock(), Run(stage.world(NoLending()))
    backend = JobBackend(run.world)
    store.acquire("simulation", stage.start, 1e12)
    house = House(
        store=store, backend=backend, policies=policies, clock=clock, modes=dict.fromkeys(policies, Mode.ACT),
        rules=scenario.policies, limits=scenario.limits, halted=lambda: False, leads=lambda: True,
        announce=lambda snapshot, decided: None,
    )  # fmt: skip
    _tick(stage, house, run, progress)
    run.world.close(stage.end)
    trace = Trace(cycles=tuple(store.cycles_decided), entries=store.ledger(), effects=tuple(backend.effects), now=stage.end)
    run.violations = tuple(f"{v.rule} {v.id}: {v.detail}" for v in check(trace, limits))
    return run


def _tick(stage: Stage, house: House, run: Run, progress: Progress) -> None:
    memory, clock = Memory(), cast(ManualClock, house.clock)
    ticks = int((stage.end - stage.start) // stage.scenario.tick)
    for tick in range(ticks):
        now = stage.start + tick * stage.scenario.tick
        clock.wall = clock.monotonic = now
        run.world.advance(now)
        decided = run_cycle(house, memory, now, EPOCH)
        if decided is not None:
            run.decisions += len(decided.decisions)
            run.refusals.update(a.denied.value for a in decided.admissions if a.denied is not None)
            run.failed += len(decided.failed)
        if tick % max(1, ticks // STEPS) == 0:
            progress(tick / ticks)
