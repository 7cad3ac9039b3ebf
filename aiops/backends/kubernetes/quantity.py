"""Kubernetes quantities and times as numbers: `500m`, `64Gi`, `2k`, `2026-11-21T03:00:00Z`."""

from __future__ import annotations

import math
from datetime import datetime

_FACTORS = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def quantity(value: object) -> float:
    """A quantity as a number in its unit (cores, bytes, devices); ValueError for what is none."""
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        suffix = next((s for s in sorted(_FACTORS, key=len, reverse=True) if s and text.endswith(s)), "")
        if not suffix:
            raise ValueError(f"expected a quantity such as 500m or 64Gi, found {text[:40]!r}") from None
        number = float(text.removesuffix(suffix)) * _FACTORS[suffix]
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"expected a finite quantity, found {text[:40]!r}")
    return number


def timestamp(value: object) -> float | None:
    """Unix seconds of an RFC 3339 time; None where there is none."""
    if not value:
        return None
    return datetime.fromisoformat(str(value).replace("Z", "+00:00")).timestamp()
