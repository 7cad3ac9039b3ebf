"""Network caps and guarantees: what is planned, and what the real kernel lets through, in a network namespace of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aiops.backends.local.shaping import Rate, Shaper, minor, rates
from aiops.backends.local.state import ShareRecord, Unit


def unit(owner: str, serial: int) -> Unit:
    return Unit(id=f"{owner.partition('/')[2]}.{serial}", owner=owner, digest="", nodes=("n0",))


def record(owner: str, rate: float) -> dict[str, ShareRecord]:
    return {owner: ShareRecord(link="nic", owner=owner, bytes_per_s=rate)}


A, B1, B2 = unit("job/a", 1), unit("service/b", 2), unit("service/b", 3)
UNITS = {"job/a": [A], "service/b": [B1, B2]}


@pytest.mark.parametrize(
    ("caps", "sure", "wanted"),
    [
        pytest.param({}, {}, {}, id="nothing wanted, nothing laid"),
        pytest.param(record("job/a", 100.0), {}, {minor(A): Rate(10.0, 100.0)}, id="a cap: little is sure, it is the most"),
        pytest.param(record("job/a", 5.0), {}, {minor(A): Rate(5.0, 5.0)}, id="no class is surer than its cap"),
        pytest.param({}, record("job/a", 400.0), {minor(A): Rate(400.0, 1000.0)}, id="a guarantee may borrow the rest"),
        pytest.param(
            record("service/b", 100.0), {}, {minor(B1): Rate(10.0, 50.0), minor(B2): Rate(10.0, 50.0)},
            id="replicas share their service's cap evenly",
        ),
        pytest.param(record("job/a", 9e9), {}, {minor(A): Rate(10.0, 1000.0)}, id="nobody borrows more than there is"),
        pytest.param(record("job/gone", 100.0), {}, {}, id="an owner that does not run has no class"),
    ],
)  # fmt: skip
def test_shares_become_classes(
    caps: dict[str, ShareRecord], sure: dict[str, ShareRecord], wanted: dict[int, Rate]
) -> None:  # fmt: skip
    assert rates(UNITS, 1000.0, caps, sure) == wanted


def test_class_numbers_are_valid_distinct_and_look_like_best_effort_to_a_plain_queue() -> None:
    numbers = [minor(unit("job/a", serial)) for serial in range(1, 4095)]
    assert len(set(numbers)) == len(numbers) and all(0 < n < 0xFFF0 and n % 16 == 0 for n in numbers)


def test_where_nothing_is_permitted_nothing_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text("tmpfs /tmp tmpfs rw 0 0\n")
    for shaper in (Shaper.detect(True, tmp_path / "mounts"), Shaper.detect(True, tmp_path / "none"), Shaper.detect(False)):
        assert shaper.groups is None and not shaper.may("lo") and not shaper.lay("lo", 1e9, {16: Rate(1.0, 1.0)})
        assert shaper.join("u", A) == () and not shaper.marked("u")


# -- the real kernel ---------------------------------------------------------------------------------------------------

SENDER = """
import socket, sys, threading, time
server = socket.create_server(("127.0.0.1", 0))
def sink():
    peer, _ = server.accept()
    while peer.recv(1 << 16): pass
threading.Thread(target=sink, daemon=True).start()
line = socket.socket(); line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18); line.connect(server.getsockname())
sent, told = 0, 0.0
while True:
    sent += line.send(b"x" * 16384)
    if time.monotonic() - told > 0.05:
        told = time.monotonic()
        with open(sys.argv[1], "w") as file: file.write(f"{time.monotonic()} {sent}")
"""
READER = """
import socket
server = socket.create_server(("127.0.0.1", 4711))
while True:
    peer, _ = server.accept()
    while peer.recv(1 << 16): pass
"""
PROBE = """
import json, socket, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from local_stage import LocalStage, job, python
from aiops.action import LimitBandwidth, ReleaseBandwidth, ReserveBandwidth
from aiops.testing.backend import admit
place, sender = Path(sys.argv[2]), sys.argv[3]
subprocess.run(["ip", "link", "set", "lo", "mtu", "1500", "gso_max_size", "3000", "up"], check=True)
jobs = {name: job(command=[*python(sender), str(place / name)]) for name in ("train", "hog")}
jobs["reader"] = job(command=python(sys.argv[4]))
links = {"nic": {"kind": "nic", "capacity": 10_000_000, "device": "lo"}}
stage = LocalStage(place, {"nodes": {"n0": {"gpus": 3}}, "jobs": jobs, "links": links, "cgroups": "auto"})
said, out = [], {}
def do(action):
    receipt = stage.backend.apply(admit(action, id=f"a{len(said)}"), stage.now())
    said.append((receipt.outcome.value, receipt.detail))
def read(name):
    while True:
        row = (place / name).read_text().split()
        if len(row) == 2: return float(row[0]), int(row[1])
