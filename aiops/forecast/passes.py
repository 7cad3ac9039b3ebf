"""Which series of a file are forecast together, from which origins and on what grid: what one pass learns and speaks for.

Between the models and the commands. Goes by what was known at an origin only: who begins later makes no panel large, and rows
are as far apart as they were until then. Knows no model and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aiops.forecast.gate import RECENT_POINTS
from aiops.forecast.panel import MAX_POINTS
from aiops.forecast.rolling import Ask
from aiops.model import Floats, Forecast, Series

JITTER = 0.9
"""Nine of ten rows that come regularly are at most a tenth closer than usual."""

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Pass:
    """Series forecast together from these ascending origins, by an ask on their own grid, each step `wide` asked steps."""

    series: Sequence[Series]
    origins: list[float]
    ask: Ask
    wide: int


def forecast_passes(
    series: Sequence[Series],
    origins: Sequence[float],
    ask: Ask,
    by: tuple[Callable[[Pass, Progress], Iterable[Forecast]], Progress],
) -> list[Forecast]:
    """What `by` = (run, progress) says of every series from each origin on the asked grid, in the order of passes."""
    (run, progress), made, parts = by, list[Forecast](), passes(series, origins, ask)
    for index, part in enumerate(parts):
        made += (filled(one, part, ask) for one in run(part, _within(progress, index, len(parts))))
    return made


def passes(series: Sequence[Series], origins: Sequence[float], ask: Ask) -> list[Pass]:
    """The passes that answer `ask` from all origins; who has not begun by an origin goes along, unheard, with the finest."""
    known = [one.times[np.isfinite(one.values)] for one in series]
    found: dict[tuple[int, int, tuple[int, ...], tuple[int, ...]], Pass] = {}
    ascending = sorted(set(origins))
    for origin in ascending:
        reach = int((origin - ascending[0]) / (MAX_POINTS / 2 * ask.step_s))  # one grid holds it: that ends at a pass's last
        begun = [times[: np.searchsorted(times, origin, side="right")] for times in known]
        wide = [steps_apart(times, ask.step_s) for times in begun]
        finest = min((one for one in wide if one), default=0)
        for width in sorted(set(wide) - {0}):
            members = tuple(i for i, one in enumerate(wide) if (one or finest) == width)
            own = replace(ask, step_s=width * ask.step_s, steps=-(-ask.steps // width), series=wide.count(width))
            part = Pass([series[i] for i in members], [], own, width)
            found.setdefault((reach, width, members, own.anchors), part).origins.append(origin)
    return list(found.values())


def steps_apart(times: Floats, step_s: float) -> int:
    """How many steps lie between the rows at ascending `times` of late: 1 where they are as close as a step or come as they
    please, for then some of them are neighbours on the grid; 0 without any.
    """
    gaps = np.sort(np.diff(times[-RECENT_POINTS:]))
    usual, least = (gaps[len(gaps) // 2], gaps[len(gaps) // 10]) if len(gaps) else (step_s, step_s)
    return round(usual / step_s) if least >= max(JITTER * usual, (1 + JITTER) * step_s) else min(1, len(times))


def filled(made: Forecast, part: Pass, ask: Ask) -> Forecast:
    """A forecast at the rows' own distance, on the asked grid: linear in between, and before the first of its steps as at it,
    for nothing is known of how much less may change within one.
    """
    if part.wide == 1:
        return made
    times = made.made_at + ask.step_s * np.arange(1, ask.steps + 1, dtype=np.float64)
    return replace(made, times=times, values=np.stack([np.interp(times, made.times, row) for row in made.values]))


def _within(progress: Progress, index: int, count: int) -> Progress:
    return lambda share: progress((index + share) / count)
