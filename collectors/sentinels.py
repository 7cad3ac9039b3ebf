"""What vendors write where they mean "nothing": blank markers and readings that cannot be.

One place, used for NVML and for dcgm-exporter alike. A marker that slipped through would be a GPU at 4 billion percent.
"""

from __future__ import annotations

import math

# DCGM marks blanks from 0x7ffffff0 (int32), 0x7ffffffffffffff0 (int64) and 2**47 (double) upwards, by reason; NVML uses all
# bits set (NVML_VALUE_NOT_AVAILABLE). https://github.com/guilbaults/slurm-job-exporter/issues/30, NVIDIA/DCGM issue 199.
_BLANKS = ((2147483632.0, 2147483647.0), (140737488355328.0, 140737488355331.0), (4294967295.0, 4294967295.0))
_BLANK_FROM = 9.2e18
# Hotter, colder or hungrier than any board there is: a broken sensor or a blank in vendor units.
_RANGES = {"_celsius": (-60.0, 200.0), "_watts": (0.0, 20_000.0), "_hertz": (0.0, 2e10)}
# Rates of percent are computed over windows that do not quite match: a little over 100 % is full, 4000 % is nonsense.
_RATIO_SLACK = 0.05


def is_blank(value: float) -> bool:
    """True for a vendor's "no value", and for NaN and infinities."""
    return not math.isfinite(value) or value >= _BLANK_FROM or any(low <= value <= high for low, high in _BLANKS)


def sane(metric: str, value: float) -> float | None:
    """`value`, already in the catalogue's unit, or None where it cannot be; ratios just above one become one."""
    if metric.endswith("_ratio"):
        return min(value, 1.0) if 0.0 <= value <= 1.0 + _RATIO_SLACK else None
    low, high = next((limits for suffix, limits in _RANGES.items() if metric.endswith(suffix)), (0.0, math.inf))
    return value if low <= value <= high else None
