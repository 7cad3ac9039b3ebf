"""A GPU's power limit through NVML, where that is permitted. Absolute watts, read back."""

from __future__ import annotations

_CLOSE_W = 1.0  # drivers round to whole watts


def read_watts(uuid: str) -> float | None:
    """The limit in force, or None where it cannot be read."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return float(pynvml.nvmlDeviceGetPowerManagementLimit(pynvml.nvmlDeviceGetHandleByUUID(uuid))) / 1000.0
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def write_watts(uuid: str, watts: float) -> str:
    """Set the limit; empty where that worked, else the reason in words (not permitted, out of the card's range)."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"NVML: {error}"
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        low, high = pynvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)
        if not low <= watts * 1000 <= high:
            return f"{watts:g} W is outside of {low / 1000:g}..{high / 1000:g} W"
        pynvml.nvmlDeviceSetPowerManagementLimit(handle, round(watts * 1000))
    except pynvml.NVMLError as error:
        return f"NVML: {error}"
    finally:
        pynvml.nvmlShutdown()
    return ""


def close(a: float | None, b: float) -> bool:
    """True where two limits are the same to the driver."""
    return a is not None and abs(a - b) <= _CLOSE_W
