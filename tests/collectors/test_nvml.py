"""The NVML collector through the unmodified binding, against a stand-in library that a scenario file drives.

Two cards: card 0 throttles, card 1 is lost mid-run. What the stand-in cannot show (real timing, real GPM) is in tests/real.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aiops.errors import ConfigError
from aiops.metrics import CATALOGUE
from aiops.model import SeriesKey
from collectors.nvml import ROWS, NvmlCollector, health
from collectors.nvml_gpm import METRICS

HERE = Path(__file__).parent
GIB = 2**30

TWO_CARDS = {
    "count": 2,
    "0.uuid": "GPU-a", "0.name": "Fake H100", "0.memory_total": 80 * GIB, "0.memory_used": 60 * GIB,
    "0.utilization": 97, "0.power_mw": 698_500, "0.power_limit_mw": 700_000, "0.energy_mj": 5_000_000,
    "0.temperature": 88, "0.sm_mhz": 1200, "0.memory_mhz": 2619, "0.reasons": "0x60", "0.violation1": 3_000_000_000,
    "0.ecc00": 4, "0.ecc10": 0, "0.remapped": "1,2,0,0", "0.pcie_replay": 7, "0.process": "4711,1073741824",
    "0.field82.0": 95, "0.field91.0": 2,
    "0.field138.0": 1024, "0.field139.0": 2048, "0.field138.1": 1, "0.field139.1": 2, "0.field38.0": 9,
    "0.gpm": 1, "0.gpm1": "50.0", "0.gpm2": "40.0", "0.gpm5": "12.5", "0.gpm20": "3.0",
    "1.uuid": "GPU-b", "1.name": "Fake L4", "1.memory_total": 24 * GIB, "1.memory_used": 0, "1.utilization": 0,
    "1.temperature": 40, "1.fan": 30, "1.reasons": "0x1", "1.remapped": "0,0,0,0",
}  # fmt: skip
A, B = {"gpu": "0", "uuid": "GPU-a"}, {"gpu": "1", "uuid": "GPU-b"}


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: the stand-in libnvidia-ml cannot be compiled")
    folder = tmp_path_factory.mktemp("nvml")
    target = folder / "libnvidia-ml.so.1"
    soname = "-Wl,-soname,libnvidia-ml.so.1"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", soname, "-o", target, HERE / "fake_nvml.c"], check=True, timeout=60
    )
    return folder


class Host:
    """One process with the collector in it, and the scenario that it sees."""

    def __init__(self, library, scenario_file):
        self.file = scenario_file
        root = HERE.parents[1]
        environment = os.environ | {
            "LD_LIBRARY_PATH": str(library),
            "FAKE_NVML": str(scenario_file),
            "PYTHONPATH": str(root),
        }
        self.process = subprocess.Popen(
            [sys.executable, HERE / "nvml_probe.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def scrape(self, scenario):
        self.file.write_text("".join(f"{key} {value}\n" for key, value in scenario.items()))
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def host(library, tmp_path):
    one = Host(library, tmp_path / "scenario")
    yield one
    one.process.stdin.close()
    assert one.process.wait(20) == 0
    one.process.stdout.close()


def key(metric, labels, **extra):
    return str(SeriesKey.of(metric, **labels, **extra))


@pytest.mark.parametrize(
    ("metric", "extra", "value"),
    [
        ("gpu_up", {}, 1),
        ("gpu_memory_used_bytes", {}, 60 * GIB),
        ("gpu_memory_total_bytes", {}, 80 * GIB),
        ("gpu_utilization_ratio", {}, 0.97),  # percent
        ("gpu_power_watts", {}, 698.5),  # milliwatts
        ("gpu_power_limit_watts", {}, 700),
        ("gpu_energy_joules_total", {}, 5000),  # millijoules
        ("gpu_temperature_celsius", {"sensor": "gpu"}, 88),  # the old call: this library lacks the new one
        ("gpu_temperature_celsius", {"sensor": "memory"}, 95),  # a field value
        ("gpu_clock_hertz", {"domain": "sm"}, 1.2e9),  # MHz
        ("gpu_clock_hertz", {"domain": "memory"}, 2.619e9),
        ("gpu_throttle_active", {"reason": "hw_thermal"}, 1),  # bit 0x40
        ("gpu_throttle_active", {"reason": "sw_thermal"}, 1),  # bit 0x20
        ("gpu_throttle_active", {"reason": "sw_power_cap"}, 0),
        ("gpu_throttle_seconds_total", {"reason": "thermal"}, 3),  # nanoseconds
        ("gpu_ecc_errors_total", {"kind": "corrected", "scope": "volatile"}, 4),
        ("gpu_ecc_errors_total", {"kind": "uncorrected", "scope": "volatile"}, 0),
        ("gpu_remapped_rows_total", {"kind": "uncorrected"}, 2),
        ("gpu_row_remap_failed", {}, 0),
        ("gpu_pcie_replays_total", {}, 7),
        ("gpu_nvlink_bytes_total", {"direction": "transmit", "link": "0"}, 1024 * 1024),  # KiB
        ("gpu_nvlink_bytes_total", {"direction": "receive", "link": "1"}, 2048),
        ("gpu_nvlink_errors_total", {"kind": "crc_flit"}, 9),
        ("gpu_process_memory_bytes", {"pid": "4711"}, GIB),
        ("gpu_health_state", {"state": "degraded"}, 1),  # hardware thermal slowdown
        ("gpu_health_state", {"state": "ok"}, 0),
    ],
)
def test_vendor_units_become_ours(host, metric, extra, value):
    assert host.scrape(TWO_CARDS)[key(metric, A, **extra)] == pytest.approx(value, rel=1e-12)


def test_what_a_card_lacks_is_left_out_and_never_zero(host):
    seen = host.scrape(TWO_CARDS)
    assert key("gpu_fan_speed_ratio", A) not in seen
    assert seen[key("gpu_fan_speed_ratio", B)] == 0.3
    assert key("gpu_power_watts", B) not in seen
    assert not any("gpu_nvlink" in name and 'gpu="1"' in name for name in seen)
    assert seen[key("gpu_health_state", B, state="ok")] == 1
    assert key("gpu_throttle_active", B, reason="gpu_idle") not in seen  # idle is no throttling


def test_activity_needs_two_samples_and_a_card_that_has_it(host):
    assert key("gpu_sm_active_ratio", A) not in host.scrape(TWO_CARDS)
    seen = host.scrape(TWO_CARDS)
    assert seen[key("gpu_engine_active_ratio", A)] == pytest.approx(0.5)
    assert seen[key("gpu_tensor_active_ratio", A)] == pytest.approx(0.125)
    assert seen[key("gpu_pcie_bytes_per_s", A, direction="transmit")] == 3 * 2**20
    assert key("gpu_sm_active_ratio", B) not in seen


def test_a_lost_gpu_is_a_sample_and_the_other_goes_on(host):
    host.scrape(TWO_CARDS)
    seen = host.scrape(TWO_CARDS | {"1.lost": 1, "1.xid": 79})
    assert seen[key("gpu_up", B)] == 0
    assert seen[key("gpu_health_state", B, state="failed")] == 1
    assert seen[key("gpu_xid_errors_total", B, xid="79")] == 1
    assert key("gpu_utilization_ratio", B) not in seen
    assert seen[key("gpu_up", A)] == 1
    assert seen[key("gpu_utilization_ratio", A)] == 0.97


def test_a_lost_gpu_comes_back_after_a_new_session(host):
    host.scrape(TWO_CARDS)
    for _ in range(7):  # over one reopening: still lost, still known by its uuid
        assert host.scrape(TWO_CARDS | {"1.lost": 1})[key("gpu_up", B)] == 0
    assert host.scrape(TWO_CARDS)[key("gpu_up", B)] == 0  # repaired, but this session cannot see it
    assert max(host.scrape(TWO_CARDS)[key("gpu_up", B)] for _ in range(7)) == 1


def test_a_gpu_that_leaves_the_list_stays_known_by_its_uuid(host):
    host.scrape(TWO_CARDS)
    assert host.scrape(TWO_CARDS | {"count": 1})[key("gpu_up", B)] == 0


def test_a_gpu_lost_before_we_started_has_no_uuid_but_is_down(host):
    assert host.scrape(TWO_CARDS | {"1.lost": 1})[str(SeriesKey.of("gpu_up", gpu="1"))] == 0


def test_xid_events_are_counted_by_code(host):
    host.scrape(TWO_CARDS)
    host.scrape(TWO_CARDS | {"0.xid": 31})
    seen = host.scrape(TWO_CARDS | {"0.xid": 48})
    assert seen[key("gpu_xid_errors_total", A, xid="31")] == 1
    assert seen[key("gpu_xid_errors_total", A, xid="48")] == 1
    assert seen[key("gpu_last_xid", A)] == 48


def test_mig_slices_are_reported_with_profile_and_instance(host):
    slices = {
        "0.mig": 1, "0.mig2.uuid": "MIG-c", "0.mig2.name": "Fake H100 MIG 1g.10gb", "0.mig2.gpu_instance": 9,
        "0.mig2.memory_total": 10 * GIB, "0.mig2.memory_used": GIB, "0.mig2.gpm1": "25.0",
    }  # fmt: skip
    host.scrape(TWO_CARDS | slices)
    seen = host.scrape(TWO_CARDS | slices)
    mig = {"gpu": "0", "uuid": "MIG-c"}
    assert seen[key("gpu_memory_used_bytes", mig)] == GIB
    assert seen[key("gpu_engine_active_ratio", mig)] == 0.25
    described = next(name for name in seen if name.startswith("gpu_info") and "MIG-c" in name)
    assert 'mig_profile="1g.10gb"' in described
    assert 'gpu_instance="9"' in described
    assert key("gpu_power_watts", mig) not in seen  # a slice has no power sensor of its own


@pytest.mark.parametrize(
    ("broken", "metric"),
    [
        ({"0.utilization": 4294967295}, "gpu_utilization_ratio"),  # NVIDIA/DCGM issue 199
        ({"0.utilization": 4000}, "gpu_utilization_ratio"),
        ({"0.memory_used": 2**64 - 1}, "gpu_memory_used_bytes"),
        ({"0.energy_mj": 9223372036854775792}, "gpu_energy_joules_total"),
        ({"0.gpm1": "140737488355328.0"}, "gpu_engine_active_ratio"),
        ({"0.gpm1": "nan"}, "gpu_engine_active_ratio"),
        ({"0.power_mw": 4000000000}, "gpu_power_watts"),
    ],
)
def test_sentinels_and_impossible_values_are_dropped(host, broken, metric):
    host.scrape(TWO_CARDS | broken)
    assert key(metric, A) not in host.scrape(TWO_CARDS | broken)


def test_no_driver_is_no_data(host):
    assert host.scrape({}) == {"error": "NoData"}


def test_no_library_is_no_data(library, tmp_path):
    one = Host(tmp_path, tmp_path / "scenario")  # an empty folder instead of the library's
    try:
        answer = one.scrape({})
    finally:
        one.process.communicate(timeout=20)
    if shutil.which("nvidia-smi"):
        pytest.skip("a real NVML is installed")
    assert answer == {"error": "NoData"}


def test_the_table_speaks_the_catalogue():
    named = [(metric, labels) for row in ROWS for metric, labels in row.outputs] + [m[:2] for m in METRICS.values()]
    for metric, labels in named:
        assert set(dict(labels)) | {"gpu", "uuid"} == set(CATALOGUE[metric].labels), metric
    assert len(set(named)) == len(named)


def test_an_unknown_setting_is_refused():
    with pytest.raises(ConfigError, match=r"f.yaml: collectors.nvml.proceses: unknown key"):
        NvmlCollector.from_settings({"proceses": True}, "f.yaml")


@pytest.mark.parametrize(
    ("read", "state"),
    [
        ([], "ok"),
        ([("gpu_throttle_active", {"reason": "sw_power_cap"}, 1.0)], "ok"),  # a wish, not a fault
        ([("gpu_throttle_active", {"reason": "hw_thermal"}, 1.0)], "degraded"),
        ([("gpu_ecc_errors_total", {"kind": "corrected", "scope": "volatile"}, 5.0)], "ok"),
        ([("gpu_ecc_errors_total", {"kind": "uncorrected", "scope": "aggregate"}, 5.0)], "ok"),  # history of years
        ([("gpu_ecc_errors_total", {"kind": "uncorrected", "scope": "volatile"}, 1.0)], "degraded"),
        ([("gpu_row_remap_pending", {}, 1.0)], "predicted_failure"),
        ([("gpu_row_remap_failed", {}, 1.0), ("gpu_row_remap_pending", {}, 1.0)], "failed"),
        ([("gpu_row_remap_failed", {}, 0.0)], "ok"),
    ],
)
def test_health_is_the_worst_that_readings_say(read, state):
    assert health([(SeriesKey.of(metric, **labels), value) for metric, labels, value in read]) == state
