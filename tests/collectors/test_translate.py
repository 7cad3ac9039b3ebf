"""Foreign names become catalogue names, in our units, whichever generation of dcgm-exporter wrote them."""

import pytest

from aiops.metrics import CATALOGUE
from aiops.model import SeriesKey
from collectors.translate import DCGM, facts, samples

DCGM_LABELS = {"gpu": "3", "UUID": "GPU-x", "Hostname": "n7", "modelName": "H100", "device": "nvidia3", "pci_bus_id": "0:1"}
OURS = {"gpu": "3", "uuid": "GPU-x", "node": "n7"}


@pytest.mark.parametrize(
    ("old", "new", "old_value", "new_value", "metric", "labels", "ours"),
    [
        ("DEV_GPU_UTIL", "DEV_GPU_UTIL_RATIO", 97, 0.97, "gpu_utilization_ratio", {}, 0.97),
        ("PROF_GR_ENGINE_ACTIVE", "PROF_GR_ENGINE_UTIL_RATIO", 0.5, 0.5, "gpu_engine_active_ratio", {}, 0.5),
        ("PROF_SM_ACTIVE", "PROF_SM_UTIL_RATIO", 0.4, 0.4, "gpu_sm_active_ratio", {}, 0.4),
        ("PROF_PIPE_TENSOR_ACTIVE", "PROF_TENSOR_UTIL_RATIO", 0.1, 0.1, "gpu_tensor_active_ratio", {}, 0.1),
        ("DEV_FB_TOTAL", "DEV_FB_CAPACITY_BYTES", 81920, 81920 * 2**20, "gpu_memory_total_bytes", {}, 81920 * 2**20),
        ("DEV_POWER_USAGE", "DEV_BOARD_POWER_WATTS", 650.5, 650.5, "gpu_power_watts", {}, 650.5),
        ("DEV_TOTAL_ENERGY_CONSUMPTION", "DEV_GPU_ENERGY_JOULES_TOTAL", 5e6, 5e3, "gpu_energy_joules_total", {}, 5e3),
        ("DEV_SM_CLOCK", "DEV_SM_CLOCK_HERTZ", 1980, 1.98e9, "gpu_clock_hertz", {"domain": "sm"}, 1.98e9),
        ("DEV_MEM_CLOCK", "DEV_MEMORY_CLOCK_HERTZ", 2619, 2.619e9, "gpu_clock_hertz", {"domain": "memory"}, 2.619e9),
        ("DEV_GPU_TEMP", "DEV_GPU_TEMP_CELSIUS", 61, 61, "gpu_temperature_celsius", {"sensor": "gpu"}, 61),
        ("DEV_FAN_SPEED", "DEV_FAN_SPEED_RATIO", 30, 0.3, "gpu_fan_speed_ratio", {}, 0.3),
        ("DEV_PCIE_REPLAY_COUNTER", "DEV_PCIE_REPLAY_TOTAL", 2, 2, "gpu_pcie_replays_total", {}, 2),
        ("DEV_ROW_REMAP_FAILURE", "DEV_ROW_REMAP_FAILED", 1, 1, "gpu_row_remap_failed", {}, 1),
        ("DEV_UNCORRECTABLE_REMAPPED_ROWS", "DEV_ROW_REMAP_UNCORRECTABLE_TOTAL", 3, 3, "gpu_remapped_rows_total",
         {"kind": "uncorrected"}, 3),
        ("DEV_XID_ERRORS", "DEV_XID_ERROR", 79, 79, "gpu_last_xid", {}, 79),
        ("DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", "DEV_NVLINK_CRC_FLIT_ERROR_TOTAL", 4, 4, "gpu_nvlink_errors_total",
         {"kind": "crc_flit"}, 4),
    ],
)  # fmt: skip
def test_both_generations_say_the_same(old, new, old_value, new_value, metric, labels, ours):
    for name, value in ((old, old_value), (new, new_value)):
        assert list(samples(f"DCGM_FI_{name}", DCGM_LABELS, value)) == [
            (SeriesKey.of(metric, **OURS, **labels), pytest.approx(ours, rel=1e-12))
        ]


