"""The boost policy: who would lose much is shielded in three steps, and nobody else."""

from dataclasses import replace
from typing import Any

import pytest

from aiops.action import Action, Admission, Decision, Entry, EntryState, Preempt, RequestCheckpoint, TuneJob
from aiops.errors import ConfigError
from aiops.model import Checkpoint, Cluster, Job, JobState, Knob
from aiops.snapshot import Snapshot
from policies.boost import Boost

NOW = 1e9
HOUR = 3600.0


def job(hours: float = 3.0, boost: float = 0.0, id: str = "ns/a", **changes: Any) -> Job:
    """Eight GPUs, so many hours since their checkpoint: 16 GPU-hours, the default for a full boost, are two hours."""
    plain = Job(
        id=id, run_id="r", name=id, queue="q", state=JobState.RUNNING, gpus=8, submitted_at=NOW - 9e5, started_at=NOW - 8e5,
        checkpoint=Checkpoint(id="c", run_id="r", at=NOW - hours * HOUR, read_at=NOW, verified=True),
        knobs=(Knob(name="priority-boost", value=boost, least=0.0, most=100.0),),
    )  # fmt: skip
    return replace(plain, **changes)


def seen(*jobs: Job, history: tuple[Entry, ...] = ()) -> Snapshot:
    return Snapshot(id="c", now=NOW, epoch=1, cluster=Cluster(at=NOW, backend="b", jobs=jobs), history=history)


def turned(snapshot: Snapshot, policy: Boost | None = None) -> list[tuple[str, float, float]]:
    rows = [one.action for one in (policy or Boost()).decide(snapshot) if isinstance(one, Decision)]
    return [(row.job, row.was, row.value) for row in rows if isinstance(row, TuneJob)]


@pytest.mark.parametrize(
    ("hours", "boost", "due"),
    [
        pytest.param(0.01, 0.0, None, id="just checkpointed, and nothing to take away"),
        pytest.param(0.01, 100.0, 0.0, id="just checkpointed: the boost goes"),
        pytest.param(0.49, 0.0, None, id="under a quarter"),
        pytest.param(0.51, 0.0, 50.0, id="over a quarter: half of it"),
        pytest.param(1.99, 50.0, None, id="nothing changes in between"),
        pytest.param(2.01, 50.0, 100.0, id="all of it"),
        pytest.param(90.0, 100.0, None, id="and no more than that"),
    ],
)
def test_the_boost_follows_what_a_stop_would_lose_in_three_steps(hours: float, boost: float, due: float | None) -> None:
    assert turned(seen(job(hours, boost))) == ([] if due is None else [("ns/a", boost, due)])


PROOF = job().checkpoint
assert PROOF is not None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"checkpoint": None}, id="reports none: nothing is known, and silence is not rewarded"),
        pytest.param({"checkpoint": replace(PROOF, verified=False)}, id="a proof that nobody verified"),
        pytest.param({"checkpoint": replace(PROOF, run_id="before")}, id="a proof of the run before"),
        pytest.param({"checkpoint": replace(PROOF, at=NOW + 60.0)}, id="a proof from the future"),
        pytest.param({"preemptible": True}, id="may be stopped without a checkpoint"),
        pytest.param({"checkpoint": replace(PROOF, at=0.0), "started_at": NOW - 60.0}, id="a proof from before the run"),
    ],
)
def test_who_is_not_known_to_lose_much_is_not_boosted_and_loses_an_old_boost(changes: dict[str, Any]) -> None:
    assert turned(seen(job(**changes))) == []
    assert turned(seen(job(boost=100.0, **changes))) == [("ns/a", 100.0, 0.0)]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"knobs": ()}, id="the backend offers no boost for it"),
        pytest.param({"state": JobState.STARTING}, id="does not run"),
        pytest.param({"checkpoint_requested_at": NOW - 5.0}, id="is asked for a checkpoint, which comes first"),
    ],
)
def test_who_cannot_or_must_not_be_touched_is_left(changes: dict[str, Any]) -> None:
    assert turned(seen(job(**changes))) == []


@pytest.mark.parametrize(
    ("hours", "asked_ago_s", "boost"),
    [
        pytest.param(0.01, 3600.0, 100.0, id="a checkpoint that came since is an answer, whatever its name"),
        pytest.param(3.0, 3600.0, 0.0, id="who did not answer for an hour is not waited for any more"),
    ],
)
def test_a_request_that_is_over_freezes_no_boost(hours: float, asked_ago_s: float, boost: float) -> None:
    asked = job(hours, boost, checkpoint_requested_at=NOW - asked_ago_s)
    assert turned(seen(asked)) == [("ns/a", boost, 100.0 - boost)]


STOP = Preempt(job="ns/a", run_id="r", on_nodes=("n",), checkpoint="c", gpus=8, lost_gpu_s=0.0)
ASKED = RequestCheckpoint(job="ns/a", run_id="r")


@pytest.mark.parametrize(
    ("policy", "action", "age_s", "left"),
    [
        pytest.param("preempt", ASKED, 60.0, True, id="a boost now would delay the stop that this prepares"),
        pytest.param("preempt", STOP, 60.0, True, id="is being stopped"),
        pytest.param("preempt", ASKED, 301.0, False, id="long ago"),
        pytest.param("boost", ASKED, 60.0, False, id="only others count: the core's cooldown sees to its own"),
        pytest.param("preempt", replace(ASKED, job="ns/b"), 60.0, False, id="another job"),
    ],
)
def test_a_job_at_which_another_policy_is_at_work_is_left(policy: str, action: Action, age_s: float, left: bool) -> None:
    admission = Admission(id="x", at=NOW - age_s, decision=Decision(policy=policy, action=action, reason=""))
    entry = Entry(admission=admission, state=EntryState.CONFIRMED, epoch=1, expires_at=NOW, changed_at=NOW)
    assert bool(turned(seen(job(), history=(entry,)))) is not left


def test_what_is_not_due_goes_first_and_then_the_dearest_are_boosted() -> None:
    jobs = (job(3.0, id="ns/a"), job(9.0, id="ns/b"), job(0.0, 100.0, id="ns/c"))
    policy = Boost.from_settings({"at_once": 2}, "test")
    assert turned(seen(*jobs), policy) == [("ns/c", 100.0, 0.0), ("ns/b", 0.0, 100.0)]


def test_a_setting_out_of_range_is_named() -> None:
    with pytest.raises(ConfigError, match=r"policies\.boost\.gpu_hours"):
        Boost.from_settings({"gpu_hours": 0}, "test")
