"""Storage as this host uses it: block devices, NFS mounts, Lustre clients, and how full file systems are.

Names are node_exporter's where it has them. Latency and queue are not computed here: they are rates of what is stored
(`read_time / reads_completed`, `io_time_weighted`). File systems have their own file, for asking them may hang.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from aiops.errors import NoData
from aiops.model import Batch, SeriesKey
from aiops.settings import Seconds, Section
from collectors.filesystems import Filesystems
from collectors.procfs import children, parse_number, text
from collectors.section import parse

Pairs = Iterator[tuple[SeriesKey, float]]

# Documentation/admin-guide/iostats.rst: columns after the name; sectors are 512 bytes on every device, times milliseconds.
DISK: dict[int, tuple[str, float]] = {
    0: ("reads_completed_total", 1),
    2: ("read_bytes_total", 512),
    3: ("read_time_seconds_total", 0.001),
    4: ("writes_completed_total", 1),
    6: ("written_bytes_total", 512),
    7: ("write_time_seconds_total", 0.001),
    8: ("io_now", 1),
    9: ("io_time_seconds_total", 0.001),
    10: ("io_time_weighted_seconds_total", 0.001),
    11: ("discards_completed_total", 1),
    15: ("flush_requests_total", 1),
    16: ("flush_requests_time_seconds_total", 0.001),
}
# Columns of a per-operation line of mountstats (net/sunrpc/stats.c, rpc_clnt_show_stats); times are milliseconds.
NFS_OPERATION: dict[int, tuple[str, float]] = {
    0: ("requests_total", 1),
    1: ("transmissions_total", 1),
    2: ("major_timeouts_total", 1),
    5: ("queue_time_seconds_total", 0.001),
    6: ("response_time_seconds_total", 0.001),
    7: ("request_time_seconds_total", 0.001),
}
NFS_BYTES = {4: "read_bytes_total", 5: "write_bytes_total"}
NFS_MOUNT = re.compile(r"device (\S+) mounted on (\S+) with fstype nfs\d? statvers")


class StorageOptions(Section):
    """Where to look and what to leave out. `rootfs` is where a container has mounted the host's root."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    rootfs: Path = Path("/")
    ignore_devices: re.Pattern[str] = re.compile(r"((z?ram|loop|fd|sr|(h|s|v|xv)d[a-z]+|nvme\d+n\d+p|mmcblk\d+p|md\d+p)\d+)")
    ignore_mounts: re.Pattern[str] = re.compile(r"/(dev|proc|sys|run/credentials|var/lib/(docker|containers|kubelet))($|/.*)")
    nfs_operations: frozenset[str] = frozenset(("READ", "WRITE", "GETATTR", "LOOKUP", "OPEN", "COMMIT", "READDIR"))
    statvfs_timeout: Seconds = 1.0


class StorageCollector:
    """Block devices, NFS, Lustre, file systems."""

    name: ClassVar[str] = "storage"

    def __init__(self, options: StorageOptions | None = None) -> None:
        self._options = options or StorageOptions()
        self._filesystems = Filesystems(self._options.rootfs, self._options.ignore_mounts, self._options.statvfs_timeout)

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> StorageCollector:
        """Keys as in `StorageOptions`; ConfigError otherwise."""
        return cls(parse(StorageOptions, section, where, cls.name))

    def collect(self, now: float) -> Batch:
        """Counters since boot or mount, and fill. NoData where nothing of it exists."""
        proc, options = self._options.proc, self._options
        own = "self" if proc == Path("/proc") else "1"  # under a mounted host procfs, process 1 sees the host's mounts
        pairs = [
            *_disks(text(proc / "diskstats") or "", options.ignore_devices),
            *_nfs(text(proc / own / "mountstats") or "", options.nfs_operations),
            *_lustre(options),
            *self._filesystems.fill(text(proc / own / "mounts") or text(proc / "mounts") or ""),
        ]
        if not pairs:
            raise NoData(f"{proc}: neither block devices nor mounts")
        return Batch.of(now, pairs)


def _disks(content: str, ignore: re.Pattern[str]) -> Pairs:
    for line in content.splitlines():
        _, _, device, *columns = (*line.split(), "", "", "")
        if not device or ignore.fullmatch(device):
            continue
        for metric, value in _scaled(columns, DISK):
            yield SeriesKey(f"node_disk_{metric}", (("device", device),)), value


def _scaled(columns: list[str], table: Mapping[int, tuple[str, float]]) -> Iterator[tuple[str, float]]:
    for position, (metric, factor) in table.items():
        value = parse_number(columns[position]) if position < len(columns) else None
        if value is not None:
            yield metric, value * factor


def _nfs(content: str, operations: frozenset[str]) -> Pairs:
    """A mount that is listed twice (bind mounts) shares its counters: the first one stands for both."""
    seen: set[str] = set()
    labels: tuple[tuple[str, str], ...] = ()
    for line in content.splitlines():
        if line.startswith("device "):
            mount = NFS_MOUNT.match(line)
            labels = (("export", mount[1]), ("mountpoint", mount[2])) if mount and mount[1] not in seen else ()
            seen.update([mount[1]] if mount else [])
        elif labels:
            yield from _nfs_line(line.split(), labels, operations)


def _nfs_line(words: list[str], labels: tuple[tuple[str, str], ...], operations: frozenset[str]) -> Pairs:
    word, *columns = words or [""]
    if word == "bytes:":
        for position, metric in NFS_BYTES.items():
            if position < len(columns) and (value := parse_number(columns[position])) is not None:
                yield SeriesKey(f"node_mountstats_nfs_total_{metric}", labels), value
    elif word.endswith(":") and (operation := word[:-1]) in operations:
        keyed = tuple(sorted((*labels, ("operation", operation))))
        for metric, value in _scaled(columns, NFS_OPERATION):
            yield SeriesKey(f"node_mountstats_nfs_operations_{metric}", keyed), value


def _lustre(options: StorageOptions) -> Pairs:
    """`read_bytes 12 samples [bytes] 4096 1048576 9437184`: name, count, unit, least, most, sum."""
    roots = (options.sys / "kernel/debug/lustre/llite", options.sys / "fs/lustre/llite", options.proc / "fs/lustre/llite")
    for target in next((found for root in roots if (found := children(root))), []):
        for line in (text(target / "stats") or "").splitlines():
            yield from _lustre_line(line.split(), target.name)


def _lustre_line(words: list[str], target: str) -> Pairs:
    if len(words) < 4 or words[2] != "samples" or (count := parse_number(words[1])) is None:
        return
    labels = (("target", target),)
    if words[0] in ("read_bytes", "write_bytes"):
        direction = words[0].removesuffix("_bytes")
        yield SeriesKey(f"lustre_{direction}_operations_total", labels), count
        if len(words) > 6 and (total := parse_number(words[6])) is not None:
            yield SeriesKey(f"lustre_{direction}_bytes_total", labels), total
    elif words[0] not in ("snapshot_time", "ioctl"):
        yield SeriesKey("lustre_operations_total", (("operation", words[0]), *labels)), count
