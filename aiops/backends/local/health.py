"""Asks replicas whether they are ready, in a small bounded pool, so that a hanging one costs the cycle nothing.

Answers are collected at the next look; one check per unit is in flight at most. What is kept here may be lost.
"""

from __future__ import annotations

import http.client
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor, wait

from aiops.backends.local.declare import Health

_WORKERS = 16
_PATIENCE_S = 0.3  # of one look, for all checks together; slower answers count at the next look


class Checks:
    """Health checks in flight and their newest answers."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._asked: dict[str, Future[bool]] = {}
        self._failures: dict[str, int] = {}

    def ask(self, targets: dict[str, tuple[Health, int]]) -> dict[str, bool]:
        """Newest answer per unit id for those that answered; `targets` are (how, port) by unit id.

        A ready unit becomes unready after `failures` failures in a row: until then its answer is left out.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="health")
        for unit, (how, port) in targets.items():
            if unit not in self._asked:
                self._asked[unit] = self._pool.submit(check, how, port)
        done, _ = wait([self._asked[unit] for unit in targets], timeout=_PATIENCE_S)
        answers: dict[str, bool] = {}
        for unit, (how, _) in targets.items():
            if self._asked[unit] in done:
                self._judge(unit, self._asked.pop(unit).result(), how, answers)
        self._failures = {unit: count for unit, count in self._failures.items() if unit in targets}
        return answers

    def _judge(self, unit: str, well: bool, how: Health, answers: dict[str, bool]) -> None:
        self._failures[unit] = 0 if well else self._failures.get(unit, 0) + 1
        if well or self._failures[unit] >= how.failures:
            answers[unit] = well

    def close(self) -> None:
        """Let the checks in flight run out by their own timeouts."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def check(how: Health, port: int) -> bool:
    """One check: True where the path answers 200-399, or the command ends with 0, in time."""
    if how.command:
        return _command(how, port)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=how.timeout)
    try:
        connection.request("GET", how.path)
        return 200 <= connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _command(how: Health, port: int) -> bool:
    quiet = subprocess.DEVNULL
    argv = [part.replace("{port}", str(port)) for part in how.command]
    try:
        return subprocess.run(argv, stdin=quiet, stdout=quiet, stderr=quiet, timeout=how.timeout, check=False).returncode == 0  # noqa: S603  declared by the owner of the machine, no shell
    except (OSError, subprocess.TimeoutExpired):
        return False
