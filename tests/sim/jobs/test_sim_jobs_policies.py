"""The real policies on simulated jobs: lending with reclaim within five minutes, drains of any length, no invariant broken."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.action import Preempt
from aiops.sim.jobs import drive
from aiops.sim.jobs.backend import JobBackend
from aiops.sim.jobs.drive import Run, Stage, run_policies, run_scheduler
from aiops.sim.jobs.scenario import JobScenario
from aiops.sim.jobs.trace import JobTrace, Submitted

LIMITS = {
    "jobs": 100, "policy_jobs": 100, "tenant_jobs": 100, "gpus": 1000, "approve_gpus": 500, "tenants": 50,
    "evictions_per_day": 20,
}  # fmt: skip
FIELDS: dict[str, Any] = {
    "name": "two", "tick": 10, "pools": [{"name": "p", "nodes": 4, "gpus": 8}],
    "queues": [{"name": "a", "quota": 16}, {"name": "b", "quota": 16}],
    "jobs": {"checkpoint": 20, "restart": 60, "stop": 30}, "limits": LIMITS,
}  # fmt: skip


def job(id: str, submit: float, gpus: int = 8, duration: float = 7200.0, priority: int = 0) -> Submitted:
    return Submitted(id=id, submit=submit, gpus=gpus, duration_s=duration, queue=id[0], priority=priority, interval_s=1800.0)


def stage(rows: Sequence[Submitted], until: float, **changes: Any) -> Stage:
    scenario = JobScenario(**{**FIELDS, **changes})
    ordered = tuple(sorted(rows, key=lambda one: one.submit))
    return Stage(scenario=scenario, trace=JobTrace(ordered), start=0.0, scored=0.0, end=until, seed=0)


def run(rows: Sequence[Submitted], until: float, **changes: Any) -> Run:
    done = run_policies(stage(rows, until, **changes), "here", lambda share: None)
    assert done.violations == ()
    assert done.failed == 0
    return done


def test_idle_shares_are_lent_at_the_next_look_and_given_back_within_five_minutes() -> None:
    # Given a fills its share and more; b comes 50 minutes later for all of its own
    jobs = [*(job(f"a{i}", 0.0) for i in range(4)), *(job(f"b{i}", 3000.0) for i in range(2))]
    done = run(jobs, 9000.0)
    starts = {one.id: one.first_start for one in (*done.world.ended, *done.world.jobs.values())}
    assert starts["a2"] == starts["a3"] == 0.0, "lent in the first plan"
    assert all(3000.0 < starts[f"b{i}"] <= 3300.0 for i in range(2)), starts
    assert len(done.world.counted.reclaims) == 2
    # And a checkpoint was asked for before: each borrower lost seconds, not its 20 minutes since the last regular one
    lost = done.world.counted.lost_gpu_s
    assert done.world.counted.evictions == 2
    assert lost < 2 * 8 * (60 + 30 + 60), "restart, leaving, and what was worked after the checkpoint"
    # Who gives back by force at once loses it
    forced = run_scheduler(stage(jobs, 9000.0), "newest-first", lambda share: None)
    assert forced.world.counted.lost_gpu_s > 10 * lost


def contended(drain_s: float, until: float) -> Run:
    """Five of eight GPUs in use on each of four nodes; an important job that needs a whole node comes at 4000."""
    queues = [{"name": "a", "quota": 32}]
    low = [job(f"a{i}", 0.0, gpus=5, duration=50_000.0) for i in range(4)]
    vip = job("avip", 4000.0, gpus=8, priority=10)
    return run([*low, vip], until, jobs={**FIELDS["jobs"], "stop": drain_s}, policies={"preempt": {}}, queues=queues)


@pytest.mark.parametrize("drain_s", [5, 29, 31, 300])
def test_22_the_freed_node_goes_to_whom_it_was_freed_for_however_long_the_drain(drain_s: int) -> None:
    done = contended(drain_s, 6000.0)
    vip = done.world.jobs["avip"]
    assert vip.first_start is not None
    assert 4000.0 + drain_s <= vip.first_start <= 4000.0 + drain_s + 60.0
    assert done.world.counted.evictions == 1, "one victim, not one per cycle of the drain"


class Watched(JobBackend):
    """The simulated cluster with a look at its own books at every step."""

    def observe(self, now: float) -> Any:
        check_books(self)
        return super().observe(now)


def check_books(backend: JobBackend) -> None:
    """23: what runs and what is held is never more than there is, on any node."""
    floor = backend.world.floor
    for name, size in floor.sizes.items():
        held = sum(hold.each for hold in floor.holds.values() if name in hold.nodes)
        used = size - floor.free[name]
        assert -1e-6 <= used <= size + 1e-6
        assert held <= size + 1e-6
    assert sum(one.spec.gpus for one in backend.world.on_nodes.values()) <= sum(floor.sizes.values())
    lent = sum(one.spec.gpus for one in backend.world.borrowed.values())
    assert sum(backend.world.used.values()) + lent <= sum(floor.sizes.values())


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 4000), st.sampled_from([1, 2, 4, 8, 16]),
                  st.sampled_from([300.0, 3000.0, 9000.0]), st.integers(0, 2)),
        min_size=4, max_size=16),
    drain_s=st.sampled_from([5, 29, 31, 300]),
    order=st.permutations(["preempt", "rebalance", "reclaim"]),
)  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_23_the_sum_never_exceeds_capacity_and_no_invariant_breaks(
    rows: list[tuple[str, int, int, float, int]], drain_s: int, order: list[str]
) -> None:
    jobs = [
        Submitted(id=f"{queue}{i}", submit=float(at), gpus=gpus, duration_s=length, queue=queue, priority=rank,
                  interval_s=600.0 if i % 4 else math.inf)
        for i, (queue, at, gpus, length, rank) in enumerate(rows)
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drive, "JobBackend", Watched)
        run(jobs, 7200.0, jobs={**FIELDS["jobs"], "stop": drain_s}, tick=30, policies={name: {} for name in order})


def test_a_backend_that_stops_the_wrong_job_is_caught_by_the_invariants(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = JobBackend.apply

    def twice(self: JobBackend, admission: Any, now: float) -> Any:
        receipt = honest(self, admission, now)
        if isinstance(admission.decision.action, Preempt):
            self.effects.append(self.effects[-1])
        return receipt

    monkeypatch.setattr(JobBackend, "apply", twice)
    jobs = [*(job(f"a{i}", 0.0) for i in range(4)), *(job(f"b{i}", 3000.0) for i in range(2))]
    done = run_policies(stage(jobs, 5000.0), "here", lambda share: None)
    assert any(line.startswith("I1 ") for line in done.violations)


def test_without_permission_to_act_nothing_is_lent() -> None:
    jobs = [job(f"a{i}", 0.0) for i in range(4)]
    done = run(jobs, 3600.0, limits={**LIMITS, "scopes": {"rebalance": []}})
    assert done.world.counted.lent == 0
    assert not done.refusals, "nor is it wished for: it would be refused for ever"
    assert run(jobs, 3600.0).world.counted.lent > 0, "with permission it is"
