"""An SLI that does what was foreseen is no anomaly; one that does not is, whatever the forecast learnt since."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from worlds import NOW, STEP, job, one_host, series, shifted

from aiops.diagnose.engine import CausalDiagnoser
from aiops.diagnose.shift import LATE_S
from aiops.model import Forecast, Series, SeriesKey

LATENCY = series("service_latency_seconds", shifted(0.2, 0.5, 12, seed=1), service="chat", quantile="0.95")
AHEAD = NOW - 900 + 300.0 * np.arange(1, 7)


def forecast(at_now: float, **changes: object) -> Forecast:
    """Made a quarter of an hour ago: from 0.2 up to `at_now`, with a band of a tenth on both sides."""
    middle = np.interp(AHEAD, [NOW - 900, NOW], [0.2, at_now])
    made = Forecast(
        target=str(LATENCY.key), made_at=NOW - 900, times=AHEAD, quantiles=np.array([0.05, 0.5, 0.95]),
        values=np.stack([0.9 * middle, middle, 1.1 * middle]), model="m",
    )  # fmt: skip
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("made", "found", "why"),
    [
        ((), True, "nobody foresaw it"),
        ((forecast(0.5),), False, "it was foreseen to be so slow by now"),
        ((forecast(0.25),), True, "it is far beyond what was foreseen"),
        ((forecast(0.5, refused="no skill"),), True, "a forecast that may not be acted upon explains nothing"),
        ((forecast(0.5, made_at=NOW - LATE_S + 30),), True, "one made since may have learnt the fault"),
        ((forecast(0.5, target="service_latency_seconds{service=other}"),), True, "another series"),
        ((forecast(0.25), forecast(0.5, made_at=NOW - 600)), False, "the newest that cannot have learnt it counts"),
        ((forecast(0.5, times=AHEAD - 1800),), True, "it ended before now"),
    ],
)
def test_a_slow_service_is_a_finding_only_beyond_its_forecast(made: tuple, found: bool, why: str) -> None:
    cluster = one_host(job(gpu_uuids=("GPU-1",)))
    findings = CausalDiagnoser().diagnose(cluster, [LATENCY], NOW, (), made)
    assert any(f.sli and f.sli.startswith("service:chat") for f in findings) is found, why


# -- what a forecast missed --------------------------------------------------------------------------------------------

HOUR = NOW - STEP * np.arange(359, -1, -1.0)


def latency(values: np.ndarray) -> Series:
    noisy = values * (1 + 0.02 * np.random.default_rng(3).standard_normal(len(values)))
    return Series(key=SeriesKey.of("service_latency_seconds", service="chat", quantile="0.95"), times=HOUR, values=noisy)


def said(truth: np.ndarray, upper: float = 1.2) -> list[Forecast]:
    """A forecast every five minutes of the last hour: what it says is `truth`, a line over HOUR that goes on as it ends."""
    made = []
    for at in np.arange(NOW - 3450.0, NOW, 300.0):
        ahead = at + 300.0 * np.arange(1, 7)
        middle = np.interp(ahead, HOUR, truth)
        values = np.stack([0.8 * middle, middle, upper * middle])
        made.append(
            Forecast(
                target=str(latency(truth).key), made_at=float(at), times=ahead,
                quantiles=np.array([0.05, 0.5, 0.95]), values=values, model="m",
            )
        )  # fmt: skip
    return made


FALLING, RISING = np.linspace(2.0, 0.8, 360), np.linspace(0.8, 2.0, 360)
SQUARE = np.where(HOUR > NOW - 130.0, 2.0, 0.8)


def late(values: np.ndarray, factor: float, last: int = 12) -> np.ndarray:
    return np.where(np.arange(360) >= 360 - last, factor * values, values)


@pytest.mark.parametrize(
    ("values", "made", "found", "why"),
    [
        (
            late(FALLING, 1.8),
            said(FALLING),
            True,
            "it ought to be at 0.8 by now and is at 1.4, as half an hour ago",
        ),
        (late(FALLING, 1.8), (), False, "without a forecast 1.4 is what it was half an hour ago"),
        (FALLING, said(FALLING), False, "it falls as foreseen"),
        (RISING, said(RISING), False, "it rises as foreseen"),
        (late(RISING, 1.6), said(RISING), True, "it rises, and more than was foreseen"),
        (SQUARE, said(np.full(360, 0.8)), True, "nobody foresaw a step"),
        (SQUARE, said(SQUARE), False, "a step that was foreseen, though means over five minutes smear it"),
        (late(FALLING, 1.8), said(FALLING, upper=2.5), False, "the forecast was this unsure: inside its band nothing is odd"),
    ],
)
def test_an_excess_over_the_forecast_is_found_where_the_past_hour_hides_it(
    values: np.ndarray, made: object, found: bool, why: str
) -> None:
    cluster = one_host(job(gpu_uuids=("GPU-1",)))
    findings = CausalDiagnoser().diagnose(cluster, [latency(values)], NOW, (), tuple(made))
    mine = [f for f in findings if f.sli and f.sli.startswith("service:chat")]
    assert bool(mine) is found, why


def test_the_evidence_of_a_missed_forecast_is_told_in_readings_and_what_was_foreseen() -> None:
    cluster = one_host(job(gpu_uuids=("GPU-1",)))
    (finding,) = CausalDiagnoser().diagnose(cluster, [latency(late(FALLING, 1.8))], NOW, (), tuple(said(FALLING)))
    told = next(fact for fact in finding.evidence_for if fact.series == finding.sli)
    assert told.value == pytest.approx(1.44, abs=0.15)
    assert told.baseline == pytest.approx(0.8, abs=0.15)
    assert finding.since == pytest.approx(NOW - 110.0, abs=20.0)
