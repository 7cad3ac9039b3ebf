"""Limits by control groups: found by trying, imposed where permitted, and said where not."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_stage import LocalStage, job

from aiops.action import LimitBandwidth, Outcome
from aiops.backends.local.cgroups import Cgroups
from aiops.model import JobState
from aiops.testing.backend import admit


def version_two(root: Path, controllers: str) -> Path:
    """A file tree like that of a unified hierarchy, of which we may write all."""
    (root / "aiops").mkdir(parents=True)
    for place in (root, root / "aiops"):
        (place / "cgroup.controllers").write_text(controllers)
        (place / "cgroup.subtree_control").write_text(controllers)
    return root


def version_one(root: Path) -> Path:
    for kind, name in (
        ("cpu", "cpu.cfs_quota_us"),
        ("memory", "memory.limit_in_bytes"),
        ("blkio", "blkio.throttle.read_bps_device"),
    ):
        (root / kind / "aiops").mkdir(parents=True)
        (root / kind / "aiops" / name).touch()
    return root


def test_version_two_limits(tmp_path: Path) -> None:
    found = Cgroups.detect(True, version_two(tmp_path, "cpu io memory"))
    place = Path(found.create("u1", cpu_cores=1.5, memory_bytes=2**30)[0])
    assert found.version == 2 and found.controllers == ("cpu", "io", "memory")
    assert (place / "cpu.max").read_text() == "150000 100000" and (place / "memory.max").read_text() == "1073741824"


def test_version_one_limits(tmp_path: Path) -> None:
    found = Cgroups.detect(True, version_one(tmp_path))
    places = found.create("u1", cpu_cores=2.0, memory_bytes=4096.0)
    assert found.version == 1 and len(places) == 3
    assert (tmp_path / "cpu/aiops/u1/cpu.cfs_quota_us").read_text() == "200000"
    assert (tmp_path / "memory/aiops/u1/memory.limit_in_bytes").read_text() == "4096"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    partial = Cgroups.detect(True, version_two(tmp_path / "a", "cpu"))
    assert partial.describe() == "cgroup v2: cpu; not enforced: io, memory"
    nothing = Cgroups.detect(True, tmp_path / "nowhere")
    assert nothing.controllers == () and "accounted, not enforced" in nothing.describe()
    assert nothing.create("u1", 1.0, 1.0) == ()
    assert Cgroups.detect(False).controllers == ()


# -- the real kernel ---------------------------------------------------------------------------------------------------


@pytest.fixture
def disk() -> str:
    devices = sorted(Path("/sys/class/block").glob("*/dev"))
    if not devices:
        pytest.skip("this host has no block device")
    return devices[0].read_text().strip()


@pytest.fixture
def stage(tmp_path: Path, disk: str) -> Iterator[LocalStage]:
    if Cgroups.detect(True).controllers != ("cpu", "io", "memory"):
        pytest.skip(f"no permission to make all groups here: {Cgroups.detect(True).describe()}")
    declared = {"train": job(cpu_cores=0.5, memory="64Mi", preemptible=True)}
    links = {"disk": {"capacity": "1G", "device": disk}}
    stage = LocalStage(tmp_path, {"nodes": {"n0": {"gpus": 1}}, "cgroups": "auto", "jobs": declared, "links": links})
    yield stage
    stage.finish()
    for place in set(stage.backend._supervisor.cgroups.places.values()):
        for unit in stage.identities():
            group = place / stage.backend._supervisor._group(unit)
            if group.is_dir():
                group.rmdir()


@pytest.mark.real
def test_a_unit_lives_in_its_groups_and_a_cap_is_enforced(stage: LocalStage, disk: str) -> None:
    seen = stage.until(lambda cluster: cluster.jobs[0].state is JobState.RUNNING)
    (who,) = stage.living().values()
    stage.environment(next(iter(stage.living())))  # by now it has joined
    groups = Path(f"/proc/{who.pid}/cgroup").read_text()
    assert groups.count("/aiops/") >= 1 and os.getpgid(who.pid) == who.pid
    assert next(link for link in seen.links if link.name == "disk").enforced
    wish = LimitBandwidth(link="disk", owner="train", bytes_per_s=1_000_000, was=None)
    receipt = stage.backend.apply(admit(wish), stage.now())
    assert (receipt.outcome, receipt.detail) == (Outcome.DONE, "enforced")
    cgroups = stage.backend._supervisor.cgroups
    unit = cgroups.places["io"] / stage.backend._supervisor._group(next(iter(stage.living())))
    name = "blkio.throttle.read_bps_device" if cgroups.version == 1 else "io.max"
    assert "1000000" in (unit / name).read_text()
    lifted = LimitBandwidth(link="disk", owner="train", bytes_per_s=None, was=1_000_000)
    assert stage.backend.apply(admit(lifted, id="a2"), stage.now()).outcome is Outcome.DONE
    assert "1000000" not in (unit / name).read_text()
