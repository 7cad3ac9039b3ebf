"""The open ticks in memory: a cache of what the `tick` table holds, column-wise, so that a read need not unpack 720 blobs.

Ticks with the same series share a layout, whose values grow as one matrix. Nothing here is the only copy of anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from aiops.model import Floats
from aiops.store.chunk import Ints


@dataclass(slots=True)
class _Layout:
    ids: Ints
    size: int = 0
    times: Floats = field(default_factory=lambda: np.empty(0))
    values: Floats = field(default_factory=lambda: np.empty((0, 0)))

    def add(self, time: float, values: Floats) -> None:
        if self.size == len(self.times):
            room = max(1, 2 * self.size)
            self.times = np.concatenate((self.times, np.empty(room - self.size)))
            self.values = np.concatenate((self.values.reshape(-1, len(self.ids)), np.empty((room - self.size, len(self.ids)))))
        self.times[self.size], self.values[self.size] = time, values
        self.size += 1


@dataclass(slots=True)
class Head:
    """Unsealed samples by layout. `seq` is the number of the newest tick it knows, `generation` the sealing it is valid for."""

    generation: int = -1
    seq: int = 0
    newest: float = -np.inf
    _layouts: dict[bytes, _Layout] = field(default_factory=dict)
    _at: dict[float, list[tuple[_Layout, int]]] = field(default_factory=dict)

    def add(self, seq: int, time: float, ids: Ints, values: Floats) -> None:
        """One tick: (n,) ascending ids and their values; a tick that is already known is left as it is."""
        if seq <= self.seq:
            return
        layout = self._layouts.setdefault(ids.tobytes(), _Layout(ids))
        layout.add(time, values)
        self._at.setdefault(time, []).append((layout, layout.size - 1))
        self.seq, self.newest = seq, max(self.newest, time)

    def ids(self) -> Ints:
        """All series numbers in here, ascending."""
        return np.unique(np.concatenate([layout.ids for layout in self._layouts.values()]))

    def at(self, time: float, ids: Ints) -> Floats:
        """(n,) values known for `ids` at exactly `time`, NaN where none is."""
        known = np.full(len(ids), np.nan)
        for layout, row in self._at.get(time, ()):
            where, found = _positions(layout.ids, ids)
            known[found] = layout.values[row, where]
        return known

    def columns(self, ids: Ints) -> Iterator[tuple[int, Floats, Floats]]:
        """(id, times, values) of each of the ascending `ids`, per layout, in order of arrival; copies."""
        for layout in self._layouts.values():
            where, found = _positions(layout.ids, ids)
            times = layout.times[: layout.size].copy()
            block = layout.values[: layout.size, where].T.copy()
            for id, values in zip(ids[found].tolist(), block, strict=True):
                yield id, times, values


def _positions(held: Ints, wanted: Ints) -> tuple[Ints, Ints]:
    """Where in `held` the `wanted` ids stand, and which of `wanted` those are; both ascending and without repeats."""
    where = np.searchsorted(held, wanted)
    where[where == len(held)] = 0
    found = np.flatnonzero(held[where] == wanted)
    return where[found], found


def merged(parts: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """One strictly increasing column from several; of equal times the first part wins."""
    times, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    if (times[1:] > times[:-1]).all():
        return times, values
    unique, first = np.unique(times, return_index=True)
    return unique, values[first]
