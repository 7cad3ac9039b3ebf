"""Who a process is, and signals to it: pid AND start time AND boot, never a pid alone.

Reads /proc only. A zombie is dead: the init of a container may never reap it, so `kill -0` proves nothing.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process that no other one can be mistaken for. `start_ticks` is field 22 of /proc/PID/stat."""

    pid: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """What /proc/PID/stat says: state letter, process group, session, start time in clock ticks since boot."""

    state: str
    group: int
    session: int
    start_ticks: int


def boot_id(proc: Path = Path("/proc")) -> str:
    """Identity of this boot of the kernel; pids and start times mean nothing across boots."""
    return (proc / "sys/kernel/random/boot_id").read_text().strip()


def stat(pid: int, proc: Path = Path("/proc")) -> Stat | None:
    """State of a process, or None where there is none; a command name may contain blanks and brackets."""
    try:
        fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Stat(state=fields[0], group=int(fields[2]), session=int(fields[3]), start_ticks=int(fields[19]))


def alive(who: Identity | None, boot: str) -> bool:
    """True where exactly this process still runs; a zombie, a reused pid and another boot are not it."""
    if who is None or who.boot_id != boot:
        return False
    seen = stat(who.pid)
    return seen is not None and seen.start_ticks == who.start_ticks and seen.state not in "ZX"


def stopped(who: Identity) -> bool:
    """True where the process is stopped by a signal."""
    seen = stat(who.pid)
    return seen is not None and seen.state in "Tt"


def survives(pid: int, number: signal.Signals) -> bool:
    """True where the process catches, blocks or ignores the signal; one that does neither would die of most of them."""
    try:
        rows = dict(row.split(":\t", 1) for row in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in row)
        return any(int(rows[mask], 16) >> (number - 1) & 1 for mask in ("SigCgt", "SigBlk", "SigIgn"))
    except (OSError, KeyError, ValueError):
        return False


def signal_group(who: Identity | None, boot: str, number: signal.Signals) -> bool:
    """Send to the whole process group that `who` leads; False, and no signal, unless it is alive and the leader."""
    if who is None or not alive(who, boot):
        return False
    seen = stat(who.pid)
    if seen is None or seen.group != who.pid or who.pid <= 1:
        return False
    try:
        os.killpg(who.pid, number)
    except ProcessLookupError:
        return False
    return True
