"""Caps and guarantees on a network device: an HTB class per unit, told apart by the priority of its sockets (`sockets.py`).

Only what is sent is shaped; what is received is `packets.py`'s business. A device whose queueing somebody else has arranged is
left alone. Detected by trying, never assumed; what cannot be imposed is accounted, and said so.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiops.backends.local import sockets
from aiops.backends.local.state import ShareRecord, Unit

_MAJOR = 0xA10  # our qdisc's handle; nobody hands out such numbers by himself
_ROOT, _REST = 0xFFF1, 0xFFF2
_DEFAULTS = frozenset({"noqueue", "pfifo_fast", "fq_codel", "fq", "mq", "pfifo"})
_LEAST_RATIO = 0.01  # what a class without a guarantee is sure of, so that nothing starves
_PATIENCE_S = 5.0
_NET = Path("/sys/class/net")


@dataclass(frozen=True, slots=True)
class Rate:
    """What a class is sure of, and what it may borrow up to; bytes per second."""

    sure: float
    most: float


class Shaper:
    """Groups that mark sockets, and classes on devices. `groups` is None where that is not permitted here."""

    def __init__(self, groups: Path | None) -> None:
        self.groups = groups
        self._laid: dict[str, Mapping[int, Rate]] = {}

    @classmethod
    def detect(cls, enabled: bool, mounts: Path = Path("/proc/mounts")) -> Shaper:
        """What this process may do, found by marking a group of no processes."""
        rows = (line.split() for line in mounts.read_text().splitlines()) if enabled and mounts.exists() else iter(())
        root = next((Path(row[1]) for row in rows if row[2] == "cgroup2"), None)
        if root is None:
            return cls(None)
        trial = root / "aiops" / "trial"
        try:
            trial.mkdir(parents=True, exist_ok=True)
            sockets.mark(trial, 0)
            trial.rmdir()
            _tc("qdisc", "show")
        except OSError:
            return cls(None)
        return cls(root / "aiops")

    def may(self, device: str) -> bool:
        """True where this device is there and its queueing is ours to arrange."""
        try:
            return self.groups is not None and (_NET / device).exists() and _root_of(device) is not None
        except OSError:
            return False

    def join(self, group: str, unit: Unit) -> tuple[str, ...]:
        """The directory that a unit joins to be told apart; empty where that cannot be had."""
        if self.groups is None:
            return ()
        place = self.groups / group
        try:
            place.mkdir(exist_ok=True)
            sockets.mark(place, _MAJOR << 16 | minor(unit))
        except OSError:
            return ()
        return (str(place),)

    def marked(self, group: str) -> bool:
        """True where a unit was started in a group that marks its sockets."""
        return self.groups is not None and (self.groups / group).is_dir()

    def leave(self, group: str) -> None:
        """Drop a unit's group; one that still has processes stays."""
        if self.groups is not None:
            try:
                (self.groups / group).rmdir()
            except OSError:
                return

    def lay(self, device: str, capacity: float, rates: Mapping[int, Rate]) -> bool:
        """Make the classes of a device exactly these; False where it is not ours to arrange, or not permitted."""
        if self.groups is None or not (_NET / device).exists():
            return False
        if self._laid.get(device) == rates:
            return True
        try:
            return self._lay(device, capacity, rates)
        except OSError:
            return False

    def _lay(self, device: str, capacity: float, rates: Mapping[int, Rate]) -> bool:
        ours = _root_of(device)
        if ours is None:
            return False
        if not rates:
            if ours:
                _tc("qdisc", "del", "dev", device, "root")
        else:
            if not ours:
                _tc("qdisc", "replace", "dev", device, "root", "handle", f"{_MAJOR:x}:", "htb", "default", f"{_REST:x}")
            _class(device, _ROOT, "", Rate(capacity, capacity))
            rest = Rate(_LEAST_RATIO * capacity, capacity)  # what nobody is promised, all borrow alike
            for number, rate in {_REST: rest, **rates}.items():
                _class(device, number, f"{_ROOT:x}", rate)
            for number in _classes(device) - {_ROOT, _REST, *rates}:
                _tc("class", "del", "dev", device, "classid", f"{_MAJOR:x}:{number:x}")
        self._laid[device] = dict(rates)
        return True


def rates(
    units: Mapping[str, list[Unit]], capacity: float, caps: Mapping[str, ShareRecord], sure: Mapping[str, ShareRecord]
) -> dict[int, Rate]:
    """Rate per class: an owner's share is split evenly among its units. `units`, `caps`, `sure` are by owner. Pure."""
    out = {}
    for owner in sorted(caps.keys() | sure.keys()):
        mine = units.get(owner, [])
        for unit in mine:
            most = min(caps[owner].bytes_per_s / len(mine), capacity) if owner in caps else capacity
            least = sure[owner].bytes_per_s / len(mine) if owner in sure else _LEAST_RATIO * capacity
            out[minor(unit)] = Rate(min(least, most), most)
    return out


def minor(unit: Unit) -> int:
    """A unit's class number; its low four bits are 0, so that a plain queue treats its packets as everybody's."""
    return (int(unit.id.rpartition(".")[2]) % 4094 + 1) * 16


def _root_of(device: str) -> bool | None:
    """Whether the device's root queue is ours; None where somebody else has arranged it."""
    rows = [line.split() for line in _tc("qdisc", "show", "dev", device).decode().splitlines()]
    roots = [(row[1], row[2]) for row in rows if row[0] == "qdisc" and "root" in row]
    if any(handle == f"{_MAJOR:x}:" for _, handle in roots):
        return True
    return None if any(kind not in _DEFAULTS for kind, _ in roots) else False


def _classes(device: str) -> set[int]:
    rows = [line.split() for line in _tc("class", "show", "dev", device).decode().splitlines()]
    names = [row[2].split(":") for row in rows if row[:2] == ["class", "htb"]]
    return {int(number, 16) for major, number in names if major == f"{_MAJOR:x}"}


def _class(device: str, number: int, parent: str, rate: Rate) -> None:
    place = ("dev", device, "parent", f"{_MAJOR:x}:{parent}", "classid", f"{_MAJOR:x}:{number:x}")
    sure, most = max(1, int(rate.sure)), max(1, int(rate.most))
    bursts = ("burst", f"{_burst(sure)}", "cburst", f"{_burst(most)}", "quantum", "60000")
    _tc("class", "replace", *place, "htb", "rate", f"{sure}bps", "ceil", f"{most}bps", *bursts)


def _burst(rate: int) -> int:
    """Bytes that may go at once: some segments as the kernel hands them over, and what a slow tick (20 ms) lets through."""
    return max(262_144, int(rate * 0.02))


def _tc(*arguments: str) -> bytes:
    """What tc says. OSError where it is not there, refuses, or hangs."""
    try:
        done = subprocess.run(["tc", *arguments], capture_output=True, timeout=_PATIENCE_S, check=True)  # noqa: S603, S607
    except subprocess.SubprocessError as error:
        raise OSError(f"tc {' '.join(arguments)}: {error}") from None
    return done.stdout
