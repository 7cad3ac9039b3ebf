"""A slurmctld killed in the second in which it ended a run for our requeue: requeued once, and nothing else ever is."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from slurm_server import SlurmServer, missing, wait_for
from slurm_stage import NOT_SLURM_USER, SlurmStage
from test_slurm_faults import until_told, wish
from test_slurm_listing import answer

from aiops.action import Action, Effect, Migrate, Outcome, Preempt, Uncordon
from aiops.backends.slurm import SlurmBackend
from aiops.backends.slurm.commands import Answer
from aiops.model import NodeState
from aiops.testing.backend import admit

BEFORE, AFTER = 500, 900  # when slurmctld was started: the one that we began under, and its successor
CONFIG = "SlurmUser = slurm(64030)\nClusterName = c\nMaxBatchRequeue = 5\nBOOT_TIME               = {boot}\n"
NODE = "NodeName={name} NodeAddr={name} Port=1 State=IDLE CPUTot=8 RealMemory=1000 CPUAlloc=0\n"
RUN = {"ArrayJobID": "N/A", "ArrayTaskID": "N/A", "RestartCnt": "0"}
KILLED = {"State": "FAILED", "exit_code": "15"}
STOP: dict[str, Action] = {
    "preempt": Preempt(job="7", run_id="1000-0", on_nodes=("gpu1", "gpu2"), checkpoint="", gpus=4, lost_gpu_s=0.0),
    "migrate": Migrate(job="7", run_id="1000-0", on_nodes=("gpu1", "gpu2"), to_nodes=("gpu3",), checkpoint="k", gpus=4),
}


@dataclass
class Fake:
    """One job of a slurmctld in memory. `forgets` is what it calls the run after a requeue that a kill -9 made undone."""

    job: dict[str, str] | None
    boot: int = AFTER
    forgets: list[str] = field(default_factory=list)
    wrote: list[str] = field(default_factory=list)
    nodes: tuple[str, ...] = ("gpu1", "gpu2", "gpu3")
    loses: str = ""

    def run(self, argv: Sequence[str], timeout_s: float, more: Mapping[str, str]) -> Answer:
        if argv[0] == "squeue":
            between = more["SQUEUE_FORMAT2"].split(":")[1].split(",")[0]
            gone = Answer(1, b"", "slurm_load_jobs error: Invalid job id specified")
            return gone if self.job is None else Answer(0, answer(self.job, between=between).encode(), "")
        if argv[1] == "--":
            assert self.job is not None
            return self.write(self.job, argv[2], argv[3:])
        nodes = "".join(NODE.format(name=name) for name in self.nodes)
        shown = {"config": CONFIG.format(boot=self.boot), "node": nodes}
        return Answer(0, shown.get(argv[-1], "").encode(), "")

    def write(self, job: dict[str, str], verb: str, rest: Sequence[str]) -> Answer:
        self.wrote.append(" ".join((verb, *rest)))
        if verb == "update" and job["State"] not in ("PENDING", "RUNNING"):
            return Answer(1, b"", "Job has already finished for job 7")
        if verb == "update":
            names = {"AdminComment": "admin_comment", "ReqNodeList": "ReqNodes"}
            job.update({names[key]: value for key, _, value in (x.partition("=") for x in rest) if key in names})
        elif verb.startswith("requeue") and self.forgets:
            job.update(State=self.forgets.pop(0), exit_code="15", admin_comment="(null)")
            self.boot += 1
        elif verb.startswith("requeue") and not ("incomplete" in rest and job["State"] != "RUNNING"):
            held = "0" if verb == "requeuehold" else "9"
            count = str(int(job["RestartCnt"]) + 1)
            reason = "None" if verb == "requeue" else "JobHeldUser"
            job.update(
                State="PENDING", exit_code="0", RestartCnt=count, SubmitTime="2000", PriorityLong=held, Reason=reason
            )  # fmt: skip
        elif verb == "release":
            job.update(PriorityLong="9", Reason="None")
        if self.loses and verb.startswith(self.loses):
            self.loses = ""
            raise subprocess.TimeoutExpired([verb], 1.0)
        return Answer(0, b"", "")

    @property
    def requeues(self) -> list[str]:
        return [text for text in self.wrote if text.startswith("requeue")]


def backend(fake: Fake, directory: Path, began: object = BEFORE, done: bool = False, sent: bool = True) -> SlurmBackend:
    """With a journal that says under which slurmctld action a1 was begun, and its requeue sent; None: never heard of it."""
    row = {"id": "a1", "what": "begin", "at": 1.0, "kind": "k", "target": "job/7", "booted_at": began}
    rows = [] if began is None else [row, {"id": "a1", "what": "sent"}, *([{**row, "what": "done"}] if done else [])]
    rows = rows if sent else rows[:1]
    (directory / "effects.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    section = {"state_dir": str(directory), "preemptible_partitions": ["train"], "protected_accounts": ["hero"]}
    return SlurmBackend(SlurmBackend.from_settings(section, "test").settings, fake.run, NOT_SLURM_USER)


@pytest.mark.parametrize("number", ["15", "9"])
@pytest.mark.parametrize(("kind", "verb"), [("preempt", "requeue 7"), ("migrate", "requeuehold 7")])
def test_a_run_that_our_forgotten_requeue_ended_is_requeued_once(tmp_path: Path, kind: str, verb: str, number: str) -> None:
    fake = Fake({**RUN, **KILLED, "exit_code": number})
    slurm, admission = backend(fake, tmp_path, float(BEFORE)), admit(STOP[kind], id="a1")
    assert slurm.probe(admission, 3000.0) is Effect.ABSENT
    assert slurm.apply(admission, 3000.0).outcome is Outcome.DONE
    assert fake.requeues == [verb] and fake.job is not None
    assert (fake.job["State"], fake.job["RestartCnt"]) == ("PENDING", "1") and "aiops=a1@" in fake.job["admin_comment"]
    assert kind == "preempt" or (fake.job["ReqNodes"], fake.job["PriorityLong"]) == ("gpu3", "9")
    assert slurm.probe(admission, 3001.0) is Effect.PRESENT
    assert slurm.apply(admission, 3001.0).outcome is Outcome.ALREADY and fake.requeues == [verb]


@pytest.mark.parametrize("kind", STOP)
@pytest.mark.parametrize(
    ("changes", "began", "boot", "expected", "why"),
    [
        ({**KILLED, "exit_code": "3840"}, BEFORE, AFTER, Outcome.STALE, "it said so itself: exit 15"),
        ({**KILLED, "exit_code": "36608"}, BEFORE, AFTER, Outcome.STALE, "a shell's exit 143 is an exit status"),
        ({**KILLED, "exit_code": "768"}, BEFORE, AFTER, Outcome.STALE, "it failed by its own"),
        ({**KILLED, "exit_code": "11"}, BEFORE, AFTER, Outcome.STALE, "no slurmd ends a run by SIGSEGV"),
        ({**KILLED, "exit_code": "N/A"}, BEFORE, AFTER, Outcome.STALE, "what is not known is no leave"),
        ({**KILLED, "State": "CANCELLED"}, BEFORE, AFTER, Outcome.STALE, "somebody cancelled it: it stays cancelled"),
        ({**KILLED, "State": "TIMEOUT"}, BEFORE, AFTER, Outcome.STALE, "its time was over"),
        ({**KILLED, "State": "OUT_OF_MEMORY", "exit_code": "9"}, BEFORE, AFTER, Outcome.STALE, "it would only do so again"),
        ({**KILLED, "State": "COMPLETED", "exit_code": "0"}, BEFORE, AFTER, Outcome.STALE, "it is done"),
        ({**KILLED, "SubmitTime": "1001"}, BEFORE, AFTER, Outcome.STALE, "the id is another job's now"),
        ({**KILLED, "RestartCnt": "2"}, BEFORE, AFTER, Outcome.STALE, "another run: requeued by others too, and failed"),
        (KILLED, BEFORE, BEFORE, Outcome.STALE, "slurmctld forgot nothing: somebody else's signal"),
        (KILLED, 0, AFTER, Outcome.STALE, "when it was started was not told when we began"),
        (KILLED, BEFORE, 0, Outcome.STALE, "when it was started is not told now"),
        (KILLED, None, AFTER, Outcome.STALE, "never begun by us"),
        ({**KILLED, "Account": "hero"}, BEFORE, AFTER, Outcome.FAILED, "protected since"),
        ({**KILLED, "BatchFlag": "0"}, BEFORE, AFTER, Outcome.FAILED, "Slurm can requeue batch jobs only"),
        ({**KILLED, "State": "COMPLETING"}, BEFORE, AFTER, Outcome.UNKNOWN, "its end is not told yet: to be looked at again"),
        (None, BEFORE, AFTER, Outcome.UNKNOWN, "forgotten: a person has to look"),
        (None, BEFORE, BEFORE, Outcome.STALE, "forgotten in the usual way"),
    ],
)
def test_nothing_else_is_requeued(
    tmp_path: Path, kind: str, changes: dict[str, str] | None, began: int | None, boot: int, expected: Outcome, why: str
) -> None:
    fake = Fake(None if changes is None else {**RUN, **changes}, boot)
    slurm = backend(fake, tmp_path, None if began is None else float(began))
    effect = slurm.probe(admit(STOP[kind], id="a1"), 3000.0)
    receipt = slurm.apply(admit(STOP[kind], id="a1"), 3000.0)
    assert (receipt.outcome, fake.wrote) == (expected, []), f"{why}: {receipt.detail}"
    assert effect is (Effect.UNREADABLE if expected is Outcome.UNKNOWN else Effect.ABSENT), why


@pytest.mark.parametrize("kind", STOP)
@pytest.mark.parametrize("job", [{**RUN, **KILLED}, {**RUN, "State": "COMPLETING"}, None], ids=["failed", "ending", "gone"])
def test_a_signal_before_our_requeue_was_sent_is_somebody_elses(tmp_path: Path, kind: str, job: dict[str, str] | None) -> None:
    """We began, and died or lost slurmctld before the command that ends the run: a person's scancel that was forgotten too."""
    fake = Fake(job)
    slurm = backend(fake, tmp_path, float(BEFORE), sent=False)
    assert slurm.probe(admit(STOP[kind], id="a1"), 3000.0) is Effect.ABSENT
    assert slurm.apply(admit(STOP[kind], id="a1"), 3000.0).outcome is Outcome.STALE and fake.wrote == []


