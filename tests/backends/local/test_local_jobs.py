"""Jobs on one machine: queue order, gangs, slots, freezing, checkpoints and their proofs, moving, draining."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from local_stage import LocalStage, job, python

from aiops.action import (
    Action,
    ConfirmHold,
    Cordon,
    Drain,
    HoldCapacity,
    LendQueue,
    LimitBandwidth,
    Migrate,
    Outcome,
    Preempt,
    ReleaseHold,
    RequestCheckpoint,
    Requeue,
    ReserveBandwidth,
    Resume,
    SetPowerLimit,
    Suspend,
    TuneJob,
    Uncordon,
)
from aiops.backends.local.process import stopped
from aiops.model import Cluster, Job, JobState, Knob, NodeState, Share
from aiops.testing.backend import admit

Make = Callable[..., LocalStage]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[LocalStage] = []

    def build(jobs: dict[str, Any], **section: Any) -> LocalStage:
        made.append(LocalStage(tmp_path, {"nodes": {"n0": {"gpus": 2}}, "jobs": jobs, **section}))
        return made[-1]

    yield build
    for stage in made:
        stage.finish()


def states(cluster: Cluster) -> dict[str, str]:
    return {one.id: one.state.value for one in cluster.jobs}


def the(cluster: Cluster, name: str = "train") -> Job:
    return next(one for one in cluster.jobs if one.id == name)


def running(stage: LocalStage, *names: str) -> Cluster:
    wanted = names or ("train",)
    return stage.until(lambda cluster: all(the(cluster, name).state is JobState.RUNNING for name in wanted))


def do(stage: LocalStage, action: Action, id: str = "a1") -> Outcome:
    return stage.backend.apply(admit(action, id=id), stage.now()).outcome


def control(stage: LocalStage, name: str = "train") -> Path:
    return next(Path(stage.environment(unit)["AIOPS_CONTROL_DIR"]) for unit in stage.living() if unit.startswith(name))


# -- the queue ---------------------------------------------------------------------------------------------------------


def test_the_higher_priority_starts_first_and_the_rest_wait(make: Make) -> None:
    stage = make({"low": job(gpus=2), "high": job(gpus=2, priority=5)})
    seen = running(stage, "high")
    assert states(seen) == {"high": "running", "low": "queued"} and the(seen, "low").reason == "waits for capacity"


def test_a_small_job_does_not_overtake_a_waiting_large_one(make: Make) -> None:
    stage = make({"a": job(gpus=1, priority=9), "large": job(gpus=2, priority=5), "small": job(gpus=1)})
    assert states(running(stage, "a")) == {"a": "running", "large": "queued", "small": "queued"}


def test_what_can_never_fit_blocks_nobody(make: Make) -> None:
    stage = make({"huge": job(gpus=9, priority=9), "small": job()})
    seen = running(stage, "small")
    assert the(seen, "huge").reason == "asks for more than this cluster has"


def test_a_gang_starts_whole_or_not_at_all(make: Make) -> None:
    stage = make({"a": job(priority=9), "g1": job(gang="g", priority=5), "g2": job(gang="g", priority=5)})
    assert states(running(stage, "a")) == {"a": "running", "g1": "queued", "g2": "queued"}


def test_slots_are_given_once_and_told_to_the_process(make: Make) -> None:
    stage = make({"a": job(), "b": job()})
    seen = running(stage, "a", "b")
    told = {stage.environment(unit)["CUDA_VISIBLE_DEVICES"] for unit in stage.living()}
    assert told == {the(seen, "a").gpu_uuids[0], the(seen, "b").gpu_uuids[0]} and len(told) == 2


def test_a_process_is_told_only_what_was_declared(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_TOKEN", "secret")
    stage = make({"train": job(env={"DEPTH": 3})})
    running(stage)
    environment = stage.environment(next(iter(stage.living())))
    assert environment["DEPTH"] == "3" and "CLOUD_TOKEN" not in environment


def test_a_queue_over_its_quota_waits_until_another_lends(make: Make) -> None:
    queues = {"mine": {"quota_gpus": 1}, "theirs": {"quota_gpus": 1}}
    stage = make({"a": job(queue="mine", priority=1), "b": job(queue="mine")}, queues=queues)
    seen = running(stage, "a")
    waiting = the(seen, "b")
    assert (waiting.state, waiting.reason) == (JobState.QUEUED, "queue mine is at its quota")
    wish = LendQueue(job="b", run_id=waiting.run_id, borrower="mine", lender="theirs", nodes=("n0",), gpus=1)
    assert do(stage, wish) is Outcome.DONE
    running(stage, "a", "b")


def test_a_migrating_job_takes_any_place_when_its_own_stays_taken(make: Make, tmp_path: Path) -> None:
    two = {"n0": {"gpus": 1}, "n1": {"gpus": 1}}
    stage = make({"train": job()}, nodes=two)
    cluster = running(stage)
    seen, uid = the(cluster), next(node.uid for node in cluster.nodes if node.name == "n1")
    (tmp_path / "model").write_bytes(b"weights")
    acknowledge(stage, seen.run_id, tmp_path / "model")
    wish = Migrate(job="train", run_id=seen.run_id, on_nodes=("n0",), to_nodes=("n1",), checkpoint="c1", gpus=1)
    assert do(stage, wish) is Outcome.DONE  # no look from here to the cordon: it might place the run on n1 already
    do(stage, Cordon(node="n1", uid=uid, reason="broke meanwhile"), "a2")
    stage.until(lambda cluster: the(cluster).state is JobState.QUEUED)
    stage.offset = 60.0
    assert the(stage.observe()).state is JobState.QUEUED
    stage.offset = 200.0
    assert running(stage).jobs[0].nodes == ("n0",)


def test_what_a_victim_frees_can_be_bound_before_it_is_gone(make: Make) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(300)"
    stage = make({"train": job(command=python(deaf), gpus=2, preemptible=True, kill_wait=60)})
    seen = the(running(stage))
    assert do(stage, hold()) is Outcome.STALE
    do(stage, preempt(seen, ""), "a2")
    assert do(stage, hold(), "a3") is Outcome.DONE
    stage.offset = 61.0
    stage.until(lambda cluster: not stage.living())
    assert do(stage, ConfirmHold(hold="h", fence=1), "a4") is Outcome.STALE  # this victim did not leave for it, nor in time


# -- freeze, tune, requeue ---------------------------------------------------------------------------------------------


def test_suspend_freezes_the_whole_group_and_resume_thaws_it(make: Make) -> None:
    stage = make({"train": job()})
    run = the(running(stage)).run_id
    who = next(iter(stage.living().values()))
    assert do(stage, Suspend(job="train", run_id=run)) is Outcome.DONE
    stage.until(lambda cluster: the(cluster).state is JobState.SUSPENDED and stopped(who))
    assert do(stage, Resume(job="train", run_id=run), "a2") is Outcome.DONE
    stage.until(lambda cluster: the(cluster).state is JobState.RUNNING and not stopped(who))


def test_a_suspended_job_stays_frozen_over_a_restart(make: Make) -> None:
    stage = make({"train": job()})
    do(stage, Suspend(job="train", run_id=the(running(stage)).run_id))
    os.killpg(next(iter(stage.living().values())).pid, 18)  # somebody else thaws it
    stage.restart()
    stage.until(lambda cluster: the(cluster).state is JobState.SUSPENDED and stopped(next(iter(stage.living().values()))))


def test_a_knob_is_told_to_the_run_inside_its_bounds(make: Make) -> None:
    stage = make({"train": job(knobs={"workers": {"value": 2, "min": 1, "max": 8}})})
    run = the(running(stage)).run_id
    wish = TuneJob(job="train", run_id=run, knob="workers", value=6, was=2)
    assert do(stage, wish) is Outcome.DONE
    assert orjson.loads((control(stage) / "knobs.json").read_bytes()) == {"workers": 6.0}
    assert do(stage, TuneJob(job="train", run_id=run, knob="workers", value=9, was=6), "a2") is Outcome.FAILED
    assert do(stage, TuneJob(job="train", run_id=run, knob="workers", value=4, was=2), "a3") is Outcome.STALE


def test_a_failed_job_is_requeued_as_another_run(make: Make) -> None:
    stage = make({"train": job(command=["false"])})
    failed = the(stage.until(lambda cluster: the(cluster).state is JobState.FAILED))
    assert do(stage, Requeue(job="train", run_id=failed.run_id)) is Outcome.DONE
    again = the(stage.until(lambda cluster: the(cluster).state is JobState.FAILED))
    assert again.run_id != failed.run_id and again.reason == "exit 1"
    assert do(stage, Requeue(job="train", run_id=failed.run_id), "a2") is Outcome.STALE


def test_a_command_that_does_not_exist_fails_with_its_reason_in_the_log(make: Make) -> None:
    stage = make({"train": job(command=["/nowhere/train"])})
    failed = the(stage.until(lambda cluster: the(cluster).state is JobState.FAILED))
    assert failed.reason == "exit 127"
    assert "cannot start /nowhere/train" in next((stage.directory / "units").glob("*/log")).read_text()


# -- checkpoints -------------------------------------------------------------------------------------------------------


def acknowledge(stage: LocalStage, run: str, path: Path, **changes: Any) -> None:
    """What a job writes when it has saved `path`; `changes` spoil it."""
    data = path.read_bytes()
    file = {"path": str(path), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **changes.pop("file", {})}
    row = {"id": "c1", "run_id": run, "at": stage.now(), "step": 7, "manifest": {"files": [file]}, "complete": True}
    place = control(stage)
    (place / "part").write_bytes(orjson.dumps({**row, **changes}))
    (place / "part").rename(place / "checkpoint-ack.json")


def preempt(seen: Job, checkpoint: str = "c1") -> Preempt:
    return Preempt(
        job=seen.id, run_id=seen.run_id, on_nodes=seen.nodes, checkpoint=checkpoint, gpus=len(seen.gpu_uuids), lost_gpu_s=0.0
    )


def test_ask_acknowledge_verify_stop_requeue(make: Make, tmp_path: Path) -> None:
    stage = make({"train": job()})
    seen = the(running(stage))
    assert do(stage, RequestCheckpoint(job="train", run_id=seen.run_id), "c1") is Outcome.DONE
    asked = orjson.loads((control(stage) / "checkpoint-request.json").read_bytes())
    assert (asked["id"], asked["run_id"]) == ("c1", seen.run_id)
    assert the(stage.observe()).checkpoint_requested_at is not None

    (tmp_path / "model").write_bytes(b"weights")
    acknowledge(stage, seen.run_id, tmp_path / "model")
    proof = the(stage.until(lambda cluster: the(cluster).checkpoint is not None))
    assert proof.checkpoint is not None and proof.checkpoint.verified and proof.checkpoint.step == 7
    assert proof.checkpoint_requested_at is None

    before = set(stage.living())
    assert do(stage, preempt(seen)) is Outcome.DONE
    again = the(stage.until(lambda cluster: the(cluster).state is JobState.RUNNING and the(cluster).run_id != seen.run_id))
    assert len(again.evictions) == 1 and not before & set(stage.living())
    assert do(stage, preempt(seen)) is Outcome.ALREADY and do(stage, preempt(seen), "a9") is Outcome.STALE


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ({"file": {"sha256": "0" * 64}}, "the file is not what was hashed"),
        ({"file": {"bytes": 3}}, "truncated or still being written"),
        ({"file": {"path": "/nowhere/model"}}, "it vanished between proof and preemption"),
        ({"file": {"path": "/dev/zero", "bytes": 0}}, "not a regular file: hashing would never end"),
        ({"run_id": "another-run"}, "written by an earlier run: not this run's work"),
        ({"complete": False}, "no completion marker"),
        ({"manifest": {"files": []}}, "an empty proof proves nothing"),
        ({"manifest": None}, "not of the protocol"),
        ({"at": 1e12}, "from the future"),
        ({"id": "c0"}, "another checkpoint than the one that was decided on"),
    ],
)
def test_no_preemption_on_a_bad_proof(make: Make, tmp_path: Path, spoil: dict[str, Any], why: str) -> None:
    stage = make({"train": job()})
    seen = the(running(stage))
    (tmp_path / "model").write_bytes(b"weights")
    acknowledge(stage, seen.run_id, tmp_path / "model", **spoil)
    stage.observe()
    assert do(stage, preempt(seen)) is Outcome.STALE, why
    assert the(stage.observe()).run_id == seen.run_id and len(stage.living()) == 1 and stage.effects() == ()


def test_a_checkpoint_that_changed_after_it_was_proven_is_read_again(make: Make, tmp_path: Path) -> None:
    stage = make({"train": job()})
    seen = the(running(stage))
    (tmp_path / "model").write_bytes(b"weights")
    acknowledge(stage, seen.run_id, tmp_path / "model")
    stage.until(lambda cluster: bool(the(cluster).checkpoint and the(cluster).checkpoint.verified))
    (tmp_path / "model").write_bytes(b"weighty")  # same size, other bytes
    assert do(stage, preempt(seen)) is Outcome.STALE and len(stage.living()) == 1


def test_a_preemptible_job_needs_no_checkpoint_another_one_does(make: Make) -> None:
    stage = make({"loose": job(preemptible=True), "firm": job()})
    seen = running(stage, "loose", "firm")
    assert do(stage, preempt(the(seen, "firm"), "")) is Outcome.STALE
    assert do(stage, preempt(the(seen, "loose"), ""), "a2") is Outcome.DONE


def test_a_run_that_ignores_sigterm_is_killed_after_its_grace(make: Make, tmp_path: Path) -> None:
    deaf = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(tmp_path / 'deaf')!r}, 'w'); time.sleep(300)"
    stage = make({"train": job(command=python(deaf), preemptible=True, kill_wait=30)})
    seen = the(running(stage))
    stage.until(lambda _: (tmp_path / "deaf").exists())
    unit = next(iter(stage.living()))
    do(stage, preempt(seen, ""))
    stage.offset = 29
    assert the(stage.observe()).state is JobState.STOPPING and unit in stage.living()
    stage.offset = 31
    stage.until(lambda cluster: the(cluster).run_id != seen.run_id and unit not in stage.living())


def test_a_job_that_finishes_just_before_it_is_stopped_is_done(make: Make, tmp_path: Path) -> None:
    waits = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.005)"
    stage = make({"train": job(command=python(waits), preemptible=True)})
    seen = the(running(stage))
    (tmp_path / "go").touch()
    while stage.living():
        time.sleep(0.005)
    do(stage, preempt(seen, ""))  # the backend has not looked since: to it the run still runs
    assert the(stage.until(lambda cluster: the(cluster).state is not JobState.STOPPING)).state is JobState.DONE


def test_migration_restarts_the_run_on_the_named_slot(make: Make, tmp_path: Path) -> None:
    stage = make({"train": job()})
    seen = the(running(stage))
    (tmp_path / "model").write_bytes(b"weights")
    acknowledge(stage, seen.run_id, tmp_path / "model")
    wish = Migrate(
        job="train", run_id=seen.run_id, on_nodes=("n0",), to_nodes=("n0",), to_gpus=("SLOT-n0-1",), checkpoint="c1", gpus=1
    )
    assert seen.gpu_uuids == ("SLOT-n0-0",)
    assert do(stage, wish) is Outcome.DONE
    moved = the(stage.until(lambda cluster: the(cluster).state is JobState.RUNNING and the(cluster).run_id != seen.run_id))
    assert moved.gpu_uuids == ("SLOT-n0-1",)


# -- nodes, holds, links -----------------------------------------------------------------------------------------------


def test_draining_lets_firm_work_finish_and_moves_the_rest(make: Make) -> None:
    two = {"n0": {"gpus": 1}, "n1": {"gpus": 1}}
    stage = make({"loose": job(preemptible=True)}, nodes=two)
    seen = running(stage, "loose")
    node = next(node for node in seen.nodes if node.name == the(seen, "loose").nodes[0])
    assert do(stage, Drain(node=node.name, uid=node.uid, reason="repair")) is Outcome.DONE
    moved = stage.until(lambda cluster: the(cluster, "loose").nodes == ("n1",) and cluster.nodes[0].state is NodeState.CORDONED)
    assert moved.nodes[0].reason == "repair"
    assert do(stage, Uncordon(node=node.name, uid=node.uid), "a2") is Outcome.DONE


def test_draining_never_kills_a_run_that_cannot_prove_a_checkpoint(make: Make) -> None:
    stage = make({"train": job()})
    seen = running(stage)
    do(stage, Drain(node="n0", uid=seen.nodes[0].uid, reason="repair"))
    for _ in range(3):
        stage.offset += 1000
        again = stage.observe()
    assert the(again).run_id == the(seen).run_id and again.nodes[0].state is NodeState.DRAINING and len(stage.living()) == 1


def hold(**changes: Any) -> HoldCapacity:
    return HoldCapacity(**{"hold": "h", "owner": "job/vip", "nodes": ("n0",), "gpus": 2, "ttl_s": 30.0, "fence": 1, **changes})


def test_held_capacity_is_given_to_nobody_else_until_it_expires(make: Make) -> None:
    stage = make({"train": job(held=True)})
    waiting = the(stage.observe())
    assert do(stage, hold()) is Outcome.DONE
    do(stage, Resume(job="train", run_id=waiting.run_id), "a2")
    assert the(stage.observe()).state is JobState.QUEUED and stage.observe().holds == ("h",)
    stage.offset = 31
    assert do(stage, ConfirmHold(hold="h", fence=1), "a3") is Outcome.STALE  # a late confirm
    assert running(stage).holds == ()


def test_a_hold_is_renewed_by_its_owner_with_a_higher_fence(make: Make) -> None:
    stage = make({})
    assert do(stage, hold()) is Outcome.DONE
    stage.offset = 20.0
    assert do(stage, hold(fence=2, owner="job/thief"), "a2") is Outcome.STALE
    assert do(stage, hold(fence=2), "a3") is Outcome.DONE
    stage.offset = 45.0
    assert stage.observe().holds == ("h",)
    assert do(stage, ConfirmHold(hold="h", fence=1), "a4") is Outcome.STALE  # the fence of before the renewal


def test_a_confirmed_hold_lasts_and_its_fence_guards_it(make: Make) -> None:
    stage = make({})
    assert do(stage, hold()) is Outcome.DONE
    assert do(stage, hold(hold="other"), "a2") is Outcome.STALE  # the capacity is bound
    assert do(stage, ConfirmHold(hold="h", fence=2), "a3") is Outcome.STALE
    assert do(stage, ConfirmHold(hold="h", fence=1), "a4") is Outcome.DONE
    stage.offset = 1e6
    assert stage.observe().holds == ("h",)
    assert do(stage, ReleaseHold(hold="h", fence=1), "a5") is Outcome.DONE
    assert do(stage, hold(), "a6") is Outcome.STALE  # an old fence is never granted again
    assert do(stage, hold(fence=2), "a7") is Outcome.DONE


def test_guarantees_fit_on_the_link_and_all_its_parents(make: Make) -> None:
    links = {"rack": {"kind": "uplink", "capacity": 100}, "nic": {"kind": "fabric", "capacity": 80, "parent": "rack"}}
    stage = make({}, links=links)
    assert do(stage, ReserveBandwidth(link="nic", owner="a", bytes_per_s=60)) is Outcome.DONE
    assert do(stage, ReserveBandwidth(link="nic", owner="b", bytes_per_s=30), "a2") is Outcome.STALE
    assert do(stage, ReserveBandwidth(link="rack", owner="b", bytes_per_s=50), "a3") is Outcome.STALE
    assert do(stage, ReserveBandwidth(link="rack", owner="b", bytes_per_s=40), "a4") is Outcome.DONE


def test_a_cap_that_cannot_be_imposed_says_so(make: Make) -> None:
    stage = make({"train": job()}, links={"disk": {"capacity": 1000, "device": "8:0"}})
    seen = running(stage)
    wish = LimitBandwidth(link="disk", owner="train", bytes_per_s=10, was=None)
    receipt = stage.backend.apply(admit(wish), stage.now())
    assert (receipt.outcome, receipt.detail) == (Outcome.DONE, "accounted, not enforced")
    assert not next(link for link in seen.links if link.name == "disk").enforced


def test_the_picture_tells_knobs_guarantees_and_caps(make: Make) -> None:
    """What a policy must name as `was`, and the hard bounds that it must stay within, are in the cluster it looks at."""
    loader = {"workers": {"value": 4, "min": 1, "max": 16}}
    stage = make({"train": job(knobs=loader)}, links={"disk": {"capacity": 1000, "device": "/dev/sda"}})
    run = the(running(stage)).run_id
    assert do(stage, TuneJob(job="train", run_id=run, knob="workers", value=8.0, was=4.0)) is Outcome.DONE
    assert do(stage, LimitBandwidth(link="disk", owner="job/train", bytes_per_s=10, was=None), "a2") is Outcome.DONE
    assert do(stage, ReserveBandwidth(link="disk", owner="job/a", bytes_per_s=60), "a3") is Outcome.DONE
    seen = stage.observe()
    disk = next(link for link in seen.links if link.name == "disk")
    assert the(seen).knobs == (Knob(name="workers", value=8.0, least=1.0, most=16.0),)
    assert disk.device == "sda" and disk.shares == (
        Share(owner="job/a", guarantee_bytes_per_s=60.0),
        Share(owner="job/train", cap_bytes_per_s=10.0),
    )


def test_a_slot_has_no_power_limit(make: Make) -> None:
    stage = make({})
    stage.observe()
    assert do(stage, SetPowerLimit(node="n0", gpu="SLOT-n0-0", watts=300, was=None)) is Outcome.FAILED


# -- a signal of the job's own ------------------------------------------------------------------------------------------


def test_a_declared_signal_tells_a_job_without_our_client_to_write_its_checkpoint(make: Make, tmp_path: Path) -> None:
    saves = (
        "import signal, time, pathlib\n"
        f"signal.signal(signal.SIGUSR2, lambda *_: pathlib.Path({str(tmp_path / 'saved')!r}).touch())\n"
        f"pathlib.Path({str(tmp_path / 'up')!r}).touch()\n"
        "while True: time.sleep(0.01)"
    )
    stage = make({"train": job(command=python(saves), checkpoint_signal="USR2")})
    run = the(running(stage)).run_id
    stage.until(lambda _: (tmp_path / "up").exists())
    assert do(stage, RequestCheckpoint(job="train", run_id=run)) is Outcome.DONE
    stage.until(lambda _: (tmp_path / "saved").exists())
    assert the(stage.observe()).state is JobState.RUNNING


def test_a_declared_signal_is_not_sent_to_a_run_that_would_die_of_it(make: Make) -> None:
    stage = make({"train": job(checkpoint_signal="USR1")})  # `sleep` has no handler: the signal would end it
    run = the(running(stage)).run_id
    before = stage.living()
    stage.environment(next(iter(before)))  # by now it is the command
    assert do(stage, RequestCheckpoint(job="train", run_id=run)) is Outcome.DONE
    asked = orjson.loads((control(stage) / "checkpoint-request.json").read_bytes())
    assert asked["run_id"] == run
    assert stage.living() == before and the(stage.observe()).state is JobState.RUNNING
