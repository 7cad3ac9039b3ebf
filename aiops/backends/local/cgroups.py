"""CPU, memory and block-device limits of units by control groups: v1, v2, or the hybrid of both; detected, never assumed.

What the kernel or our permissions lack is not imposed, and `controllers` says so: those limits are only accounted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000  # the kernel's default CPU period
_V1 = {"cpu": "cpu.cfs_quota_us", "memory": "memory.limit_in_bytes", "blkio": "blkio.throttle.read_bps_device"}
_UNLIMITED = 0  # in blkio.throttle a limit of 0 lifts it


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
                _write(group / ("memory.limit_in_bytes" if self.version == 1 else "memory.max"), str(int(memory_bytes)))
            out.append(str(group))
        return tuple(dict.fromkeys(out))

    def _limit_cpu(self, group: Path, cores: float) -> None:
        quota = max(1000, int(cores * _PERIOD_US))  # the kernel takes no quota under 1 ms
        if self.version == 1:
            _write(group / "cpu.cfs_period_us", str(_PERIOD_US))
            _write(group / "cpu.cfs_quota_us", str(quota))
        else:
            _write(group / "cpu.max", f"{quota} {_PERIOD_US}")

    def throttle(self, unit: str, device: str, bytes_per_s: float | None) -> bool:
        """Cap reads and writes of a unit on a block device (`8:0`); None lifts; False where that cannot be imposed."""
        place = self.places.get("io")
        if place is None or not (place / unit).is_dir():
            return False
        rate = _UNLIMITED if bytes_per_s is None else max(1, int(bytes_per_s))
        try:
            if self.version == 1:
                _write(place / unit / "blkio.throttle.read_bps_device", f"{device} {rate}")
                _write(place / unit / "blkio.throttle.write_bps_device", f"{device} {rate}")
            else:
                limit = "max" if bytes_per_s is None else str(rate)
                _write(place / unit / "io.max", f"{device} rbps={limit} wbps={limit}")
        except OSError:
            return False
        return True

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
        _write(group / "cgroup.subtree_control", f"+{kind}")
    except OSError:
        return False
    return True


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="ascii") as file:  # one write call: the kernel takes a limit whole
        file.write(text)


def device_number(name: str) -> str | None:
    """`major:minor` of a block device given by name (`sda`, `/dev/sda`) or already as numbers; None where there is none."""
    if name.replace(":", "", 1).isdigit() and ":" in name:
        return name
    try:
        return (Path("/sys/class/block") / Path(name).name / "dev").read_text().strip()
    except OSError:
        return None
