"""How fast units really are on links: from readings of their counters, over the last minute. Pure but for what it remembers.

What cannot be counted is None, never zero; a counter that went back began anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

WINDOW_S = 60.0  # the same minute that `traffic.use` means by now: one burst is no excess
_LEAST_S = 1.0  # counters of a shorter span say more of the scheduler than of the unit
Key = tuple[str, str]  # link, unit
Counts = tuple[int, ...]  # bytes per direction that has the whole capacity for itself


class Usage:
    """Readings of the last minute, per link and unit."""

    def __init__(self) -> None:
        self._seen: dict[Key, list[tuple[float, Counts]]] = {}

    def note(self, at: float, counts: Mapping[Key, Counts]) -> None:
        """Take readings at `at` (seconds of a steady clock); what is not among them is forgotten."""
        fresh: dict[Key, list[tuple[float, Counts]]] = {}
        for key, value in counts.items():
            rows = [row for row in self._seen.get(key, []) if row[0] > at - WINDOW_S]
            back = bool(rows) and any(new < old for new, old in zip(value, rows[-1][1], strict=True))
            fresh[key] = [*([] if back else rows), (at, value)]
        self._seen = fresh

    def rate(self, link: str, units: Iterable[str]) -> float | None:
        """Bytes per second of an owner's units together, of the busier direction; None unless every one is known."""
        each = [self._rates(link, unit) for unit in units]
        known = [rates for rates in each if rates is not None]
        return max(map(sum, zip(*known, strict=True))) if known and len(known) == len(each) else None

    def _rates(self, link: str, unit: str) -> tuple[float, ...] | None:
        rows = self._seen.get((link, unit), [])
        if not rows or rows[-1][0] - rows[0][0] < _LEAST_S:
            return None
        (since, old), (until, new) = rows[0], rows[-1]
        return tuple((b - a) / (until - since) for a, b in zip(old, new, strict=True))
