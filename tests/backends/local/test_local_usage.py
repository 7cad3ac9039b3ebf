"""How fast units are on links: rates over the last minute, and unknown wherever a counter is missing."""

import pytest

from aiops.backends.local.usage import Usage

Reading = tuple[float, dict[str, tuple[int, ...]]]


def usage(*readings: Reading) -> Usage:
    out = Usage()
    for at, counts in readings:
        out.note(at, {("nic", unit): row for unit, row in counts.items()})
    return out


@pytest.mark.parametrize(
    ("readings", "units", "wanted"),
    [
        pytest.param([], ["a"], None, id="never read"),
        pytest.param([(0.0, {"a": (10,)})], ["a"], None, id="one reading is no rate"),
        pytest.param([(0.0, {"a": (0,)}), (0.2, {"a": (50,)})], ["a"], None, id="too short a span"),
        pytest.param([(0.0, {"a": (0,)}), (10.0, {"a": (500,)})], ["a"], 50.0, id="bytes over seconds"),
        pytest.param([(0.0, {"a": (0,)}), (10.0, {"a": (0,)})], ["a"], 0.0, id="counted and idle is zero"),
        pytest.param([(0.0, {"a": (0,)}), (10.0, {"a": (0,)})], [], None, id="an owner without units has no use"),
        pytest.param([(0.0, {"a": (0, 0)}), (10.0, {"a": (100, 900)})], ["a"], 90.0, id="full duplex: the busier direction"),
        pytest.param(
            [(0.0, {"a": (0, 0), "b": (0, 0)}), (10.0, {"a": (100, 900), "b": (1000, 0)})], ["a", "b"], 110.0,
            id="directions are added up before they are compared",
        ),
        pytest.param([(0.0, {"a": (0,)}), (10.0, {"a": (100,), "b": (5,)})], ["a", "b"], None, id="a new replica: not yet"),
        pytest.param([(0.0, {"a": (900,)}), (10.0, {"a": (100,)})], ["a"], None, id="a counter that began anew"),
        pytest.param(
            [(0.0, {"a": (900,)}), (10.0, {"a": (100,)}), (20.0, {"a": (300,)})], ["a"], 20.0, id="and its own two readings"
        ),
        pytest.param([(0.0, {"a": (0,)}), (10.0, {}), (20.0, {"a": (300,)})], ["a"], None, id="a gap forgets"),
        pytest.param(
            [(0.0, {"a": (0,)}), (100.0, {"a": (9000,)}), (110.0, {"a": (9100,)})], ["a"], 10.0, id="only the last minute"
        ),
    ],
)  # fmt: skip
def test_rates(readings: list[Reading], units: list[str], wanted: float | None) -> None:
    assert usage(*readings).rate("nic", units) == wanted
    assert usage(*readings).rate("another", units or ["a"]) is None
