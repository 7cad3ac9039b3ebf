"""What aiops sees on this host: one line per source or tool, with what is there, what is not, and why. Never raises.

It asks, as the collectors and backends would, and changes nothing. Nothing here decides anything: it is for people, and for
`--json` readers who want to know why a node shows no GPU.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from aiops import plugins
from aiops.errors import AiopsError, NoData

# Loopback answers at once or not at all; a firewall that drops packets must not make a person wait.
_TIMEOUT_S = 1.0
_EXPORTERS = (
    ("dcgm-exporter", 9400, "/metrics"),
    ("node_exporter", 9100, "/metrics"),
    ("prometheus", 9090, "/-/ready"),
    ("alertmanager", 9093, "/-/ready"),
)
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class State(StrEnum):
    """OK: usable. ABSENT: not here, which is no fault. FAULT: here, and not usable as it is."""

    OK = "ok"
    ABSENT = "absent"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Sight:
    """One thing looked for."""

    what: str
    state: State
    detail: str


def probe() -> list[Sight]:
    """Everything that aiops could use on this host. Never raises: a look that fails is a FAULT with its reason."""
    looks: list[tuple[str, Callable[[], Sequence[Sight]]]] = [
        *((f"collector {name}", lambda name=name: [_collector(name)]) for name in plugins.names("collectors")),
        ("InfiniBand", _infiniband),
        ("PSI", _pressure),
        ("cgroups", _cgroups),
        ("Slurm", _slurm),
        ("Kubernetes", _kubernetes),
        *((name, lambda n=name, p=port, u=path: [_exporter(n, p, u)]) for name, port, path in _EXPORTERS),
        ("PostgreSQL", lambda: [_command("PostgreSQL client", "psql", "--version")]),
        ("tc", lambda: [_command("tc", "tc", "-V")]),
    ]
    return [sight for what, look in looks for sight in _safely(what, look)]


def _safely(what: str, look: Callable[[], Sequence[Sight]]) -> Sequence[Sight]:
    try:
        return look()
    except Exception as error:  # a wall: whatever is odd about this host is what a person wants to read here
        return [Sight(what, State.FAULT, f"{type(error).__name__}: {error}")]


def _collector(name: str) -> Sight:
    """What the collector itself gives when it is asked once."""
    what = f"collector {name}"
    try:
        batch = plugins.load("collectors", name).collect(0.0)
    except NoData as absent:
        return Sight(what, State.ABSENT, str(absent))
    except AiopsError as error:
        needs_settings = "expected `url`" in str(error) or "Field required" in str(error)
        return Sight(what, State.ABSENT if needs_settings else State.FAULT, "not configured" if needs_settings else str(error))
    uuids = {key.label("uuid") for key in batch.keys if key.metric == "gpu_up"}
    gpus = f", {len(uuids)} GPU{'s' * (len(uuids) != 1)}" if uuids else ""
    return Sight(what, State.OK, f"{len(batch.keys)} samples{gpus}")


def _infiniband() -> Sequence[Sight]:
    root = Path("/sys/class/infiniband")
    devices = sorted(device.name for device in root.iterdir()) if root.is_dir() else []
    return [Sight("InfiniBand", State.OK if devices else State.ABSENT, ", ".join(devices) or f"no device in {root}")]


def _pressure() -> Sequence[Sight]:
    found = [name for name in ("cpu", "io", "memory") if _readable(Path("/proc/pressure") / name)]
    detail = ", ".join(found) or "this kernel has no readable /proc/pressure (boot with psi=1)"
    return [Sight("PSI", State.OK if found else State.ABSENT, detail)]


def _readable(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


def _cgroups() -> Sequence[Sight]:
    mount = Path("/sys/fs/cgroup")
    root = next((path for path in (mount, mount / "unified") if (path / "cgroup.controllers").exists()), None)
    if root is None:
        there = (mount / "cpu").exists() or (mount / "memory").exists()
        return [Sight("cgroups", State.ABSENT, "version 1 only" if there else "not mounted")]
    kind = "version 2" if root == mount else "hybrid (version 1 with a version 2 tree)"
    controllers = _first_line((root / "cgroup.controllers").read_text(encoding="utf-8")) or "none"
    writable = "writable" if os.access(root / "cgroup.procs", os.W_OK) else "read-only for this user"
    return [Sight("cgroups", State.OK, f"{kind}; version 2 controllers: {controllers}; {writable}")]


def _slurm() -> Sequence[Sight]:
    commands = [name for name in ("sinfo", "squeue", "scontrol", "sacct") if shutil.which(name)]
    if not commands:
        return [Sight("Slurm", State.ABSENT, "no sinfo, squeue, scontrol, sacct in PATH")]
    daemon = "slurmrestd installed" if shutil.which("slurmrestd") else "no slurmrestd in PATH"
    return [_command("Slurm", "sinfo", "--version"), Sight("slurmrestd", State.OK, f"{', '.join(commands)}; {daemon}")]


def _kubernetes() -> Sequence[Sight]:
    if _SERVICE_ACCOUNT.exists():
        return [Sight("Kubernetes", State.OK, f"in a cluster, API at {os.environ.get('KUBERNETES_SERVICE_HOST', 'unknown')}")]
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)
    candidates = [Path(name) for name in named if name] or [Path.home() / ".kube" / "config"]
    found = [str(path) for path in candidates if _readable(path)]
    return [
        Sight("Kubernetes", State.OK if found else State.ABSENT, ", ".join(found) or f"no {candidates[0]}, not in a cluster")
    ]


def _exporter(name: str, port: int, path: str) -> Sight:
    url = f"http://127.0.0.1:{port}{path}"
    try:
        # Its own opener: the shared one may ask a proxy, which knows nothing of this host's loopback.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(url, timeout=_TIMEOUT_S) as answer:
            return Sight(name, State.OK, f"{url} answers {answer.status}")
    except urllib.error.HTTPError as error:
        return Sight(name, State.FAULT, f"{url} answers {error.code}")
    except (urllib.error.URLError, ConnectionError):
        return Sight(name, State.ABSENT, f"nothing on port {port}")
    except (TimeoutError, OSError, ValueError) as error:
        return Sight(name, State.FAULT, f"{url}: {error or type(error).__name__}")


def _command(what: str, command: str, flag: str) -> Sight:
    path = shutil.which(command)
    if path is None:
        return Sight(what, State.ABSENT, f"no {command} in PATH")
    ran = subprocess.run([path, flag], capture_output=True, text=True, timeout=5, errors="replace")  # noqa: S603  fixed words
    version = _first_line(ran.stdout or ran.stderr)
    return Sight(what, State.OK if ran.returncode == 0 else State.FAULT, version or f"exit status {ran.returncode}")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:200] if text.strip() else ""


def show(sights: Sequence[Sight], as_json: bool = False) -> None:
    """Print to stdout: a table for people, or a JSON list of {what, state, detail}."""
    if as_json:
        sys.stdout.write(json.dumps([asdict(sight) for sight in sights], indent=2) + "\n")
        return
    table = Table("what", "state", "detail", title=f"aiops on {socket.gethostname()}")
    styles = {State.OK: "green", State.ABSENT: "dim", State.FAULT: "bold red"}
    for sight in sights:
        table.add_row(sight.what, f"[{styles[sight.state]}]{sight.state}[/]", sight.detail.replace("[", r"\["))
    Console().print(table)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False) -> None:
    """Show what aiops sees on this host: GPUs, networks, schedulers, exporters, tools."""
    show(probe(), as_json)
