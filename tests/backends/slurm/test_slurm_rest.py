"""slurmrestd as it really is: versions, tokens that are wrong or run out, and what happens when it is gone."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence

import httpx
import pytest
from slurm_rest import RestServer, lacking
from slurm_server import found, missing
from slurm_stage import NOT_SLURM_USER, SlurmStage
from structlog.testing import capture_logs

from aiops.action import Cordon, Effect, Outcome, Suspend
from aiops.backends.slurm import SlurmBackend
from aiops.backends.slurm.commands import Answer
from aiops.errors import Permanent, Unreadable
from aiops.model import JobState, NodeState
from aiops.testing.backend import admit

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def rest() -> Iterator[RestServer]:
    absent = missing() or lacking()
    if absent:
        pytest.skip(f"needs a real slurmrestd with tokens; not installed: {absent}")
    server = RestServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


def staged(rest: RestServer, lifespan_s: int = 600, **more: object) -> SlurmStage:
    section = {"url": rest.url, "token_file": str(rest.token_file(rest.user, lifespan_s)), "user": rest.user, **more}
    return SlurmStage(rest, rest=section)


def only_rest(stage: SlurmStage) -> list[tuple[str, ...]]:
    return [argv for argv in stage.asked if argv[0] == "squeue" or argv[-1] == "node"]


def test_what_slurmrestd_tells_is_what_the_programs_tell(rest: RestServer) -> None:
    ids = [
        rest.submit("--gpus=2", "-p", "train", "-J", "a b\nc"),
        rest.submit("--hold", "--gres=gpu:h200:1", "-N2", "--time=90"),
    ]
    rest.wait_state(ids[0], "RUNNING")
    by_rest, by_command = staged(rest), SlurmStage(rest)
    try:
        ours, theirs = by_rest.observe(), by_command.observe()
        assert not only_rest(by_rest), "neither jobs nor nodes were asked of the programs"
        assert by_rest.backend._query._rest._version == "v0.0.38", "the newest that it offers"
        alike = [[(j.id, j.run_id, j.name, j.state, j.gpus, j.gpu_uuids, j.nodes, j.queue, j.runtime_s) for j in c.jobs]
                 for c in (ours, theirs)]  # fmt: skip
        assert alike[0] == alike[1] and {job.state for job in ours.jobs} == {JobState.RUNNING, JobState.HELD}
        assert [(n.name, n.uid, n.state, n.gpus, n.labels) for n in ours.nodes] == [
            (n.name, n.uid, n.state, n.gpus, n.labels) for n in theirs.nodes
        ]
    finally:
        by_rest.finish()
        by_command.backend.close()


def test_an_older_server_is_spoken_to_in_its_own_version() -> None:
    absent = missing() or lacking()
    if absent:
        pytest.skip(f"needs a real slurmrestd with tokens; not installed: {absent}")
    old = RestServer(speaks="openapi/v0.0.37")
    try:
        old.start()
        stage = staged(old, else_commands=False)
        assert len(stage.observe().nodes) == 5 and stage.backend._query._rest._version == "v0.0.37"
        stage.backend.close()
    finally:
        old.stop()


def test_a_token_that_ran_out_is_said_to_have_and_the_programs_are_asked(rest: RestServer) -> None:
    stage = staged(rest, lifespan_s=1)
    time.sleep(2.1)  # whole seconds
    with capture_logs() as logs:
        assert stage.observe().nodes and only_rest(stage)
        stage.backend._query.forget()
        stage.observe()
    said = [line["reason"] for line in logs if "slurmrestd" in line["event"]]
    assert len(said) == 1 and "ran out" in said[0] and "scontrol token" in said[0], "once, and what to do"
    stage.finish()


def test_without_the_programs_a_token_that_ran_out_ends_the_cycle(rest: RestServer) -> None:
    stage = staged(rest, lifespan_s=1, else_commands=False)
    time.sleep(2.1)
    with pytest.raises(Unreadable, match="ran out"):
        stage.observe()
    assert stage.backend.settings.rest is not None and stage.backend.settings.rest.token_file is not None
    stage.backend.settings.rest.token_file.write_text(rest.token(rest.user))
    assert stage.observe().nodes, "a renewed token is used at once"
    stage.finish()


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c"])
def test_a_wrong_token_is_refused_in_words(rest: RestServer, token: str) -> None:
    stage = staged(rest, else_commands=False)
    assert stage.backend.settings.rest is not None and stage.backend.settings.rest.token_file is not None
    stage.backend.settings.rest.token_file.write_text(token)
    with pytest.raises(Unreadable, match="token"):
        stage.observe()
    stage.finish()


def test_a_slurmrestd_that_is_gone_and_comes_back(rest: RestServer) -> None:
    stage = staged(rest)
    rest.stop_rest()
    with capture_logs() as logs:
        assert len(stage.observe().nodes) == 5, "by the programs"
        url = rest.url
        rest.start_rest()
        stage.backend._query._rest._client.base_url = httpx.URL(rest.url)  # another port, for the old one may be taken
        stage.backend._query.forget()
        stage.asked.clear()
        assert len(stage.observe().nodes) == 5 and not only_rest(stage) and url
    assert [line["log_level"] for line in logs if "slurmrestd" in line["event"]] == ["warning", "info"]
    stage.finish()


# -- acting with a token in place of munge -----------------------------------------------------------------------------


def by_token(rest: RestServer, user: str, lifespan_s: int = 600) -> SlurmBackend:
    """A backend whose commands run as a user without munge or any right, and present a token."""
    stage = SlurmStage(rest)
    stage.section["token_file"] = str(rest.token_file(user, lifespan_s))
    other = {**rest.drop, "user": "daemon", "group": "daemon"} if rest.drop else {}

    def run(argv: Sequence[str], timeout_s: float, more: Mapping[str, str]) -> Answer:
        env = {**rest.env, "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C", **more}
        done = subprocess.run(
            [found(argv[0]) or argv[0], *argv[1:]], env=env, stdin=subprocess.DEVNULL, capture_output=True, cwd="/", **other
        )
        return Answer(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    settings = SlurmBackend.from_settings(stage.section, "test").settings
    return SlurmBackend(settings, run, NOT_SLURM_USER)


def test_a_token_acts_with_its_users_powers_and_no_more(rest: RestServer) -> None:
    job_id = rest.submit("-p", "train")
    rest.wait_state(job_id, "RUNNING")
    backend = by_token(rest, "nobody")
    now = time.time()
    job = next(job for job in backend.observe(now).jobs if job.id == job_id)
    receipt = backend.apply(admit(Suspend(job=job.id, run_id=job.run_id)), now)
    assert receipt.outcome is Outcome.FAILED and "denied" in receipt.detail, "nobody is no operator"
    assert rest.job(job_id)["JobState"] == "RUNNING"
    backend.close()
    rest.clean()


def test_a_token_of_slurm_user_is_refused(rest: RestServer) -> None:
    for user in (rest.user, "root"):
        backend = by_token(rest, user)
        with pytest.raises(Permanent, match="never as root or SlurmUser"):
            backend.observe(time.time())
        backend.close()


def test_nothing_is_sent_with_a_token_that_ran_out(rest: RestServer) -> None:
    backend = by_token(rest, "nobody", lifespan_s=3)
    now = time.time()
    node = next(node for node in backend.observe(now).nodes if node.name == "gpu1")
    time.sleep(4.1)
    with pytest.raises(Unreadable, match="ran out"):
        backend.observe(now + 100)
    wish = admit(Cordon(node="gpu1", uid=node.uid, reason="x"))
    receipt = backend.apply(wish, now)
    assert receipt.outcome is Outcome.FAILED and "ran out" in receipt.detail, "known to have had no effect"
    assert backend.probe(wish, now) is Effect.UNREADABLE
    backend.close()
    assert {node.state for node in SlurmStage(rest).observe().nodes if node.name == "gpu1"} == {NodeState.READY}
