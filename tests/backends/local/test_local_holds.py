"""Holds on one machine while victims drain: renewed, capped, for their owner alone, and never confirmed over a victim."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from local_stage import LocalStage, job, python

from aiops.action import ConfirmHold, HoldCapacity, Outcome, Preempt, ReserveBandwidth, Resume
from aiops.backends.local import holds, place
from aiops.backends.local.state import HoldRecord, Phase, State, Unit
from aiops.model import Cluster, Gpu, Job, JobState, Node, NodeState
from aiops.testing.backend import admit

DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(300)"
HOLD = HoldCapacity(hold="h", owner="vip", nodes=("n0",), gpus=2, ttl_s=30.0, fence=1)


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[list[LocalStage]]:
    made: list[LocalStage] = []
    yield made
    for stage in made:
        stage.finish()


def contested(tmp_path: Path, kill_wait: float) -> LocalStage:
    """A victim that ignores SIGTERM for `kill_wait`, the waiting job that preempts it, and one that would take its place."""
    jobs = {
        "victim": job(command=python(DEAF), gpus=2, preemptible=True, kill_wait=f"{kill_wait}s"),
        "vip": job(gpus=2, priority=1, held=True),
        "thief": job(gpus=2, priority=9, held=True),
    }
    stage = LocalStage(tmp_path, {"nodes": {"n0": {"gpus": 2}}, "jobs": jobs})
    stage.until(lambda cluster: the(cluster, "victim").state is JobState.RUNNING)
    logs = stage.directory / "units"
    stage.until(lambda _: any(b"on" in (one / "log").read_bytes() for one in logs.iterdir() if (one / "log").exists()))
    return stage


def the(cluster: Cluster, name: str) -> Job:
    return next(one for one in cluster.jobs if one.id == name)


def do(stage: LocalStage, action: Any, id: str) -> Outcome:
    return stage.backend.apply(admit(action, id=id), stage.now()).outcome


@pytest.mark.parametrize("drain_s", [5.0, 29.0, 31.0, 300.0])
def test_what_a_victim_frees_goes_to_its_preemptor_however_long_it_drains(
    stages: list[LocalStage], tmp_path: Path, drain_s: float
) -> None:
    """At no look is the capacity anybody else's, though the thief is more important; the vip starts, once, at the end."""
    stage = contested(tmp_path, drain_s)
    stages.append(stage)
    seen = the(stage.observe(), "victim")
    wish = Preempt(
        job="victim", run_id=seen.run_id, on_nodes=("n0",), checkpoint="", gpus=2, lost_gpu_s=0.0, bind_to="h"
    )  # fmt: skip
    assert do(stage, wish, "a1") is Outcome.DONE and do(stage, HOLD, "a2") is Outcome.DONE
    for name in ("vip", "thief"):
        run_id = the(stage.observe(), name).run_id
        assert do(stage, Resume(job=name, run_id=run_id), f"resume-{name}") is Outcome.DONE
    while stage.offset + 10.0 < drain_s:
        stage.offset += 10.0
        seen_now = stage.observe()
        assert seen_now.holds == ("h",) and the(seen_now, "thief").state is JobState.QUEUED
        assert do(stage, ConfirmHold(hold="h", fence=1), f"c{stage.offset}") is Outcome.STALE  # a victim still uses it
    stage.offset = drain_s + 0.5
    final = stage.until(lambda cluster: the(cluster, "vip").state is JobState.RUNNING)
    assert the(final, "thief").state is JobState.QUEUED and len(stage.living()) == 1


def test_a_hold_ends_at_its_cap_though_its_victim_never_does(stages: list[LocalStage], tmp_path: Path) -> None:
    stage = contested(tmp_path, 5000.0)
    stages.append(stage)
    run = the(stage.observe(), "victim").run_id
    wish = Preempt(job="victim", run_id=run, on_nodes=("n0",), checkpoint="", gpus=2, lost_gpu_s=0.0, bind_to="h")
    do(stage, wish, "a1")
    do(stage, HOLD, "a2")
    for stage.offset in (100.0, 400.0, 890.0):
        assert stage.observe().holds == ("h",)
    stage.offset = 901.0
    assert stage.observe().holds == ()
    assert do(stage, ConfirmHold(hold="h", fence=1), "a3") is Outcome.STALE


def held(**changes: Any) -> HoldRecord:
    given = {"owner": "vip", "fence": 1, "nodes": ("n0",), "gpus": 1, "expires_at": 1030.0, "since": 1000.0}
    return HoldRecord(**{**given, "hard_cap_at": 1900.0, **changes})