def speed(name, seconds=2.0):
    (t0, n0) = read(name); time.sleep(seconds); (t1, n1) = read(name)
    return (n1 - n0) / (t1 - t0) / 1e6 if t1 > t0 else 0.0
def told(owner):
    return {one.owner: one.used_bytes_per_s for one in stage.observe().links[0].shares}.get(owner)
def received(seconds=3.0):
    # MB/s that a sender outside of all units gets rid of to the job `reader`
    while True:
        line = socket.socket(); line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
        if line.connect_ex(("127.0.0.1", 4711)) == 0: break
        line.close(); time.sleep(0.05)
    since, sent = time.monotonic(), 0
    while time.monotonic() - since < seconds: sent += line.send(b"x" * 16384)
    line.close()
    return sent / seconds / 1e6
try:
    stage.until(lambda cluster: all((place / name).exists() for name in ("train", "hog")))
    out["enforced"], out["accounted"] = stage.observe().links[0].enforced, stage.observe().links[0].accounted
    out["received_free"] = received(1.0)
    do(LimitBandwidth(link="nic", owner="job/reader", bytes_per_s=3e6, was=None))
    stage.observe(); out["received_capped"], out["counted"] = received(), told("job/reader")
    stage.restart()
    stage.observe()
    out["received_after_restart"] = received()
    do(LimitBandwidth(link="nic", owner="job/reader", bytes_per_s=None, was=3e6))
    out["received_lifted"] = received(1.0)
    out["free"] = speed("train")
    do(LimitBandwidth(link="nic", owner="job/train", bytes_per_s=2e6, was=None)); time.sleep(1)
    out["capped"], out["other"] = speed("train"), speed("hog", 0.5)
    stage.observe(); time.sleep(1.2); out["sender_counted"] = told("job/train")
    do(LimitBandwidth(link="nic", owner="job/train", bytes_per_s=None, was=2e6)); time.sleep(1)
    out["lifted"] = speed("train", 1.0)
    do(ReserveBandwidth(link="nic", owner="job/train", bytes_per_s=8e6)); time.sleep(1)
    out["sure"], out["squeezed"] = speed("train", 3.0), speed("hog", 1.0)
    stage.restart()
    stage.observe()
    out["after_restart"] = speed("train", 2.0)
    do(ReleaseBandwidth(link="nic", owner="job/train"))
    stage.observe()
    out["qdisc"] = subprocess.run(["tc", "qdisc", "show", "dev", "lo"], capture_output=True, text=True).stdout
finally:
    groups = stage.backend._supervisor.shaper.groups
    stage.finish()
    for unit in stage.identities():
        stage.backend._supervisor.shaper.leave(stage.backend._supervisor._group(unit))
        stage.backend._supervisor.cgroups.remove(stage.backend._supervisor._group(unit))
print(json.dumps({"said": said, **out}))
"""


@pytest.mark.real
@pytest.mark.slow
def test_the_kernel_imposes_caps_and_guarantees_on_what_units_send(tmp_path: Path) -> None:
    """Unlimited tens of MB/s; a cap of 2 MB/s holds; a guarantee of 8 of 10 MB/s is kept beside a hog.

    Segments are cut to the size of packets on a wire: loopback's own of 64 kB are too coarse for rates this small.
    """
    if os.geteuid() != 0 or not shutil.which("tc") or not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("needs root, tc, ip and unshare to make a network namespace")
    if Shaper.detect(True).groups is None:
        pytest.skip("this kernel or our permissions have no cgroup v2 with socket programs")
    here = str(Path(__file__).parent)
    asked = [sys.executable, "-c", PROBE, here, str(tmp_path), SENDER, READER]
    done = subprocess.run(["unshare", "-n", *asked], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["enforced"]
    assert seen["accounted"] == "guarantees on what is received"
    half = "enforced on what is sent; what is received is accounted"
    lifted = ["done", ""]
    assert seen["said"] == [["done", "enforced"], lifted, ["done", "enforced"], lifted, ["done", half], lifted]
    assert seen["received_free"] > 8 and seen["received_lifted"] > 8, seen
    assert 0.5 < seen["received_capped"] < 3.6 and 0.5 < seen["received_after_restart"] < 3.6, seen
    assert 0.5e6 < seen["counted"] < 4e6 and 0.5e6 < seen["sender_counted"] < 3e6, seen
    assert seen["free"] > 8 and seen["lifted"] > 8, seen
    assert 0.5 < seen["capped"] < 2.2 < seen["other"], seen  # the cap of one does not hold the other
    assert 6.0 < seen["sure"] < 10.5 and seen["squeezed"] < 4.0, seen  # without a guarantee each would have 5
    assert 6.0 < seen["after_restart"] < 10.5, seen
    assert "htb" not in seen["qdisc"]  # nothing is left behind once nobody has a share
