"""Slurm's programs, started by argument list: one answer, or one of two errors that mean very different things.

`Refused`: slurmctld said no, and nothing happened. `Lost`: no answer that we understand; it may have happened (safety I4).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiops.errors import AiopsError, Temporary

_TRANSPORT = re.compile(
    r"contact slurm controller|timed out|Zero Bytes|[Cc]ommunication|Socket|Connection|authentication|Unexpected message"
)
_REFUSAL = re.compile(
    r"Invalid|not found|denied|is pending|[Aa]lready|disabled|not available right now|Requested|overlaps|Error creating"
    r"|in an invalid|not permitted|can ?not be|Duplicate|completing|completed|unknown|No reservation|not supported|is busy"
    r"|Job/step|no longer|[Uu]nable to (requeue|suspend|resume)|not suspended|must be|in use"
)
_ID = re.compile(r"[0-9]{1,10}(_[0-9]{1,10})?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


class Lost(Temporary):
    """No answer: the effect may be there, and only a read can tell."""


class Unsent(Lost):
    """No answer because nothing was asked: there was no effect."""


class Refused(AiopsError):
    """slurmctld refused in words; there was no effect."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program left behind."""

    code: int
    out: bytes
    err: str


Run = Callable[[Sequence[str], float, Mapping[str, str]], Answer]
"""Runs an argument list for at most so many seconds, with more environment; TimeoutExpired or OSError without an answer."""


def environment(conf: Path | None) -> dict[str, str]:
    """Nothing of ours but what Slurm's programs need; times as Unix seconds, messages in English."""
    told = {"SLURM_CONF": str(conf)} if conf else {}
    kept = {key: os.environ[key] for key in ("SLURM_CONF", "SLURM_JWT") if key in os.environ}
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    return {"PATH": path, "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s", **kept, **told}


def system(environment: dict[str, str]) -> Run:
    """Runs programs on this machine, as this user."""

    def run(argv: Sequence[str], timeout_s: float, more: Mapping[str, str]) -> Answer:
        whole = {**environment, **more}
        done = subprocess.run(  # noqa: S603  an argument list, no shell; every value is checked below
            list(argv), env=whole, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
        return Answer(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    return run


class Commands:
    """Reads and writes through Slurm's own programs."""

    def __init__(self, run: Run, timeout_s: float, shown: Callable[[], Mapping[str, str]] = dict) -> None:
        """`shown` gives what a program is to present itself with; it may raise Lost, and then nothing was sent."""
        self._run = run
        self._timeout_s = timeout_s
        self._shown = shown

    def read(self, *argv: str, missing: str = "", environment: Mapping[str, str] | None = None) -> bytes:
        """Output of a command that changes nothing; empty where it says `missing`. Raises Lost."""
        answer = self._ask(argv, {**self._shown(), **(environment or {})})
        if answer.code and missing and missing in answer.err:
            return b""
        if answer.code:
            raise Lost(_first_line(answer))
        return answer.out

    def write(self, *argv: str) -> str:
        """Carry out one change; what it printed. Raises Refused or Lost."""
        try:
            answer = self._ask(argv, self._shown())
        except Unsent as error:
            raise Refused(str(error)) from None
        if not answer.code:
            return answer.out.decode(errors="replace").strip()
        text = _first_line(answer)
        if _TRANSPORT.search(text) or not _REFUSAL.search(text):
            raise Lost(text)
        raise Refused(text)

    def _ask(self, argv: tuple[str, ...], environment: Mapping[str, str]) -> Answer:
        try:
            return self._run(argv, self._timeout_s, environment)
        except subprocess.TimeoutExpired:
            raise Lost(f"{argv[0]}: no answer within {self._timeout_s:g} s") from None
        except OSError as error:
            raise Lost(f"{argv[0]}: {error.strerror}") from None


def _first_line(answer: Answer) -> str:
    lines = (answer.err.strip() or answer.out.decode(errors="replace").strip()).splitlines()
    return "".join(c for c in (lines[0] if lines else f"exit status {answer.code}") if c.isprintable())[:300]


def job_id(text: str) -> str:
    """`text` if it can be nothing but a job's address. ValueError otherwise."""
    if not _ID.fullmatch(text):
        raise ValueError(f"not a job id: {text[:40]!r}")
    return text


def name(text: str) -> str:
    """`text` if it is one plain name of a node, partition, reservation or user. ValueError otherwise."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"not a plain name: {text[:40]!r}")
    return text


def prose(text: str) -> str:
    """A reason in words, without what scontrol or a log could take for something else."""
    return "".join(c if c.isascii() and c.isprintable() and c not in "=\"'\\[]" else " " for c in text)[:160].strip()
