"""The queueing model against closed forms and plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.sim.cluster.latency import NEVER_S, backlog, erlang_c, waits
from aiops.sim.cluster.scenario import ServiceSpec
from aiops.sim.cluster.score import flaps, lead_times, violated


@pytest.mark.parametrize(
    ("servers", "busy", "expected"),
    [(1, 0.5, 0.5), (1, 0.9, 0.9), (2, 0.75, 9 / 14), (2, 0.5, 1 / 3), (5, 0.8, 0.5541)],
)
def test_erlang_c_is_the_textbooks(servers: int, busy: float, expected: float) -> None:
    assert erlang_c(np.array([float(servers)]), np.array([busy]))[0] == pytest.approx(expected, abs=1e-4)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.floats(0, 100))
def test_backlog_is_lindleys_recursion(load: list[float], served: float) -> None:
    left, expected = 0.0, []
    for one in load:
        left = max(0.0, left + one - served)
        expected.append(left)
    assert backlog(np.array(load), np.full(len(load), served)) == pytest.approx(expected, abs=1e-6)


def test_a_calm_queue_has_the_latency_of_mm1() -> None:
    # Given M/M/1 at half load: mean wait rho / (mu - lambda) = 0.5 / 5 = 0.1 s; P(wait > t) = 0.5 exp(-5 t)
    found = waits(np.full(6000, 5.0), np.ones(6000), (10.0, 1.0, 1.0))
    assert found.mean_s() == pytest.approx(1.1, abs=1e-6)
    assert found.quantile_s(0.99) == pytest.approx(1 + np.log(50) / 5, abs=2e-3)


def test_overload_queues_up_and_drains() -> None:
    # Given 100 s of twice what is served, then half of it
    load = np.concatenate([np.full(100, 20.0), np.full(400, 5.0)])
    found = waits(load, np.ones(500), (10.0, 1.0, 0.1))
    # Then the wait grows to 100 s, is gone after 200 s more, and all in between is violated
    assert found.fixed_s[9] == pytest.approx(95.6, abs=0.1)
    assert found.fixed_s[31] == pytest.approx(0.1, abs=1e-9)
    assert violated(found, 2.0) == 30


def test_without_a_ready_replica_nobody_is_served() -> None:
    found = waits(np.full(60, 1.0), np.zeros(60), (10.0, 1.0, 0.1))
    assert (found.fixed_s >= NEVER_S).all()
    assert violated(found, 2.0) == 6


def test_no_requests_violate_nothing() -> None:
    found = waits(np.zeros(60), np.zeros(60), (10.0, 1.0, 0.1))
    assert (violated(found, 2.0), found.mean_s(), found.quantile_s(0.99)) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("orders", "expected", "why"),
    [
        ([(0, 1, 2), (60, 2, 3), (120, 3, 4)], 0, "one direction"),
        ([(0, 1, 2), (60, 2, 1)], 1, "up and down in a minute"),
        ([(0, 1, 2), (601, 2, 1)], 0, "ten minutes later it is a new need"),
        ([(0, 2, 1), (600, 1, 2), (700, 2, 1)], 2, "two turns"),
    ],
)
def test_flaps(orders: list[tuple[float, int, int]], expected: int, why: str) -> None:
    assert flaps(orders) == expected, why


@pytest.mark.parametrize(
    ("ordered_at", "expected", "why"),
    [
        (480.0, [100.0], "ordered 120 s before the need, ready after 20 s"),
        (720.0, [-140.0], "ordered 120 s after it began"),
        (600.0 - 3660, [], "not needed within the hour: it counts neither way"),
    ],
)
def test_lead_is_from_ready_to_needed(ordered_at: float, expected: list[float], why: str) -> None:
    # Given a load that needs more than one replica from second 600 on
    spec = ServiceSpec(name="s", pool="p", capacity=10.0, target=7.0, max_replicas=9, slo=1.0)
    times = 60.0 * np.arange(-79, 41)
    means = np.where(times > 600.0, 20.0, 5.0)
    changes = [(-1e4, 1, 1), (ordered_at, 3, 1), (ordered_at + 20.0, 3, 3)]
    assert lead_times([(ordered_at, 1, 3)], changes, (times, means), spec) == expected, why


def test_a_scale_up_that_was_taken_back_before_the_need_has_no_lead() -> None:
    spec = ServiceSpec(name="s", pool="p", capacity=10.0, target=7.0, max_replicas=9, slo=1.0)
    times = 60.0 * np.arange(-79, 41)
    orders = [(0.0, 1, 3), (300.0, 3, 1), (720.0, 1, 3)]
    changes = [(-1e4, 1, 1), (0.0, 3, 1), (20.0, 3, 3), (300.0, 1, 1), (720.0, 3, 1), (740.0, 3, 3)]
    assert lead_times(orders, changes, (times, np.where(times > 600.0, 20.0, 5.0)), spec) == [-140.0]
