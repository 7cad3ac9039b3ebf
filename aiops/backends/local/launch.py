"""Starts one process group and waits for it: `python -I -S launch.py UNIT_DIR`, one per replica or job.

It stays between the daemon and the command so that both facts that a daemon's death would lose are on disk: who was
started (`identity.json`) and how it ended (`exit.json`). The identity is claimed by creating that file exclusively before
the command's first instruction: whoever finds a unit without an identity may create a void one, and then this launcher
can never start it. That is why a crash anywhere neither loses nor doubles a process. Standard library only: it must start
in milliseconds and stay small.
"""

import contextlib
import json
import os
import signal
import sys
from typing import Any

_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(directory: str) -> int:
    """Run the unit described by `spec.json` in `directory`; 0 once its end is on disk, 1 if another one claimed it."""
    with open(os.path.join(directory, "spec.json"), encoding="utf-8") as file:
        spec = json.load(file)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # a library of the daemon may have left descriptors open over exec
    os.chdir("/")  # keep no file system busy
    for number in _IGNORED:  # the daemon's end, or a signal to its terminal, must not end the watch
        signal.signal(number, signal.SIG_IGN)
    go_read, go_write = os.pipe()
    led_read, led_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        os.close(led_read)
        _child(spec, directory, go_read, led_write)
    os.close(go_read)
    os.close(led_write)
    os.read(led_read, 1)  # the child leads its own session from here on
    if not _claim(directory, pid):
        os.close(go_write)  # end of file: the child ends without having run anything
        os.waitpid(pid, 0)
        return 1
    os.write(go_write, b"g")
    os.close(go_write)
    _wait(directory, pid)
    return 0


def _child(spec: dict[str, Any], directory: str, go_read: int, led_write: int) -> None:
    try:
        os.setsid()
        os.write(led_write, b"l")
        os.close(led_write)
        if os.read(go_read, 1) != b"g":
            os._exit(0)
        os.close(go_read)
        _prepare(spec, directory)
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])
    except OSError as error:
        os.write(2, f"cannot start {spec['argv'][0]}: {error.strerror}: {error.filename}\n".encode())
    finally:
        os._exit(127)


def _prepare(spec: dict[str, Any], directory: str) -> None:
    log = os.open(os.path.join(directory, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for number in (*_IGNORED, signal.SIGPIPE):  # ignored signals survive exec, and Python ignores SIGPIPE
        signal.signal(number, signal.SIG_DFL)
    for path in spec["cgroups"]:
        with open(os.path.join(path, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write("0")
    os.chdir(spec["cwd"])


def _claim(directory: str, pid: int) -> bool:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    beside = os.path.join(directory, f"identity.{pid}")
    _write(beside, {**_identity(pid, boot), "launcher": _identity(os.getpid(), boot)})
    try:
        os.link(beside, os.path.join(directory, "identity.json"))
    except FileExistsError:
        return False
    finally:
        os.unlink(beside)
    _sync(directory)
    return True


def _identity(pid: int, boot: str) -> dict[str, Any]:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    return {"pid": pid, "start_ticks": ticks, "boot_id": boot}


def _wait(directory: str, pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # what the leader left behind; not yet reaped, it keeps its group id from being reused
    _, status = os.waitpid(pid, 0)
    beside = os.path.join(directory, "exit.part")
    _write(beside, {"code": os.waitstatus_to_exitcode(status)})
    os.rename(beside, os.path.join(directory, "exit.json"))
    _sync(directory)


def _write(path: str, value: dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: str) -> None:
    handle = os.open(directory, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
