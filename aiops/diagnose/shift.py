"""When did it change, and by how much: robust statistics over the whole matrix at once.

The detector may be up to `LATE_S` late, so nothing from `at - LATE_S` on is ever a baseline; inside that stretch the onset is
estimated from the SLI. Levels are medians, scales are MADs, and a score is an empirical tail of the row's own past plus how
many scales beyond usual it went. Knows no graph and no verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.diagnose.meaning import Meaning, Role
from aiops.diagnose.panel import Panel
from aiops.metrics import Bad
from aiops.model import Floats

LATE_S = 300.0
"""The detector is promised to be at most 180 s late (design); the rest is for an onset that crept up."""
AFTER_S = 600.0
"""How much of what followed the noticing is evidence in an offline diagnosis; live there is none."""
FLOOR = 0.01
"""Least scale as a share of the median (design): a constant row that moves by 1 % is not infinitely anomalous."""
TAIL_WEIGHT = 0.5
"""Half: with w samples per window and an autocorrelated past, n baseline windows hold about sqrt(n) independent ones."""
CLEAR_Z = 5.0
"""Peak of the SLI, in scales, above which its own change point is trusted."""
CAP_Z = 10.0
"""Deviation at which one column stops counting for more, so that one spike does not outweigh a plateau."""
UNDERWAY = 0.5
"""Share of the lasting peak from which a change is under way, as in `Facts.since`: what was smaller and earlier is older."""
WINDOWS = 4
"""Stretches as long as the evidence that a baseline holds at least: with fewer, how rare one is cannot be told from it."""
FRESH_S = 60.0
"""Stretch before the onset that a row must have been normal in, to have begun with it."""
FEW = 5.0
"""A scale from n points is widened by 1 + 5/n: Student's t over the normal quantile at 4 sigma is 1.37 for 16, 1.17 for 30."""
SMOOTH_S = 30.0
"""Longest averaging inside the evidence: three scrapes of 10 s."""
MAX_Z = 1e9
"""Scales beyond which more means nothing; keeps scores finite whatever the numbers."""
TINY = 0.1
"""Scale of a row that has only ever been 0: counts and bits; one in ten columns is anomalous, one in a thousand is not."""
LEAST: Mapping[Role, float] = {
    Role.THERMAL: 0.1,
    Role.POWER_CAP: 0.1,
    Role.GPU_ERROR: 0.02,  # one event in a minute
    Role.CPU_PRESSURE: 0.02,
    Role.IO_PRESSURE: 0.02,
    Role.MEM_PRESSURE: 0.02,
    Role.CPU_BUSY: 0.02,
    Role.DISK_BUSY: 0.02,
    Role.IDLE: 0.02,
    Role.GPU_TEMP: 1.0,
    Role.NET_ERROR: 0.1,
    Role.NET_CONGESTION: 1.0,
    Role.DISK_QUEUE: 1.0,
}
"""Least scale by role, in the row's unit (events and seconds per second, degrees): what no operator would look at twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Columns: baseline is [0, baseline), evidence [onset, end), averaged over `width`. `strength` is the SLI's peak in scales.

    `clear` is False where no change point was found: then the evidence is everything that may be abnormal.
    """

    baseline: int
    onset: int
    end: int
    width: int
    strength: float
    clear: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts:
    """Per row (m,): `usual` and `scale` of the baseline, `level` in the evidence, `peak` of its worst stretch, `score` >= 0.

    `worse` is how far the worst stretch went in the bad direction, in the row's unit; `moved` how far the level did, in
    scales, with its own sign. `fresh` in 0..1 is the share of the shift that was not there just before the onset. `vanished`
    marks rows that stopped. NaN: nothing known.
    """

    usual: Floats
    scale: Floats
    level: Floats
    peak: Floats
    score: Floats
    fresh: Floats
    worse: Floats
    moved: Floats
    vanished: NDArray[np.bool_]