def stopping(hold: str) -> Unit:
    return Unit(id="v.1", owner="job/v", digest="", nodes=("n0",), gpus=("G0",), phase=Phase.STOPPING, frees_for=hold)


@pytest.mark.parametrize(
    ("hold", "units", "now", "wanted"),
    [
        pytest.param(held(), {}, 1029.0, held(), id="within its term"),
        pytest.param(held(), {}, 1030.0, None, id="over"),
        pytest.param(held(), {"v.1": stopping("h")}, 1025.0, held(expires_at=1055.0), id="renewed while a victim drains"),
        pytest.param(held(), {"v.1": stopping("h")}, 1005.0, held(), id="not written anew at every look"),
        pytest.param(held(), {"v.1": stopping("h")}, 1300.0, held(expires_at=1330.0), id="nobody looked for 5 minutes"),
        pytest.param(held(), {"v.1": stopping("other")}, 1030.0, None, id="a victim of another hold"),
        pytest.param(
            held(expires_at=1880.0), {"v.1": stopping("h")}, 1875.0, held(expires_at=1900.0), id="close to the cap"
        ),
        pytest.param(held(expires_at=1900.0), {"v.1": stopping("h")}, 1901.0, None, id="never past the cap"),
        pytest.param(held(confirmed=True), {}, 9e9, held(confirmed=True), id="confirmed: until released"),
    ],
)  # fmt: skip
def test_terms(hold: HoldRecord, units: dict[str, Unit], now: float, wanted: HoldRecord | None) -> None:
    after = holds.step(State(holds={"h": hold}, units=units), now)
    assert after.holds.get("h") == wanted


GPUS = tuple(Gpu(uuid=f"G{index}", index=index) for index in range(2))
NODE = Node(name="n0", uid="u", pool="local", state=NodeState.READY, gpus=GPUS, cpu_cores=8.0, memory_bytes=1e9)


@pytest.mark.parametrize("owner", ["vip", "job/vip"])
def test_an_owner_may_use_its_own_hold_by_either_name(owner: str) -> None:
    bound = [held(owner=owner, gpus=2)]
    assert place.choose(place.Want(owner="job/vip", gpus=2), [NODE], (), bound) is not None
    assert place.choose(place.Want(owner="job/thief", gpus=1), [NODE], (), bound) is None


def test_what_the_owner_took_is_not_held_for_it_a_second_time() -> None:
    taken = place.Taken(nodes=("n0",), gpus=("G0",), cpu_cores=6.0, memory_bytes=0.0, owner="job/vip", since=1001.0)
    other = place.Want(owner="job/other", gpus=1, cpu_cores=2.0)
    bound = held(cpu_cores=6.0)
    assert place.choose(other, [NODE], (taken,), [bound]) is not None
    assert place.choose(other, [NODE], (replace(taken, since=999.0),), [bound]) is None  # it had that before it asked for more
    assert place.choose(replace(other, cpu_cores=3.0), [NODE], (), [bound]) is None  # cores are bound too


def test_a_hold_binds_bandwidth_on_every_level(stages: list[LocalStage], tmp_path: Path) -> None:
    links = {"fabric": {"capacity": 100, "kind": "fabric"}, "nic9": {"capacity": 80, "kind": "nic", "parent": "fabric"}}
    stage = LocalStage(tmp_path, {"nodes": {"n0": {"gpus": 2}}, "links": links})
    stages.append(stage)
    stage.observe()
    wants = replace(HOLD, gpus=0, bandwidth_bytes_per_s={"nic9": 60.0})
    assert do(stage, wants, "a1") is Outcome.DONE
    assert do(stage, ReserveBandwidth(link="fabric", owner="job/other", bytes_per_s=50.0), "a2") is Outcome.STALE
    assert do(stage, ReserveBandwidth(link="fabric", owner="job/other", bytes_per_s=40.0), "a3") is Outcome.DONE
    assert do(stage, ReserveBandwidth(link="nic9", owner="job/vip", bytes_per_s=60.0), "a4") is Outcome.DONE  # its own
    more = replace(HOLD, hold="i", owner="late", gpus=0, bandwidth_bytes_per_s={"nic9": 30.0})
    assert do(stage, more, "a5") is Outcome.STALE
    assert do(stage, replace(more, bandwidth_bytes_per_s={"none": 1.0}), "a6") is Outcome.STALE
