"""The error of forecasts that have come due."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from api_house import LOAD, NOW, FakeStore, forecast

from aiops.api.accuracy import Accuracy, ratio


def store(level: float, foreseen: float, made_at: float = NOW - 2400) -> FakeStore:
    times = NOW - 3590 + 10.0 * np.arange(360)
    flat = forecast(str(LOAD), made_at, foreseen)
    made = replace(flat, values=np.full_like(flat.values, foreseen))
    return FakeStore(series={LOAD: (times, np.full(360, level))}, made=[made])


@pytest.mark.parametrize(
    ("level", "foreseen", "made_at", "expected", "why"),
    [
        (100.0, 100.0, NOW - 2400, 0.0, "right"),
        (100.0, 110.0, NOW - 2400, 0.1, "ten per cent too high"),
        (100.0, 90.0, NOW - 2400, 0.1, "too low counts the same"),
        (0.0, 5.0, NOW - 2400, None, "nothing happened: no ratio, and not zero"),
        (100.0, 110.0, NOW - 10, None, "not due yet"),
        (100.0, 110.0, NOW - 9000, None, "due too long ago"),
    ],
)
def test_the_ratio(level: float, foreseen: float, made_at: float, expected: float | None, why: str) -> None:
    wanted = None if expected is None else pytest.approx(expected)
    assert ratio(store(level, foreseen, made_at), str(LOAD), NOW) == wanted, why  # type: ignore[arg-type]


def test_missing_truth_is_not_an_error_of_the_forecast() -> None:
    house = store(100.0, 100.0)
    times, values = house.series[LOAD]
    house.series[LOAD] = (times, np.where(np.arange(len(values)) % 3 == 0, np.nan, values))
    assert ratio(house, str(LOAD), NOW) == pytest.approx(0.0)  # type: ignore[arg-type]
    house.series.clear()
    assert ratio(house, str(LOAD), NOW) is None  # type: ignore[arg-type]


def test_a_figure_is_kept_for_a_minute_and_forgotten_with_its_target() -> None:
    house, known = store(100.0, 110.0), Accuracy()
    target = str(LOAD)

    def value(targets: list[str], now: float) -> list[float]:
        return [sample.value for sample in known.family(house, targets, now).samples]  # type: ignore[arg-type]

    assert value([target], NOW) == [pytest.approx(0.1)]
    house.made.clear()
    assert value([target], NOW + 30) == [pytest.approx(0.1)]
    assert value([target], NOW + 61) == []
    assert value([], NOW + 62) == []
