"""Canonical bytes for the contract's frozen values, and back again.

Encoding is JSON with sorted keys through orjson: equal values give equal bytes, floats round-trip to the last bit, NaN
inside an array is null. Decoding is directed by the dataclass's own type hints, so that it needs no second schema.
"""

from __future__ import annotations

import dataclasses
import types
import zlib
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from hashlib import sha256
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np
import orjson

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
Build = Callable[[Any], Any]
T = TypeVar("T")


def encode(value: object) -> bytes:
    """Canonical JSON bytes of a frozen value; TypeError for a type that the contract does not have."""
    return orjson.dumps(value, option=_OPTIONS, default=_unusual)


def _unusual(value: object) -> object:
    if isinstance(value, np.ndarray):  # orjson takes C-contiguous arrays only
        return np.ascontiguousarray(value).tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no canonical form")


def pack(value: object) -> bytes:
    """Canonical bytes, compressed: how snapshots and clusters lie in the database."""
    return zlib.compress(encode(value), 6)


def unpack(kind: type[T], data: bytes) -> T:
    """Inverse of `pack`."""
    return decode(kind, zlib.decompress(data))


def digest(value: object) -> str:
    """SHA-256 of the canonical bytes, hexadecimal."""
    return sha256(encode(value)).hexdigest()


def decode(kind: type[T], data: bytes | str) -> T:
    """Value of type `kind` from its canonical bytes; ValueError, KeyError or TypeError if they are not of that type."""
    return cast(T, _builder(cast(Any, kind))(orjson.loads(data)))


@cache
def _builder(kind: Any) -> Build:
    origin, args = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass_builder(cast(type, kind))
    if origin in (Union, types.UnionType):
        return _union_builder(args)
    if origin is tuple:
        return _tuple_builder(args)
    if origin is np.ndarray:
        return lambda raw: np.array(raw, dtype=np.float64)  # None becomes NaN
    if origin in (dict, Mapping):
        build = _builder(args[1])
        return lambda raw: {key: build(value) for key, value in raw.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    return float if kind is float else lambda raw: raw


def _tuple_builder(args: tuple[Any, ...]) -> Build:
    if len(args) == 2 and args[1] is Ellipsis:
        build = _builder(args[0])
        return lambda raw: tuple(build(item) for item in raw)
    builds = tuple(_builder(arg) for arg in args)
    return lambda raw: tuple(build(item) for build, item in zip(builds, raw, strict=True))


def _dataclass_builder(kind: type) -> Build:
    hints = get_type_hints(kind)
    fields = [(f.name, _builder(hints[f.name])) for f in dataclasses.fields(kind) if f.init]
    return lambda raw: kind(**{name: build(raw[name]) for name, build in fields if name in raw})


def _union_builder(args: tuple[Any, ...]) -> Build:
    """A union is either `X | None` or a sealed union of dataclasses told apart by their constant `kind`."""
    members = [arg for arg in args if arg is not type(None)]
    if len(members) == 1:
        build = _builder(members[0])
        return lambda raw: None if raw is None else build(raw)
    by_kind = {next(f.default for f in dataclasses.fields(m) if f.name == "kind"): _builder(m) for m in members}
    return lambda raw: None if raw is None else by_kind[raw["kind"]](raw)
