"""Disks: caps and weights on a tree of files, what share becomes what weight, and what the real kernel makes of both."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_stage import LocalStage, job
from test_local_cgroups import version_one, version_two

from aiops.action import LimitBandwidth, Outcome, ReleaseBandwidth, ReserveBandwidth
from aiops.backends.local.cgroups import Cgroups
from aiops.backends.local.disks import Disks, device_number, ratios
from aiops.backends.local.state import ShareRecord, Unit
from aiops.model import JobState
from aiops.testing.backend import admit


def blocks(root: Path, scheduler: str = "none [mq-deadline] bfq", number: str = "8:0") -> Path:
    """As the kernel shows block devices by number: one disk."""
    (root / number / "queue").mkdir(parents=True)
    (root / number / "dev").write_text(f"{number}\n")
    (root / number / "queue" / "scheduler").write_text(scheduler)
    return root


def test_version_two_caps_and_lifts(tmp_path: Path) -> None:
    cgroups = Cgroups.detect(True, version_two(tmp_path / "cgroup", "cpu io memory"))
    place, disks = Path(cgroups.create("u1", 0, 0)[0]), Disks(cgroups, blocks(tmp_path / "dev"))
    assert disks.caps("8:0") and not disks.caps("8:16")  # no such disk: nothing is claimed of it
    assert disks.throttle("u1", "8:0", 1000.0) and (place / "io.max").read_text() == "8:0 rbps=1000 wbps=1000"
    assert disks.throttle("u1", "8:0", None) and (place / "io.max").read_text() == "8:0 rbps=max wbps=max"
    assert not disks.throttle("u2", "8:0", 1000.0)  # a unit without a group


def test_version_one_caps(tmp_path: Path) -> None:
    cgroups = Cgroups.detect(True, version_one(tmp_path))
    cgroups.create("u1", 0, 0)
    assert Disks(cgroups).throttle("u1", "8:0", 1000.0)
    assert (tmp_path / "blkio/aiops/u1/blkio.throttle.read_bps_device").read_text() == "8:0 1000"


@pytest.mark.parametrize(
    ("version", "scheduler", "files", "costs", "wanted"),
    [
        pytest.param(1, "[bfq]", ["blkio.bfq.weight_device"], "", ("blkio.bfq.weight_device", 1000), id="v1, BFQ"),
        pytest.param(1, "none [mq-deadline] bfq", ["blkio.bfq.weight_device"], "", None, id="BFQ is there, not chosen"),
        pytest.param(1, "[bfq]", [], "", None, id="BFQ built without groups"),
        pytest.param(2, "[bfq]", ["io.bfq.weight"], "", ("io.bfq.weight", 1000), id="v2, BFQ"),
        pytest.param(2, "[none]", ["io.weight"], "", None, id="the cost model exists, nobody switched it on"),
        pytest.param(2, "[none]", ["io.weight"], "8:0 enable=1 ctrl=auto", ("io.weight", 10_000), id="the cost model is on"),
        pytest.param(2, "[none]", ["io.weight"], "8:16 enable=1 ctrl=auto", None, id="on for another disk"),
        pytest.param(2, "[none]", ["io.weight"], "8:0 enable=0 ctrl=auto", None, id="switched off"),
    ],
)
def test_weights_are_claimed_only_where_the_device_heeds_them(
    tmp_path: Path, version: int, scheduler: str, files: list[str], costs: str, wanted: tuple[str, int] | None
) -> None:
    root = version_one(tmp_path / "c") if version == 1 else version_two(tmp_path / "c", "cpu io memory")
    cgroups = Cgroups.detect(True, root)
    cgroups.create("u1", 0, 0)
    for name in files:
        (cgroups.places["io"] / name).touch()
    (root / "io.cost.qos").write_text(costs)
    disks = Disks(cgroups, blocks(tmp_path / "dev", scheduler))
    assert disks.weights("8:0") == wanted
    assert disks.weigh("u1", "8:0", 0.25) == (wanted is not None)
    if wanted is not None:
        written = cgroups.places["io"] / "u1" / wanted[0]
        assert written.read_text() == f"8:0 {wanted[1] // 4}"
        assert disks.weigh("u1", "8:0", None) and written.read_text() == "8:0 100"


def test_what_was_served_is_read_or_unknown(tmp_path: Path) -> None:
    two = Cgroups.detect(True, version_two(tmp_path / "2", "cpu io memory"))
    place = Path(two.create("u1", 0, 0)[0])
    assert Disks(two).served("u1", "8:0") is None  # no file: unknown, not zero
    (place / "io.stat").write_text("8:16 rbytes=1 wbytes=2 rios=3\n8:0 rbytes=100 wbytes=20 rios=3 dbytes=9\n")
    assert Disks(two).served("u1", "8:0") == 120
    (place / "io.stat").write_text("8:0 rbytes=rubbish\n")
    assert Disks(two).served("u1", "8:0") is None
    one = Cgroups.detect(True, version_one(tmp_path / "1"))
    one.create("u1", 0, 0)
    rows = "8:0 Read 100\n8:0 Write 20\n8:0 Sync 120\n8:0 Total 120\nTotal 120\n"
    (one.places["io"] / "u1" / "blkio.bfq.io_service_bytes").write_text(rows)
    (one.places["io"] / "u1" / "blkio.throttle.io_service_bytes").write_text("Total 0\n")
    assert Disks(one).served("u1", "8:0") == 120


def test_device_numbers_are_of_whole_disks(tmp_path: Path) -> None:
    disk = tmp_path / "devices" / "sda"
    (disk / "sda1").mkdir(parents=True)
    (disk / "dev").write_text("8:0\n")
    (disk / "sda1" / "dev").write_text("8:1\n")
    (disk / "sda1" / "partition").write_text("1\n")
    for folder, name, target in (("number", "8:1", disk / "sda1"), ("name", "sda1", disk / "sda1"), ("name", "sda", disk)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).symlink_to(target)
    for name in ("8:1", "sda1", "/dev/sda1", "sda"):
        assert device_number(name, tmp_path / "number", tmp_path / "name") == "8:0"
    assert device_number("8:99", tmp_path / "number", tmp_path / "name") is None
    assert device_number("nothing", tmp_path / "number", tmp_path / "name") is None


def unit(owner: str, serial: int) -> Unit:
    return Unit(id=f"{owner.partition('/')[2]}.{serial}", owner=owner, digest="", nodes=("n0",))


def test_guarantees_become_parts_of_the_device() -> None:
    """600 of 1000 to a, on one unit; 200 to the two replicas of b; c and d share the rest; nobody starves."""
    a, b1, b2, c, d = unit("job/a", 1), unit("service/b", 2), unit("service/b", 3), unit("job/c", 4), unit("job/d", 5)
    owners = {"job/a": [a], "service/b": [b1, b2]}
    sure = {o: ShareRecord(link="disk", owner=o, bytes_per_s=r) for o, r in (("job/a", 600.0), ("service/b", 200.0))}
    found = ratios([a, b1, b2, c, d], 1000.0, owners, sure)
    assert found == pytest.approx({"a.1": 0.6, "b.2": 0.1, "b.3": 0.1, "c.4": 0.1, "d.5": 0.1})
    whole = {"job/a": ShareRecord(link="disk", owner="job/a", bytes_per_s=1000.0)}
    assert ratios([a, c], 1000.0, {"job/a": [a]}, whole) == {"a.1": 1.0, "c.4": 0.01}


# -- the real kernel ---------------------------------------------------------------------------------------------------


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """A loop device scheduled by BFQ over a file of 128 MiB; its own, so that nobody else's disk is touched."""
    if os.geteuid() != 0 or not shutil.which("losetup") or not shutil.which("fio"):
        pytest.skip("needs root, losetup and fio to make a disk and load it")
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        for _ in range(128):
            file.write(bytes(2**20))
    made = subprocess.run(
        ["losetup", "--find", "--show", "--direct-io=on", str(image)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"no loop device can be had here: {made.stderr.strip()}")
    device = Path(made.stdout.strip()).name
    try:
        scheduler = Path(f"/sys/block/{device}/queue/scheduler")
        if "bfq" not in scheduler.read_text():
            pytest.skip("this kernel has no BFQ: guarantees on disks are accounted, not enforced")
        scheduler.write_text("bfq")
        yield device
    finally:
        subprocess.run(["losetup", "--detach", f"/dev/{device}"], check=True)


@pytest.fixture
def stage(tmp_path: Path, loop: str) -> Iterator[LocalStage]:
    if "io" not in Cgroups.detect(True).controllers:
        pytest.skip(f"no permission to limit disks here: {Cgroups.detect(True).describe()}")
    reads = ["fio", "--name=reads", f"--filename=/dev/{loop}", "--direct=1", "--rw=randread", "--bs=256k", "--iodepth=128"]
    load = [*reads, "--ioengine=libaio", "--thread", "--time_based", "--runtime=120"]
    jobs = {name: job(command=load, cwd=str(tmp_path), preemptible=True) for name in ("train", "hog")}
    links = {"disk": {"capacity": "2G", "device": loop}}
    stage = LocalStage(tmp_path, {"nodes": {"n0": {"gpus": 2}}, "cgroups": "auto", "jobs": jobs, "links": links})
    stage.until(lambda cluster: all(one.state is JobState.RUNNING for one in cluster.jobs))
    yield stage
    stage.finish()
    for unit_id in stage.identities():
        stage.backend._supervisor._imposer.leave(unit_id)


def speeds(stage: LocalStage, seconds: float) -> tuple[float, float]:
    """MB/s that the kernel served to `train` and to `hog`."""
    disks, number = stage.backend._supervisor._imposer._disks, device_number(stage.section["links"]["disk"]["device"])

    def served() -> list[int]:
        groups = [stage.backend._supervisor._group(unit) for unit in sorted(stage.living(), reverse=True)]
        return [disks.served(group, number or "") or 0 for group in groups]

    before, since = served(), time.monotonic()
    time.sleep(seconds)
    span = time.monotonic() - since
    train, hog = ((b - a) / span / 1e6 for a, b in zip(before, served(), strict=True))
    return train, hog


def alike(stage: LocalStage) -> bool:
    """True where neither reader has twice the other's in some window: a busy host may starve one for a while."""
    return any(0.5 < train / hog < 2.0 for train, hog in (speeds(stage, 1.0) for _ in range(8)))


def used_over(stage: LocalStage, owner: str, seconds: float) -> float:
    """Bytes per second that the picture says an owner used since the picture before it, this long ago."""
    time.sleep(seconds)
    (link,) = (link for link in stage.observe().links if link.name == "disk")
    return next(one.used_bytes_per_s or 0.0 for one in link.shares if one.owner == owner)


@pytest.mark.real
@pytest.mark.slow
def test_the_kernel_imposes_caps_and_guarantees_on_what_units_read(stage: LocalStage) -> None:
    """Alike without shares; 1.6 of 2 GB/s guaranteed gives several times the hog's; a cap of 20 MB/s holds; both go back."""

    def do(action: LimitBandwidth | ReserveBandwidth | ReleaseBandwidth, id: str) -> str:
        receipt = stage.backend.apply(admit(action, id=id), stage.now())
        assert receipt.outcome is Outcome.DONE
        return receipt.detail

    (link,) = (link for link in stage.observe().links if link.name == "disk")
    assert link.enforced and link.accounted == ""
    assert alike(stage)
    assert do(ReserveBandwidth(link="disk", owner="job/train", bytes_per_s=1.6 * 2**30), "a1") == "enforced"
    windows = [speeds(stage, 2.0) for _ in range(4)]  # a busy host starves the readers themselves in some of them
    assert max(train / hog for train, hog in windows) > 2.0, windows
    assert do(LimitBandwidth(link="disk", owner="job/hog", bytes_per_s=20e6, was=None), "a2") == "enforced"
    time.sleep(0.5)
    stage.observe()
    _, hog = speeds(stage, 3.0)
    assert hog < 24, hog
    (link,) = (link for link in stage.observe().links if link.name == "disk")
    shares = {one.owner: one for one in link.shares}
    # What a window ends amid counts in it or in the next: the median of three is held against the cap.
    used = [shares["job/hog"].used_bytes_per_s or 0.0, *(used_over(stage, "job/hog", 3.0) for _ in range(2))]
    assert 5e6 < sorted(used)[1] < 24e6, used
    assert (shares["job/train"].used_bytes_per_s or 0) > 4 * (shares["job/hog"].used_bytes_per_s or 0), shares
    assert do(LimitBandwidth(link="disk", owner="job/hog", bytes_per_s=None, was=20e6), "a3") == ""
    assert do(ReleaseBandwidth(link="disk", owner="job/train"), "a4") == ""
    stage.restart()  # the next daemon finds nothing left over
    stage.observe()
    assert alike(stage)


@pytest.mark.real
def test_without_weights_a_guarantee_is_accounted_and_says_so(stage: LocalStage, loop: str) -> None:
    Path(f"/sys/block/{loop}/queue/scheduler").write_text("none")
    (link,) = (link for link in stage.observe().links if link.name == "disk")
    assert link.enforced and link.accounted == "guarantees: this disk's scheduler heeds no weights"
    wish = ReserveBandwidth(link="disk", owner="job/train", bytes_per_s=1e6)
    assert stage.backend.apply(admit(wish), stage.now()).detail == "accounted, not enforced"
