"""Against the real kernel, a real node_exporter and, where there is one, a real NVIDIA driver."""

import ctypes
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from aiops.clock import SystemClock
from aiops.errors import NoData, Temporary
from aiops.metrics import CATALOGUE
from aiops.scrape import Outcome, Scraper
from collectors.host import HostCollector
from collectors.network import NetworkCollector
from collectors.nvml import NvmlCollector
from collectors.pressure import PressureCollector
from collectors.prometheus import PrometheusCollector
from collectors.storage import StorageCollector

pytestmark = pytest.mark.real


def values(collector, now=1.0):
    batch = collector.collect(now)
    return dict(zip(batch.keys, batch.values.tolist(), strict=True))


def total(seen, metric, **labels):
    return sum(value for key, value in seen.items() if key.metric == metric and labels.items() <= dict(key.labels).items())


@pytest.mark.parametrize("cls", [HostCollector, NetworkCollector, PressureCollector, StorageCollector])
def test_this_host_gives_samples_of_the_catalogue(cls):
    if not Path("/proc/stat").exists():
        pytest.skip("no procfs on this host")
    try:
        seen = values(cls())
    except NoData as absent:
        pytest.skip(str(absent))
    assert seen
    assert {key.metric for key in seen} <= set(CATALOGUE)
    assert all(value >= 0 for value in seen.values())


def test_writing_to_disk_is_seen(tmp_path):
    collector = StorageCollector()
    before = total(values(collector), "node_disk_written_bytes_total")
    with (tmp_path / "file").open("wb") as file:
        file.write(os.urandom(8 * 2**20))
        file.flush()
        os.fsync(file.fileno())
    after = total(values(collector), "node_disk_written_bytes_total")
    if not after:
        pytest.skip("this host shows no block device")
    if subprocess.run(["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True).stdout.strip() == "tmpfs":
        pytest.skip("the temporary directory is in memory")
    assert after - before >= 8 * 2**20


def test_loopback_traffic_is_seen():
    collector = NetworkCollector()
    before = total(values(collector), "node_network_receive_bytes_total", device="lo")
    a, b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with a, b:
        b.bind(("127.0.0.1", 0))
        for _ in range(100):
            a.sendto(b"x" * 1000, b.getsockname())
            b.recv(2000)
    assert total(values(collector), "node_network_receive_bytes_total", device="lo") - before >= 100_000


@pytest.fixture
def node_exporter():
    binary = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
    if binary is None:
        pytest.skip("node_exporter is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [binary, f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


def scraped(url):
    collector = PrometheusCollector.from_settings({"url": url}, "test")
    until = time.monotonic() + 20
    while True:
        try:
            return values(collector)
        except Temporary:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def test_node_exporter_and_we_agree(node_exporter):
    """The same kernel read twice: what cannot have changed is equal, what grows has grown between our two readings."""
    ours = {cls: cls() for cls in (HostCollector, NetworkCollector, StorageCollector)}
    before = {key: value for one in ours.values() for key, value in values(one).items()}
    theirs = scraped(node_exporter)
    after = {key: value for one in ours.values() for key, value in values(one).items()}
    common = set(before) & set(theirs) & set(after)
    counters = [key for key in common if key.metric.endswith("_total")]
    assert len(counters) >= 20
    # node_exporter rounds CPU seconds per CPU before they are summed, and /proc/stat may count iowait backwards
    slack = 0.02 * (os.cpu_count() or 1)
    outside = {
        str(key): (before[key], theirs[key], after[key])
        for key in counters
        if not before[key] - slack <= theirs[key] <= after[key] + slack and key.label("mode") not in ("iowait", "idle")
    }
    assert outside == {}
    constants = ["node_memory_MemTotal_bytes", "node_boot_time_seconds"]
    if (
        Path("/proc/1/mounts").read_text() == Path("/proc/self/mounts").read_text()
    ):  # it reads those of process 1: not ours in a chroot
        constants.append("node_filesystem_size_bytes")
    for constant in constants:
        pairs = [(ours_value, theirs[key]) for key, ours_value in before.items() if key.metric == constant and key in theirs]
        assert pairs
        assert all(abs(a - b) <= 1 for a, b in pairs), constant


def test_a_whole_round_on_this_host():
    class Memory:
        def append(self, batch):
            return len(batch.keys)

    collectors = {
        "host": HostCollector(),
        "network": NetworkCollector(),
        "nvml": NvmlCollector(),
        "storage": StorageCollector(),
    }
    scraped = Scraper(collectors=collectors, store=Memory(), clock=SystemClock(), node="here").scrape(1.0)
    assert scraped.offered > 30
    assert scraped.outcomes["host"] is Outcome.OK
    assert scraped.outcomes["nvml"] in (Outcome.OK, Outcome.ABSENT)


def test_a_real_driver():
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        pytest.skip("libnvidia-ml.so.1 is not installed")
    collector = NvmlCollector()
    try:
        collector.collect(1.0)
    except NoData as absent:
        pytest.skip(str(absent))
    seen = values(collector, 2.0)  # a second sample, for the ratios that need two
    assert total(seen, "gpu_up") >= 1
    assert total(seen, "gpu_memory_total_bytes") > 2**30
    assert all(0 <= value <= 1 for key, value in seen.items() if key.metric.endswith("_ratio"))
