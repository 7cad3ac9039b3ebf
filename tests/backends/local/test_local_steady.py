"""A stepped wall clock ends no term early and keeps none for ever."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_stage import LocalStage, job, python

from aiops.action import ConfirmHold, HoldCapacity, Outcome, Preempt
from aiops.backends.local.state import HoldRecord, Mark, ServiceRecord, State, Unit
from aiops.backends.local.steady import corrected
from aiops.model import JobState
from aiops.testing.backend import admit

HOUR = 3600.0
HELD = HoldRecord(owner="job/vip", fence=1, nodes=("n0",), gpus=1, expires_at=1030.0)


def marked(ahead: float = 900.0, boot: str = "b") -> State:
    unit = Unit(id="u", owner="job/a", digest="", nodes=("n0",), spawned_at=990.0, term_at=1001.0, kill_at=1005.0)
    waits = ServiceRecord(uid="s", version=1, replicas=1, not_before=1060.0)
    holds = {"h": HELD, "sure": HoldRecord(owner="o", fence=1, nodes=(), gpus=1, expires_at=1e12, confirmed=True)}
    return State(units={"u": unit}, services={"web": waits}, holds=holds, mark=Mark(boot_id=boot, ahead_s=ahead))


@pytest.mark.parametrize("step", [HOUR, -HOUR, 86400.0, 1.5])
def test_terms_move_with_the_wall_clock(step: float) -> None:
    after = corrected(marked(), now=1000.0 + step, elapsed=100.0, boot="b")
    unit = after.units["u"]
    assert (unit.spawned_at, unit.term_at, unit.kill_at) == (990.0 + step, 1001.0 + step, 1005.0 + step)
    assert unit.ready_at is None and after.holds["h"].expires_at == 1030.0 + step
    assert after.services["web"].not_before == 1060.0 + step and after.holds["sure"].expires_at == 1e12
    assert corrected(after, now=1010.0 + step, elapsed=110.0, boot="b") is after  # once, not at every look


@pytest.mark.parametrize("drift", [0.0, 0.9, -0.9])  # NTP slewing is no step
def test_time_that_merely_passes_moves_nothing(drift: float) -> None:
    state = marked()
    assert corrected(state, now=5000.0 + drift, elapsed=4100.0, boot="b") is state


def test_the_first_look_only_takes_the_mark() -> None:
    state = State(holds={"h": HELD})
    after = corrected(state, now=1000.0, elapsed=100.0, boot="b")
    assert after.mark == Mark(boot_id="b", ahead_s=900.0) and after.holds == state.holds


def test_another_boot_ends_holds_and_bounds_waiting() -> None:
    """The wall clock may have been reset to 1970 meanwhile: a term from before would last for half a century."""
    after = corrected(marked(), now=50.0, elapsed=10.0, boot="another")
    assert list(after.holds) == ["sure"] and after.services["web"].not_before == 350.0


# -- through the backend -----------------------------------------------------------------------------------------------


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[LocalStage]:
    stage = LocalStage(tmp_path, {"nodes": {"n0": {"gpus": 2}}, "jobs": {"idle": job(held=True)}})
    yield stage
    stage.finish()


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_hold_lasts_its_thirty_seconds_whatever_the_wall_clock_does(stage: LocalStage, step: float) -> None:
    hold = HoldCapacity(hold="h", owner="job/vip", nodes=("n0",), gpus=2, ttl_s=30.0, fence=1)
    assert stage.backend.apply(admit(hold), stage.now()).outcome is Outcome.DONE
    stage.stepped += step
    stage.offset += 20
    assert stage.observe().holds == ("h",)
    stage.restart()
    stage.offset += 20
    confirm = admit(ConfirmHold(hold="h", fence=1), id="a2")
    assert stage.backend.apply(confirm, stage.now()).outcome is Outcome.STALE
    assert stage.observe().holds == ()


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_run_told_to_stop_gets_its_whole_grace_and_no_more(tmp_path: Path, step: float) -> None:
    deaf = python("import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(300)")
    stage = LocalStage(
        tmp_path, {"nodes": {"n0": {"gpus": 1}}, "jobs": {"train": job(command=deaf, preemptible=True, kill_wait="60s")}}
    )
    try:
        seen = stage.until(lambda cluster: cluster.jobs[0].state is JobState.RUNNING).jobs[0]
        log = next((stage.directory / "units").iterdir()) / "log"
        stage.until(lambda _: log.exists() and b"on" in log.read_bytes())
        wish = Preempt(job="train", run_id=seen.run_id, on_nodes=("n0",), checkpoint="", gpus=1, lost_gpu_s=0.0)
        assert stage.backend.apply(admit(wish), stage.now()).outcome is Outcome.DONE
        first = stage.living()
        stage.stepped += step
        stage.offset += 30
        stage.observe()
        assert stage.living() == first  # half of its grace
        stage.offset += 40
        stage.until(lambda _: not first.items() & stage.living().items())
    finally:
        stage.finish()