@pytest.mark.parametrize(
    ("name", "labels", "value", "key", "ours"),
    [
        ("DCGM_FI_DEV_POWER_VIOLATION", DCGM_LABELS, 2e9,
         SeriesKey.of("gpu_throttle_seconds_total", **OURS, reason="power"), 2),
        ("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", DCGM_LABELS, 1,
         SeriesKey.of("gpu_ecc_errors_total", **OURS, kind="uncorrected", scope="volatile"), 1),
        ("DCGM_FI_PROF_PCIE_TX_BYTES", DCGM_LABELS, 5e9,
         SeriesKey.of("gpu_pcie_bytes_per_s", **OURS, direction="transmit"), 5e9),
        # NVLink rows name the card otherwise, and the link
        ("DCGM_FI_DEV_NVLINK_TX_BYTES_TOTAL", {"gpu": "0", "gpu_uuid": "GPU-y", "nvlink": "4"}, 9,
         SeriesKey.of("gpu_nvlink_bytes_total", gpu="0", uuid="GPU-y", link="4", direction="transmit"), 9),
        # a job label and a MIG slice, which has its parent's UUID
        ("DCGM_FI_DEV_FB_USED", {"gpu": "0", "UUID": "GPU-y", "hpc_job": "42", "GPU_I_ID": "9", "pod": ""}, 1,
         SeriesKey.of("gpu_memory_used_bytes", gpu="0", uuid="GPU-y", hpc_job="42", gpu_instance="9"), 2**20),
        ("gpu_utilization_Percentage", {"index": "1", "hostname": "n1", "uuid": "GPU-z", "devicename": "A"}, 50,
         SeriesKey.of("gpu_utilization_ratio", gpu="1", uuid="GPU-z", node="n1"), 0.5),
        ("gpu_2_memory_usage_megabytes", {}, 3, SeriesKey.of("gpu_memory_used_bytes", gpu="2"), 3e6),
        ("gpu_utilization", {"gpu": "0"}, 0.7, SeriesKey.of("gpu_utilization_ratio", gpu="0"), 0.7),
        ("node_filesystem_avail_bytes", {"device": "/dev/sda", "fstype": "ext4", "mountpoint": "/", "device_error": ""}, 7,
         SeriesKey.of("node_filesystem_avail_bytes", device="/dev/sda", fstype="ext4", mountpoint="/"), 7),
    ],
)  # fmt: skip
def test_labels_and_units(name, labels, value, key, ours):
    assert list(samples(name, labels, value)) == [(key, pytest.approx(ours))]


def test_throttle_reasons_are_unfolded_from_the_bitmask():
    active = {key.label("reason"): value for key, value in samples("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", DCGM_LABELS, 0x44)}
    assert {reason for reason, value in active.items() if value} == {"sw_power_cap", "hw_thermal"}
    assert active["sw_thermal"] == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DCGM_FI_DEV_FB_USED", 9223372036854775794),  # blank int64
        ("DCGM_FI_DEV_GPU_UTIL", 2147483632),  # blank int32
        ("DCGM_FI_PROF_SM_ACTIVE", 140737488355328.0),  # blank double
        ("DCGM_FI_DEV_GPU_UTIL", 4294967295),
        ("DCGM_FI_DEV_GPU_UTIL", 101_00),
        ("DCGM_FI_DEV_GPU_TEMP", 999),
        ("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", float("nan")),
        ("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", float("inf")),
        ("node_disk_read_bytes_total", -1),
        ("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", -3),
        ("DCGM_FI_DEV_MEM_COPY_UTIL", 50),  # means neither fill nor bandwidth
    ],
)
def test_blanks_and_nonsense_are_dropped(name, value):
    assert list(samples(name, DCGM_LABELS, value)) == []


def test_labels_describe_the_gpu():
    assert facts(DCGM_LABELS) == SeriesKey.of("gpu_info", **OURS, model="H100", pci_bus_id="0:1")
    assert facts({"gpu": "0"}) is None


def test_the_table_speaks_the_catalogue():
    for metric, labels, factor in DCGM.values():
        assert {name for name, _ in labels} <= set(CATALOGUE[metric].labels)
        assert factor > 0
