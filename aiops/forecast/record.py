"""What the experts said of a panel at past moments: how it begins, grows, and goes on when series come and go.

It is what weights, calibration and admission are judged by (`calibration`). Passed in and out: nothing is held here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.forecast.calibration import Track
from aiops.forecast.features import DAY_S, HOUR_S, carry_forward
from aiops.forecast.regression import truths_at
from aiops.forecast.rolling import Ask
from aiops.forecast.voices import Voices
from aiops.model import Floats, SeriesKey
from aiops.ports import Grid

HELD_OUT_S = 36 * HOUR_S
"""The newest day and a half judges a first model, so that a fresh start has a record at once."""

FIRST_MOMENTS = (12, 216)
"""Fewest and most held-out moments that judge a fresh start: a dozen are noise, but ten thousand series cannot have more."""
FIRST_BANDS = 20_000
"""Series times moments of a first record that are worth their seconds."""

KEPT_S = 4 * DAY_S
EVERY_S = HOUR_S / 6
"""A record grows every ten minutes where it can: the noise of four days of hours refuses forecasts that have skill, a fifth
to two fifths more are admitted on the public sets (docs/forecasting.md)."""
KEPT_BANDS = 48_000
"""Series times moments that a record keeps: 500 series by the hour, 83 or fewer every ten minutes."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the experts said about `keys` at `times` (m,): `bands` (s, m, a, e, q) float32."""

    keys: tuple[SeriesKey, ...]
    times: Floats
    bands: NDArray[np.float32]

    def until(self, end: float) -> Said:
        """Without what was said after `end`, by a clock that was wrong then."""
        before = self.times <= end
        return self if before.all() else Said(self.keys, self.times[before], self.bands[:, before])

    def mostly_of(self, panel: Sequence[Grid], ask: Ask) -> bool:
        """Whether it is of at least half of this panel, at the asked horizons, and holds anything."""
        stay = len({grid.key for grid in panel} & set(self.keys))
        return len(self.times) > 0 and self.bands.shape[2] == len(ask.anchors) and 2 * stay >= len(panel)

    def grown(self, end: float, bands: Floats) -> Said:
        """With the (s, a, e, q) `bands` that were said at `end`, where the last ones are old enough; what is too old goes."""
        every = max(EVERY_S, KEPT_S * len(self.keys) / KEPT_BANDS)
        if len(self.times) and end - self.times[-1] < every:
            return self
        keep = self.times > end - KEPT_S
        grown = np.concatenate([self.bands[:, keep], bands[:, None].astype(np.float32)], axis=1)
        return Said(self.keys, np.append(self.times[keep], end), grown)

    def carried(self, panel: Sequence[Grid], values: Floats, by: tuple[Voices, float]) -> Said:
        """The record of a panel of which series have come or gone: who stays keeps what was said of it.

        Who is new is judged as at a fresh start, by the `earlier` voices of `by` = (earlier, when they were learnt), at those
        of the moments that they have not learnt from. Of a panel that has grown twofold every second moment is kept.
        """
        (earlier, learnt_at), row_of = by, {key: index for index, key in enumerate(self.keys)}
        every = max(1, len(self.times) * len(panel) // KEPT_BANDS)
        kept = np.arange(len(self.times) - 1, -1, -every)[::-1]
        times, old = self.times[kept], self.bands[:, kept]
        bands = np.full((len(panel), *old.shape[1:]), np.nan, dtype=np.float32)
        stay = [index for index, grid in enumerate(panel) if grid.key in row_of]
        come = np.array([index for index, grid in enumerate(panel) if grid.key not in row_of], dtype=np.int64)
        bands[stay] = old[[row_of[panel[index].key] for index in stay]]
        cols = self._columns(panel, values, earlier.ask)[kept]
        unseen = np.flatnonzero((times > learnt_at - HELD_OUT_S) & (cols >= 0))
        bands[np.ix_(come, unseen)] = earlier.bands([panel[index] for index in come], values[come], cols[unseen])
        return Said(tuple(grid.key for grid in panel), times, bands)

    def track(self, panel: Sequence[Grid], values: Floats, ask: Ask) -> Track:
        """What was said beside what came, as far as it has come."""
        cols, n = self._columns(panel, values, ask), values.shape[1]
        inside = np.flatnonzero(cols >= 0)
        cols, bands = cols[inside], self.bands[:, inside].astype(np.float64)
        known = np.isfinite(values)
        own = np.where(known.any(axis=1), n - known.argmax(axis=1), 0) * ask.step_s / DAY_S
        idle = carry_forward(values) == 0  # a scrape that was missed is no change of state
        alike = idle[:, cols] == idle[:, [-1]]
        ages = (_end(panel) - self.times[inside]) / DAY_S
        gap = float(np.median(np.diff(self.times))) / ask.step_s if len(self.times) > 1 else 1.0
        overlap = np.maximum(1.0, np.array(ask.anchors) / max(gap, 1.0))
        return Track(bands, truths_at(values, cols, ask.anchors), alike, ages, overlap, own)

    def _columns(self, panel: Sequence[Grid], values: Floats, ask: Ask) -> NDArray[np.int64]:
        ages = (_end(panel) - self.times) / ask.step_s
        return np.asarray(np.round(values.shape[1] - 1 - ages), dtype=np.int64)


def first(panel: Sequence[Grid], values: Floats, earlier: Voices) -> Said:
    """What voices that know nothing of the newest moments say at them, evenly spread: the record of a fresh start."""
    ask, n = earlier.ask, values.shape[1]
    held = min(round(HELD_OUT_S / ask.step_s), n // 3)
    moments = int(np.clip(FIRST_BANDS // len(panel), *FIRST_MOMENTS))
    spread = np.linspace(n - 1 - held, n - 1 - ask.steps, moments if held > ask.steps else 0)
    cols = np.unique(spread.astype(np.int64))
    times = np.asarray(_end(panel) - ask.step_s * (n - 1 - cols), dtype=np.float64)
    return Said(tuple(grid.key for grid in panel), times, earlier.bands(panel, values, cols).astype(np.float32))


def _end(panel: Sequence[Grid]) -> float:
    return max(grid.end for grid in panel)
