"""The one client of a process: a recorder, the control directory, and the background thread that does all the I/O.

Built at the first call, built anew in a forked child (a loader worker that reports nothing starts no thread).
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
from pathlib import Path

from aiops.jobs.control import Control
from aiops.jobs.identity import Identity
from aiops.jobs.outlet import exposition, open_outlet
from aiops.jobs.recorder import CHECKPOINT, COMM_WAIT, DATA_WAIT, STEP, Recorder, Span
from aiops.jobs.starved import Starved

PERIOD_S = 1.0
"""Between reports: a tenth of the default scrape, and how long an unrung checkpoint request stays unseen."""

_birth = threading.Lock()


class Client:
    """Recorder, control and reporting thread of one process."""

    def __init__(self, identity: Identity) -> None:
        self.recorder, self.control = Recorder(), Control(identity)
        self._identity, self._send = identity, open_outlet(identity)
        self._starved, self._failing = Starved(), False
        self._ended = threading.Event()

    def start(self) -> None:
        """Start reporting, if anybody listens; a process that may not start threads goes on without."""
        if self._identity.telemetry is None and self._identity.control is None:
            return
        try:
            threading.Thread(target=self._report, name="aiops-jobs", daemon=True).start()
        except RuntimeError:
            return
        atexit.register(self.flush)

    def flush(self) -> None:
        """Report now. Never raises: this is the wall between telemetry and the job."""
        try:
            if self._send is not None:
                cpu_wait_s = self._starved.look(self.recorder.threads())
                self._send(exposition(self._identity, self.recorder.totals(), cpu_wait_s))
            self.control.look()
        except Exception as error:
            if not self._failing:
                logging.getLogger("aiops.jobs").warning("job telemetry is not written: %s", error)
            self._failing = True
        else:
            self._failing = False

    def stop(self) -> None:
        """End the reporting thread after its current report."""
        self._ended.set()

    def _report(self) -> None:
        while not self._ended.wait(PERIOD_S):
            self.flush()


@functools.cache
def _client() -> Client:
    client = Client(Identity.read())
    client.start()
    os.register_at_fork(after_in_child=_client.cache_clear)
    return client


def client() -> Client:
    """The process's client; the same for all threads, another after a fork."""
    if _client.cache_info().currsize:
        return _client()
    with _birth:
        return _client()


def step(samples: float = 0) -> Span:
    """A context for one optimiser step; what is not waiting inside it is compute."""
    return Span(client().recorder, STEP, samples)


def data_wait() -> Span:
    """A context for waiting for data."""
    return Span(client().recorder, DATA_WAIT)


def comm_wait() -> Span:
    """A context for waiting for other ranks, such as an all-reduce."""
    return Span(client().recorder, COMM_WAIT)


def checkpoint() -> Span:
    """A context for writing or loading a checkpoint."""
    return Span(client().recorder, CHECKPOINT)


def checkpoint_requested() -> str:
    """Id of the checkpoint that the cluster asks for, empty if none; ask once per step, it costs one attribute."""
    return client().control.requested()


def acknowledge(path: str | os.PathLike[str], step: int) -> None:
    """Prove the checkpoint at `path` (file or directory), complete and of `step`. Raises OSError if it cannot be read."""
    client().control.acknowledge(Path(path), step)


def prove(path: Path, step: int) -> None:
    """As `acknowledge`, for callbacks: a checkpoint that cannot be proven is a warning, not the end of the job."""
    try:
        acknowledge(path, step)
    except OSError as error:
        logging.getLogger("aiops.jobs").warning("checkpoint not acknowledged: %s", error)


def knob(name: str, default: float) -> float:
    """The value of a tunable number, as the cluster set it, else `default`; keeps the default's type. Reads a file."""
    value = client().control.knob(name, default)
    client().recorder.knob(name, float(value))
    return value


def flush() -> None:
    """Report now, for a program that ends without running its exit handlers."""
    client().flush()
