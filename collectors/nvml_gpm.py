"""GPM: what engines, SMs, tensor pipes and memory did between two samples of a card (Hopper and later).

One sample is a snapshot of hardware counters; a ratio needs two. Whoever asks keeps the older one.
"""

from __future__ import annotations

from typing import Any

from aiops.model import Labels

Activity = tuple[str, Labels, float]

# nvml.h NVML_GPM_METRIC_*: id -> metric, labels, factor from percent or from MiB per second.
METRICS: dict[int, tuple[str, Labels, float]] = {
    1: ("gpu_engine_active_ratio", (), 0.01),
    2: ("gpu_sm_active_ratio", (), 0.01),
    3: ("gpu_sm_occupancy_ratio", (), 0.01),
    5: ("gpu_tensor_active_ratio", (), 0.01),
    10: ("gpu_memory_bandwidth_active_ratio", (), 0.01),
    20: ("gpu_pcie_bytes_per_s", (("direction", "transmit"),), 2.0**20),
    21: ("gpu_pcie_bytes_per_s", (("direction", "receive"),), 2.0**20),
    60: ("gpu_nvlink_bytes_per_s", (("direction", "receive"),), 2.0**20),
    61: ("gpu_nvlink_bytes_per_s", (("direction", "transmit"),), 2.0**20),
}


def sampled(nvml: Any, card: Any, instance: int | None) -> Any:
    """A sample of a card, or of its MIG slice `instance`; to be freed. Raises NVMLError, NotSupported before Hopper."""
    if not nvml.nvmlGpmQueryDeviceSupport(card).isSupportedDevice:
        raise nvml.NVMLError_NotSupported
    sample = nvml.nvmlGpmSampleAlloc()
    try:
        if instance is None:
            nvml.nvmlGpmSampleGet(card, sample)
        else:
            nvml.nvmlGpmMigSampleGet(card, instance, sample)
    except nvml.NVMLError:
        nvml.nvmlGpmSampleFree(sample)
        raise
    return sample


def between(nvml: Any, old: Any, new: Any) -> list[Activity]:
    """(metric, labels, value in our unit) for what the card can tell about the time between two samples."""
    request = nvml.c_nvmlGpmMetricsGet_t()
    request.version = nvml.NVML_GPM_METRICS_GET_VERSION
    request.numMetrics, request.sample1, request.sample2 = len(METRICS), old, new
    for position, metric in enumerate(METRICS):
        request.metrics[position].metricId = metric
    answers = nvml.nvmlGpmMetricsGet(request).metrics[: len(METRICS)]
    table = ((METRICS[answer.metricId], answer) for answer in answers if answer.nvmlReturn == 0)
    return [(name, labels, answer.value * factor) for (name, labels, factor), answer in table]
