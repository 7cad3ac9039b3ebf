"""A policy's settings section as its frozen `Rule`: names, units and ranges checked the same way everywhere.

The suffix says what a number is: `_s` a duration above 0, `_ratio` or `confidence` a number between 0 and 1, a count or an
amount above 0 else. Which values contradict each other is each policy's own business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from aiops.errors import ConfigError
from aiops.settings import seconds

R = TypeVar("R")


def rule_of(kind: type[R], section: Mapping[str, Any], where: str, policy: str) -> R:
    """`kind` built from `section`; ConfigError names the first key that is unknown or out of range."""
    known = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for key, raw in section.items():
        path = f"policies.{policy}.{key}"
        if key not in known:
            raise ConfigError(where, path, f"unknown key; expected one of: {', '.join(known)}")
        try:
            values[key] = _parsed(key, raw, known[key])
        except (TypeError, ValueError) as error:
            raise ConfigError(where, path, f"expected {error}") from None
    return kind(**values)


def _parsed(key: str, raw: Any, default: Any) -> Any:
    if isinstance(default, bool):
        if not isinstance(raw, bool):
            raise ValueError(f"true or false, found {raw!r}")
        return raw
    if isinstance(default, str):
        if not isinstance(raw, str) or not raw:
            raise ValueError(f"a name, found {raw!r}")
        return raw
    if isinstance(default, tuple):
        if not isinstance(raw, list | tuple) or not all(isinstance(one, str) and one for one in raw):
            raise ValueError("a list of names")
        return tuple(raw)
    if not isinstance(default, int | float):
        return raw  # a shape of the policy's own, which it checks itself
    return _number(key, raw, whole=isinstance(default, int))


def _number(key: str, raw: Any, whole: bool) -> float | int:
    if not key.endswith("_s") and (isinstance(raw, bool) or not isinstance(raw, int | float)):
        raise ValueError(f"a number, found {raw!r}")
    value = seconds(raw) if key.endswith("_s") else float(raw)
    ratio = key.endswith(("_ratio", "confidence"))
    if not (0 < value < 1 if ratio else 0 < value < 1e15):
        raise ValueError(f"{'a ratio between 0 and 1' if ratio else 'a number above 0'}, found {raw!r}")
    if whole and value != int(value):
        raise ValueError(f"a whole number, found {raw!r}")
    return int(value) if whole else value
