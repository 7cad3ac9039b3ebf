"""Telling a run that a checkpoint request lies in its control directory: only by a signal that it survives, only to it.

The request itself is a file (`aiops.backends.checkpoint`), which a run finds within a second without any bell.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from aiops.backends import disk
from aiops.backends.local import process
from aiops.backends.local.process import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Bell:
    """Who is told: the process that was started, and the signal declared for it (or '')."""

    leader: Identity | None
    declared: str = ""


def ring(control: Path, run_id: str, bell: Bell) -> None:
    """Signal the run, where it listens; a process that would die of the signal gets none."""
    listener = _listener(control, run_id, bell)
    if listener is not None and process.survives(*listener):
        os.kill(*listener)


def _listener(control: Path, run_id: str, bell: Bell) -> tuple[int, signal.Signals] | None:
    """Which process takes which signal: what the run's client said, else the leader and the declared one; None: neither."""
    if bell.leader is None:
        return None
    match disk.read(control / "checkpoint-client.json"):
        case {"pid": int(pid), "signal": int(number), "run_id": str(run)} if run == run_id:
            seen = process.stat(pid)
            ours = seen is not None and seen.session == bell.leader.pid and number in (signal.SIGUSR1, signal.SIGUSR2)
            return (pid, signal.Signals(number)) if ours else None
    alive = bell.declared and process.alive(bell.leader, bell.leader.boot_id)
    return (bell.leader.pid, signal.Signals[f"SIG{bell.declared}"]) if alive else None
