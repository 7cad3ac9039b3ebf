"""A local backend over a throw-away state directory with real processes, all of which are ended afterwards, by identity."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from aiops.backends.journal import effects
from aiops.backends.local import LocalBackend, process
from aiops.backends.local.process import Identity
from aiops.clock import SystemClock
from aiops.model import Cluster
from aiops.testing.backend import ReplyLost

SLEEP = ["sleep", "300"]
HTTP = """
import http.server, os
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "3"); self.end_headers(); self.wfile.write(b"ok\\n")
    def log_message(self, *a): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), H).serve_forever()
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def service(**changes: Any) -> dict[str, Any]:
    return {"command": SLEEP, "target": 10, "replicas": 1, "min": 1, "max": 4, "drain": "10ms", "kill_wait": "300ms", **changes}


def job(**changes: Any) -> dict[str, Any]:
    return {"command": SLEEP, "gpus": 1, "kill_wait": "300ms", **changes}


class LocalStage:
    """Implements `aiops.testing.backend.Stage`. `offset` lets time pass, `stepped` steps the wall clock alone."""

    def __init__(self, directory: Path, section: dict[str, Any]) -> None:
        self.directory = directory / "state"
        first = 30000 + (os.getpid() * 7 + abs(hash(directory)) // 8) % 300 * 100
        self.section = {"state_dir": str(self.directory), "ports": [first, first + 99], "cgroups": "off", **section}
        self.offset = self.stepped = 0.0
        self.dies_at = ""
        self.backend = self._new()

    def _new(self) -> LocalBackend:
        backend = LocalBackend.from_settings(self.section, "test")
        return LocalBackend(backend.settings, self._failpoint, lambda: SystemClock().elapsed() + self.offset)

    def _failpoint(self, point: str) -> None:
        if point == self.dies_at:
            self.dies_at = ""
            raise ReplyLost(point)

    def now(self) -> float:
        return SystemClock().now() + self.offset + self.stepped

    def observe(self) -> Cluster:
        return self.backend.observe(self.now())

    def until(self, holds: Callable[[Cluster], bool]) -> Cluster:
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            seen = self.observe()
            if holds(seen):
                return seen
            time.sleep(0.01)
        raise AssertionError(f"not within 10 s: {seen.services} {seen.jobs}")

    def restart(self, **section: Any) -> None:
        self.backend.close()
        self.section.update(section)
        self.backend = self._new()

    def lose_next_reply(self) -> None:
        self.dies_at = "after_effect"

    def recreate(self, service: str) -> None:
        """As if the state had been lost and made anew: same name, another identity."""
        book = self.backend._supervisor.book
        record = book.state.services[service]
        from dataclasses import replace

        book.put(book.state.with_service(service, replace(record, uid="another")))

    def blind(self) -> None:
        self.backend.close()
        (self.directory / "state.json").write_bytes(b"{torn")

    def effects(self) -> tuple[str, ...]:
        return effects(self.directory / "effects.jsonl")

    # -- what the tests look at besides ------------------------------------------------------------------------------

    def identities(self) -> dict[str, Identity]:
        """Every process group ever started here, by unit."""
        out = {}
        for path in (self.directory / "units").glob("*/identity.json"):
            row = orjson.loads(path.read_bytes())
            if row["pid"]:
                out[path.parent.name] = Identity(**{key: row[key] for key in ("pid", "start_ticks", "boot_id")})
        return out

    def living(self) -> dict[str, Identity]:
        return {unit: who for unit, who in self.identities().items() if process.alive(who, who.boot_id)}

    def environment(self, unit: str) -> dict[str, str]:
        while True:  # claimed, but perhaps not yet the command
            raw = Path(f"/proc/{self.identities()[unit].pid}/environ").read_bytes().decode()
            found = dict(row.split("=", 1) for row in raw.split("\0") if row)
            if "AIOPS_UNIT" in found:
                return found

    def finish(self) -> None:
        self.backend.close()
        deadline = time.monotonic() + 5.0
        while True:
            launchers = [row for row in marked(self.directory) if row not in {who.pid for who in self.living().values()}]
            for who in self.living().values():
                process.signal_group(who, who.boot_id, signal.SIGKILL)
            if not launchers and not self.living():
                return
            assert time.monotonic() < deadline, f"still there: {launchers} {self.living()}"
            reap()
            time.sleep(0.01)


def marked(directory: Path) -> list[int]:
    """Pids of launchers and units of this state directory that are not zombies."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            text = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
        except OSError:
            continue
        seen = process.stat(int(place.name))
        if str(directory).encode() in text and seen is not None and seen.state not in "ZX" and int(place.name) != os.getpid():
            found.append(int(place.name))
    return found


def reap() -> None:
    """Collect launchers whose backend was dropped without closing."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
