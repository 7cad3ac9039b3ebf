"""A list of names is looked up, however long; anything else stays a bounded pattern."""

import re

import numpy as np
import pytest

from aiops.errors import UserError
from aiops.model import Batch, Match, Matcher, Query, SeriesKey
from aiops.store.matching import selector
from aiops.store.memory import MemoryStore

NAMES = [f"job-{i}.a+b" for i in range(2000)]


def of(label: str) -> SeriesKey:
    return SeriesKey.of("m", job=label)


def matches(pattern: str, op: Match, label: str) -> bool:
    return selector(Query(metric="m", matchers=(Matcher("job", pattern, op),), window_s=60.0))(of(label))


def test_two_thousand_names_are_no_pattern_that_is_too_long() -> None:
    # Given what a policy that looks at every running job of a large cluster asks for
    pattern = "|".join(map(re.escape, NAMES))
    assert matches(pattern, Match.REGEX, NAMES[1999])
    assert not matches(pattern, Match.REGEX, "job-7xaxb"), "an escaped dot is a dot"
    assert matches(pattern, Match.NOT_REGEX, "other")
    # Then a store answers it
    store = MemoryStore()
    store.append(Batch(60.0, (of(NAMES[5]), of("other")), np.array([1.0, 2.0])))
    found = store.read(Query(metric="m", matchers=(Matcher("job", pattern, Match.REGEX),), window_s=60.0), 60.0)
    assert [series.key for series in found] == [of(NAMES[5])]


@pytest.mark.parametrize(
    ("pattern", "label", "expected"),
    [
        ("a|b", "b", True),
        ("a|b", "ab", False),
        ("a|", "", True),
        ("a.c|b", "abc", True),
        (r"a\.c|b", "abc", False),
        (r"a\|b", "a|b", True),
        (r"\d|b", "7", True),
        ("(a|b)c", "bc", True),
    ],
)
def test_the_same_answers_as_a_regular_expression(pattern: str, label: str, expected: bool) -> None:
    assert matches(pattern, Match.REGEX, label) is expected is bool(re.fullmatch(pattern, label))


def test_a_long_pattern_is_still_refused() -> None:
    with pytest.raises(UserError, match="at most 200"):
        matches("|".join(["a.*"] * 100), Match.REGEX, "x")
