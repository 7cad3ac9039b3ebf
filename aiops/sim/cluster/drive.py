"""Run one policy set or one baseline through virtual time.

The policies run as the daemon runs them: the same `run_cycle`, scrape and tick every 10 s, forecasts of the real engine put
on the shelf every 5 minutes as they would have been made then. A baseline is asked at its own period, and obeyed at once; where
pools may be scaled, the cluster-autoscaler scales them beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from aiops import plugins
from aiops.action import Mode
from aiops.clock import ManualClock
from aiops.decide.check import Trace, check
from aiops.decide.limits import Limits
from aiops.loop import House, Memory, run_cycle
from aiops.model import Floats, Forecast
from aiops.ports import Policy
from aiops.sim.baselines.catalogue import BASELINES
from aiops.sim.baselines.nodes import ClusterAutoscaler, Group
from aiops.sim.baselines.seen import Scaler, Seen, ceil
from aiops.sim.cluster.backend import EPOCH, SCRAPE_S, SimBackend
from aiops.sim.cluster.load import Loads
from aiops.sim.cluster.scenario import Scenario
from aiops.sim.cluster.shelf import SimStore
from aiops.sim.cluster.stall import findings, shown
from aiops.sim.cluster.world import World
from aiops.sim.perturb import Crash, Perturbed

TICK_S = 10
FIT_S = 30
"""A forecast is on the shelf this long after the moment it was made from."""

WARM_UP_S = 600
"""Samples before the first cycle: a daemon that starts on a running cluster has watched it for a moment."""

PROGRESS_S = 3600
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What every run of one simulation shares: scenario, load, the simulated span in whole Unix seconds, seed."""

    scenario: Scenario
    loads: Loads
    start: int
    end: int
    seed: int

    @property
    def seen(self) -> dict[str, Floats]:
        """Load of each service, (n,) per second, as its metric shows it."""
        offset, stalls = int(self.start - self.loads.start), self.scenario.stalls
        return {name: shown(stalls, name, rates, offset) for name, rates in self.loads.rates.items()}

    def world(self) -> World:
        """A fresh world with what the load of the first minute before the start needs, ready."""
        world = World(self.scenario.pools, self.scenario.services, self.seed)
        for spec in self.scenario.services:
            index = int(self.start - self.loads.start)
            before = self.loads.rates[spec.name][max(0, index - 60) : index + 1]
            world.seed_ready(
                spec.name,
                min(max(ceil(float(before.mean()) / spec.right_load), spec.min_replicas), spec.max_replicas),
                self.start,
            )
        return world


@dataclass(slots=True)
class Run:
    """What one run left behind."""

    world: World
    decisions: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    violations: tuple[str, ...] = ()
    perturbed: dict[str, int] = field(default_factory=dict)


def run_policies(stage: Stage, forecasts: Sequence[Forecast], where: str, progress: Progress) -> Run:
    """The scenario's policies, acting, under the scenario's limits."""
    policies = {
        name: cast(Policy, plugins.load("policies", name, section, f"{where}: policies"))
        for name, section in stage.scenario.policies.items()
    }
    limits = Limits.from_settings(stage.scenario.limits, where)
    store, clock, run = SimStore(), ManualClock(), Run(stage.world())
    cluster = SimBackend(run.world, stage.loads, stage.seen, (stage.scenario.stalls, stage.start))
    backend = Perturbed(cluster, stage.scenario.perturb, stage.seed)
    store.acquire("simulation", stage.start, 1e12)
    house = House(
        store=store,
        backend=backend,
        policies=policies,
        clock=clock,
        modes=dict.fromkeys(policies, Mode.ACT),
        rules=stage.scenario.policies,
        limits=stage.scenario.limits,
        halted=backend.guard(lambda: False),
        leads=lambda: True,
        announce=lambda snapshot, decided: backend.step(),
    )
    _tick(stage, house, (forecasts, run, progress))
    trace = Trace(
        cycles=tuple(store.cycles_decided), entries=store.ledger(), effects=tuple(cluster.effects), now=float(stage.end)
    )
    run.perturbed = {kind: count for kind, count in sorted(backend.counts.items()) if count}
    run.violations = tuple(f"{v.rule} {v.id}: {v.detail}" for v in check(trace, limits))
    return run


