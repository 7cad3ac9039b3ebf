"""A Slurm backend over a real slurmctld, with the power to lose answers, kill the controller, and look behind the scenes."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slurm_server import SlurmServer, found

from aiops.backends.journal import effects
from aiops.backends.slurm import SlurmBackend
from aiops.backends.slurm.commands import Answer
from aiops.clock import SystemClock
from aiops.model import Cluster, Job
from aiops.testing.backend import ReplyLost

NOT_SLURM_USER = 4242
"""Without slurmdbd nobody but SlurmUser is an operator, so that the tests' commands run as SlurmUser; the backend is told
that it is somebody else. That it refuses to be SlurmUser has a test of its own."""


class SlurmStage:
    """Implements `aiops.testing.backend.Stage`."""

    def __init__(self, server: SlurmServer, **section: Any) -> None:
        self.server = server
        self.directory = Path(tempfile.mkdtemp(prefix="journal-", dir=server.s))
        self.section = {
            "state_dir": str(self.directory), "interval": 0.01, "timeout": 5.0, "reservation_user": server.user,
            "control_dir": f"{server.s}/control/{{job}}", **section,
        }  # fmt: skip
        self.dies_at = ""
        self.drops: Callable[[Sequence[str]], bool] = lambda argv: False
        self.before: Callable[[Sequence[str]], None] = lambda argv: None
        self.asked: list[tuple[str, ...]] = []
        self.twists = ""
        self.offset = 0.0
        self.backend = self._new()

    def _new(self) -> SlurmBackend:
        settings = SlurmBackend.from_settings(self.section, "test").settings
        return SlurmBackend(settings, self.run, NOT_SLURM_USER, self._failpoint)

    def run(self, argv: Sequence[str], timeout_s: float, more: Mapping[str, str] | None = None) -> Answer:
        """As `commands.system`, but as the cluster's user; an answer may be dropped after the command had its effect."""
        self.asked.append(tuple(argv))
        self.before(argv)
        if self.twists and argv[:2] == ("scontrol", "--") and argv[2] != "show":
            twist, self.twists = self.twists, ""
            if twist == "lie":
                return Answer(0, b"", "")
            argv = [part for part in argv if not part.startswith("State=")]
        environment = {**self.server.env, "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C", **(more or {})}
        done = subprocess.run(
            [found(argv[0]) or argv[0], *argv[1:]], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=timeout_s, cwd="/", **self.server.drop,
        )  # fmt: skip
        if self.drops(argv):
            self.drops = lambda argv: False
            raise subprocess.TimeoutExpired(list(argv), timeout_s)
        return Answer(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def _failpoint(self, point: str) -> None:
        if point == self.dies_at:
            self.dies_at = ""
            raise ReplyLost(point)

    def now(self) -> float:
        return SystemClock().now() + self.offset

    def observe(self) -> Cluster:
        return self.backend.observe(self.now())

    def until(self, holds: Callable[[Cluster], bool]) -> Cluster:
        deadline = time.monotonic() + 20.0
        while time.monotonic() < deadline:
            seen = self.observe()
            if holds(seen):
                return seen
            time.sleep(0.05)
        raise AssertionError(f"not within 20 s: {seen.nodes} {seen.jobs}")

    def job(self, id: str) -> Job:
        return next(job for job in self.observe().jobs if job.id == id)

    def running(self, *options: str, script: str = "exec sleep 600") -> Job:
        """A batch job, submitted and running."""
        id = self.server.submit(*options, script=script)
        self.server.wait_state(id, "RUNNING")
        return self.job(id)

    def restart(self) -> None:
        self.backend.close()
        self.backend = self._new()

    def lose_next_reply(self) -> None:
        """The command reaches slurmctld and has its effect; its answer never arrives."""
        self.drops = lambda argv: argv[0] == "scontrol" and argv[1] == "--" and argv[2] not in ("show",)

    def recreate(self, service: str) -> None:
        """Nothing here: on Slurm only nodes have names that outlive them."""

    def blind(self) -> None:
        """slurmctld is not to be reached."""

        def unreachable(argv: Sequence[str]) -> None:
            raise subprocess.TimeoutExpired(list(argv), 0.0)

        self.before = unreachable

    def lie_next(self) -> None:
        """The next change is answered with success, and slurmctld never hears of it."""
        self.twists = "lie"

    def halve_next(self) -> None:
        """Of the next change of a node only the reason, which names our action, gets through."""
        self.twists = "halve"

    def effects(self) -> tuple[str, ...]:
        return effects(self.directory / "effects.jsonl")

    def finish(self) -> None:
        self.backend.close()
        self.server.clean()

    def requeue_at_once(self, id: str) -> None:
        """Slurm lets a requeued job wait two minutes; a test two seconds.

        A slurmd that ended a run refuses ("Job credential revoked") to start it again within the same second: it would FAIL.
        """
        self.server.wait_state(id, "PENDING")
        self.server.run("scontrol", "release", id, check=False)  # one that was suspended is held by Slurm
        self.server.run("scontrol", "update", f"JobId={id}", "StartTime=now+2")
        self.server.wait_state(id, "RUNNING")
