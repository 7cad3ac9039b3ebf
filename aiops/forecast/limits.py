"""Which forecast targets have a limit, and where it is: the table behind early warning.

A limit is a constant of the metric, or the newest value of a companion series of the same labels (a file system's size, a
card's power limit, a link's speed, a pool's GPUs). Knows the catalogue's names and nothing of how values come in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from aiops.forecast.warning import Limit
from aiops.model import Series, SeriesKey


@dataclass(frozen=True, slots=True)
class Rule:
    """Metric, its limit as a share of the newest `of` (or of 1 where that is empty), and the side that hurts.

    Where `sensors` are named it is the limit of these readings only; None is one that does not say what it measures. Nothing
    of what is `counted` is a limit, of which one more waits; a size or speed of zero is one that nobody knows.
    """

    metric: str
    share: float
    of: str = ""
    above: bool = True
    sensors: tuple[str | None, ...] = ()
    counted: bool = False

    def covers(self, key: SeriesKey) -> bool:
        """Whether this is the rule of a series."""
        return key.metric == self.metric and (not self.sensors or key.label("sensor") in self.sensors)


RULES = (
    Rule("node_filesystem_avail_bytes", 0.05, "node_filesystem_size_bytes", above=False),  # ext4 reserves 5 % for root
    Rule("node_filesystem_files_free", 0.05, "node_filesystem_files", above=False),
    Rule("node_memory_MemAvailable_bytes", 0.05, "node_memory_MemTotal_bytes", above=False),  # the OOM killer is near
    Rule("gpu_memory_used_bytes", 0.97, "gpu_memory_total_bytes"),  # allocators fail before the last byte
    Rule("gpu_power_watts", 0.98, "gpu_power_limit_watts"),  # clocks are held down at the limit
    Rule("gpu_temperature_celsius", 87.0, sensors=("gpu", None)),  # NVIDIA data-centre cards slow down from 87-90 C
    Rule("gpu_temperature_celsius", 95.0, sensors=("memory",)),  # "memory max operating temp" of their HBM
    Rule("node_network_transmit_bytes_per_s", 0.7, "node_network_speed_bytes"),  # congestion threshold, policy rule 28a
    Rule("node_network_receive_bytes_per_s", 0.7, "node_network_speed_bytes"),
    Rule("pool_gpus_demanded", 1.0, "pool_gpus", counted=True),  # one more than there are waits
    Rule("queue_gpus_demanded", 1.0, "queue_gpus", counted=True),
    Rule("link_traffic_bytes_per_s", 0.7, "link_capacity_bytes_per_s"),  # storage targets, uplinks: the same 28a
    Rule("volume_used_bytes", 0.95, "volume_size_bytes"),
)


def companions() -> tuple[str, ...]:
    """Metrics whose newest value makes a limit."""
    return tuple(sorted({rule.of for rule in RULES if rule.of}))


def limited() -> tuple[str, ...]:
    """Metrics that have a limit: the newest value of one says whether that is crossed already."""
    return tuple(sorted({rule.metric for rule in RULES}))


def limits_of(targets: Iterable[SeriesKey], beside: Iterable[Series]) -> tuple[Limit, ...]:
    """Limits of all forecast targets that a rule covers, by the companions in `beside`; without its companion it has none."""
    known = {one.key: one for one in beside}
    return tuple(
        Limit(
            subject=_subject(key), target=str(key), value=rule.share * whole, above=rule.above, newest=_newest(known.get(key))
        )
        for key in sorted(targets)
        for rule in RULES
        if rule.covers(key) and (whole := _whole(rule, key, known)) is not None
    )


def _whole(rule: Rule, key: SeriesKey, known: dict[SeriesKey, Series]) -> float | None:
    if not rule.of:
        return 1.0
    whole = _newest(known.get(SeriesKey(rule.of, key.labels)))
    return whole if whole is not None and (whole > 0 or (whole == 0 and rule.counted)) else None


def _newest(series: Series | None) -> float | None:
    """The newest known value; None where there is none, as of a rate, which no store has."""
    finite = series.values[np.isfinite(series.values)] if series is not None else np.zeros(0)
    return float(finite[-1]) if len(finite) else None


def _subject(key: SeriesKey) -> str:
    """The thing that runs out, in the words of its labels."""
    names = ("mountpoint", "uuid", "pool", "queue", "link", "volume", "device", "node")
    parts = [f"{name}:{value}" for name in names if (value := key.label(name))]
    return "/".join(parts) or str(key)
