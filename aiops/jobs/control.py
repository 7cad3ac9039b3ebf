"""The job's side of the control directory: checkpoint requests, their acknowledgement, knobs (`docs/jobs.md`).

Looking at files is the background thread's work; the training thread reads an attribute, unless the signal rang.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from aiops.jobs.identity import Identity
from aiops.jobs.outlet import replace, sync

REQUEST, ACK, CLIENT, KNOBS = "checkpoint-request.json", "checkpoint-ack.json", "checkpoint-client.json", "knobs.json"


class Control:
    """What the backend asks of this run, and what the run answers."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._asked = self._answered = ""
        self._rung = self._announced = False

    def requested(self) -> str:
        """Id of the request that waits for an acknowledgement, or the empty text. Never raises."""
        if not self._announced:
            self._announce()
        if self._rung:
            self._rung = False
            self.look()
        return self._asked

    def look(self) -> None:
        """Read the request file; absent, broken, answered, or meant for another run: nothing is asked."""
        request = self._read(REQUEST)
        asked, run = request.get("id"), request.get("run_id")
        mine = isinstance(asked, str) and run == self._identity.run_id and asked != self._answered
        self._asked = str(asked) if mine else ""

    def acknowledge(self, path: Path, step: int) -> None:
        """Make a finished checkpoint durable and prove it; OSError, and no proof, where a file cannot be read.

        The proof names every regular file at or under `path` with size and SHA-256. Does nothing without a control directory.
        """
        if self._identity.control is None:
            return
        at, asked = time.time(), self._asked
        files = [_entry(file) for file in _files(path)]
        if not files:
            raise FileNotFoundError(f"no checkpoint files at {path}")
        proof = {"id": asked, "run_id": self._identity.run_id, "at": at, "step": step, "manifest": {"files": files}}
        content = json.dumps({**proof, "complete": True}, indent=1).encode()
        replace(self._identity.control / ACK, content, durable=True)
        self._answered, self._asked = asked or self._answered, ""

    def knob(self, name: str, default: float) -> float:
        """The number that the backend set for `name`, else `default`; anything but a finite number is ignored."""
        value = self._read(KNOBS).get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return default
        return type(default)(value)

    def _announce(self) -> None:
        """Leave word that this run speaks the protocol, and which signal rings it."""
        self._announced = True
        self.look()
        number = 0
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGUSR1) in (signal.SIG_DFL, self._ring):
            signal.signal(signal.SIGUSR1, self._ring)
            number = int(signal.SIGUSR1)
        if self._identity.control is not None:
            client = {"pid": os.getpid(), "signal": number, "run_id": self._identity.run_id}
            with contextlib.suppress(OSError):  # without it the request file still works
                replace(self._identity.control / CLIENT, json.dumps(client).encode())

    def _ring(self, *_: object) -> None:
        self._rung = True

    def _read(self, name: str) -> dict[str, Any]:
        if self._identity.control is None:
            return {}
        try:
            content = json.loads((self._identity.control / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}


def _files(path: Path) -> list[Path]:
    return sorted(file.absolute() for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path.absolute()]


def _entry(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = os.fstat(file.fileno()).st_size
    sync(path.parent)
    return {"path": str(path), "bytes": size, "sha256": digest}
