"""The chance of crossing by each step, beside closed forms and drawn paths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from aiops.forecast.crossing import EDGE, crossed_by, persistence, scores_below, scores_standing

Q = np.array([0.05, 0.5, 0.9, 0.95])


def paths(phi: float, steps: int, draws: int = 100_000) -> np.ndarray:
    """Errors of an AR(1) from an origin where they are none."""
    noise, found = np.random.default_rng(7).normal(size=(draws, steps)), [np.zeros(draws)]
    for step in noise.T:
        found.append(phi * found[-1] + step)
    return np.stack(found[1:], axis=1)


def test_noise_tries_anew_at_each_step():
    below = norm.ppf([0.8, 0.9, 0.7, 0.8])
    chances = crossed_by(below, np.ones(4))
    np.testing.assert_allclose(chances, 1 - np.cumprod([0.8, 0.9, 0.7, 0.8]), atol=1e-3)


@pytest.mark.parametrize("phi", [0.3, 0.7, 1.0])
def test_what_wanders_is_late_everywhere_or_nowhere(phi):
    drawn = paths(phi, 6)
    spread = np.sqrt(np.cumsum(phi ** (2 * np.arange(6.0))))
    chances = crossed_by(1.2 / spread, spread)
    expected = [float((drawn[:, : h + 1].max(axis=1) > 1.2).mean()) for h in range(6)]
    np.testing.assert_allclose(chances, expected, atol=0.006)


@pytest.mark.parametrize(
    ("spread", "phi", "why"),
    [
        ([2.0, 2.0, 2.0], 0.0, "noise around a level"),
        ([2.0, 1.0, 1.5], 0.0, "a spread that shrinks is not growing"),
        ([1.0, 2**0.5, 3**0.5], 1.0, "a random walk"),
        ([1.0, 5.0, 9.0], 1.0, "faster than a random walk"),
        ([0.0, 0.0, 0.0], 1.0, "a point mass has no noise to try anew with"),
        ([1.0, 1.25**0.5, (1 + 0.25 + 0.0625) ** 0.5], 0.5, "half of it stays"),
        ([3.0], 1.0, "one step tells nothing, and needs nothing"),
    ],
)
def test_how_much_stays_is_read_from_how_the_spread_grows(spread, phi, why):
    assert persistence(np.array(spread)) == pytest.approx(phi, abs=1e-6), why


@given(
    below=st.lists(st.floats(-9, 9), min_size=1, max_size=12),
    spread=st.lists(st.floats(0, 1e6), min_size=12, max_size=12),
)
def test_it_lies_between_the_likeliest_step_and_all_of_them_together(below, spread):
    each = 1 - norm.cdf(np.clip(below, -EDGE, EDGE))
    chances = crossed_by(np.array(below), np.array(spread[: len(below)]))
    assert (np.diff(chances) >= -1e-12).all()
    assert (chances >= np.maximum.accumulate(each) - 0.011).all()  # a cell is a tenth of a deviation: .4 / 40
    assert (chances <= np.minimum(np.cumsum(each), 1.0) + 0.011 * len(below)).all()


@pytest.mark.parametrize(
    ("limit", "score"),
    [
        (10.0, 0.0),
        (14.0, norm.ppf(0.9)),
        (16.0, norm.ppf(0.95) + (norm.ppf(0.95) - norm.ppf(0.9))),  # as far again as the last two are apart
        (0.0, norm.ppf(0.05)),
        (1e300, EDGE),
        (-1e300, -EDGE),
    ],
)
def test_the_score_goes_on_beyond_the_quantiles(limit, score):
    column = np.array([[0.0], [10.0], [14.0], [15.0]])
    assert scores_below(column, Q, limit) == pytest.approx([score], abs=1e-9)


def test_a_point_mass_is_below_or_above_for_certain():
    assert scores_below(np.full((4, 1), 5.0), Q, 5.0).tolist() == [EDGE]
    assert scores_below(np.full((4, 1), 5.0), Q, 4.9).tolist() == [-EDGE]


def test_of_a_level_that_stands_only_what_is_beyond_counts():
    values = np.array([[0.0, 0.0, 4.0], [10.0, 10.1, 12.0], [14.0, 10.2, 14.0], [15.0, 10.3, 15.0]])
    scores = scores_standing(values, Q, np.array([10.5, 10.5, 3.0]))
    assert scores.tolist() == pytest.approx([norm.ppf(0.9), EDGE, norm.ppf(0.05)])