def baseline_end(times: Floats, step_s: float, at: float) -> int:
    """First column that may be abnormal: `LATE_S` before the noticing, but never more than half of what there is."""
    known = int(np.searchsorted(times, at, side="right"))
    late = int(np.searchsorted(times, at - LATE_S - step_s))
    return max(late, known // 2, min(1, len(times)))


def robust(values: Floats, tiny: Floats | float = TINY) -> tuple[Floats, Floats]:
    """(m,) median and scale of (m, t): 1.4826 MAD, mean deviation where that is 0, at least `FLOOR` of the median.

    The scale of a row that has only ever been 0 is `tiny`.
    """
    with np.errstate(invalid="ignore"):
        usual = nan_median(values)
        off = np.abs(values - usual[:, None])
        mad, count = nan_median(off), np.isfinite(off).sum(axis=1)
        mean = np.where(np.isfinite(off), off, 0.0).sum(axis=1) / np.maximum(count, 1)
        scale = np.where(mad > 0, 1.4826 * mad, 1.2533 * mean)  # both estimate a normal's sigma
        scale = np.maximum(scale * (1.0 + FEW / np.maximum(count, 1)), FLOOR * np.abs(usual))
    return usual, np.where(np.isfinite(scale), np.where(scale > 0, scale, tiny), np.nan)


def nan_median(values: Floats) -> Floats:
    """(m,) medians over the last axis without NaN; NaN where a row has none. One sort: numpy's own is a loop over rows."""
    if values.shape[1] == 0:
        return np.full(len(values), np.nan)
    ordered = np.sort(values, axis=1)  # NaN last
    count = np.isfinite(values).sum(axis=1)
    rows = np.arange(len(values))
    middle: Floats = (ordered[rows, np.maximum(count - 1, 0) // 2] + ordered[rows, np.maximum(count, 1) // 2]) / 2
    return np.where(count > 0, np.where(count == 1, ordered[:, 0], middle), np.nan)


def rolling(values: Floats, width: int) -> Floats:
    """(m, t) mean of the last `width` columns; NaN where fewer than half of them are known, and in the first ones."""
    if width <= 1:
        return values
    known = np.isfinite(values)
    sums: Floats = np.where(known, values, 0.0)
    counts: Floats = known.astype(np.float64)
    sums, counts = _window_sum(sums, width), _window_sum(counts, width)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean: Floats = sums / np.where(counts >= width / 2, counts, np.nan)
    mean[:, : width - 1] = np.nan
    return mean


def _window_sum(values: Floats, width: int) -> Floats:
    """(m, t) sum of the last `width` columns: shifted additions, which beat a cumulative sum for the short widths used here."""
    total = values.copy()
    for back in range(1, width):
        total[:, back:] += values[:, :-back]
    return total


def find_window(track: Floats, panel: Panel, at: float) -> Window:
    """Window from the SLI's deviation (t,) in scales, bad direction up: the stretch that holds most of it (maximal sum).

    A stretch is maximal over `track - k`, k between 1.5 and 3: Kadane's algorithm, an epidemic change-point test.
    """
    start = baseline_end(panel.times, panel.step_s, at)
    end = len(panel.times)
    whole = np.where(np.isfinite(track[start:end]), track[start:end], 0.0)
    late = np.minimum(whole, CAP_Z)
    peak = _lasting(late)
    first, last = _heaviest(late - max(1.5, min(3.0, peak / 2)))
    underway = np.flatnonzero(_paired(whole)[first : last + 1] >= UNDERWAY * _lasting(whole))
    first += int(underway[0]) if len(underway) else 0
    clear = peak >= CLEAR_Z
    smooth = max(3, min(round(SMOOTH_S / panel.step_s), start // WINDOWS))
    if not clear:
        return Window(
            baseline=start, onset=start, end=end, width=max(1, min(-(-len(late) // 5), smooth)), strength=peak, clear=False
        )
    width = min(last - first + 1, smooth)
    return Window(
        baseline=start,
        onset=start + first,
        end=min(end, start + last + 1),
        width=width,
        strength=peak,
        clear=True,
    )


def _lasting(late: Floats) -> float:
    """Highest level that two columns in a row reach, or that the newest one does: a single spike is no fault."""
    return float(_paired(late).max(initial=0.0))


def _paired(late: Floats) -> Floats:
    """(t,) the level that a column and the next both reach; the newest column's own."""
    return np.asarray(np.minimum(late, np.append(late[1:], np.inf)))


def _heaviest(weights: Floats) -> tuple[int, int]:
    best, total, first, answer = -np.inf, 0.0, 0, (0, max(0, len(weights) - 1))
    for i, weight in enumerate(weights):
        if total <= 0:
            total, first = 0.0, i
        total += float(weight)
        if total > best:
            best, answer = total, (first, i)
    return answer


def signs(meanings: tuple[Meaning, ...]) -> Floats:
    """(m,) +1 where up is bad or nothing is said, -1 where down is bad."""
    return np.array([-1.0 if m.worse is Bad.DOWN else 1.0 for m in meanings])


def measure(panel: Panel, meanings: tuple[Meaning, ...], window: Window) -> Shifts:
    """Score every row of the panel against its own past. One pass, no loop over rows."""
    sign = signs(meanings)
    worse = panel.values * sign[:, None]
    usual, scale = robust(worse[:, : window.baseline], np.array([LEAST.get(m.role, TINY) for m in meanings]))
    scale = np.maximum(scale, np.array([LEAST.get(m.role, 0.0) for m in meanings]))
    guard = 1  # sampling phases differ between sources: a neighbour may show it one column earlier or later
    low, high = max(0, window.onset - guard), min(worse.shape[1], window.end + guard)
    means = rolling(worse, window.width)
    with np.errstate(invalid="ignore"):
        peak = _nan_max(means[:, low:high])
        level = nan_median(worse[:, window.onset : window.end])
        past = means[:, : window.baseline]
        count = np.isfinite(past).sum(axis=1)
        tail = -np.log((1.0 + (past >= peak[:, None]).sum(axis=1)) / (count + 1.0))
        score = TAIL_WEIGHT * tail + np.log1p(np.minimum(np.maximum(peak - usual, 0.0) / scale, MAX_Z))
    known = np.isfinite(peak) & np.isfinite(usual) & np.isfinite(scale)
    scored = known & np.array([m.worse is not Bad.NONE for m in meanings])
    return Shifts(
        usual=sign * usual,
        scale=scale,
        level=sign * level,
        peak=sign * peak,
        score=np.where(scored, score, 0.0),
        fresh=_fresh(worse, window, usual, peak, panel.step_s),
        worse=peak - usual,
        moved=sign * (level - usual) / scale,
        vanished=_vanished(panel.values, window),
    )


def _fresh(worse: Floats, window: Window, usual: Floats, peak: Floats, step_s: float) -> Floats:
    """What had been there before cannot have caused a change now: 1 - earlier shift / shift."""
    if not window.clear:
        return np.ones(len(worse))
    before = nan_median(worse[:, max(0, window.onset - max(3, int(FRESH_S / step_s))) : window.onset])
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.clip((peak - before) / (peak - usual), 0.0, 1.0)
    return np.where(np.isfinite(share), share, 1.0)


def _vanished(values: Floats, window: Window) -> NDArray[np.bool_]:
    """Rows that were nearly always there and have no point since the onset, for at least three columns."""
    if values.shape[1] - window.onset < 3 or not window.baseline:
        return np.zeros(len(values), dtype=bool)
    before = np.isfinite(values[:, : window.baseline]).mean(axis=1)
    return np.asarray((before > 0.9) & ~np.isfinite(values[:, window.onset :]).any(axis=1), dtype=np.bool_)


def _nan_max(values: Floats) -> Floats:
    filled = np.where(np.isfinite(values), values, -np.inf)
    top: Floats = filled.max(axis=1, initial=-np.inf)
    return np.where(np.isfinite(top), top, np.nan)