@pytest.mark.parametrize(("kind", "expected"), [("preempt", Outcome.ALREADY), ("migrate", Outcome.STALE)])
def test_a_run_requeued_once_since_is_stopped_whoever_did_it_and_moved_only_if_it_waits(
    tmp_path: Path, kind: str, expected: Outcome
) -> None:
    fake = Fake({**RUN, **KILLED, "RestartCnt": "1", "SubmitTime": "2000"})
    slurm = backend(fake, tmp_path, float(BEFORE))
    assert slurm.apply(admit(STOP[kind], id="a1"), 3000.0).outcome is expected and fake.wrote == []


@pytest.mark.parametrize("kind", STOP)
def test_where_the_second_requeues_reply_is_lost_too_it_is_found(tmp_path: Path, kind: str) -> None:
    """It was called STALE once: the mark that would say so comes after it."""
    fake = Fake({**RUN, **KILLED})
    slurm, admission = backend(fake, tmp_path, float(BEFORE)), admit(STOP[kind], id="a1")
    fake.loses = "requeue"
    assert slurm.apply(admission, 3000.0).outcome is Outcome.UNKNOWN and len(fake.requeues) == 1
    assert slurm.probe(admission, 3001.0) is (Effect.PRESENT if kind == "preempt" else Effect.ABSENT)
    assert slurm.apply(admission, 3001.0).outcome is (Outcome.ALREADY if kind == "preempt" else Outcome.DONE)
    assert len(fake.requeues) == 1 and fake.job is not None
    assert kind == "preempt" or (fake.job["ReqNodes"], fake.job["PriorityLong"]) == ("gpu3", "9")


