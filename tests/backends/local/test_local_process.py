"""Who a process is: odd names, zombies, groups that it does not lead."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from aiops.backends.local.process import Identity, alive, boot_id, signal_group, stat


def identity(pid: int) -> Identity:
    seen = stat(pid)
    assert seen is not None
    return Identity(pid=pid, start_ticks=seen.start_ticks, boot_id=boot_id())


@pytest.mark.parametrize("name", ["sleep", "a b", "x) R 1 (y", ")", "((", "naïve"])
def test_a_command_name_may_contain_anything(tmp_path: Path, name: str) -> None:
    (tmp_path / "77").mkdir()
    rest = "S 1 77 78 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4711 1000 1 184"
    (tmp_path / "77/stat").write_text(f"77 ({name}) {rest}")
    found = stat(77, tmp_path)
    assert found is not None
    assert (found.state, found.group, found.session, found.start_ticks) == ("S", 77, 78, 4711)


def test_a_zombie_is_dead_though_a_signal_reaches_it() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # ended, not reaped: what an init that never reaps leaves
        os.kill(child, 0)
        assert not alive(identity(child), boot_id())
    finally:
        os.waitpid(child, 0)


def test_only_the_leader_of_a_group_is_signalled() -> None:
    member = subprocess.Popen(["sleep", "300"])  # in the group of this test run
    try:
        assert alive(identity(member.pid), boot_id())
        assert not signal_group(identity(member.pid), boot_id(), signal.SIGKILL)
        assert member.poll() is None
    finally:
        member.kill()
        member.wait()


def test_nobody_is_signalled_without_an_identity() -> None:
    assert not signal_group(None, boot_id(), signal.SIGKILL) and not alive(None, boot_id())
