"""How totals leave the process: Prometheus text, into a file that is replaced whole or as one datagram."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

from aiops.jobs.identity import Identity
from aiops.jobs.recorder import Totals

Outlet = Callable[[str], None]


def exposition(identity: Identity, totals: Totals, cpu_wait_s: float | None = None) -> str:
    """One line per series; no TYPE lines, because the bare name and `_sum`, `_count` are three series, not a summary."""
    rows = {f"job_{kind}_seconds_total": seconds for kind, seconds in totals.seconds.items()}
    rows |= {
        "job_steps_total": totals.steps,
        "job_samples_total": totals.samples,
        "job_step_duration_seconds_count": totals.steps,
        "job_step_duration_seconds_sum": totals.step_seconds,
    }
    if totals.step_duration is not None:
        rows["job_step_duration_seconds"] = totals.step_duration
    if cpu_wait_s is not None:
        rows["job_cpu_wait_seconds_total"] = cpu_wait_s
    if totals.queue is not None:
        rows["job_loader_queue_batches"] = totals.queue
    lines = [f"{name}{{{identity.labels()}}} {value:.9g}" for name, value in rows.items()]
    lines += [f"job_knob_value{{{identity.labels(knob=name)}}} {value:.9g}" for name, value in totals.knobs.items()]
    return "\n".join(lines) + "\n"


def open_outlet(identity: Identity) -> Outlet | None:
    """A function that sends one text; None where nobody listens. Looks at each call, so that a listener may come late."""
    target = identity.telemetry
    if target is None:
        return None
    name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{identity.job_id}.{identity.rank}".replace(".", "-"))

    def send(text: str) -> None:
        if target.is_dir():
            replace(target / f"{name}.prom", text.encode(errors="replace"))
        else:
            _datagram(target, text.encode(errors="replace"))

    return send


def replace(path: Path, content: bytes, durable: bool = False) -> None:
    """Write beside and rename: a reader sees the old or the new file, never half of one. Raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def sync(path: Path) -> None:
    """Make durable what was written to a file or directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _datagram(path: Path, content: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)  # a full queue costs one report, never a wait
        sender.sendto(content, str(path))
