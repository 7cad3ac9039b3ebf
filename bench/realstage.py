"""A small cluster on this one machine for `realfaults.py`: a shared volume, a host of its own, a link; all undone at exit.

The volume is a file system on a loop device whose backing reads are throttled (cgroup v1 blkio), so that its queue and
latency are real and visible. The host is a set of cgroups with a CPU quota and a memory limit, so that hogs starve the
training job and not the machine. The link is a veth pair into a network namespace. Needs root and cgroup v1 controllers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuacct", "blkio", "memory", "unified")
VOLUME_BYTES_PER_S = 300 << 20
VOLUME_MIB = 400
CORES = 1.7
MEMORY_BYTES = 3 << 30
SWAP_MIB = 3072
NEAR, FAR = "10.213.7.1", "10.213.7.2"


def missing() -> str:
    """Why this machine cannot be the stage, or the empty text."""
    if os.geteuid() != 0:
        return "needs root"
    tools = [tool for tool in ("fio", "losetup", "mkfs.ext4", "mount", "ip", "tc") if shutil.which(tool) is None]
    if tools:
        return f"not installed: {', '.join(tools)}"
    if not (CGROUPS / "blkio" / "blkio.throttle.read_bps_device").exists() or not (CGROUPS / "unified").exists():
        return "needs the cgroup v1 blkio controller beside v2"
    try:
        import torch  # noqa: F401
    except ImportError:
        return "PyTorch is not installed"
    return ""


def call(*command: str) -> str:
    """Run a tool that must work."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Stage:
    """The cluster; a context manager. `folder` is scratch space, `data` the mounted volume, `device` its block device."""

    def __init__(self) -> None:
        self.name = f"aiops-bench-{os.getpid()}"
        self.folder = Path(tempfile.mkdtemp(prefix="realfaults-"))
        self.data = self.folder / "volume"
        self.groups = [CGROUPS / controller / self.name for controller in CONTROLLERS]
        self.device, self.near = "", f"bench{os.getpid() % 10_000}"
        self.tenants: dict[str, list[subprocess.Popen[bytes]]] = {}
        self.ranks: list[subprocess.Popen[bytes]] = []
        self._slowed = contextlib.ExitStack()
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Stage:
        try:
            self._undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._volume()
            self._host()
            self._link()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.restore_ranks()
        for name in tuple(self.tenants):
            self.quiet(name)
        self._undo.close()

    def _volume(self) -> None:
        image = self.folder / "image"
        call("fallocate", "-l", f"{VOLUME_MIB + 100}M", str(image))
        loop = call("losetup", "--direct-io=on", "-f", "--show", str(image))
        self._undo.callback(call, "losetup", "-d", loop)
        self.device = Path(loop).name
        call("mkfs.ext4", "-q", "-E", "nodiscard", loop)
        self.data.mkdir()
        call("mount", loop, str(self.data))
        self._undo.callback(call, "umount", "-l", str(self.data))
        call("dd", "if=/dev/urandom", f"of={self.data}/samples", "bs=1M", f"count={VOLUME_MIB}", "oflag=direct")

    def _host(self) -> None:
        for group in self.groups:
            group.mkdir()
            self._undo.callback(_remove, group)
        cpu, _, blkio, memory, _ = self.groups
        (cpu / "cpu.cfs_quota_us").write_text(str(int(CORES * 100_000)))
        (cpu / "cpu.shares").write_text("4096")  # the quota bounds us from above; this keeps others' work out of the figures
        backing = self.folder.stat().st_dev
        disk = _whole_disk(f"{os.major(backing)}:{os.minor(backing)}")
        (blkio / "blkio.throttle.read_bps_device").write_text(f"{disk} {VOLUME_BYTES_PER_S}")
        (memory / "memory.limit_in_bytes").write_text(str(MEMORY_BYTES))
        swap = self.folder / "swap"  # without it a full host kills instead of paging
        call("fallocate", "-l", f"{SWAP_MIB}M", str(swap))
        swap.chmod(0o600)
        call("mkswap", str(swap))
        call("swapon", str(swap))
        self._undo.callback(call, "swapoff", str(swap))

    def _link(self) -> None:
        call("ip", "netns", "add", self.name)
        self._undo.callback(call, "ip", "netns", "del", self.name)
        call("ip", "link", "add", self.near, "type", "veth", "peer", "name", "far", "netns", self.name)
        call("ip", "addr", "add", f"{NEAR}/30", "dev", self.near)
        call("ip", "link", "set", self.near, "up")
        for command in (("addr", "add", f"{FAR}/30", "dev", "far"), ("link", "set", "far", "up"), ("link", "set", "lo", "up")):
            call("ip", "-n", self.name, *command)

    def throttle_link(self, rate: str | None) -> None:
        """Let the link carry `rate` (as tc writes it), or all it can."""
        if rate is None:
            call("tc", "qdisc", "del", "dev", self.near, "root")
        else:
            call("tc", "qdisc", "replace", "dev", self.near, "root", "tbf", "rate", rate, "burst", "64kb", "latency", "30ms")

    def start(self, command: list[str], far: bool = False, **environment: str) -> subprocess.Popen[bytes]:
        """A process, with its children, on the stage's host; `far` puts it at the other end of the link."""
        join = "for g in " + " ".join(map(str, self.groups)) + '; do echo $$ > "$g/cgroup.procs"; done; exec "$@"'
        inside = ["ip", "netns", "exec", self.name] if far else []
        log = (self.folder / "log").open("ab")
        with log:
            return subprocess.Popen(
                ["sh", "-c", join, "sh", *inside, *command],
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def disturb(self, tenant: str, command: list[str], copies: int = 1) -> None:
        """A tenant starts to work."""
        self.tenants.setdefault(tenant, []).extend(self.start(command) for _ in range(copies))

    def slow_rank(self, rank: int) -> None:
        """A rank's device gets slow, for no reason that any sensor shows."""
        over = threading.Event()
        thread = threading.Thread(target=hold_up, args=(self.ranks[rank], over))
        thread.start()
        self._slowed.callback(thread.join)
        self._slowed.callback(over.set)

    def restore_ranks(self) -> None:
        """All ranks run at full speed again."""
        self._slowed.close()

    def quiet(self, tenant: str) -> None:
        """A tenant stops."""
        for process in self.tenants.pop(tenant, []):
            end(process)


def hold_up(process: subprocess.Popen[bytes], over: threading.Event, stop_s: float = 0.06, go_s: float = 0.02) -> None:
    """Stop and continue a process (not its loader's workers) until `over`: a device that computes at a quarter of its speed."""
    while not over.is_set():
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(stop_s)
        os.kill(process.pid, signal.SIGCONT)
        over.wait(go_s)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all of its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _whole_disk(device: str) -> str:
    """Throttles bind to whole disks: the disk of a partition, else the device itself."""
    entry = Path("/sys/dev/block") / device
    return (entry.resolve().parent / "dev").read_text().strip() if (entry / "partition").exists() else device


def _remove(group: Path) -> None:
    for _ in range(50):  # the kernel lets go of killed processes a little later
        for process in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        try:
            group.rmdir()
            return
        except OSError:
            time.sleep(0.1)


SPIN = [sys.executable, "-c", "while True: pass"]
GROW = [
    sys.executable,
    "-c",
    "import mmap, sys\nheld = mmap.mmap(-1, int(sys.argv[1]))\n"
    "while True:\n    for page in range(0, len(held), 4096):\n        held[page] = 1\n",
    str(MEMORY_BYTES * 5 // 4),
]
"""A quarter more than the host has, and always in use."""
