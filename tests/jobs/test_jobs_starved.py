"""Waiting for a CPU: read from the kernel's account of each training thread, and never made up."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from aiops.jobs.identity import Identity
from aiops.jobs.outlet import exposition
from aiops.jobs.recorder import STEP, Recorder, Span
from aiops.jobs.starved import TASKS, Starved


def account(tasks: Path, thread: int, text: str) -> None:
    (tasks / str(thread)).mkdir(exist_ok=True)
    (tasks / str(thread) / "schedstat").write_text(text)


def test_threads_add_up_and_one_that_ended_stays_in_the_sum(tmp_path: Path) -> None:
    account(tmp_path, 7, "5000000000 250000000 12\n")
    account(tmp_path, 8, "1 1000000000 3\n")
    starved = Starved(tmp_path)
    assert starved.look((7, 8)) == pytest.approx(1.25)
    (tmp_path / "8" / "schedstat").unlink()
    account(tmp_path, 7, "5000000000 500000000 12\n")
    assert starved.look((7, 8)) == pytest.approx(1.5)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0 0 0\n", id="a kernel that does not count answers zeros: missing is never zero"),
        pytest.param("", id="empty"),
        pytest.param("12 nonsense 3\n", id="no number"),
        pytest.param("12\n", id="too few fields"),
    ],
)
def test_what_the_kernel_does_not_tell_is_not_reported(tmp_path: Path, text: str) -> None:
    account(tmp_path, 7, text)
    assert Starved(tmp_path).look((7, 9)) is None
    told = exposition(Identity("j", "0", "0"), Recorder().totals(), Starved(tmp_path).look((7,)))
    assert "job_cpu_wait" not in told


def test_only_threads_that_run_steps_count() -> None:
    recorder = Recorder()
    with Span(recorder, "data_wait"):
        pass
    assert recorder.threads() == ()  # a wait alone is no training thread
    with Span(recorder, STEP):
        pass
    assert recorder.threads() == (threading.get_native_id(),)


@pytest.mark.skipif(not TASKS.is_dir(), reason="the kernel's accounts are Linux only")
def test_this_thread_has_an_account_here() -> None:
    seconds = Starved().look((threading.get_native_id(),))
    assert seconds is None or seconds >= 0.0
