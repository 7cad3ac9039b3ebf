"""host, network, pressure and storage on recorded trees: what a busy GPU node's kernel writes, and what no kernel should."""

import contextlib
import os
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.errors import AiopsError, ConfigError, NoData, Temporary
from aiops.metrics import CATALOGUE
from aiops.model import SeriesKey
from collectors import filesystems
from collectors.host import HostCollector
from collectors.network import NetworkCollector
from collectors.pressure import PressureCollector, stalls
from collectors.storage import StorageCollector


def psi(some, full):
    average = "avg10=0.00 avg60=0.00 avg300=0.00"
    return f"some {average} total={some}\nfull {average} total={full}\n"


TICKS = os.sysconf("SC_CLK_TCK")

FILES = {
    "proc/stat": "cpu  200 0 100 4000 50 0 10 5 20 0\ncpu0 100 0 50 2000 25 0 5 2 10 0\ncpu1 100 0 50 2000 25 0 5 3 10 0\n"
    "intr 5 1 2\nctxt 12345\nbtime 1700000000\nprocesses 99\nprocs_running 3\nprocs_blocked 2\n",
    "proc/loadavg": "1.50 2.50 3.50 2/500 1234\n",
    "proc/meminfo": "MemTotal:       1000 kB\nMemAvailable:    400 kB\nHugePages_Total:       0\nSwapFree:          0 kB\n",
    "proc/vmstat": "nr_free_pages 1\npgmajfault 77\noom_kill 1\n",
    "proc/pressure/cpu": psi(1500000, 0),
    "proc/pressure/io": psi(2000000, 1000000),
    "proc/pressure/memory": psi(0, 0),
    "proc/net/dev": "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo\n"
    "  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\nveth12ab: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n",
    "sys/class/net/eth0/operstate": "up\n",
    "sys/class/net/eth0/carrier": "1\n",
    "sys/class/net/eth0/speed": "25000\n",
    "sys/class/infiniband/mlx5_0/ports/1/counters/port_rcv_data": "1000\n",
    "sys/class/infiniband/mlx5_0/ports/1/counters/port_xmit_data": "2000\n",
    "sys/class/infiniband/mlx5_0/ports/1/counters/port_xmit_wait": "42\n",
    "sys/class/infiniband/mlx5_0/ports/1/counters/symbol_error": "N/A (no PMA)\n",
    "sys/class/infiniband/mlx5_0/ports/1/hw_counters/np_cnp_sent": "7\n",
    "sys/class/infiniband/mlx5_0/ports/1/hw_counters/np_ecn_marked_roce_packets": "9\n",
    "sys/class/infiniband/mlx5_0/ports/1/state": "4: ACTIVE\n",
    "sys/class/infiniband/mlx5_0/ports/1/phys_state": "5: LinkUp\n",
    "sys/class/infiniband/mlx5_0/ports/1/rate": "200 Gb/sec (4X HDR)\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "4\n",
    "sys/devices/system/cpu/cpu0/topology/core_id": "0\n",
    "sys/devices/system/cpu/cpu0/topology/physical_package_id": "0\n",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "4\n",
    "sys/devices/system/cpu/cpu1/topology/core_id": "0\n",
    "sys/devices/system/cpu/cpu1/topology/physical_package_id": "0\n",
    "proc/diskstats": " 259 0 nvme0n1 100 5 2000 3000 50 6 4000 1500 2 900 4500 7 0 0 0 8 250\n"
    " 259 1 nvme0n1p1 1 1 1 1 1 1 1 1 0 1 1\n   7 0 loop0 1 1 1 1 1 1 1 1 0 1 1\n   8 0 sda 9 0 8 7\n",
    "proc/1/mountstats": "device /dev/sda mounted on / with fstype ext4\n"
    "device nas:/export mounted on /data with fstype nfs4 statvers=1.1\n\topts:\trw,vers=4.2\n"
    "\tbytes:\t11 22 33 44 5555 6666 7 8\n\tper-op statistics\n"
    "\t        READ: 10 12 1 1600 1700 200 3000 3300 0\n\t        NULL: 1 1 0 44 24 0 0 0\n"
    "device nas:/export mounted on /data2 with fstype nfs4 statvers=1.1\n\tbytes:\t11 22 33 44 5555 6666 7 8\n",
    "proc/fs/lustre/llite/scratch-ffff/stats": "snapshot_time 1.0 secs.nsecs\n"
    "read_bytes 12 samples [bytes] 4096 1048576 9437184\nopen 30 samples [regs]\n",
    "cgroup/cgroup.controllers": "cpu io memory\n",
    "cgroup/system.slice/io.pressure": psi(3000000, 500000),
    "cgroup/system.slice/job1.scope/cpu.pressure": "some avg10=0 avg60=0 avg300=0 total=250000\n",
    "cgroup/system.slice/job1.scope/deep/cpu.pressure": "some avg10=0 avg60=0 avg300=0 total=1\n",
}  # fmt: skip


