"""The baselines against tables worked by hand from the original rules: a figure against a wrong baseline is no figure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.sim.baselines.aibrix import Aibrix
from aiops.sim.baselines.catalogue import last_week_max
from aiops.sim.baselines.crane import Dsp, cost
from aiops.sim.baselines.hpa import Hpa, desired
from aiops.sim.baselines.kpa import Kpa
from aiops.sim.baselines.oracle import Oracle
from aiops.sim.baselines.rate import KnownRate
from aiops.sim.baselines.seen import Seen

DAY = 86400


def seen(load: float, replicas: int = 4, ready: int | None = None, now: float = 1000.0, **changes: object) -> Seen:
    """A service with this load for ten minutes and a target of 10 per replica."""
    fields = {"low": 1, "high": 100, "target": 10.0, "rates": np.full(600, load)}
    ready = replicas if ready is None else ready
    return Seen(now=now, replicas=replicas, ready=ready, **{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("replicas", "ready", "load", "wanted", "why"),
    [
        (4, 4, 43, 4, "7.5 % over is inside the tolerance of 10 %"),
        (4, 4, 45, 5, "ceil(4 * 45/40) = ceil(4.5)"),
        (4, 4, 100, 10, "ceil(4 * 2.5)"),
        (4, 4, 37, 4, "7.5 % under is inside the tolerance"),
        (4, 4, 35, 4, "12.5 % under, but ceil(3.5) is what is there"),
        (4, 4, 20, 2, "ceil(4 * 0.5)"),
        (4, 2, 45, 5, "growing, a missing replica counts 0 %: 45/40 = 1.125, ceil(4.5)"),
        (4, 2, 42, 4, "with the missing ones at 0 % the ratio is 1.05: inside the tolerance"),
        (4, 2, 30, 4, "ratio 1.5 over the ready ones, 0.75 over all: the direction turned, nothing is done"),
        (4, 3, 15, 3, "shrinking, a missing replica counts 100 %: 25/40, ceil(2.5)"),
        (4, 0, 80, 4, "nothing is ready: no metrics, nothing is done"),
    ],
)
def test_hpa_formula(replicas: int, ready: int, load: float, wanted: int, why: str) -> None:
    assert desired(seen(load, replicas, ready), load) == wanted, why


@pytest.mark.parametrize(
    ("replicas", "wanted", "why"),
    [(2, 6, "from 2 at most +4 in 15 s"), (10, 20, "from 10 at most doubled"), (60, 100, "the service's own bound")],
)
def test_hpa_grows_no_faster_than_its_policy(replicas: int, wanted: int, why: str) -> None:
    assert Hpa().target(seen(5000, replicas)) == wanted, why


def test_hpa_keeps_the_most_of_five_minutes_before_it_shrinks() -> None:
    # Given a need of 10 at second 0, and of 2 from then on
    hpa, answers = Hpa(), {}
    hpa.target(seen(100, 10, now=0))
    # When it is asked every 15 s
    for now in range(15, 331, 15):
        answers[now] = hpa.target(seen(20, 10, now=now))
    # Then the 10 counts up to and with second 300, and no longer
    assert all(answers[now] == 10 for now in range(15, 301, 15))
    assert answers[315] == 2


@pytest.mark.parametrize(
    ("ready", "stable", "panic", "wanted", "why"),
    [
        (4, 22, 22, 3, "ceil(2.2), and nothing stabilises shrinking but the window"),
        (8, 5, 5, 4, "down-rate 2: not below floor(8 / 2)"),
        (1, 5, 35, 4, "the panic window wants ceil(3.5) = 400 % of 1: panic"),
        (2, 5, 35, 4, "ceil(3.5) = 4 is 200 % of 2: panic, just"),
        (3, 15, 35, 2, "ceil(3.5) = 4 is 133 % of 3: no panic, ceil of the stable mean"),
    ],
)
def test_kpa_windows(ready: int, stable: float, panic: float, wanted: int, why: str) -> None:
    rates = np.full(60, (stable * 60 - panic * 6) / 54)
    rates[-6:] = panic
    assert Kpa().target(seen(0, ready, rates=rates)) == wanted, why


def test_kpa_does_not_shrink_in_panic_which_lasts_a_stable_window() -> None:
    # Given a panic at second 0 that led to 4 replicas
    kpa, answers = Kpa(), {}
    assert kpa.target(seen(35, 1, now=0)) == 4
    # When the load is gone
    for now in range(2, 63, 2):
        answers[now] = kpa.target(seen(0, 4, now=now))
    # Then nothing is taken for 60 s, and then at most half
    assert set(list(answers.values())[:-2]) == {4}
    assert answers[60] == answers[62] == 2


@pytest.mark.parametrize(
    ("load", "wanted", "why"),
    [
        (43, 4, "inside 10 %"),
        (60, 6, "ceil(60 / 10)"),
        (200, 8, "at most doubled per loop"),
        (5, 2, "at most halved per loop; nothing larger was wished in five minutes"),
    ],
)
def test_aibrix_rules(load: float, wanted: int, why: str) -> None:
    assert Aibrix().target(seen(load)) == wanted, why


def test_aibrix_short_window_decides_only_when_it_wants_twice_what_is_ready() -> None:
    rates = np.concatenate([np.full(540, 10.0), np.full(60, 70.0)])
    assert Aibrix().target(seen(0, 4, rates=rates)) == 3, "60 s: 70 is under twice 40; 180 s: (120 * 10 + 60 * 70) / 180 = 30"
    rates[-60:] = 85.0
    assert Aibrix().target(seen(0, 4, rates=rates)) == 8, "60 s: 85 is over twice 40: ceil(8.5) = 9, capped at double"


def test_aibrix_waits_five_minutes_before_it_shrinks() -> None:
    aibrix = Aibrix()
    aibrix.target(seen(60, 6, now=0))
    assert [aibrix.target(seen(30, 6, now=now)) for now in (150, 300, 310)] == [6, 6, 3]


@pytest.mark.parametrize(
    ("predicted", "expected", "why"),
    [
        (8.0, 1.0, "20 % short: -ln(0.8) / ln(1.25) = 1"),
        (12.0, 0.2, "20 % over costs 0.2"),
        (10.0, 0.0, "right"),
        (5.0, 3.106, "50 % short: -ln(0.5) / ln(1.25)"),
    ],
)
def test_crane_error_is_asymmetric(predicted: float, expected: float, why: str) -> None:
    assert cost(np.array([10.0]), np.array([predicted])) == pytest.approx(expected, abs=1e-3), why


def test_crane_repeats_the_last_day_with_its_margin_and_looks_an_hour_ahead() -> None:
    # Given two equal days with 50 from 12:00 to 12:10 and 10 else, and third day's morning
    day = np.full(DAY, 10.0)
    day[12 * 3600 : 12 * 3600 + 600] = 50.0
    rates = np.concatenate([day, day, day])
    expect = {10 * 3600: 10.1, 11 * 3600 - 120: 10.1, 11 * 3600 + 60: 50.5, 12 * 3600 + 660: 10.1}
    # Then the smallest margin was best, and the maximum of the next hour counts
    for second, wanted in expect.items():
        assert Dsp()(seen(0, now=second, rates=rates[: 2 * DAY + second])) == pytest.approx(wanted), second


def test_crane_has_no_prediction_before_two_periods() -> None:
    assert Dsp()(seen(0, rates=np.full(2 * DAY - 60, 10.0))) == 10.0


@pytest.mark.parametrize(("minute", "wanted"), [(0, 50.0), (29, 50.0), (30, 1.0), (-1, 1.0)])
def test_last_week_max_sees_last_weeks_next_half_hour(minute: int, wanted: float) -> None:
    rates = np.ones(8 * DAY)
    start = DAY + 60 * minute
    rates[start : start + 60] = 50.0
    assert last_week_max(seen(0, rates=rates)) == pytest.approx(wanted)


def test_last_week_max_is_reactive_in_its_first_week() -> None:
    assert last_week_max(seen(0, rates=np.full(DAY, 3.0))) == 3.0


def test_oracle_is_ready_before_the_load_and_no_earlier() -> None:
    # Given a step from 10 to 100 at second 1000, and starts of at most 40 s
    rates = np.concatenate([np.full(1000, 10.0), np.full(1000, 100.0)])
    oracle = Oracle(rates, 40)
    # Then at second 900 the coming start-up needs nothing, and at 990 all ten are ordered
    assert oracle.target(seen(0, 1, rates=rates[:900])) == 1
    assert oracle.target(seen(0, 1, rates=rates[:990])) == 10


def test_who_knows_the_rate_knows_this_minute_and_the_trend_and_not_the_next_minute() -> None:
    # Given half an hour at 100 per second, of which one minute has 200
    minutes = np.full(30, 100.0)
    minutes[20] = 200.0
    rates = np.repeat(minutes, 60)
    # Then the minute before knows only that the quarter of an hour around it has 106.7 on average, and the minute itself all
    assert [KnownRate(rates, 0.0).target(seen(0, rates=rates[: 60 * at])) for at in (5, 19, 20, 21)] == [10, 11, 20, 11]
    # And who keeps three roots of it free has ceil((106.7 + 3 * 10.33) / 10)
    assert KnownRate(rates, 3.0).target(seen(0, rates=rates[: 60 * 19])) == 14


@given(st.lists(st.floats(0, 1000), min_size=70, max_size=90), st.integers(0, 30))
@settings(max_examples=30, deadline=None)
def test_oracle_looks_from_now_to_the_end_of_the_start_up(rates: list[float], lead_s: int) -> None:
    load = np.array(rates)
    oracle = Oracle(load, lead_s)
    smooth = np.array([np.take(load, range(i - 30, i + 30), mode="clip").mean() for i in range(len(load))])
    for now in range(0, len(load), 7):
        most = smooth[max(0, now - 30) : now + lead_s + Oracle.period_s + 1].max()
        assert oracle._ahead[now] == pytest.approx(most, abs=1e-6)
