"""A plan is admitted whole or not at all: half of a preemption stops work and helps nobody (policy.md 20)."""

from collections import defaultdict
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.action import Admission, Decision, Deny, HoldCapacity, Mode, Preempt
from aiops.decide.admit import admit
from aiops.decide.limits import Limits
from aiops.model import Checkpoint, Cluster, Gpu, Job, JobState, Node, NodeState
from aiops.snapshot import Snapshot

NOW = 1e9
GPUS = tuple(Gpu(uuid=f"g{i}", index=i) for i in range(8))
NODES = tuple(Node(name=f"n{i}", uid=f"u{i}", pool="p", state=NodeState.READY, gpus=GPUS) for i in range(8))
JOBS = tuple(
    Job(
        id=f"j{i}", run_id=f"r{i}", name=f"j{i}", queue="q", state=JobState.RUNNING, gpus=8, submitted_at=NOW - 9e3,
        tenant=f"t{i % 3}", nodes=(f"n{i}",), protected=i == 7,
        checkpoint=Checkpoint(id="c", run_id=f"r{i}", at=NOW - 50.0, read_at=NOW - 5.0, verified=True),
    )
    for i in range(8)
)  # fmt: skip


def snapshot(mode: Mode = Mode.ACT) -> Snapshot:
    return Snapshot(
        id="1-1", now=NOW, epoch=1, cluster=Cluster(at=NOW, backend="b", nodes=NODES, jobs=JOBS), census={"p": 8},
        modes={"x": mode, "y": mode}, supports=("preempt", "hold_capacity"),
    )  # fmt: skip


def stop(number: int, plan: str = "", policy: str = "x") -> Decision:
    job = JOBS[number]
    action = Preempt(job=job.id, run_id=job.run_id, on_nodes=job.nodes, checkpoint="c", gpus=8, lost_gpu_s=1.0)
    return Decision(policy=policy, action=action, reason="because", inputs_at=NOW, plan=plan)


def answers(*wishes: Decision, mode: Mode = Mode.ACT, **limits: int) -> list[Deny | None]:
    return [a.denied for a in admit(snapshot(mode), Limits.from_settings(limits, "t"), wishes)]


def test_when_the_budget_refuses_one_victim_nobody_is_stopped_and_each_says_why() -> None:
    plan = [stop(i, "vip") for i in range(4)]
    admissions = admit(snapshot(), Limits(jobs=2, tenant_jobs=2, policy_jobs=2), plan)
    assert [a.denied for a in admissions] == [Deny.BLAST_RADIUS] * 4
    assert "preempt on job/j2" in admissions[0].detail
    assert admissions[2].detail == "3 jobs disrupted, 2 allowed within 3600 s"


def test_a_refused_plan_spends_nothing_so_that_the_next_wish_may_still_go() -> None:
    wishes = (stop(0, "vip"), stop(1, "vip"), stop(7, "vip"), stop(2), stop(3))
    limits = {"jobs": 2, "tenant_jobs": 2, "policy_jobs": 2}
    assert answers(*wishes, **limits) == [Deny.PROTECTED] * 3 + [None, None]


def test_a_hold_is_not_booked_for_a_plan_that_is_refused() -> None:
    hold = Decision(policy="x", plan="vip", reason="for what is freed", action=HoldCapacity(
        hold="h", owner="vip", nodes=("n0",), gpus=8, ttl_s=30.0, fence=1))  # fmt: skip
    again = replace(hold, plan="", action=replace(hold.action, hold="other"))
    assert answers(hold, stop(7, "vip"), again) == [Deny.PROTECTED, Deny.PROTECTED, None]


def test_the_same_name_for_a_plan_of_another_policy_is_another_plan() -> None:
    assert answers(stop(0, "vip"), stop(7, "vip", policy="y")) == [None, Deny.PROTECTED]


def test_an_observed_plan_tells_the_same_story() -> None:
    assert answers(stop(0, "vip"), stop(1, "vip"), mode=Mode.OBSERVE) == [Deny.OBSERVE_ONLY] * 2
    assert answers(stop(0, "vip"), stop(7, "vip"), mode=Mode.OBSERVE) == [Deny.PROTECTED] * 2


@given(
    wishes=st.lists(
        st.builds(stop, st.integers(0, 7), st.sampled_from(["", "a", "b", "c"]), st.sampled_from(["x", "y"])), max_size=9
    ),
    jobs=st.integers(1, 8),
    gpus=st.integers(32, 64),
)
@settings(max_examples=150, deadline=None)
def test_plans_are_whole_and_only_refused_for_one_of_their_own(wishes: list[Decision], jobs: int, gpus: int) -> None:
    limits = Limits.from_settings({"jobs": jobs, "tenant_jobs": jobs, "policy_jobs": jobs, "gpus": gpus}, "t")
    admissions = admit(snapshot(), limits, wishes)
    plans = defaultdict[tuple[str, str], list[Admission]](list)
    for admission in admissions:
        plans[admission.decision.policy, admission.decision.plan].append(admission)
    for (_, plan), parts in plans.items():
        if plan:
            assert len({a.denied for a in parts}) == 1, "all or none, for one reason"
            assert parts[0].permitted or any(not a.detail.startswith("all or none") for a in parts)
    kept = [a.decision for a in admissions if a.permitted]
    assert all(a.permitted for a in admit(snapshot(), limits, kept)), "who is left never needed who is refused"