def test_a_forgotten_job_is_told_plainly(tmp_path: Path) -> None:
    told = backend(Fake(None), tmp_path, float(BEFORE)).apply(admit(STOP["preempt"], id="a1"), 3000.0)
    assert "no longer knows it: submit it again by hand" in told.detail


def test_what_was_done_is_not_done_again(tmp_path: Path) -> None:
    fake = Fake({**RUN, **KILLED})
    told = backend(fake, tmp_path, float(BEFORE), done=True).apply(admit(STOP["preempt"], id="a1"), 3000.0)
    assert (told.outcome, fake.wrote) == (Outcome.ALREADY, [])


def test_a_run_requeued_too_often_is_left_alone(tmp_path: Path) -> None:
    fake = Fake({**RUN, **KILLED, "RestartCnt": "5"})
    often = Preempt(job="7", run_id="1000-5", on_nodes=("gpu1", "gpu2"), checkpoint="", gpus=4, lost_gpu_s=0.0)
    told = backend(fake, tmp_path, float(BEFORE)).apply(admit(often, id="a1"), 3000.0)
    assert (told.outcome, fake.wrote) == (Outcome.FAILED, []), "MaxBatchRequeue would hold it"


@pytest.mark.parametrize("forgets", [["RUNNING"], ["FAILED"], ["RUNNING", "FAILED"], ["FAILED", "FAILED"]])
def test_a_slurmctld_that_is_back_before_we_look_is_unknown_not_stale(tmp_path: Path, forgets: list[str]) -> None:
    fake = Fake({**RUN, "State": "RUNNING"}, BEFORE, list(forgets))
    slurm, admission = backend(fake, tmp_path, None), admit(STOP["preempt"], id="a1")
    outcomes = []
    while not outcomes or (outcomes[-1] is Outcome.UNKNOWN and len(outcomes) < 5):
        outcomes.append(slurm.apply(admission, 3000.0).outcome)
        assert slurm.probe(admission, 3000.0) is (Effect.PRESENT if outcomes[-1] is Outcome.DONE else Effect.ABSENT)
    assert outcomes == [Outcome.UNKNOWN] * len(forgets) + [Outcome.DONE]
    assert fake.job is not None and fake.job["RestartCnt"] == "1"