@pytest.fixture
def node(tmp_path):
    for name, content in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return tmp_path


def settings(cls, root):
    roots = {"proc": root / "proc", "sys": root / "sys", "rootfs": root, "cgroup": root / "cgroup"}
    accepted = {
        HostCollector: ("proc", "sys"),
        NetworkCollector: ("proc", "sys"),
        PressureCollector: ("proc", "cgroup"),
        StorageCollector: ("proc", "sys", "rootfs"),
    }[cls]
    return {name: str(roots[name]) for name in accepted}


def scrape(cls, root, **extra):
    batch = cls.from_settings(settings(cls, root) | extra, "test.yaml").collect(5.0)
    assert batch.time == 5.0
    assert len(set(batch.keys)) == len(batch.keys)
    return dict(zip(batch.keys, batch.values.tolist(), strict=True))


ETH, PORT, NVME = {"device": "eth0"}, {"device": "mlx5_0", "port": "1"}, {"device": "nvme0n1"}
DEEP = {"cgroup": "/system.slice/job1.scope/deep"}
NFS = {"export": "nas:/export", "mountpoint": "/data"}


@pytest.mark.parametrize(
    ("cls", "metric", "labels", "value"),
    [
        (HostCollector, "node_cpu_seconds_total", {"mode": "user"}, 200 / TICKS),  # the sum line, not one CPU
        (HostCollector, "node_cpu_seconds_total", {"mode": "idle"}, 4000 / TICKS),
        (HostCollector, "node_cpu_count", {}, 2),
        (HostCollector, "node_procs_blocked", {}, 2),
        (HostCollector, "node_boot_time_seconds", {}, 1.7e9),
        (HostCollector, "node_load5", {}, 2.5),
        (HostCollector, "node_memory_MemAvailable_bytes", {}, 400 * 1024),  # kB of /proc/meminfo are KiB
        (HostCollector, "node_memory_SwapFree_bytes", {}, 0),
        (HostCollector, "node_vmstat_oom_kill", {}, 1),
        (HostCollector, "node_cpu_core_throttles_total", {}, 4),  # two threads of one core share the counter
        (NetworkCollector, "node_network_receive_bytes_total", ETH, 1000),
        (NetworkCollector, "node_network_transmit_bytes_total", ETH, 2000),
        (NetworkCollector, "node_network_receive_drop_total", ETH, 2),
        (NetworkCollector, "node_network_transmit_errs_total", ETH, 3),
        (NetworkCollector, "node_network_up", ETH, 1),
        (NetworkCollector, "node_network_speed_bytes", ETH, 25e9 / 8),
        (NetworkCollector, "node_infiniband_port_data_received_bytes_total", PORT, 4000),  # counted in 4-byte words
        (NetworkCollector, "node_infiniband_port_data_transmitted_bytes_total", PORT, 8000),
        (NetworkCollector, "node_infiniband_port_transmit_wait_total", PORT, 42),
        (NetworkCollector, "node_infiniband_np_cnp_sent_total", PORT, 7),
        (NetworkCollector, "node_infiniband_np_ecn_marked_roce_packets_total", PORT, 9),
        (NetworkCollector, "node_infiniband_state_id", PORT, 4),
        (NetworkCollector, "node_infiniband_physical_state_id", PORT, 5),
        (NetworkCollector, "node_infiniband_rate_bytes_per_second", PORT, 25e9),
        (PressureCollector, "node_pressure_cpu_waiting_seconds_total", {}, 1.5),
        (PressureCollector, "node_pressure_io_stalled_seconds_total", {}, 1.0),
        (PressureCollector, "cgroup_pressure_stalled_seconds_total", {"cgroup": "/system.slice", "resource": "io"}, 0.5),
        (
            PressureCollector,
            "cgroup_pressure_waiting_seconds_total",
            {"cgroup": "/system.slice/job1.scope", "resource": "cpu"},
            0.25,
        ),
        (StorageCollector, "node_disk_reads_completed_total", NVME, 100),
        (StorageCollector, "node_disk_read_bytes_total", NVME, 2000 * 512),  # sectors are 512 bytes on every device
        (StorageCollector, "node_disk_read_time_seconds_total", NVME, 3.0),
        (StorageCollector, "node_disk_written_bytes_total", NVME, 4000 * 512),
        (StorageCollector, "node_disk_io_now", NVME, 2),
        (StorageCollector, "node_disk_io_time_weighted_seconds_total", NVME, 4.5),
        (StorageCollector, "node_disk_flush_requests_time_seconds_total", NVME, 0.25),
        (StorageCollector, "node_disk_reads_completed_total", {"device": "sda"}, 9),  # an old kernel's short line
        (StorageCollector, "node_mountstats_nfs_total_read_bytes_total", NFS, 5555),
        (StorageCollector, "node_mountstats_nfs_total_write_bytes_total", NFS, 6666),
        (StorageCollector, "node_mountstats_nfs_operations_requests_total", NFS | {"operation": "READ"}, 10),
        (StorageCollector, "node_mountstats_nfs_operations_major_timeouts_total", NFS | {"operation": "READ"}, 1),
        (StorageCollector, "node_mountstats_nfs_operations_response_time_seconds_total", NFS | {"operation": "READ"}, 3.0),
        (StorageCollector, "node_mountstats_nfs_operations_request_time_seconds_total", NFS | {"operation": "READ"}, 3.3),
        (StorageCollector, "lustre_read_bytes_total", {"target": "scratch-ffff"}, 9437184),
        (StorageCollector, "lustre_read_operations_total", {"target": "scratch-ffff"}, 12),
        (StorageCollector, "lustre_operations_total", {"target": "scratch-ffff", "operation": "open"}, 30),
    ],
)
def test_recorded_text_becomes_samples(node, cls, metric, labels, value):
    assert scrape(cls, node)[SeriesKey.of(metric, **labels)] == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("cls", "metric", "labels"),
    [
        (NetworkCollector, "node_network_receive_bytes_total", {"device": "veth12ab"}),  # the other end of a container's cable
        (NetworkCollector, "node_infiniband_symbol_error_total", PORT),  # N/A is not zero
        (NetworkCollector, "node_infiniband_rp_cnp_handled_total", PORT),  # this card has no such counter
        (PressureCollector, "node_pressure_cpu_stalled_seconds_total", {}),  # a constant zero of the kernel
        (PressureCollector, "cgroup_pressure_waiting_seconds_total", DEEP | {"resource": "cpu"}),  # beyond the depth
        (StorageCollector, "node_disk_reads_completed_total", {"device": "nvme0n1p1"}),
        (StorageCollector, "node_disk_reads_completed_total", {"device": "loop0"}),
        (StorageCollector, "node_disk_written_bytes_total", {"device": "sda"}),  # columns that are missing
        (StorageCollector, "node_mountstats_nfs_total_read_bytes_total", NFS | {"mountpoint": "/data2"}),  # same counters twice
    ],
)  # fmt: skip
def test_what_is_not_there_is_left_out(node, cls, metric, labels):
    assert SeriesKey.of(metric, **labels) not in scrape(cls, node)


