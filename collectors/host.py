"""CPU, memory and load of this host, from procfs, under node_exporter's names.

CPU seconds are summed over CPUs: per-CPU series cost hundreds of series per node and no policy asks for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from aiops.errors import Temporary
from aiops.model import Batch, SeriesKey
from aiops.settings import Section
from collectors.procfs import children, number, parse_number, pick, read, text
from collectors.section import parse

Pairs = Iterator[tuple[SeriesKey, float]]

MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
STAT = {
    "ctxt": "node_context_switches_total",
    "btime": "node_boot_time_seconds",
    "procs_running": "node_procs_running",
    "procs_blocked": "node_procs_blocked",
}
LOAD = {0: "node_load1", 1: "node_load5", 2: "node_load15"}
MEMORY = frozenset(
    ("MemTotal", "MemFree", "MemAvailable", "Cached", "Buffers", "Dirty", "Writeback", "Shmem", "SwapTotal", "SwapFree")
)
VMSTAT = frozenset(("pgmajfault", "oom_kill", "pswpin", "pswpout"))


class HostOptions(Section):
    """Where the kernel's files are; a container mounts the host's elsewhere."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")


class HostCollector:
    """CPU, memory, load and heat of one machine."""

    name: ClassVar[str] = "host"

    def __init__(self, options: HostOptions | None = None) -> None:
        self._options = options or HostOptions()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> HostCollector:
        """Keys `proc`, `sys`; ConfigError otherwise."""
        return cls(parse(HostOptions, section, where, cls.name))

    def collect(self, now: float) -> Batch:
        """CPU, load, memory, paging, heat. NoData where there is no procfs; one unreadable file costs its own rows only."""
        proc = self._options.proc
        parts = (
            _stat(read(proc / "stat")),
            _load(text(proc / "loadavg") or ""),
            _memory(text(proc / "meminfo") or ""),
            _vmstat(text(proc / "vmstat") or ""),
            _throttles(self._options.sys),
        )
        batch = Batch.of(now, [pair for part in parts for pair in part])
        if not batch.keys:
            raise Temporary(f"{proc / 'stat'}: nothing readable in it")
        return batch


def _stat(content: str) -> Pairs:
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    cpus = 0
    for line in content.splitlines():
        word, *rest = line.split() or [""]
        if word == "cpu":
            for mode, ticks in pick(rest, dict(enumerate(MODES))):
                yield SeriesKey("node_cpu_seconds_total", (("mode", mode),)), ticks / ticks_per_s
        elif word.startswith("cpu"):
            cpus += 1
        elif word in STAT and rest and (value := parse_number(rest[0])) is not None:
            yield SeriesKey(STAT[word]), value
    if cpus:
        yield SeriesKey("node_cpu_count"), float(cpus)


def _load(content: str) -> Pairs:
    return ((SeriesKey(metric), value) for metric, value in pick(content.split(), LOAD))


def _memory(content: str) -> Pairs:
    for line in content.splitlines():
        name, _, rest = line.partition(":")
        if name in MEMORY and (words := rest.split()) and (value := parse_number(words[0])) is not None:
            yield SeriesKey(f"node_memory_{name}_bytes"), value * 1024


def _vmstat(content: str) -> Pairs:
    for line in content.splitlines():
        name, _, rest = line.partition(" ")
        if name in VMSTAT and (value := parse_number(rest.strip())) is not None:
            yield SeriesKey(f"node_vmstat_{name}"), value


def _throttles(sys: Path) -> Pairs:
    """Threads of one core share its counter, so that each (package, core) counts once."""
    counts: dict[tuple[float | None, float | None], float] = {}
    for cpu in children(sys / "devices/system/cpu", lambda name: name[:3] == "cpu" and name[3:].isdigit()):
        count = number(cpu / "thermal_throttle/core_throttle_count")
        if count is None:
            return  # virtual machines and most ARM servers have none: do not walk hundreds of CPUs for nothing
        counts[number(cpu / "topology/physical_package_id"), number(cpu / "topology/core_id")] = count
    if counts:
        yield SeriesKey("node_cpu_core_throttles_total"), sum(counts.values())
