"""Foreign metric names -> the catalogue: dcgm-exporter of both generations, node_exporter, and other GPU exporters. Pure.

dcgm-exporter renamed its fields in 4.9 (`GPU_UTIL` in percent -> `GPU_UTIL_RATIO`); both may come from one cluster during an
upgrade. Not translated, because their meaning does not fit: `MEM_COPY_UTIL` (neither fill nor bandwidth; read as either),
`NVLINK_BANDWIDTH_TOTAL` (unit differs by driver) and `DCGM_EXP_XID_ERRORS_COUNT` (a count per window, not a counter).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from aiops.metrics import CATALOGUE, Kind
from aiops.model import Labels, SeriesKey
from collectors.sentinels import is_blank, sane

MIB, MHZ, MILLI, PERCENT, NANO = 2.0**20, 1e6, 1e-3, 1e-2, 1e-9
Target = tuple[str, Labels, float]


def _same(metric: str, *names: tuple[str, float], labels: Labels = ()) -> dict[str, Target]:
    return {name: (metric, labels, factor) for name, factor in names}


def _label(name: str, value: str) -> Labels:
    return ((name, value),)


# Field name without `DCGM_FI_DEV_` or `DCGM_FI_PROF_` -> metric, labels, factor from the vendor's unit. Old name first.
DCGM: dict[str, Target] = {
    **_same("gpu_utilization_ratio", ("GPU_UTIL", PERCENT), ("GPU_UTIL_RATIO", 1)),
    **_same("gpu_engine_active_ratio", ("GR_ENGINE_ACTIVE", 1), ("GR_ENGINE_UTIL_RATIO", 1)),
    **_same("gpu_sm_active_ratio", ("SM_ACTIVE", 1), ("SM_UTIL_RATIO", 1)),
    **_same("gpu_sm_occupancy_ratio", ("SM_OCCUPANCY", 1), ("SM_OCCUPANCY_RATIO", 1)),
    **_same("gpu_tensor_active_ratio", ("PIPE_TENSOR_ACTIVE", 1), ("TENSOR_UTIL_RATIO", 1)),
    **_same("gpu_memory_bandwidth_active_ratio", ("DRAM_ACTIVE", 1), ("DRAM_UTIL_RATIO", 1)),
    **_same("gpu_encoder_utilization_ratio", ("ENC_UTIL", PERCENT), ("ENC_UTIL_RATIO", 1)),
    **_same("gpu_decoder_utilization_ratio", ("DEC_UTIL", PERCENT), ("DEC_UTIL_RATIO", 1)),
    **_same("gpu_memory_used_bytes", ("FB_USED", MIB), ("FB_USED_BYTES", 1)),
    **_same("gpu_memory_total_bytes", ("FB_TOTAL", MIB), ("FB_CAPACITY_BYTES", 1)),
    **_same("gpu_memory_free_bytes", ("FB_FREE", MIB), ("FB_FREE_BYTES", 1)),
    **_same("gpu_memory_reserved_bytes", ("FB_RESERVED", MIB), ("FB_RESERVED_BYTES", 1)),
    **_same("gpu_power_watts", ("POWER_USAGE", 1), ("BOARD_POWER_WATTS", 1)),
    **_same("gpu_power_limit_watts", ("ENFORCED_POWER_LIMIT", 1), ("BOARD_POWER_LIMIT_ENFORCED_WATTS", 1)),
    **_same("gpu_energy_joules_total", ("TOTAL_ENERGY_CONSUMPTION", MILLI), ("GPU_ENERGY_JOULES_TOTAL", 1)),
    **_same("gpu_temperature_celsius", ("GPU_TEMP", 1), ("GPU_TEMP_CELSIUS", 1), labels=_label("sensor", "gpu")),
    **_same("gpu_temperature_celsius", ("MEMORY_TEMP", 1), ("MEMORY_TEMP_CELSIUS", 1), labels=_label("sensor", "memory")),
    **_same("gpu_clock_hertz", ("SM_CLOCK", MHZ), ("SM_CLOCK_HERTZ", 1), labels=_label("domain", "sm")),
    **_same("gpu_clock_hertz", ("MEM_CLOCK", MHZ), ("MEMORY_CLOCK_HERTZ", 1), labels=_label("domain", "memory")),
    **_same("gpu_fan_speed_ratio", ("FAN_SPEED", PERCENT), ("FAN_SPEED_RATIO", 1)),
    **_same("gpu_throttle_active", ("CLOCK_THROTTLE_REASONS", 1), ("CLOCKS_EVENT_REASONS", 1)),
    **_same("gpu_last_xid", ("XID_ERRORS", 1), ("XID_ERROR", 1)),
    **_same("gpu_pcie_replays_total", ("PCIE_REPLAY_COUNTER", 1), ("PCIE_REPLAY_TOTAL", 1)),
    **_same("gpu_row_remap_failed", ("ROW_REMAP_FAILURE", 1), ("ROW_REMAP_FAILED", 1)),
    **_same("gpu_row_remap_pending", ("ROW_REMAP_PENDING", 1)),
    **{
        name: ("gpu_throttle_seconds_total", _label("reason", reason), NANO)
        for reason, name in {
            "power": "POWER_VIOLATION",
            "thermal": "THERMAL_VIOLATION",
            "sync_boost": "SYNC_BOOST_VIOLATION",
            "board_limit": "BOARD_LIMIT_VIOLATION",
            "low_utilization": "LOW_UTIL_VIOLATION",
            "reliability": "RELIABILITY_VIOLATION",
        }.items()
    },
    **{
        f"ECC_{bits}_{short}_TOTAL": ("gpu_ecc_errors_total", (("kind", kind), ("scope", scope)), 1)
        for bits, kind in (("SBE", "corrected"), ("DBE", "uncorrected"))
        for short, scope in (("VOL", "volatile"), ("AGG", "aggregate"))
    },
    **{
        name: ("gpu_remapped_rows_total", _label("kind", kind.lower()), 1)
        for kind in ("CORRECTED", "UNCORRECTED")
        for name in (f"{kind[:-2]}ABLE_REMAPPED_ROWS", f"ROW_REMAP_{kind[:-2]}ABLE_TOTAL")
    },
    **{
        name: (metric, _label("direction", direction), 1)
        for short, direction in (("TX", "transmit"), ("RX", "receive"))
        for name, metric in (
            (f"PCIE_{short}_BYTES", "gpu_pcie_bytes_per_s"),
            (f"PCIE_{short}_BYTES_TOTAL", "gpu_pcie_bytes_total"),
            (f"NVLINK_{short}_BYTES", "gpu_nvlink_bytes_per_s"),
            (f"NVLINK_{short}_BYTES_TOTAL", "gpu_nvlink_bytes_total"),
        )
    },
    **{
        name: ("gpu_nvlink_errors_total", _label("kind", kind), 1)
        for kind in ("crc_flit", "crc_data", "replay", "recovery")
        for name in (f"NVLINK_{kind.upper()}_ERROR_COUNT_TOTAL", f"NVLINK_{kind.upper()}_ERROR_TOTAL")
    },
}
_FIELD = re.compile(r"DCGM_FI_(?:DEV_|PROF_)?(.+)")
# As in collectors/nvml.py: the bitmask is NVML's own.
_REASONS = [
    "applications_clocks",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal",
    "hw_thermal",
    "hw_power_brake",
    "display_clock",
]

OTHERS: dict[str, Target] = {
    "gpu_utilization_Percentage": ("gpu_utilization_ratio", (), PERCENT),  # nvitop-exporter
    "gpu_memory_used_MiB": ("gpu_memory_used_bytes", (), MIB),
    "gpu_memory_total_MiB": ("gpu_memory_total_bytes", (), MIB),
    "gpu_memory_free_MiB": ("gpu_memory_free_bytes", (), MIB),
    "gpu_power_usage_W": ("gpu_power_watts", (), 1),
    "gpu_temperature_C": ("gpu_temperature_celsius", _label("sensor", "gpu"), 1),
    "gpu_fan_speed_Percentage": ("gpu_fan_speed_ratio", (), PERCENT),
    "gpu_power_usage_watts": ("gpu_power_watts", (), 1),  # NVIDIA NIM
    "gpu_utilization": ("gpu_utilization_ratio", (), 1),
}
_MLFLOW = re.compile(r"gpu_(\d+)_(utilization_percentage|memory_usage_megabytes|power_usage_watts)")
_MLFLOW_NAMES: dict[str, Target] = {
    "utilization_percentage": ("gpu_utilization_ratio", (), PERCENT),
    "memory_usage_megabytes": ("gpu_memory_used_bytes", (), 1e6),
    "power_usage_watts": ("gpu_power_watts", (), 1),
}
HOST = "__host__"
"""Label under which the caller passes the host of the endpoint; only used where nothing better names the node."""

# Ours -> what others call it, best first.
_IDENTITY = {
    "gpu": ("gpu", "index", "device_id"),
    "uuid": ("uuid", "UUID", "gpu_uuid"),
    "node": ("node", "Hostname", "hostname", HOST),
    "gpu_instance": ("GPU_I_ID", "gpu_instance"),
    "link": ("nvlink", "link"),
}
_JOB = ("hpc_job", "pod", "namespace", "container")
_FACTS = {
    "model": ("modelName", "model_name", "devicename"),
    "driver": ("DCGM_FI_DRIVER_VERSION", "DCGM_FI_SYSTEM_DRIVER_VERSION"),
    "pci_bus_id": ("pci_bus_id",),
    "mig_profile": ("GPU_I_PROFILE",),
}
_SUMMED = frozenset(("node_cpu_seconds_total", "node_cpu_core_throttles_total"))


def known(name: str) -> bool:
    """True where `samples` would translate this name."""
    return _found(name) is not None or name in CATALOGUE


def samples(name: str, labels: Mapping[str, str], value: float) -> Iterator[tuple[SeriesKey, float]]:
    """Catalogue samples of one foreign sample: none for a blank or an impossible value, several for a bitmask."""
    target = _found(name)
    if target is None:
        yield from _own(name, labels, value)
        return
    if is_blank(value):
        return
    metric, extra, factor = target
    identity = {**_gpu(labels), **dict(extra)}
    if match := _MLFLOW.fullmatch(name):
        identity["gpu"] = match[1]
    if metric == "gpu_throttle_active":
        for bit, reason in enumerate(_REASONS, start=1):
            yield SeriesKey.of(metric, **identity, reason=reason), float(bool(int(value) >> bit & 1))
    elif (converted := sane(metric, value * factor)) is not None:
        yield SeriesKey.of(metric, **identity), converted


def facts(labels: Mapping[str, str]) -> SeriesKey | None:
    """The `gpu_info` series that the labels of a GPU sample tell, or None where they describe nothing."""
    described = {ours: labels[theirs[0]] for ours, theirs in _matching(_FACTS, labels)}
    identity = {name: value for name, value in _gpu(labels).items() if name in ("gpu", "uuid", "node", "gpu_instance")}
    return SeriesKey.of("gpu_info", **identity, **described) if described and "gpu" in identity else None


def summed(metric: str) -> bool:
    """True where series that become one (CPUs of a node) are added up; else the first one holds."""
    return metric in _SUMMED


def _found(name: str) -> Target | None:
    if field := _FIELD.fullmatch(name):
        return DCGM.get(field[1])
    if match := _MLFLOW.fullmatch(name):
        return _MLFLOW_NAMES[match[2]]
    return OTHERS.get(name)


def _own(name: str, labels: Mapping[str, str], value: float) -> Iterator[tuple[SeriesKey, float]]:
    """A name that the catalogue has, with the catalogue's labels only: node_exporter adds cpu, device_error, protocol."""
    row = CATALOGUE.get(name)
    if row is None or (row.kind is Kind.COUNTER and value < 0):
        return
    kept = {label: labels[label] for label in (*row.labels, "node", *_JOB) if labels.get(label)}
    gpu = _gpu(labels)
    identity = {**(gpu if name.startswith("gpu_") else {}), **({"node": gpu["node"]} if "node" in gpu else {}), **kept}
    if not is_blank(value) and (converted := sane(name, value)) is not None:
        yield SeriesKey.of(name, **identity), converted


def _gpu(labels: Mapping[str, str]) -> dict[str, str]:
    identity = {ours: labels[theirs[0]] for ours, theirs in _matching(_IDENTITY, labels)}
    return identity | {name: labels[name] for name in _JOB if labels.get(name)}


def _matching(table: Mapping[str, tuple[str, ...]], labels: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for ours, theirs in table.items():
        present = tuple(name for name in theirs if labels.get(name))
        if present:
            yield ours, present
