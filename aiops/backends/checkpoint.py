"""The checkpoint protocol of docs/jobs.md, seen from a backend: ask, read the acknowledgement, verify the proof.

A proof counts when this run wrote it, it says complete, and every file in its manifest has the size and SHA-256 stated.
What a job writes is hostile until parsed. Checkpoints are never opened for anything but hashing.
"""

from __future__ import annotations

import hashlib
import stat
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiops.backends import disk
from aiops.model import Checkpoint

_SKEW_S = 5.0  # a job's clock is this machine's: an acknowledgement from further ahead is not believed
_PATIENCE_S = 0.2
_MOST_FILES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """A parsed acknowledgement; `files` are (path, bytes, sha256)."""

    id: str
    run_id: str
    at: float
    step: int | None
    files: tuple[tuple[str, int, str], ...]


def ask(control: Path, id: str, run_id: str, at: float) -> bool:
    """Write a request where the run looks for one; False, and nothing written, where this request lies there already."""
    path = control / "checkpoint-request.json"
    if (disk.read(path) or {}).get("id") == id:
        return False
    disk.write(path, {"id": id, "run_id": run_id, "at": at})
    return True


def speaks(control: Path, run_id: str) -> bool:
    """True where this run said that it takes checkpoint requests."""
    client = disk.read(control / "checkpoint-client.json")
    return client is not None and client.get("run_id") == run_id


def acknowledgement(control: Path) -> Ack | None:
    """What the job says it wrote last; None where nothing is said or it cannot be understood whole."""
    raw = disk.read(control / "checkpoint-ack.json")
    match raw:
        case {
            "id": str(id_),
            "run_id": str(run_id),
            "at": int() | float() as at,
            "manifest": {"files": list(files)},
            "complete": True,
            **rest,
        } if 0 < len(files) <= _MOST_FILES:
            parsed = [_file(row) for row in files]
            step = rest.get("step")
            if None not in parsed:
                rows = tuple(row for row in parsed if row is not None)
                return Ack(id=id_, run_id=run_id, at=float(at), step=step if isinstance(step, int) else None, files=rows)
    return None


def _file(row: Any) -> tuple[str, int, str] | None:
    match row:
        case {"path": str(path), "bytes": int(size), "sha256": str(digest)} if path.startswith("/") and "\0" not in path:
            return path, size, digest.lower()
    return None


class Proofs:
    """Verifies acknowledgements; remembers hashes of unchanged files and hashes large ones beside the cycle."""

    def __init__(self) -> None:
        self._hashes: dict[tuple[str, int, int, int], str] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._asked: dict[Ack, Future[bool]] = {}

    def look(self, control: Path, run_id: str, now: float, patience_s: float = _PATIENCE_S) -> Checkpoint | None:
        """The run's newest checkpoint as read and judged now; None where this run acknowledged none.

        Not verified but `reading` while hashing takes longer than `patience_s`; a later look has the answer.
        """
        ack = acknowledgement(control)
        if ack is None or ack.run_id != run_id:
            return None
        verified = ack.at <= now + _SKEW_S and self._sizes_match(ack) and self._hashed(ack, patience_s)
        return Checkpoint(
            id=ack.id or f"own-{ack.at:.6f}", run_id=run_id, at=ack.at, read_at=now, verified=verified is True, step=ack.step,
            reading=verified is None,
        )  # fmt: skip

    def _sizes_match(self, ack: Ack) -> bool:
        return all(_signature(path, size) is not None for path, size, _ in ack.files)

    def _hashed(self, ack: Ack, patience_s: float) -> bool | None:
        """Whether every file has the hash stated; None where that takes longer."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="proof")
        if ack not in self._asked:
            self._asked[ack] = self._pool.submit(self._verify, ack)
        answer = self._asked[ack]
        wait([answer], timeout=patience_s)
        if not answer.done():
            return None
        del self._asked[ack]
        return answer.result() and self._unchanged(ack)

    def _unchanged(self, ack: Ack) -> bool:
        """True where every file is still the one that was hashed: the answer may come a look later."""
        return all(
            (key := _signature(path, size)) is not None and self._hashes.get(key) == digest for path, size, digest in ack.files
        )

    def _verify(self, ack: Ack) -> bool:
        return all(self._matches(path, size, digest) for path, size, digest in ack.files)

    def _matches(self, path: str, size: int, digest: str) -> bool:
        key = _signature(path, size)
        if key is None:
            return False
        if key not in self._hashes:
            try:
                found = _sha256(path)
            except OSError:
                return False
            if _signature(path, size) != key:
                return False  # written to while it was read
            self._hashes[key] = found
        return self._hashes[key] == digest

    def close(self) -> None:
        """Let the hash in progress run out."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _signature(path: str, size: int) -> tuple[str, int, int, int] | None:
    """What changes whenever a file's bytes do (path, inode, size, mtime); None unless a regular file of that size."""
    try:
        seen = Path(path).stat()
    except (OSError, ValueError):
        return None
    return (path, seen.st_ino, seen.st_size, seen.st_mtime_ns) if stat.S_ISREG(seen.st_mode) and seen.st_size == size else None


def _sha256(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