@pytest.fixture
def fragile() -> Iterator[SlurmStage]:
    lacking = missing()
    if lacking:
        pytest.skip(f"needs a real Slurm; not installed: {lacking}")
    server = SlurmServer()
    try:
        server.start()
        yield SlurmStage(server)
    finally:
        server.stop()


def saved(stage: SlurmStage, job: str) -> None:
    """Wait until slurmctld's file holds a word written now, and so that the job runs."""
    path = stage.server.s / "state/job_state"
    stage.server.run("scontrol", "update", f"JobId={job}", "Comment=word-to-be-saved")
    wait_for(lambda: path.exists() and b"word-to-be-saved" in path.read_bytes(), "saved state", 20.0)


@pytest.mark.real
@pytest.mark.parametrize("kind", ["preempt", "migrate"])
def test_a_real_slurmctld_that_forgot_the_requeue_is_told_again(fragile: SlurmStage, kind: str) -> None:
    """What was recorded, by force: the requeue reached the node and no file, so the test does the node's part itself."""
    slurm = fragile
    action, job = wish(slurm, kind)
    saved(slurm, job.id)
    slurm.section["timeout"] = 1.0
    slurm.restart()

    def lost(argv: Sequence[str]) -> None:
        if argv[2] in ("requeue", "requeuehold"):
            slurm.before = lambda argv: None
            slurm.server.kill_controller()
            for pid in sleepers(slurm.server, job.id):
                os.kill(pid, signal.SIGTERM)

    slurm.before = lost
    assert slurm.backend.apply(admit(action), slurm.now()).outcome is Outcome.UNKNOWN
    slurm.server.start_controller()
    failed = slurm.server.wait_state(job.id, "FAILED")
    assert (failed["ExitCode"], failed["Restarts"]) == ("0:15", "0"), "the hazard itself"
    slurm.section["timeout"] = 5.0
    slurm.restart()
    wait_for(
        lambda: all(n.state is not NodeState.DOWN for n in slurm.observe().nodes if n.name.startswith("gpu")), "nodes", 20.0
    )
    assert slurm.backend.probe(admit(action), slurm.now()) is Effect.ABSENT
    assert until_told(slurm, action) is Outcome.DONE
    after = slurm.server.wait_state(job.id, "PENDING" if kind == "preempt" else "RUNNING")
    assert after["Restarts"] == "1"
    assert slurm.backend.apply(admit(action), slurm.now()).outcome is Outcome.ALREADY


@pytest.mark.real
def test_a_resume_of_a_node_that_slurm_refuses_and_does_is_no_failure(fragile: SlurmStage) -> None:
    """Of one that has not registered since slurmctld was restarted: "Invalid node state specified", and its drain is gone."""
    slurm, path = fragile, fragile.server.s / "state/node_state"
    slurm.server.run(
        "scontrol", "update", "NodeName=gpu3", "State=DRAIN", "Reason=x (aiops cordon a0)", "Comment=word-to-be-saved"
    )
    wait_for(lambda: path.exists() and b"word-to-be-saved" in path.read_bytes(), "saved state", 30.0)
    node = next(node for node in slurm.observe().nodes if node.name == "gpu3")
    wish = Uncordon(node=node.name, uid=node.uid)

    def restarts(argv: Sequence[str]) -> None:
        if "State=RESUME" in argv:
            slurm.before = lambda argv: None
            slurm.server.kill_controller()
            slurm.server.start_controller()

    slurm.before = restarts
    first = slurm.backend.apply(admit(wish), slurm.now())
    assert first.outcome in (Outcome.UNKNOWN, Outcome.DONE), f"{first}; DONE only where its slurmd was faster than we"
    assert slurm.backend.probe(admit(wish), slurm.now()) is Effect.PRESENT
    assert slurm.backend.apply(admit(wish), slurm.now()).outcome is Outcome.ALREADY


def sleepers(server: SlurmServer, job: str) -> list[int]:
    """The job's own processes, not the daemon that started them."""
    own = f"SLURM_JOB_ID={job}\0".encode()
    return [
        pid
        for pid in server.processes()
        if own in Path(f"/proc/{pid}/environ").read_bytes() and b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
