"""From a unit in the state to a process group and back: spawn, adopt, read its end, stop.

The order is always: state on disk, launcher, identity on disk. What a crash left undecided is decided by `adopt`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiops.backends import disk
from aiops.backends.local import process
from aiops.backends.local.process import Identity
from aiops.backends.local.state import Phase, Unit

_LAUNCHER = Path(__file__).with_name("launch.py")
_BASE = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "TMPDIR")
"""What a unit inherits of the daemon's environment: enough to find programs and files, no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a launcher is told: argument list, working directory, declared environment, cgroups to join."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    cgroups: tuple[str, ...] = ()


class Spawner:
    """Starts launchers and looks after unit directories. Knows nothing of services and jobs."""

    def __init__(self, directory: Path, failpoint: Callable[[str], None]) -> None:
        self._units = directory / "units"
        self._failpoint = failpoint
        self._children: dict[str, int] = {}
        self.boot = process.boot_id()

    def directory(self, unit: str) -> Path:
        """Where a unit's files are: spec, identity, log, exit."""
        return self._units / unit

    def spawn(self, unit: Unit, order: Order) -> None:
        """Ask a launcher for a unit whose SPAWNING state is already durable."""
        place = self.directory(unit.id)
        place.mkdir(mode=0o700, exist_ok=True)
        base = {name: os.environ[name] for name in _BASE if name in os.environ}
        env = {**base, **order.env, "AIOPS_UNIT": unit.id}
        disk.write(place / "spec.json", {"argv": order.argv, "cwd": str(order.cwd), "env": env, "cgroups": order.cgroups})
        self._failpoint("before_launch")
        argv = [sys.executable, "-I", "-S", str(_LAUNCHER), str(place)]
        quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
        self._children[unit.id] = os.posix_spawn(sys.executable, argv, base, file_actions=quiet, setsid=True, setsigmask=())
        self._failpoint("after_launch")

    def adopt(self, unit: Unit) -> Unit | None:
        """The unit with its identity as claimed on disk; unchanged while its launcher is on its way; None if it never was.

        A unit whose launcher is not ours (a daemon before us asked for it) is claimed void, after which no launcher can.
        """
        if unit.identity is not None:
            return unit
        claimed = disk.read(self.directory(unit.id) / "identity.json")
        if claimed is None:
            if self._launching(unit.id):
                return unit
            claimed = self._void(unit.id)
        who = _identity(claimed)
        if who is None:
            return None
        phase = Phase.RUNNING if unit.phase is Phase.SPAWNING else unit.phase
        return replace(unit, identity=who, phase=phase)

    def _launching(self, unit: str) -> bool:
        """True while a launcher that we asked is there; its end is collected, for it is our child."""
        pid = self._children.get(unit)
        if pid is None:
            return False
        try:
            return os.waitpid(pid, os.WNOHANG)[0] == 0
        except ChildProcessError:
            return False

    def _void(self, unit: str) -> dict[str, Any]:
        place = self.directory(unit)
        place.mkdir(mode=0o700, exist_ok=True)
        disk.write(place / "void", {"pid": 0})
        with contextlib.suppress(FileExistsError):
            os.link(place / "void", place / "identity.json")
        disk.sync(place)
        return disk.read(place / "identity.json") or {"pid": 0}

    def running(self, unit: Unit) -> bool:
        """True where the unit's process is alive and is the one that was started."""
        return process.alive(unit.identity, self.boot)

    def exit_code(self, unit: str) -> int | None:
        """How a unit ended: exit status, or minus the signal; None where nobody was left to see it."""
        seen = disk.read(self.directory(unit) / "exit.json")
        code = seen.get("code") if seen else None
        return code if isinstance(code, int) else None

    def ending(self, unit: str) -> bool:
        """True while a dead unit's launcher is still there to write down how it ended."""
        claimed = disk.read(self.directory(unit) / "identity.json") or {}
        launcher = _identity(claimed.get("launcher"))
        return self.exit_code(unit) is None and process.alive(launcher, self.boot)

    def signal(self, unit: Unit, number: signal.Signals) -> bool:
        """Signal the whole group, if it is still the one that was started."""
        return process.signal_group(unit.identity, self.boot, number)

    def reap(self) -> None:
        """Collect launchers that ended; a zombie is harmless, thousands are not."""
        self._children = {unit: pid for unit, pid in self._children.items() if self._launching(unit)}

    def forget(self, unit: str, keep: int = 200) -> None:
        """Mark the files of a unit that is gone, and prune the oldest beyond `keep`, logs included."""
        (self.directory(unit) / "gone").touch()
        gone = sorted(self._units.glob("*/gone"), key=lambda path: path.stat().st_mtime)
        for path in gone[:-keep]:
            shutil.rmtree(path.parent, ignore_errors=True)


def _identity(raw: Any) -> Identity | None:
    match raw:
        case {"pid": int(pid), "start_ticks": int(ticks), "boot_id": str(boot)}:
            return Identity(pid=pid, start_ticks=ticks, boot_id=boot)
        case _:
            return None
