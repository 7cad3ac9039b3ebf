"""Lost answers, a killed slurmctld, a daemon that dies mid-action: at most one effect, never on another run.

Effects are counted by Slurm, not by us: restarts of a job, its state, its reservations.
"""

import time
from collections.abc import Iterator, Mapping, Sequence

import pytest
from slurm_server import SlurmServer, wait_for
from slurm_stage import NOT_SLURM_USER, SlurmStage
from test_slurm_actions import apply, checkpointed, preempt
from test_slurm_capacity import hold

from aiops.action import Action, Cordon, Effect, Migrate, Outcome, Resume, Suspend
from aiops.backends.slurm import SlurmBackend
from aiops.backends.slurm.commands import Answer
from aiops.errors import ConfigError, Permanent, Unreadable
from aiops.model import Job, NodeState
from aiops.testing.backend import ReplyLost, admit

pytestmark = pytest.mark.real


def wish(stage: SlurmStage, kind: str) -> tuple[Action, Job]:
    """A running job, and an action of this kind that may be done to it."""
    job = stage.running("--gpus=1", "-p", "train")
    if kind == "suspend":
        return Suspend(job=job.id, run_id=job.run_id), job
    if kind == "resume":
        stage.server.run("scontrol", "suspend", job.id)
        return Resume(job=job.id, run_id=job.run_id), job
    proof = checkpointed(stage, job)
    if kind == "preempt":
        return preempt(job, proof.id), job
    target = next(name for name in ("gpu2", "gpu3") if name not in job.nodes)
    return Migrate(job=job.id, run_id=job.run_id, on_nodes=job.nodes, to_nodes=(target,), checkpoint=proof.id, gpus=1), job


KINDS = ("suspend", "resume", "preempt", "migrate")
GOAL = {"suspend": "SUSPENDED", "resume": "RUNNING", "preempt": "PENDING", "migrate": "RUNNING"}
RESTARTS = {"suspend": "0", "resume": "0", "preempt": "1", "migrate": "1"}


