"""How full the real file systems are. Asking a dead network mount hangs in the kernel, where no signal reaches.

So a network mount is asked in a daemon thread with a deadline, and not asked again until that thread has come back; in
between `node_filesystem_device_error` is 1. Local file systems are asked directly: they do not hang without the whole
host being lost. One device counts once, at its shortest mount point: bind mounts and container layers are the same space.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from aiops.model import Labels, SeriesKey

Pairs = Iterator[tuple[SeriesKey, float]]

NETWORK = frozenset(
    (
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "lustre",
        "ceph",
        "gpfs",
        "beegfs",
        "glusterfs",
        "9p",
        "virtiofs",
        "afs",
        "orangefs",
        "wekafs",
    )
)
LOCAL = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "vfat", "bcachefs", "jfs", "overlay"))
# Images are always full and read-only: squashfs, iso9660 and erofs are in neither set.


class Filesystems:
    """Asks for the fill of mounts, and remembers which one is still being asked."""

    def __init__(self, rootfs: Path, ignore: re.Pattern[str], timeout_s: float) -> None:
        self._rootfs, self._ignore, self._timeout_s = rootfs, ignore, timeout_s
        self._asked: dict[str, _Question] = {}

    def fill(self, mounts: str) -> Pairs:
        """Size, free, avail, files of every real mount in a `/proc/self/mounts` text."""
        chosen = list(_choose(mounts, self._ignore))
        questions = [(labels, self._ask(point, kind)) for labels, point, kind in chosen]
        for labels, question in questions:
            question.wait(self._timeout_s)
            yield SeriesKey("node_filesystem_device_error", labels), float(question.answer is None)
            yield from _samples(question.answer, labels)

    def _ask(self, point: str, kind: str) -> _Question:
        path = str(self._rootfs / point.lstrip("/"))
        pending = self._asked.get(path)
        if pending is not None and pending.unanswered:
            pending.patient = False
            return pending
        question = _Question(path)
        if kind in NETWORK or kind.startswith("fuse"):
            self._asked[path] = question
            question.start()
        else:
            question.ask()
        return question


class _Question:
    """One statvfs; `answer` stays None while nothing came back, or if it was an error."""

    def __init__(self, path: str) -> None:
        self.answer: os.statvfs_result | None = None
        self.patient = True
        self._path = path
        self._thread: threading.Thread | None = None

    @property
    def unanswered(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        self._thread = threading.Thread(target=self.ask, name=f"statvfs-{self._path}", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        try:
            self.answer = os.statvfs(self._path)
        except OSError:
            self.answer = None

    def wait(self, timeout_s: float) -> None:
        if self._thread is not None and self.patient:
            self._thread.join(timeout_s)


def _choose(mounts: str, ignore: re.Pattern[str]) -> Iterator[tuple[Labels, str, str]]:
    """(labels, mount point, type), one per device."""
    best: dict[str, tuple[str, str]] = {}
    for line in mounts.splitlines():
        words = [_unescape(word) for word in line.split(" ")]
        if len(words) < 3 or not _real(words[2]) or ignore.fullmatch(words[1]):
            continue
        device, point, kind = words[:3]
        if device not in best or len(point) < len(best[device][0]):
            best[device] = (point, kind)
    for device, (point, kind) in sorted(best.items()):
        yield (("device", device), ("fstype", kind), ("mountpoint", point)), point, kind


def _real(kind: str) -> bool:
    return kind in NETWORK or kind in LOCAL or (kind.startswith("fuse.") and kind not in ("fuse.lxcfs", "fuse.portal"))


def _unescape(word: str) -> str:
    r"""The kernel writes space, tab, newline and backslash as \040, \011, \012, \134."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)


def _samples(answer: os.statvfs_result | None, labels: Labels) -> Pairs:
    if answer is None or not answer.f_blocks:
        return
    yield SeriesKey("node_filesystem_size_bytes", labels), float(answer.f_blocks * answer.f_frsize)
    yield SeriesKey("node_filesystem_free_bytes", labels), float(answer.f_bfree * answer.f_frsize)
    yield SeriesKey("node_filesystem_avail_bytes", labels), float(answer.f_bavail * answer.f_frsize)
    if answer.f_files:
        yield SeriesKey("node_filesystem_files", labels), float(answer.f_files)
        yield SeriesKey("node_filesystem_files_free", labels), float(answer.f_ffree)