def _tick(stage: Stage, house: House, by: tuple[Sequence[Forecast], Run, Progress]) -> None:
    forecasts, run, progress = by
    backend, memory, clock = cast(Perturbed, house.backend), Memory(), cast(ManualClock, house.clock)
    waiting = sorted(forecasts, key=lambda one: one.made_at)[::-1]
    for now in range(stage.start - WARM_UP_S, stage.start, SCRAPE_S):
        if now - stage.loads.start >= SCRAPE_S:
            house.store.append(backend.inner.collect(float(now)))
    for now in range(stage.start, stage.end, TICK_S):
        clock.wall = clock.monotonic = float(now)
        run.world.advance(now)
        house.store.append(*backend.collect(float(now)))
        made = []
        while waiting and waiting[-1].made_at + FIT_S <= now:
            made.append(waiting.pop())
        if made:
            house.store.put_forecasts(made)
        if stage.scenario.stalls:
            house.store.put_findings(float(now), findings(stage.scenario.stalls, stage.start, now))
        try:
            decided = run_cycle(house, memory, float(now), EPOCH)
        except Crash:
            memory, decided = Memory(), None  # started again before the next tick
        if decided is not None:
            run.decisions += len(decided.decisions)
            run.refusals.update(a.denied.value for a in decided.admissions if a.denied is not None)
            run.failed += len(decided.failed)
        if (now - stage.start) % PROGRESS_S == 0:
            progress((now - stage.start) / (stage.end - stage.start))
    run.world.advance(stage.end)


def run_baseline(stage: Stage, name: str, progress: Progress) -> Run:
    """One baseline on every service."""
    return run_scalers(stage, BASELINES[name], progress)


def run_scalers(stage: Stage, made: Callable[[Floats, int], Scaler], progress: Progress) -> Run:
    """A fresh scaler per service, `made` from the load of the whole trace and the longest start-up."""
    run = Run(stage.world())
    lead_s = {spec.name: longest_start(spec.cold_start.p50, spec.cold_start.p90) for spec in stage.scenario.services}
    scalers = {s.name: made(stage.loads.rates[s.name], lead_s[s.name]) for s in stage.scenario.services}
    period, rates = next(iter(scalers.values())).period_s, stage.seen
    groups = {pool.name: ClusterAutoscaler() for pool in stage.scenario.pools if pool.elastic}
    ticks = set(range(stage.start, stage.end, period))
    scans = set(range(stage.start, stage.end, ClusterAutoscaler.period_s)) if groups else set()
    for now in sorted(ticks | scans):
        run.world.advance(now)
        for pool, autoscaler in groups.items() if now in scans else ():
            follow(run, pool, autoscaler, now)
        for service, scaler in scalers.items() if now in ticks else ():
            seen = look(run.world, service, rates[service][: int(now - stage.loads.start)], now)
            wanted = scaler.target(seen)
            if wanted != seen.replicas:
                run.decisions += 1
                run.world.scale(service, wanted, now)
        if (now - stage.start) % PROGRESS_S < period:
            progress((now - stage.start) / (stage.end - stage.start))
    run.world.advance(stage.end)
    return run


def follow(run: Run, pool: str, autoscaler: ClusterAutoscaler, now: int) -> None:
    """One scan of a pool, obeyed at once."""
    group = run.world.groups[pool]
    free = dict(group.free)
    change = autoscaler.change(
        Group(
            now=float(now),
            gpus=group.spec.gpus,
            low=group.spec.low,
            high=group.spec.high,
            free=free,
            on={name: run.world.on(name) for name, left in free.items() if left < group.spec.gpus},
            starting=group.starting,
            waiting=run.world.waiting(pool),
        )
    )
    if change.drain:
        run.world.evict(change.drain, now)
    if change.nodes != group.size:
        run.decisions += 1
        run.world.scale_pool(pool, change.nodes, now, change.remove)


def look(world: World, service: str, rates: Floats, now: int) -> Seen:
    """What a baseline sees of a service at `now`; `rates` (n,) is its load of every second so far."""
    fleet = world.fleets[service]
    return Seen(
        now=float(now),
        replicas=len(fleet.replicas),
        ready=fleet.ready,
        low=fleet.spec.min_replicas,
        high=fleet.spec.max_replicas,
        target=fleet.spec.right_load,
        rates=rates,
    )


def longest_start(p50: float, p90: float) -> int:
    """Seconds within which 99 % of the replicas start, rounded up: P50 (P90/P50)^(2.326/1.2816)."""
    return int(np.ceil(p50 * (p90 / p50) ** (2.3263 / 1.2816)))