def until_told(stage: SlurmStage, action: Action, id: str = "a1") -> Outcome:
    """What the ledger does with an open entry: look, and send again only where a look proves the effect absent."""
    answer = "no answer"
    for _ in range(5):
        effect = stage.backend.probe(admit(action, id=id), stage.now())
        if effect is Effect.PRESENT:
            return Outcome.ALREADY
        if effect is Effect.ABSENT:
            receipt = stage.backend.apply(admit(action, id=id), stage.now())
            answer = f"{receipt.outcome}: {receipt.detail}"
            if receipt.outcome in (Outcome.DONE, Outcome.ALREADY):
                return receipt.outcome
    raise AssertionError(f"never told: {effect}, {answer}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_any_lost_answer_is_unknown_and_settled_by_a_look(slurm: SlurmStage, kind: str, number: int) -> None:
    action, job = wish(slurm, kind)
    count = 0

    def nth(argv: Sequence[str]) -> bool:
        nonlocal count
        writes = argv[:2] == ("scontrol", "--") and argv[2] != "show"
        count += writes
        return writes and count == number

    slurm.drops = nth
    receipt = slurm.backend.apply(admit(action), slurm.now())
    if count < number:
        pytest.skip(f"{kind} is done in {count} commands")
    assert receipt.outcome is Outcome.UNKNOWN
    slurm.drops = lambda argv: False
    slurm.restart()
    assert until_told(slurm, action) in (Outcome.DONE, Outcome.ALREADY)
    after = slurm.server.wait_state(job.id, GOAL[kind])
    assert after["Restarts"] == RESTARTS[kind]
    assert apply(slurm, action) is Outcome.ALREADY


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point", ["after_begin", "after_mark", "after_effect", "after_place", "before_done"])
def test_a_daemon_that_dies_anywhere_leaves_one_effect(slurm: SlurmStage, kind: str, point: str) -> None:
    action, job = wish(slurm, kind)
    slurm.dies_at = point
    try:
        slurm.backend.apply(admit(action), slurm.now())
    except ReplyLost:
        pass
    else:
        pytest.skip(f"{kind} does not pass {point}")
    slurm.restart()
    assert until_told(slurm, action) in (Outcome.DONE, Outcome.ALREADY)
    assert slurm.server.wait_state(job.id, GOAL[kind])["Restarts"] == RESTARTS[kind]
    assert apply(slurm, action) is Outcome.ALREADY


def test_another_daemon_without_our_journal_finds_the_mark(slurm: SlurmStage) -> None:
    action, _job = wish(slurm, "preempt")
    assert apply(slurm, action) is Outcome.DONE
    other = SlurmStage(slurm.server)
    assert other.backend.apply(admit(action), slurm.now()).outcome is Outcome.ALREADY
    assert other.backend.probe(admit(action), slurm.now()) is Effect.PRESENT
    other.backend.close()


@pytest.fixture
def fragile(slurm_server: SlurmServer) -> Iterator[SlurmStage]:
    """A cluster of its own: what is killed forgets jobs that others would wait for."""
    server = SlurmServer()
    try:
        server.start()
        yield SlurmStage(server)
    finally:
        server.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_kill_9_of_slurmctld_mid_action(fragile: SlurmStage, kind: str) -> None:
    slurm = fragile
    action, job = wish(slurm, kind)
    since = slurm.now()  # Slurm saves its state some seconds late, and what it had not saved never was
    slurm.server.run("scontrol", "update", f"JobId={job.id}", "Comment=save")
    wait_for(lambda: (slurm.server.s / "state/job_state").stat().st_mtime > since, "saved state", 20.0)
    killed = False

    def kill(argv: Sequence[str]) -> None:
        nonlocal killed
        if not killed and argv[:2] == ("scontrol", "--") and argv[2] not in ("show", "update"):
            killed = True
            slurm.server.kill_controller()

    slurm.before = kill
    slurm.section["timeout"] = 1.0
    slurm.restart()
    assert apply(slurm, action) is Outcome.UNKNOWN
    assert slurm.backend.probe(admit(action), slurm.now()) is Effect.UNREADABLE
    with pytest.raises(Unreadable):
        slurm.observe()
    slurm.server.start_controller()
    slurm.section["timeout"] = 5.0
    slurm.restart()
    # a node is in service again once it has answered the new slurmctld: until then a move to it is STALE, and rightly so
    wait_for(
        lambda: {node.state for node in slurm.observe().nodes if node.name.startswith("gpu")} == {NodeState.READY},
        "nodes in service",
        30.0,
    )
    assert until_told(slurm, action) in (Outcome.DONE, Outcome.ALREADY)
    assert slurm.server.wait_state(job.id, GOAL[kind])["Restarts"] == RESTARTS[kind]


def test_a_suspension_that_a_person_undid_is_not_repeated(slurm: SlurmStage) -> None:
    action, job = wish(slurm, "suspend")
    slurm.lose_next_reply()  # the mark's
    assert apply(slurm, action) is Outcome.UNKNOWN
    slurm.server.run("scontrol", "suspend", job.id)
    slurm.server.run("scontrol", "resume", job.id)
    assert slurm.backend.probe(admit(action), slurm.now()) is Effect.ABSENT
    assert apply(slurm, action) is Outcome.STALE, "asked again, it is not done over a person's head"
    assert slurm.server.job(job.id)["JobState"] == "RUNNING"


def test_a_resume_that_a_person_undid_is_not_repeated(slurm: SlurmStage) -> None:
    action, job = wish(slurm, "resume")
    time.sleep(1.1)  # Slurm counts whole seconds
    answers = iter((False, True))  # the mark's arrives, the resume's is lost
    slurm.drops = lambda argv: argv[:2] == ("scontrol", "--") and argv[2] != "show" and next(answers)
    assert apply(slurm, action) is Outcome.UNKNOWN
    slurm.server.run("scontrol", "suspend", job.id)
    assert slurm.backend.probe(admit(action), slurm.now()) is Effect.ABSENT
    assert apply(slurm, action) is Outcome.STALE
    assert slurm.server.job(job.id)["JobState"] == "SUSPENDED"


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_answer_about_a_run_that_is_forgotten_is_closed(slurm: SlurmStage, kind: str) -> None:
    action, job = wish(slurm, kind)
    slurm.lose_next_reply()
    assert apply(slurm, action) is Outcome.UNKNOWN
    real = slurm.backend._commands._run

    def forgetful(argv: Sequence[str], timeout_s: float, more: Mapping[str, str]) -> Answer:
        if f"--jobs={job.id}" in argv or (argv[0] == "scontrol" and job.id in argv):
            return Answer(1, b"", "slurm_load_jobs error: Invalid job id specified")
        return real(argv, timeout_s, more)

    slurm.backend._commands._run = forgetful
    assert slurm.backend.probe(admit(action), slurm.now()) is Effect.ABSENT
    assert apply(slurm, action) is Outcome.STALE


def moved(stage: SlurmStage, job: Job, how: str) -> None:
    match how:
        case "ended":
            stage.server.run("scancel", job.id)
            stage.server.wait_state(job.id, "CANCELLED")
        case "requeued":
            stage.server.run("scontrol", "requeue", job.id)
            stage.server.wait_state(job.id, "PENDING")
        case "runs again":
            stage.server.run("scontrol", "requeue", job.id)
            stage.requeue_at_once(job.id)


@pytest.mark.parametrize("how", ["ended", "requeued", "runs again"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_moved_is_stale(slurm: SlurmStage, kind: str, how: str) -> None:
    action, job = wish(slurm, kind)
    moved(slurm, job, how)
    before = slurm.server.job(job.id)
    assert apply(slurm, action) is Outcome.STALE
    assert slurm.server.job(job.id)["Restarts"] == before["Restarts"] and slurm.effects() == ()


STUBBORN = "trap '' TERM\nwhile :; do sleep 0.2; done"


@pytest.mark.parametrize("script", ["exec sleep 600", STUBBORN], ids=["ends at once", "is still ending"])
@pytest.mark.parametrize("verb", ["requeue", "requeuehold"])
def test_a_run_that_ends_between_look_and_requeue_is_not_run_again(slurm: SlurmStage, verb: str, script: str) -> None:
    job = slurm.running("--gpus=1", "-p", "train", script=script)
    action = preempt(job, checkpointed(slurm, job).id)
    if verb == "requeuehold":
        target = next(name for name in ("gpu2", "gpu3") if name not in job.nodes)
        action = Migrate(
            job=job.id, run_id=job.run_id, on_nodes=job.nodes, to_nodes=(target,), checkpoint=action.checkpoint, gpus=1
        )

    def end(argv: Sequence[str]) -> None:
        if verb in argv:
            slurm.before = lambda argv: None
            slurm.server.run("scancel", job.id)

    slurm.before = end
    assert apply(slurm, action) is Outcome.STALE
    slurm.server.wait_state(job.id, "CANCELLED")
    after = slurm.server.job(job.id)
    assert (after["JobState"], after["Restarts"]) == ("CANCELLED", "0")


def test_a_suspended_run_is_not_preempted(slurm: SlurmStage) -> None:
    action, job = wish(slurm, "preempt")
    slurm.server.run("scontrol", "suspend", job.id)
    assert apply(slurm, action) is Outcome.STALE, "once requeued, Slurm would hold it for an administrator"
    assert slurm.server.job(job.id)["JobState"] == "SUSPENDED"


def test_a_hold_whose_answer_is_lost_is_made_once(slurm: SlurmStage) -> None:
    action = hold(slurm)
    slurm.lose_next_reply()
    assert apply(slurm, action) is Outcome.UNKNOWN
    assert until_told(slurm, action) is Outcome.ALREADY
    assert slurm.server.run("scontrol", "-o", "show", "res").stdout.count("ReservationName=") == 1


def test_answers_that_are_not_slurms_are_unreadable(slurm: SlurmStage) -> None:
    for text in ("", "{}", "JOBID|", "JOBID STATE\n1 RUNNING\n"):
        real = slurm.backend._commands._run
        slurm.backend._commands._run = lambda argv, s, more, text=text: (
            slurm.run(("printf", "%s", text), s) if argv[0] == "squeue" else slurm.run(argv, s, more)
        )
        with pytest.raises(Unreadable):
            slurm.observe()
        slurm.backend._commands._run = real


def test_never_as_root_or_as_slurm_user(slurm: SlurmStage) -> None:
    settings = slurm.backend.settings
    for uid in (0, slurm.backend._query.controller().slurm_uid):
        refused = SlurmBackend(settings, slurm.run, uid)
        with pytest.raises(Permanent):
            refused.observe(slurm.now())
        node = Cordon(node="gpu1", uid="u", reason="x")
        assert refused.apply(admit(node), slurm.now()).outcome is Outcome.FAILED
        assert refused.probe(admit(node), slurm.now()) is Effect.UNREADABLE
    assert SlurmBackend(settings, slurm.run, NOT_SLURM_USER).observe(slurm.now()).nodes


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"control_dir": "relative/{job}"}, "control_dir"),
        ({"control_dir": "/x/{job}/{other}"}, "control_dir"),
        ({"interval": 0}, "interval"),
        ({"rest": {"url": "ftp://x"}}, "rest.url"),
        ({"unknown": 1}, "unknown"),
        ({"reservation_user": "a b"}, "reservation_user"),
    ],
)
def test_a_wrong_section_is_named(section: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SlurmBackend.from_settings(section, "here")
    assert caught.value.key == f"backend.slurm.{key}"
