"""Which series a query means, and which of their points: pure, shared by every store so that all answer alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import assert_never

import numpy as np

from aiops.errors import UserError
from aiops.model import Floats, Match, Matcher, Query, Series, SeriesKey

MAX_PATTERN = 200  # characters; label selectors that people write are far shorter, and `re` may backtrack
_LITERAL = re.compile(r"(?:[^\\.^$*+?{}\[\]()]|\\[^A-Za-z0-9])*")  # a text without special characters but escaped ones
_NESTED_REPEAT = re.compile(r"[*+}]\)+[*+{]")  # (a+)+ and its kin take exponential time in a backtracking engine


def selector(query: Query) -> Callable[[SeriesKey], bool]:
    """A test for keys; UserError where a pattern is no regular expression or one that `re` may never finish."""
    tests = [_test(matcher) for matcher in query.matchers]
    return lambda key: key.metric == query.metric and all(test(key) for test in tests)


def _test(matcher: Matcher) -> Callable[[SeriesKey], bool]:
    label, value = matcher.label, matcher.value
    match matcher.op:
        case Match.EQUAL:
            return lambda key: (key.label(label) or "") == value
        case Match.NOT_EQUAL:
            return lambda key: (key.label(label) or "") != value
        case Match.REGEX | Match.NOT_REGEX:
            wanted = matcher.op is Match.REGEX
            names = _names(value)
            if names is not None:
                return lambda key: ((key.label(label) or "") in names) is wanted
            found = _pattern(value)
            return lambda key: (found.fullmatch(key.label(label) or "") is not None) is wanted
        case _:
            assert_never(matcher.op)


def _names(text: str) -> frozenset[str] | None:
    """The names of a plain `a|b|c`, however many: a lookup cannot backtrack. None for any other pattern."""
    parts = text.split("|")
    plain = "\\|" not in text and all(_LITERAL.fullmatch(part) for part in parts)
    return frozenset(re.sub(r"\\(.)", r"\1", part) for part in parts) if plain else None


def _pattern(text: str) -> re.Pattern[str]:
    if len(text) > MAX_PATTERN:
        raise UserError(f"matcher: expected a pattern of at most {MAX_PATTERN} characters, found {len(text)}")
    if _NESTED_REPEAT.search(text):
        raise UserError(f"matcher: expected a pattern without a repeated repetition, found {text!r}")
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"matcher: expected a regular expression, found {text!r}: {error}") from None


def windowed(key: SeriesKey, times: Floats, values: Floats, query: Query, now: float) -> Series | None:
    """The points of one key in (now - window_s, now], thinned to the last one per step; None where there is none.

    Steps are cells of absolute time, [k * step_s, (k + 1) * step_s), so that a point is thinned alike whenever it is read.
    `times` (n,) must increase strictly.
    """
    low, high = np.searchsorted(times, (now - query.window_s, now), side="right")
    times, values = times[low:high], values[low:high]
    if query.step_s > 0 and len(times):
        cells = np.floor(times / query.step_s)
        last = np.append(cells[1:] != cells[:-1], True)
        times, values = times[last], values[last]
    return Series(key=key, times=times, values=values) if len(times) else None


def in_order(found: Iterable[Series]) -> tuple[Series, ...]:
    """Sorted by key."""
    return tuple(sorted(found, key=lambda one: one.key))
