"""Every action on a real slurmctld, seen with Slurm's own eyes afterwards."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from slurm_server import wait_for
from slurm_stage import SlurmStage

from aiops.action import (
    Action,
    Cordon,
    Drain,
    Effect,
    LendQueue,
    Migrate,
    Outcome,
    Preempt,
    RequestCheckpoint,
    Requeue,
    Resume,
    Rollback,
    Suspend,
    TuneJob,
    Uncordon,
)
from aiops.jobs.control import Control
from aiops.jobs.identity import Identity
from aiops.model import Checkpoint, Job, JobState, NodeState
from aiops.testing.backend import admit

pytestmark = pytest.mark.real


def apply(stage: SlurmStage, action: Action, id: str = "a1") -> Outcome:
    receipt = stage.backend.apply(admit(action, id=id), stage.now())
    print(receipt)  # shown where a test fails
    return receipt.outcome


def checkpointed(stage: SlurmStage, job: Job) -> Checkpoint:
    """The job writes a checkpoint of its own accord, through the client that jobs really use."""
    place = Path(stage.section["control_dir"].format(job=job.id))
    place.mkdir(exist_ok=True)
    (place / "weights.bin").write_bytes(b"w" * 1000)
    restarts = job.run_id.partition("-")[2]
    Control(Identity(job_id=job.id, run_id=restarts, rank="0", control=place)).acknowledge(place / "weights.bin", 7)
    stage.until(lambda c: any(j.checkpoint and j.checkpoint.verified for j in c.jobs if j.id == job.id))
    seen = stage.job(job.id).checkpoint
    assert seen is not None
    return seen


def preempt(job: Job, checkpoint: str = "") -> Preempt:
    return Preempt(job=job.id, run_id=job.run_id, on_nodes=job.nodes, checkpoint=checkpoint, gpus=job.gpus, lost_gpu_s=0.0)


# -- what is seen ------------------------------------------------------------------------------------------------------


def test_gpus_are_counted_however_they_were_asked_for(slurm: SlurmStage) -> None:
    ways = (("--gpus=2",), ("--gres=gpu:h200:2",), ("--gpus-per-node=2",), ("--gpus-per-task=1", "-n2"))
    ids = [slurm.server.submit(*way, "-p", "train") for way in ways]
    waiting = {job.id: job for job in slurm.until(lambda c: {j.id for j in c.jobs} >= set(ids)).jobs}
    assert [waiting[id].gpus for id in ids] == [2, 2, 2, 2]
    for id in ids:
        slurm.server.wait_state(id, "RUNNING")
    seen = slurm.observe()
    running = {job.id: job for job in seen.jobs}
    assert [running[id].gpus for id in ids] == [2, 2, 2, 2]
    given = [uuid for id in ids for uuid in running[id].gpu_uuids]
    assert len(given) == len(set(given)) == 8
    assert set(given) <= {gpu.uuid for node in seen.nodes for gpu in node.gpus}


def test_the_whole_cluster_is_seen(slurm: SlurmStage) -> None:
    seen = slurm.observe()
    assert {node.name for node in seen.nodes} >= {"gpu1", "gpu2", "gpu3"}
    assert {queue.name for queue in seen.queues} == {"train", "urgent"}
    assert not any(queue.lends or queue.borrows for queue in seen.queues), "a loan that does not show cannot be called back"
    links = {link.name: link for link in seen.links}
    assert set(links) == {"store_gbps", "net_gbps"}, "a licence that is no bandwidth is no link"
    assert links["store_gbps"].capacity_bytes_per_s == 40 * 125e6 and not links["store_gbps"].enforced


def test_users_cannot_forge_what_is_read(slurm: SlurmStage) -> None:
    name = "x\n   SubmitTime=1 JobState=PENDING | RestartCnt=9|"
    job = slurm.running("-J", name, "--comment=aiops=a1@99")
    assert job.name == name and job.state is JobState.RUNNING
    assert apply(slurm, Suspend(job=job.id, run_id=job.run_id)) is Outcome.DONE


def test_one_question_about_jobs_per_interval(slurm: SlurmStage) -> None:
    slurm.section["interval"] = 60.0
    slurm.restart()
    start = slurm.now()
    for second in range(10):
        slurm.backend.observe(start + second)
    assert slurm.backend.asked == 1
    slurm.backend.observe(start + 61)
    assert slurm.backend.asked == 2


# -- runs --------------------------------------------------------------------------------------------------------------


def test_suspend_and_resume(slurm: SlurmStage) -> None:
    job = slurm.running()
    assert apply(slurm, Suspend(job=job.id, run_id=job.run_id)) is Outcome.DONE
    assert slurm.server.job(job.id)["JobState"] == "SUSPENDED" and slurm.job(job.id).state is JobState.SUSPENDED
    assert apply(slurm, Suspend(job=job.id, run_id=job.run_id)) is Outcome.ALREADY
    assert apply(slurm, Resume(job=job.id, run_id=job.run_id), "a2") is Outcome.DONE
    assert slurm.server.job(job.id)["JobState"] == "RUNNING"


def test_a_held_job_is_released_by_resume(slurm: SlurmStage) -> None:
    id = slurm.server.submit("--hold")
    held = slurm.job(id)
    assert held.state is JobState.HELD
    assert apply(slurm, Resume(job=id, run_id=held.run_id)) is Outcome.DONE
    slurm.server.wait_state(id, "RUNNING")


def test_a_job_that_no_free_node_would_start_is_not_queued(slurm: SlurmStage) -> None:
    """Nobody is stopped and no node is started for a job that waits for another job, or for tomorrow."""
    first = slurm.running()
    for option, reason in ((f"--dependency=afterany:{first.id}", "Dependency"), ("--begin=now+1hour", "BeginTime")):
        id = slurm.server.submit(option)
        seen = slurm.until(lambda c, id=id, reason=reason: any(j.id == id and j.reason == reason for j in c.jobs))
        assert next(job for job in seen.jobs if job.id == id).state is JobState.HELD


def test_preempt_needs_this_runs_proof_and_requeues_once(slurm: SlurmStage) -> None:
    job = slurm.running("--gpus=8", "-c1")
    assert apply(slurm, preempt(job, "own"), "a0") is Outcome.STALE
    proof = checkpointed(slurm, job)
    assert proof.verified and proof.run_id == job.run_id
    wish = preempt(job, proof.id)
    assert apply(slurm, replace(wish, on_nodes=("gpu9",)), "a1") is Outcome.STALE
    assert apply(slurm, wish, "a2") is Outcome.DONE
    after = slurm.server.wait_state(job.id, "PENDING")
    assert after["Restarts"] == "1" and "aiops=a2@" in after["AdminComment"]
    assert apply(slurm, wish, "a2") is Outcome.ALREADY
    assert slurm.backend.probe(admit(wish, id="a2"), slurm.now()) is Effect.PRESENT
    assert apply(slurm, wish, "a3") is Outcome.STALE, "another decision on a run that is gone"
    assert slurm.effects() == ("a2",)


def test_a_damaged_or_older_checkpoint_is_no_proof(slurm: SlurmStage) -> None:
    job = slurm.running()
    proof = checkpointed(slurm, job)
    place = Path(slurm.section["control_dir"].format(job=job.id))
    (place / "weights.bin").write_bytes(b"v" * 1000)
    assert apply(slurm, preempt(job, proof.id)) is Outcome.STALE
    ack = (place / "checkpoint-ack.json").read_text()
    import json

    old = {**json.loads(ack), "at": time.time() - 1000}
    (place / "checkpoint-ack.json").write_text(json.dumps(old))
    assert slurm.job(job.id).checkpoint is None, "from an earlier job of the same id"


def test_protected_accounts_and_requeue_limits_are_honoured(slurm: SlurmStage) -> None:
    job = slurm.running("-p", "train")
    slurm.section |= {"protected_users": [slurm.server.user], "preemptible_partitions": ["train"]}
    slurm.restart()
    assert slurm.job(job.id).protected
    assert apply(slurm, preempt(job)) is Outcome.FAILED
    slurm.section["protected_users"] = []
    slurm.restart()
    assert apply(slurm, preempt(job), "a2") is Outcome.DONE, "declared to need no checkpoint"


def test_requeue_of_a_failed_job_excludes_nodes(slurm: SlurmStage) -> None:
    id = slurm.server.submit(script="exit 3")
    slurm.server.wait_state(id, "FAILED")
    job = slurm.job(id)
    assert job.state is JobState.FAILED
    assert apply(slurm, Requeue(job=id, run_id=job.run_id, exclude_nodes=("gpu1",))) is Outcome.DONE
    assert slurm.server.wait_state(id, "PENDING")["ExcNodeList"] == "gpu1"


def test_migrate_moves_a_run_to_named_nodes(slurm: SlurmStage) -> None:
    job = slurm.running("--gpus=1")
    proof = checkpointed(slurm, job)
    target = next(name for name in ("gpu3", "gpu2") if name not in job.nodes)
    wish = Migrate(job=job.id, run_id=job.run_id, on_nodes=job.nodes, to_nodes=(target,), checkpoint=proof.id, gpus=1)
    assert apply(slurm, wish) is Outcome.DONE
    slurm.server.wait_state(job.id, "RUNNING")
    assert slurm.server.job(job.id)["NodeList"] == target
    assert apply(slurm, wish) is Outcome.ALREADY


def test_a_checkpoint_request_reaches_the_job_and_is_acknowledged(slurm: SlurmStage) -> None:
    job = slurm.running()
    wish = RequestCheckpoint(job=job.id, run_id=job.run_id)
    assert apply(slurm, wish, "a0") is Outcome.FAILED, "no control directory: it takes no requests"
    place = Path(slurm.section["control_dir"].format(job=job.id))
    place.mkdir()
    client = Control(Identity(job_id=job.id, run_id="0", rank="0", control=place))
    assert apply(slurm, wish, "a1") is Outcome.DONE
    client.look()
    assert client.requested() == "a1"
    asked_at = slurm.job(job.id).checkpoint_requested_at
    assert asked_at is not None and slurm.job(job.id).checkpoint is None, "who does not answer in time is seen"
    (place / "weights.bin").write_bytes(b"w")
    client.acknowledge(place / "weights.bin", 3)
    seen = slurm.until(lambda c: any(j.checkpoint is not None for j in c.jobs))
    assert next(j.checkpoint.id for j in seen.jobs if j.checkpoint) == "a1"
    assert slurm.job(job.id).checkpoint_requested_at is None, "answered, whatever the clock of its node says"
    (place / "checkpoint-request.json").write_text('{"id": "a9", "run_id": "5", "at": 9e9}')
    assert slurm.job(job.id).checkpoint_requested_at is None, "another run was asked"
    assert slurm.backend.probe(admit(wish, id="a1"), slurm.now()) is Effect.PRESENT


def test_a_signal_rings_only_where_the_run_asked_for_it(slurm: SlurmStage) -> None:
    slurm.section["signal"] = "batch"
    slurm.restart()
    place = slurm.server.s / "control"
    script = f"trap 'touch {place}/rang' USR1; while :; do sleep 0.1; done"
    job = slurm.running(script=script)
    control = Path(slurm.section["control_dir"].format(job=job.id))
    control.mkdir()
    assert apply(slurm, RequestCheckpoint(job=job.id, run_id=job.run_id), "a1") is Outcome.DONE
    assert not (place / "rang").exists() and not [a for a in slurm.asked if a[0] == "scancel"]
    (control / "checkpoint-client.json").write_text('{"pid": 1, "signal": 10, "run_id": "0"}')
    assert apply(slurm, RequestCheckpoint(job=job.id, run_id=job.run_id), "a2") is Outcome.DONE
    wait_for(lambda: (place / "rang").exists(), "the signal")


def test_how_long_a_run_is_left_alone(slurm: SlurmStage) -> None:
    assert {queue.min_runtime_s for queue in slurm.observe().queues} == {600.0}
    slurm.section["min_runtime"] = "30s"
    slurm.restart()
    assert {queue.min_runtime_s for queue in slurm.observe().queues} == {30.0}


def test_priority_is_tuned_and_rolled_back(slurm: SlurmStage) -> None:
    id = slurm.server.submit("--begin=now+600")
    job = slurm.job(id)
    wish = TuneJob(job=id, run_id=job.run_id, knob="priority", value=777.0, was=float(job.priority))
    assert apply(slurm, replace(wish, was=5.0), "a0") is Outcome.STALE
    assert apply(slurm, wish) is Outcome.DONE
    assert slurm.server.job(id)["Priority"] == "777"
    back = replace(wish, value=float(job.priority), was=777.0)
    if job.priority:
        assert apply(slurm, Rollback(of="a1", action=back), "a2") is Outcome.DONE
        assert slurm.job(id).priority == job.priority


def test_a_queued_job_is_lent_another_queue(slurm: SlurmStage) -> None:
    id = slurm.server.submit("-p", "train", "--begin=now+600")
    job = slurm.job(id)
    wish = LendQueue(job=id, run_id=job.run_id, borrower="train", lender="urgent", nodes=(), gpus=0)
    assert apply(slurm, replace(wish, lender="nowhere"), "a0") is Outcome.FAILED
    assert apply(slurm, wish) is Outcome.DONE and slurm.server.job(id)["Partition"] == "urgent"


def test_one_task_of_an_array_is_meant_and_no_other(slurm: SlurmStage) -> None:
    base = slurm.server.submit("--array=0-2", "-p", "train")
    seen = slurm.until(lambda c: sum(j.state is JobState.RUNNING for j in c.jobs) == 3)
    same_id = next(job for job in seen.jobs if job.id == base)  # its id is also the id of the whole array
    assert apply(slurm, Suspend(job=same_id.id, run_id=same_id.run_id)) is Outcome.DONE
    states = sorted(slurm.job(job.id).state.value for job in seen.jobs if job.state is JobState.RUNNING)
    assert states == ["running", "running", "suspended"]


def test_tasks_that_are_not_split_yet_are_left_alone(slurm: SlurmStage) -> None:
    base = slurm.server.submit("--array=0-3", "--hold")
    job = slurm.job(base)
    assert apply(slurm, Resume(job=base, run_id=job.run_id)) is Outcome.FAILED


# -- nodes -------------------------------------------------------------------------------------------------------------


def test_drain_says_why_and_who_and_resume_ends_it(slurm: SlurmStage) -> None:
    slurm.running("-w", "gpu2")
    node = next(node for node in slurm.observe().nodes if node.name == "gpu2")
    assert apply(slurm, Drain(node="gpu2", uid=node.uid, reason='hot; State=DOWN "x"')) is Outcome.DONE
    drained = next(node for node in slurm.observe().nodes if node.name == "gpu2")
    assert drained.state is NodeState.DRAINING and drained.reason.startswith("hot; State DOWN")
    assert apply(slurm, Uncordon(node="gpu2", uid=node.uid), "a2") is Outcome.DONE
    slurm.until(lambda c: next(node for node in c.nodes if node.name == "gpu2").state is NodeState.READY)


def test_a_hostile_name_never_reaches_a_command(slurm: SlurmStage) -> None:
    before = len(slurm.asked)
    for name in ("gpu1 State=DOWN", "gpu[1-3]", "--help", "gpu1,gpu2", ""):
        assert apply(slurm, Cordon(node=name, uid="u", reason="")) is Outcome.FAILED
    assert apply(slurm, Suspend(job="1,2", run_id="r")) is Outcome.FAILED
    assert not [argv for argv in slurm.asked[before:] if "update" in argv or "suspend" in argv]
