"""The daemon dies by kill -9, at named points and at random times: no process is lost or doubled, no action done twice."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from local_stage import LocalStage, job, python, reap, service

from aiops.action import Admission, Effect, Outcome
from aiops.backends.local import LocalBackend
from aiops.backends.local.process import Identity, boot_id, stat
from aiops.errors import Unreadable
from aiops.model import JobState
from aiops.testing.backend import admit, scale, settled


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """A file to which every process that really ran has written its unit."""
    return tmp_path / "started"


@pytest.fixture
def stage(tmp_path: Path, started: Path) -> Iterator[LocalStage]:
    code = (
        f"import os, time; place = os.open({str(started)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "os.write(place, (os.environ['AIOPS_UNIT'] + ' ').encode()); time.sleep(300)"
    )
    stage = LocalStage(tmp_path, {"services": {"web": service(command=python(code), replicas=2)}})
    yield stage
    stage.finish()


def killed(stage: LocalStage, work: Callable[[LocalBackend], object], point: str) -> bool:
    """Do `work` in a process of its own that is killed at a named point; True if it was."""
    stage.backend.close()

    def die(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    pid = forked(lambda: work(LocalBackend(stage.backend.settings, die)))
    return buried(stage, pid)


def killed_between(stage: LocalStage, rounds: int, after_s: float) -> bool:
    """Scale up and down in a process of its own that is killed some seconds after so many rounds; True if it was."""
    stage.backend.close()
    heard, told = os.pipe()
    pid = forked(lambda: scale_for_ever(LocalBackend(stage.backend.settings), stage.now, told))
    os.close(told)
    for _ in range(rounds):
        os.read(heard, 1)
    time.sleep(after_s)
    os.kill(pid, signal.SIGKILL)
    os.close(heard)
    return buried(stage, pid)


def forked(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def buried(stage: LocalStage, pid: int) -> bool:
    _, status = os.waitpid(pid, 0)
    stage.restart()
    while locked(stage):  # a child of the dead that has not reached its exec still holds the lock for a moment
        time.sleep(0.002)
    return os.WIFSIGNALED(status)


def locked(stage: LocalStage) -> bool:
    try:
        stage.backend._open()
    except Unreadable:
        return True
    return False


@pytest.mark.parametrize("point", ["before_save", "after_save", "before_launch", "after_launch"])
def test_a_kill_while_spawning_neither_loses_nor_doubles_a_process(stage: LocalStage, started: Path, point: str) -> None:
    assert killed(stage, lambda backend: backend.observe(stage.now()), point)

    stage.until(settled)

    stage.until(lambda _: started.exists() and len(started.read_text().split()) >= 2)
    assert sorted(started.read_text().split()) == sorted(stage.living())
    assert len(stage.living()) == 2


@pytest.mark.parametrize(
    ("point", "effect", "answer"),
    [
        ("after_begin", Effect.ABSENT, Outcome.DONE),  # nothing was changed yet: it may be done, once
        ("after_state", Effect.PRESENT, Outcome.ALREADY),  # the change is durable though nobody was told
        ("after_effect", Effect.PRESENT, Outcome.ALREADY),
    ],
)
def test_a_kill_while_acting_leaves_a_question_that_a_probe_answers(
    stage: LocalStage, point: str, effect: Effect, answer: Outcome
) -> None:
    before = stage.until(settled).services[0]
    admission = admit(scale(before, 4))
    assert killed(stage, lambda backend: backend.apply(admission, stage.now()), point)

    assert stage.backend.probe(admission, stage.now()) is effect
    assert stage.backend.apply(admission, stage.now()).outcome is answer

    after = stage.until(settled).services[0]
    assert (after.replicas, int(after.version)) == (4, int(before.version) + 1)
    assert stage.effects() == ("a1",) and len(stage.living()) == 4


def test_kills_at_random_times_never_repeat_an_action(stage: LocalStage) -> None:
    chance = random.Random(20260101)
    rounds, done = 12, 0

    for _ in range(rounds):
        done += killed_between(stage, chance.randrange(4), chance.uniform(0.0, 0.03))
        for id in sorted(begun(stage) - set(stage.effects())):
            assert stage.backend.apply(numbered(stage, int(id)), stage.now()).outcome in (Outcome.ALREADY, Outcome.DONE)
        reap()

    final = stage.until(lambda cluster: settled(cluster) and len(stage.living()) == cluster.services[0].replicas)
    assert done == rounds
    assert stage.effects() and max(Counter(stage.effects()).values()) == 1
    assert int(final.services[0].version) == 1 + len(stage.effects())


def scale_for_ever(backend: LocalBackend, now: Callable[[], float], told: int) -> None:
    while True:
        os.write(told, b".")
        seen = backend.observe(now()).services[0]
        backend.apply(admit(scale(seen, 1 + int(seen.version) % 3), id=seen.version), now())


def numbered(stage: LocalStage, version: int) -> Admission:
    """The admission that `scale_for_ever` makes at a version."""
    seen = replace(stage.observe().services[0], version=str(version))
    return admit(scale(seen, 1 + version % 3), id=str(version))


def begun(stage: LocalStage) -> set[str]:
    path = stage.directory / "effects.jsonl"
    return {orjson.loads(line)["id"] for line in path.read_bytes().splitlines()} if path.exists() else set()


# -- adoption ----------------------------------------------------------------------------------------------------------


def test_a_new_daemon_adopts_what_runs(stage: LocalStage) -> None:
    stage.until(settled)
    before = stage.living()
    stage.restart()
    stage.until(settled)
    assert stage.living() == before and len(before) == 2


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another boot"}])
def test_a_reused_pid_is_neither_adopted_nor_signalled(stage: LocalStage, change: dict[str, object]) -> None:
    bystander = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        seen = stat(bystander.pid)
        assert seen is not None
        stage.until(settled)
        stage.backend.close()
        name, real = next(iter(stage.living().items()))
        os.killpg(real.pid, signal.SIGKILL)
        while name in stage.living():
            time.sleep(0.005)
        stage.restart()
        book = stage.backend._supervisor.book
        book.open()
        unit = book.state.units[name]
        claim = replace(Identity(pid=bystander.pid, start_ticks=seen.start_ticks, boot_id=boot_id()), **change)
        book.put(book.state.with_unit(replace(unit, identity=claim)))

        stage.offset += 400  # past any backoff
        stage.until(lambda _: unit.id not in stage.backend._supervisor.book.state.units)
        stage.until(settled)
        stage.backend.shutdown_units()

        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize(
    ("code", "state", "reason"), [(0, JobState.DONE, ""), (3, JobState.FAILED, "exit 3"), (-9, JobState.FAILED, "exit -9")]
)
def test_how_a_job_ended_is_known_though_no_daemon_was_there(tmp_path: Path, code: int, state: JobState, reason: str) -> None:
    end = "os.kill(os.getpid(), 9)" if code < 0 else f"os._exit({code})"
    waits = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.005)\n{end}"
    stage = LocalStage(tmp_path, {"nodes": {"n0": {"gpus": 1}}, "jobs": {"train": job(command=python(waits))}})
    try:
        stage.until(lambda cluster: cluster.jobs[0].state is JobState.RUNNING)
        stage.backend.close()
        (tmp_path / "go").touch()
        while stage.living():
            time.sleep(0.005)
        stage.restart()
        ended = stage.until(lambda cluster: cluster.jobs[0].state is not JobState.RUNNING).jobs[0]
        assert (ended.state, ended.reason) == (state, reason)
    finally:
        stage.finish()


def test_what_a_leader_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    forks = "import os, time\nif os.fork() == 0:\n    time.sleep(300)\nelse:\n    print(1, flush=True)"
    stage = LocalStage(tmp_path, {"nodes": {"n0": {"gpus": 1}}, "jobs": {"train": job(command=python(forks))}})
    try:
        stage.until(lambda cluster: cluster.jobs[0].state is JobState.DONE)
        group = next(iter(stage.identities().values())).pid
        seen = [stat(int(place.name)) for place in Path("/proc").glob("[0-9]*")]
        assert not [one for one in seen if one is not None and one.group == group and one.state not in "ZX"]
    finally:
        stage.finish()


def test_one_state_directory_has_one_supervisor(stage: LocalStage) -> None:
    stage.until(settled)
    second = LocalBackend(stage.backend.settings)
    with pytest.raises(Unreadable, match="another process supervises it"):
        second.observe(stage.now())
    second.close()


def test_a_supervisor_that_stands_down_leaves_its_units_to_the_next_and_may_come_back(stage: LocalStage) -> None:
    admission = admit(scale(stage.until(settled).services[0], 3))
    before = stage.living()
    stage.backend.stand_down()
    second = LocalBackend(stage.backend.settings)
    try:
        assert second.apply(admission, stage.now()).outcome is Outcome.DONE
        with pytest.raises(Unreadable, match="another process supervises it"):
            stage.observe()
    finally:
        second.close()
    assert stage.until(settled).services[0].replicas == 3
    assert stage.backend.apply(admission, stage.now()).outcome is Outcome.ALREADY
    assert before.items() <= stage.living().items() and len(stage.living()) == 3
