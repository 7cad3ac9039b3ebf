"""Pressure stall information: how long tasks waited for CPU, I/O and memory, on the host and per cgroup (v2).

`waiting` is the kernel's `some` (at least one task waited), `stalled` its `full` (all did). The host's `full` for CPU is
left out: the kernel reports a constant zero there, which would read as "never stalled".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from aiops.errors import NoData
from aiops.model import Batch, SeriesKey
from aiops.settings import Section
from collectors.procfs import children, parse_number, read, text
from collectors.section import parse

Pairs = Iterator[tuple[SeriesKey, float]]

RESOURCES = ("cpu", "io", "memory")
KINDS = {"some": "waiting", "full": "stalled"}


class PressureOptions(Section):
    """Where to look; how deep in the cgroup tree (0: host only); at most how many series of cgroups."""

    proc: Path = Path("/proc")
    cgroup: Path = Path("/sys/fs/cgroup")
    depth: int = Field(default=2, ge=0, le=8)
    max_series: int = Field(default=600, ge=0)


class PressureCollector:
    """PSI of the host and of cgroups down to a depth."""

    name: ClassVar[str] = "pressure"

    def __init__(self, options: PressureOptions | None = None) -> None:
        self._options = options or PressureOptions()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> PressureCollector:
        """Keys `proc`, `cgroup`, `depth`, `max_series`; ConfigError otherwise."""
        return cls(parse(PressureOptions, section, where, cls.name))

    def collect(self, now: float) -> Batch:
        """Seconds waited since boot (host) or since creation (cgroup). NoData on a kernel without PSI."""
        host = list(_host(self._options.proc))
        if not host:
            raise NoData(f"{self._options.proc / 'pressure'}: this kernel has no pressure information")
        groups = list(_groups(self._options))
        kept = groups[: self._options.max_series]
        dropped = SeriesKey("aiops_collector_dropped_samples", (("collector", self.name),))
        return Batch.of(now, [*host, *kept, (dropped, float(len(groups) - len(kept)))])


def _host(proc: Path) -> Pairs:
    for resource in RESOURCES:
        try:
            content = read(proc / "pressure" / resource)
        except NoData:
            continue
        for kind, seconds in stalls(content):
            if (resource, kind) != ("cpu", "stalled"):
                yield SeriesKey(f"node_pressure_{resource}_{kind}_seconds_total"), seconds


def stalls(content: str) -> Iterator[tuple[str, float]]:
    """(waiting|stalled, seconds) from `some avg10=0.00 avg60=0.00 avg300=0.00 total=123`, total in microseconds."""
    for line in content.splitlines():
        word, *fields = line.split() or [""]
        total = next((field.removeprefix("total=") for field in fields if field.startswith("total=")), "")
        if word in KINDS and (value := parse_number(total)) is not None:
            yield KINDS[word], value / 1e6


def unified(mount: Path) -> Path | None:
    """Root of the v2 hierarchy: `mount` itself, or `mount/unified` on a hybrid host; None with v1 alone."""
    return next((root for root in (mount, mount / "unified") if (root / "cgroup.controllers").exists()), None)


def _groups(options: PressureOptions) -> Pairs:
    """Shallow groups first, so that the cap cuts leaves and not slices."""
    root = unified(options.cgroup)
    level = [root] if root else []
    for _ in range(options.depth):
        level = [child for parent in level for child in children(parent) if child.is_dir()]
        for group in level:
            yield from _group(group, str(group.relative_to(root or group)))


def _group(group: Path, label: str) -> Pairs:
    for resource in RESOURCES:
        labels = (("cgroup", f"/{label}"), ("resource", resource))
        for kind, seconds in stalls(text(group / f"{resource}.pressure") or ""):
            yield SeriesKey(f"cgroup_pressure_{kind}_seconds_total", labels), seconds
