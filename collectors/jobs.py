"""What training jobs report about themselves through `aiops.jobs`: text files in a directory, datagrams on a socket.

Both carry the whole cumulative state of one rank in the Prometheus text format (`docs/jobs.md`). The writers are other
people's programs: only the series named here are taken, sizes are bounded, and a file that is not plain is not opened.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from aiops.errors import ConfigError, NoData, Temporary
from aiops.model import Batch, SeriesKey

STALE_S = 60.0
"""A living client rewrites its file every second; a minute without is a job that ended or hangs with its whole process."""
MAX_BYTES = 65_536
"""Per rank: a report is about 1 kB; a unix datagram cannot be much larger than this."""
MAX_REPORTS = 10_000
LABELS = frozenset({"job_id", "run_id", "rank", "knob"})
METRICS = frozenset(
    {
        "job_step_duration_seconds",
        "job_step_duration_seconds_count",
        "job_step_duration_seconds_sum",
        "job_steps_total",
        "job_samples_total",
        "job_compute_seconds_total",
        "job_data_wait_seconds_total",
        "job_comm_wait_seconds_total",
        "job_cpu_wait_seconds_total",
        "job_checkpoint_seconds_total",
        "job_loader_queue_batches",
        "job_knob_value",
    }
)
_LINE = re.compile(r'(\w+)\{((?:\w+="(?:[^"\\]|\\.)*",?)+)\} (\S+)')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


class JobsCollector:
    """Reads the newest report of every rank. The socket, if any, is bound at the first collection."""

    name: ClassVar[str] = "jobs"

    def __init__(self, directory: Path | None = None, socket_path: Path | None = None) -> None:
        self._directory, self._socket_path = directory, socket_path
        self._socket: socket.socket | None = None

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> JobsCollector:
        """`directory` and `socket`, both optional paths; without either there is nothing to read."""
        for key, value in section.items():
            if key not in ("directory", "socket"):
                raise ConfigError(where, f"collectors.jobs.{key}", "unknown key, expected directory or socket")
            if not isinstance(value, str) or not value:
                raise ConfigError(where, f"collectors.jobs.{key}", f"expected a path, found {value!r}")
        paths = {key: Path(value) for key, value in section.items()}
        return cls(paths.get("directory"), paths.get("socket"))

    def collect(self, now: float) -> Batch:
        """Newest value of every series of every rank. NoData where neither directory nor socket is configured or there."""
        found = list(self._files(now)) if self._directory else []
        if self._socket_path:
            found += self._datagrams(self._socket_path)
        newest = {key: value for text in found for key, value in parse(text)}
        return Batch.of(now, newest.items())

    def _files(self, now: float) -> Iterator[str]:
        assert self._directory is not None
        try:
            paths = sorted(path for path in self._directory.iterdir() if path.suffix == ".prom")[:MAX_REPORTS]
        except FileNotFoundError:
            if self._socket_path is None:
                raise NoData(f"no directory {self._directory}") from None
            return
        except OSError as error:
            raise Temporary(f"{self._directory}: {error.strerror}") from error
        for path in paths:
            with contextlib.suppress(OSError):  # replaced or removed while we look: the next scrape sees it
                text = _read_fresh(path, now)
                if text is not None:
                    yield text

    def _datagrams(self, path: Path) -> list[str]:
        if self._socket is None:
            self._socket = _bind(path)
        texts: list[str] = []
        while len(texts) < MAX_REPORTS:
            try:
                texts.append(self._socket.recv(MAX_BYTES).decode(errors="replace"))
            except BlockingIOError:
                break
            except OSError as error:
                raise Temporary(f"{path}: {error.strerror}") from error
        return texts

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None and self._socket_path is not None:
            self._socket.close()
            self._socket_path.unlink(missing_ok=True)
            self._socket = None


def _read_fresh(path: Path, now: float) -> str | None:
    """Text of a plain, small, recently written file; a link or a pipe is not opened, so that none can block or mislead."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or now - status.st_mtime > STALE_S:
            return None
        return file.read(MAX_BYTES).decode(errors="replace")


def _bind(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        if path.is_socket():  # left by an earlier process; anything else in the way is not ours to remove
            path.unlink()
        listener.bind(str(path))
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise Temporary(f"{path}: {error.strerror}") from error
    return listener


def parse(text: str) -> Iterator[tuple[SeriesKey, float]]:
    """(series, value) of the lines that are ours; a line that is not, or is cut off, is passed over."""
    for line in text.split("\n"):
        match = _LINE.fullmatch(line)
        if match is None or match[1] not in METRICS:
            continue
        labels = {name: re.sub(r"\\.", _unescape, value) for name, value in _LABEL.findall(match[2])}
        with contextlib.suppress(ValueError):
            value = float(match[3])
            if LABELS.issuperset(labels) and "job_id" in labels and math.isfinite(value):
                yield SeriesKey.of(match[1], **labels), value


def _unescape(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[0], match[0])