ALL = (HostCollector, NetworkCollector, PressureCollector, StorageCollector)


@pytest.mark.parametrize("cls", ALL)
def test_every_name_and_label_is_in_the_catalogue(node, cls):
    for key in scrape(cls, node):
        assert set(CATALOGUE[key.metric].labels) == {name for name, _ in key.labels}, key


@pytest.mark.parametrize("cls", ALL)
def test_an_empty_host_is_no_data(tmp_path, cls):
    with pytest.raises(NoData):
        scrape(cls, tmp_path)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize(
    "garbage",
    [b"", b"\n\n\n", b"\x00\xff\xfe" * 100, b"cpu", b"some", b": : :\n" * 50, b"eth0: -1 nan inf 1e999\n", b"a " * 100_000],
    ids=["empty", "newlines", "binary", "cut", "cut-psi", "colons", "numbers", "long-line"],
)
def test_garbage_in_every_file_never_escapes_as_anything_but_our_errors(node, cls, garbage):
    for name in FILES:
        (node / name).write_bytes(garbage)
    try:
        values = scrape(cls, node)
    except AiopsError:
        return
    assert all(value >= 0 for value in values.values())


@pytest.mark.parametrize("cls", ALL)
@given(cut=st.integers(0, 400), junk=st.binary(max_size=20))
def test_truncated_files_do_not_crash(cls, cut, junk, tmp_path_factory):
    root = tmp_path_factory.mktemp("t")
    for name in ("proc/stat", "proc/net/dev", "proc/pressure/io", "proc/diskstats", "proc/1/mountstats"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(FILES[name].encode()[:cut] + junk)
    with contextlib.suppress(AiopsError):
        scrape(cls, root)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize(("section", "key"), [({"prok": "/x"}, "prok"), ({"proc": 7}, "proc"), ({"proc": None}, "proc")])
def test_a_wrong_section_is_one_line_with_the_key(cls, section, key):
    with pytest.raises(ConfigError) as caught:
        cls.from_settings(section, "f.yaml")
    assert str(caught.value).startswith(f"f.yaml: collectors.{cls.name}.{key}: ")
    assert "\n" not in str(caught.value)


def test_a_broken_ignore_pattern_is_refused():
    with pytest.raises(ConfigError, match=r"collectors.network.ignore"):
        NetworkCollector.from_settings({"ignore": "("}, "f.yaml")


def test_an_unreadable_procfs_is_temporary(tmp_path):
    (tmp_path / "proc/stat").mkdir(parents=True)  # reading a directory is an error even for root
    with pytest.raises(Temporary):
        scrape(HostCollector, tmp_path)


def test_the_cap_on_cgroup_series_keeps_the_shallow_ones_and_says_what_it_cut(node):
    values = scrape(PressureCollector, node, max_series=2)
    assert values[SeriesKey.of("aiops_collector_dropped_samples", collector="pressure")] == 1
    assert {key.label("cgroup") for key in values if key.metric.startswith("cgroup_")} == {"/system.slice"}


def test_a_hybrid_host_has_its_groups_under_unified(node):
    (node / "cgroup").rename(node / "other")
    (node / "cgroup").mkdir()
    (node / "other").rename(node / "cgroup/unified")
    assert any(key.label("cgroup") == "/system.slice" for key in scrape(PressureCollector, node))


def test_under_a_mounted_procfs_process_one_shows_the_hosts_interfaces(node):
    (node / "proc/1/net").mkdir(parents=True)
    (node / "proc/1/net/dev").write_text("  ib0: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n")
    assert SeriesKey.of("node_network_receive_bytes_total", device="ib0") in scrape(NetworkCollector, node)


def test_pressure_lines_without_a_total_are_left_out():
    assert list(stalls("some avg10=0.00\nfull total=x\nsome total=1000000\nodd total=5\n")) == [("waiting", 1.0)]


def test_real_file_systems_once_per_device_at_their_shortest_mount(node):
    (node / "proc/1/mounts").write_text(
        "tmpfs /run tmpfs rw 0 0\n/dev/sda1 / ext4 rw 0 0\n/dev/sda1 /var/bind ext4 rw 0 0\n/dev/loop1 /snap squashfs ro 0 0\n"
    )
    filled = [key for key in scrape(StorageCollector, node) if key.metric == "node_filesystem_size_bytes"]
    assert [key.label("mountpoint") for key in filled] == ["/"]


def test_a_dead_network_mount_is_an_error_sample_and_is_not_asked_twice(node, monkeypatch):
    (node / "proc/1/mounts").write_text(r"nas:/x /mnt/my\040data nfs4 rw 0 0" + "\n/dev/sda1 / ext4 rw 0 0\n")
    gate, asked, real = threading.Event(), [], os.statvfs

    def statvfs(path):
        if str(path).endswith("my data"):
            asked.append(path)
            gate.wait(30)
        return real(node)

    monkeypatch.setattr(filesystems.os, "statvfs", statvfs)
    collector = StorageCollector.from_settings(settings(StorageCollector, node) | {"statvfs_timeout": "50ms"}, "f.yaml")
    error = SeriesKey.of("node_filesystem_device_error", device="nas:/x", fstype="nfs4", mountpoint="/mnt/my data")
    for _ in range(3):
        batch = collector.collect(1.0)
        values = dict(zip(batch.keys, batch.values.tolist(), strict=True))
        assert values[error] == 1
        assert any(key.metric == "node_filesystem_size_bytes" and key.label("mountpoint") == "/" for key in batch.keys)
    assert len(asked) == 1
    gate.set()
    until = time.monotonic() + 10
    while values[error] and time.monotonic() < until:
        batch = collector.collect(2.0)
        values = dict(zip(batch.keys, batch.values.tolist(), strict=True))
    assert values[error] == 0
