"""Control groups of units, with their CPU and memory limits: v1, v2, or the hybrid of both; detected, never assumed.

What the kernel or our permissions lack is not imposed, and `controllers` says so: those limits are only accounted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000  # the kernel's default CPU period
_V1 = {"cpu": "cpu.cfs_quota_us", "memory": "memory.limit_in_bytes", "blkio": "blkio.throttle.read_bps_device"}


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Where units' groups can be made. `places` maps cpu, memory and io to a directory of ours; `version` is 0, 1 or 2."""

    version: int
    places: dict[str, Path]

    @classmethod
    def detect(cls, enabled: bool, root: Path = _ROOT) -> Cgroups:
        """What this process may use below `root`, found by trying; empty where nothing is permitted."""
        if not enabled:
            return cls(0, {})
        first = {kind.replace("blkio", "io"): place for kind in _V1 if (place := _v1(root / kind, _V1[kind]))}
        if first:
            return cls(1, first)
        second = _v2(root)
        return cls(2 if second else 0, second)

    @property
    def controllers(self) -> tuple[str, ...]:
        """Kinds of limit that are really imposed, sorted."""
        return tuple(sorted(self.places))

    def describe(self) -> str:
        """One line for people."""
        if not self.places:
            return "no cgroup is writable: cpu, memory and bandwidth limits are accounted, not enforced"
        missing = sorted({"cpu", "io", "memory"} - set(self.places))
        return f"cgroup v{self.version}: {', '.join(self.controllers)}" + (
            f"; not enforced: {', '.join(missing)}" if missing else ""
        )

    def create(self, unit: str, cpu_cores: float, memory_bytes: float) -> tuple[str, ...]:
        """Directories for a unit to join, its limits set (0: no limit)."""
        out = []
        for kind, place in self.places.items():
            group = place / unit
            group.mkdir(exist_ok=True)
            if kind == "cpu" and cpu_cores:
                self._limit_cpu(group, cpu_cores)
            if kind == "memory" and memory_bytes:
                write(group / ("memory.limit_in_bytes" if self.version == 1 else "memory.max"), str(int(memory_bytes)))
            out.append(str(group))
        return tuple(dict.fromkeys(out))

    def _limit_cpu(self, group: Path, cores: float) -> None:
        quota = max(1000, int(cores * _PERIOD_US))  # the kernel takes no quota under 1 ms
        if self.version == 1:
            write(group / "cpu.cfs_period_us", str(_PERIOD_US))
            write(group / "cpu.cfs_quota_us", str(quota))
        else:
            write(group / "cpu.max", f"{quota} {_PERIOD_US}")

    def remove(self, unit: str) -> None:
        """Drop a unit's groups; one that still has processes stays."""
        for place in set(self.places.values()):
            try:
                (place / unit).rmdir()
            except OSError:
                continue


def _v1(controller: Path, needed: str) -> Path | None:
    place = controller / "aiops"
    try:
        place.mkdir(exist_ok=True)
    except OSError:
        return None
    return place if (place / needed).exists() and os.access(place / needed, os.W_OK) else None


def _v2(root: Path) -> dict[str, Path]:
    """Our own subtree of a unified hierarchy, with the controllers that could be enabled in it."""
    place = root / "aiops"
    try:
        offered = (root / "cgroup.controllers").read_text().split()
        place.mkdir(exist_ok=True)
    except OSError:
        return {}
    kinds = [kind for kind in ("cpu", "memory", "io") if kind in offered]
    return {kind: place for kind in kinds if _enabled(root, kind) and _enabled(place, kind)}


def _enabled(group: Path, kind: str) -> bool:
    try:
        write(group / "cgroup.subtree_control", f"+{kind}")
    except OSError:
        return False
    return True


def write(path: Path, text: str) -> None:
    """Write a file of the kernel. Raises OSError where it is refused."""
    with path.open("w", encoding="ascii") as file:  # one write call: the kernel takes a limit whole
        file.write(text)
