"""The codec gives back the same bits, whatever they are, and is small where telemetry is regular."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aiops.store.chunk import pack_tick, pack_times, pack_values, unpack_tick, unpack_times, unpack_values

finite = st.floats(allow_nan=False, allow_infinity=False)
decimals = st.integers(-(10**9), 10**9).map(lambda i: i / 100)
twice_divided = st.integers(-(10**9), 10**9).map(lambda i: i / 100 / 100)
integers = st.integers(-(2**53), 2**53).map(float)
columns = st.one_of(
    *(
        st.lists(kind, min_size=1, max_size=200)
        for kind in (finite, decimals, twice_divided, integers, st.sampled_from([0.0, -0.0, 1.0, 5e-324]))
    )
)


@given(columns)
def test_values_come_back_to_the_last_bit(values: list[float]) -> None:
    column = np.array(values)
    assert unpack_values(pack_values(column)).tobytes() == column.tobytes()


@given(st.lists(st.floats(0, 1e11), min_size=1, max_size=200, unique=True).map(sorted))
def test_times_come_back_to_the_last_bit(times: list[float]) -> None:
    column = np.array(times)
    assert unpack_times(pack_times(column)).tobytes() == column.tobytes()


@given(st.sets(st.integers(1, 2**40), min_size=1, max_size=100), st.data())
def test_a_tick_comes_back_to_the_last_bit(ids: set[int], data: st.DataObject) -> None:
    values = data.draw(arrays(np.float64, len(ids), elements=finite))
    column = np.array(sorted(ids), np.int64)
    back_ids, back_values = unpack_tick(pack_tick(column, values))
    assert np.array_equal(back_ids, column)
    assert back_values.tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("values", "limit", "why"),
    [
        (np.ones(720), 16, "a flag that never changes"),
        (np.arange(720.0) * 12345, 64, "a counter at a constant rate"),
        (np.round(60 + np.sin(np.arange(720) / 50), 1), 300, "a temperature in tenths"),
        (np.round(np.sin(np.arange(720) / 9) + 1, 2) / 100, 900, "a percentage with two decimals, made a ratio"),
        (np.random.default_rng(0).random(720), 720 * 8, "noise never costs more than it is long"),
    ],
)
def test_regular_columns_are_small(values: np.ndarray, limit: int, why: str) -> None:
    assert len(pack_values(values)) <= limit, why


def test_a_regular_grid_of_times_costs_next_to_nothing() -> None:
    assert len(pack_times(1.7e9 + 10.0 * np.arange(720))) <= 72  # a tenth of a byte per sample, once for all series


def test_an_unknown_form_is_said_to_be_one() -> None:
    with pytest.raises(ValueError, match="unknown form 9"):
        unpack_values(b"\x09abc")
