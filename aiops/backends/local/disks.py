"""Units on a block device: caps, weights that make guarantees, and what was served, by the block controller of cgroup v1 or v2.

A cap (`io.max`, `blkio.throttle`) works on any disk. A weight works only where the device is scheduled by weight: by BFQ, or on
v2 by the cost model that its owner switched on. The scheduler is the machine's owner's choice: it is read, never changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from aiops.backends.local.cgroups import Cgroups, write
from aiops.backends.local.state import ShareRecord, Unit

_UNLIMITED = 0  # in blkio.throttle a limit of 0 lifts it
_LEAST_RATIO = 0.01  # of the device: nothing starves
_BFQ_MOST, _COST_MOST = 1000, 10_000  # largest weights that io.bfq.weight and io.weight take
_USUAL = 100  # the kernel's default of both; written out, since BFQ keeps the earlier weight when told "default" under load
_SYSTEM = Path("/sys/dev/block")


class Disks:
    """What can be imposed on units' groups. `system` is where the kernel shows block devices by number."""

    def __init__(self, cgroups: Cgroups, system: Path = _SYSTEM) -> None:
        self._place = cgroups.places.get("io")
        self._version = cgroups.version
        self._system = system

    def caps(self, number: str) -> bool:
        """True where reads and writes on this device can be capped."""
        return self._place is not None and (self._system / number).exists()

    def throttle(self, unit: str, number: str, bytes_per_s: float | None) -> bool:
        """Cap reads and writes of a unit, each; None lifts; False where that cannot be imposed."""
        if self._place is None or not (self._place / unit).is_dir():
            return False
        rate = _UNLIMITED if bytes_per_s is None else max(1, int(bytes_per_s))
        limit = "max" if bytes_per_s is None else str(rate)
        try:
            if self._version == 1:
                write(self._place / unit / "blkio.throttle.read_bps_device", f"{number} {rate}")
                write(self._place / unit / "blkio.throttle.write_bps_device", f"{number} {rate}")
            else:
                write(self._place / unit / "io.max", f"{number} rbps={limit} wbps={limit}")
        except OSError:
            return False
        return True

    def weights(self, number: str) -> tuple[str, int] | None:
        """The file that weights are written to and the largest that it takes; None where this device heeds none."""
        if self._place is None:
            return None
        if "[bfq]" in _text(self._system / number / "queue" / "scheduler"):
            name = "blkio.bfq.weight_device" if self._version == 1 else "io.bfq.weight"
            if (self._place / name).exists():
                return name, _BFQ_MOST
        costs = _text(self._place.parent / "io.cost.qos").splitlines() if self._version == 2 else ()
        switched_on = any(row.split()[:2] == [number, "enable=1"] for row in costs)
        return ("io.weight", _COST_MOST) if switched_on and (self._place / "io.weight").exists() else None

    def weigh(self, unit: str, number: str, ratio: float | None) -> bool:
        """Give a unit its part of the device while others want it too (None: as anybody); '' is all units together."""
        found = self.weights(number)
        if self._place is None or found is None:
            return False
        name, most = found
        try:
            write(self._place / unit / name, f"{number} {_USUAL if ratio is None else max(1, round(most * ratio))}")
        except OSError:
            return False
        return True

    def served(self, unit: str, number: str) -> int | None:
        """Bytes that a unit read and wrote on the device since its group was made; None where the kernel does not say."""
        if self._place is None:
            return None
        if self._version == 2:
            return _added(_text(self._place / unit / "io.stat"), number, ("rbytes=", "wbytes="))
        names = ("blkio.throttle.io_service_bytes", "blkio.bfq.io_service_bytes")  # each counts only while it is in use
        found = [_added(_text(self._place / unit / name), number, ("Read", "Write")) for name in names]
        return max((one for one in found if one is not None), default=None)


def ratios(
    units: Iterable[Unit], capacity: float, owners: Mapping[str, list[Unit]], sure: Mapping[str, ShareRecord]
) -> dict[str, float]:
    """Part of the device per unit: an owner's guarantee split evenly among its units, the others alike in the rest. Pure."""
    promised = {owner: row.bytes_per_s / capacity for owner, row in sure.items()}
    given = {unit.id: promised[owner] / len(mine) for owner, mine in owners.items() if owner in sure for unit in mine}
    rest = [unit.id for unit in units if unit.id not in given]
    left = max(_LEAST_RATIO, 1.0 - sum(given.values())) / max(1, len(rest))
    return {key: min(1.0, max(_LEAST_RATIO, ratio)) for key, ratio in {**dict.fromkeys(rest, left), **given}.items()}


def device_number(name: str, system: Path = _SYSTEM, names: Path = Path("/sys/class/block")) -> str | None:
    """`major:minor` of the whole disk that a name (`sda`, `/dev/sda1`) or number means; None where there is none.

    The block controller takes whole disks only.
    """
    place = system / name if name.replace(":", "", 1).isdigit() else names / Path(name).name
    try:
        found = place.resolve(strict=True)
        return ((found.parent if (found / "partition").exists() else found) / "dev").read_text().strip()
    except OSError:
        return None


def _added(text: str, number: str, wanted: tuple[str, ...]) -> int | None:
    """Sum over rows `8:0 Read 12` (v1) or fields `rbytes=12` of row `8:0` (v2); None where the device has no row."""
    rows = [row.split() for row in text.splitlines() if row.startswith(f"{number} ")]
    try:
        if any("=" in field for row in rows for field in row):
            found = [int(field.partition("=")[2]) for row in rows for field in row if field.startswith(wanted)]
        else:
            found = [int(row[2]) for row in rows if row[1] in wanted]
    except (ValueError, IndexError):
        return None
    return sum(found) if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
