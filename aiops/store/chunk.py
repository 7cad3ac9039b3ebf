"""How float64 columns lie in the database: bit-exact, a few bytes per sample. Pure; knows nothing of series or tables.

A column is written in the cheapest of three forms, told apart by its first byte:

- CONSTANT  one value, repeated: up/down flags, limits, sizes;
- DECIMAL   every value is, but for its last bits, an integer over a power of ten, as sensors and counters report them:
            differences of the integers in the narrowest width, deflated, and what the last bits are off (a vendor's unit
            may have been divided twice; cf. Afroozeh et al., ALP, SIGMOD 2023);
- BITS      anything else: exclusive-or of neighbours' bit patterns (Pelkonen et al., Gorilla, VLDB 2015), bytes transposed so
            that equal exponents stand together, deflated.

Times go the same way as integers: the bit pattern of a float is linear in its value within one power of two, so second
differences of the patterns of a regular grid are zeros, and any other times still come back to the last bit.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from aiops.model import Floats

Ints = NDArray[np.int64]

CONSTANT, DECIMAL, BITS = 0, 1, 2
_SCALES = (0, 1, 2, 3, 4, 6, 9)  # decimals that sensors and counters have: up to micro- and nanoseconds
_EXACT = 2.0**53  # the largest magnitude at which float64 holds every integer
_WIDTHS = (np.dtype("<i1"), np.dtype("<i2"), np.dtype("<i4"), np.dtype("<i8"))
_LEVEL = 6  # of deflate: 9 costs three times as long for 1 % less on counters and sensor values


def pack_values(values: Floats) -> bytes:
    """Bytes of (n,) float64 values, n >= 1; `unpack_values` gives the same bits back."""
    bits = _bits(values)
    if (bits == bits[0]).all():
        return bytes([CONSTANT]) + len(bits).to_bytes(4, "little") + bits[:1].tobytes()
    for scale in _SCALES:
        decimal = _as_decimal(values, scale)
        if decimal is not None:
            whole, off = decimal
            rest = zlib.compress(off.tobytes(), _LEVEL) if off.any() else b""
            return bytes([DECIMAL, scale]) + _pack_differences(whole) + rest
    mixed = np.concatenate((bits[:1], bits[1:] ^ bits[:-1]))
    return bytes([BITS]) + zlib.compress(_transposed(mixed), _LEVEL)


def unpack_values(data: bytes) -> Floats:
    """(n,) float64 from `pack_values`; ValueError where the bytes are not of that form."""
    match data[0]:
        case 0:
            count = int.from_bytes(data[1:5], "little")
            return np.repeat(np.frombuffer(data, "<f8", offset=5), count)
        case 1:
            whole, rest = _unpack_differences(data[2:])
            near = whole / np.float64(10.0 ** data[1])
            return (_bits(near) + np.frombuffer(zlib.decompress(rest), np.int8)).view("<f8") if rest else near
        case 2:
            raw = np.frombuffer(zlib.decompress(data[1:]), np.uint8)
            mixed = np.ascontiguousarray(raw.reshape(8, -1).T).view("<i8").ravel()
            return np.bitwise_xor.accumulate(mixed).view("<f8")
        case form:
            raise ValueError(f"unknown form {form} of a column")


def pack_times(times: Floats) -> bytes:
    """Bytes of (n,) increasing float64 times, n >= 1."""
    return _pack_differences(np.diff(_bits(times), prepend=np.int64(0)))


def unpack_times(data: bytes) -> Floats:
    """(n,) float64 from `pack_times`."""
    return np.cumsum(_unpack_differences(data)[0]).view("<f8")


def _bits(values: Floats) -> Ints:
    return np.ascontiguousarray(values, dtype="<f8").view("<i8")


def _as_decimal(values: Floats, scale: int) -> tuple[Ints, NDArray[np.int8]] | None:
    """Integers `whole` and `off` with bits(whole / 10**scale) + off == bits(values), or None where `off` is not small."""
    with np.errstate(over="ignore"):  # what overflows is not below _EXACT either
        scaled = np.rint(values * 10.0**scale)
    if not (np.abs(scaled) < _EXACT).all():
        return None
    whole = scaled.astype(np.int64)
    off = _bits(values) - _bits(whole / np.float64(10.0**scale))
    return (whole, off.astype(np.int8)) if ((off > -128) & (off < 128)).all() else None


def _pack_differences(whole: Ints) -> bytes:
    steps = np.diff(whole)
    width = next(w for w in _WIDTHS if not len(steps) or np.array_equal(steps.astype(w), steps))
    body = _transposed(steps.astype(width))
    return bytes([width.itemsize]) + int(whole[0]).to_bytes(8, "little", signed=True) + zlib.compress(body, _LEVEL)


def _unpack_differences(data: bytes) -> tuple[Ints, bytes]:
    """The integers, and what stands behind them."""
    width = data[0]
    first = np.int64(int.from_bytes(data[1:9], "little", signed=True))
    stream = zlib.decompressobj()
    raw = np.frombuffer(stream.decompress(data[9:]), np.uint8)
    steps = np.ascontiguousarray(raw.reshape(width, -1).T).view(f"<i{width}").ravel()
    whole = np.concatenate((np.array([first], np.int64), first + np.cumsum(steps, dtype=np.int64)))
    return whole, stream.unused_data


def _transposed(column: NDArray[np.signedinteger]) -> bytes:
    """All first bytes, then all second bytes and so on: like stands beside like."""
    return column.view(np.uint8).reshape(-1, column.dtype.itemsize).T.tobytes()


def pack_tick(ids: Ints, values: Floats) -> bytes:
    """Bytes of one scrape: (n,) ascending series ids and their (n,) values, n >= 1. Quick to write, for it lives two hours."""
    names = _pack_differences(ids)
    return len(names).to_bytes(4, "little") + names + zlib.compress(_transposed(_bits(values)), 1)


def unpack_tick(data: bytes) -> tuple[Ints, Floats]:
    """The ids and values of `pack_tick`."""
    end = 4 + int.from_bytes(data[:4], "little")
    raw = np.frombuffer(zlib.decompress(data[end:]), np.uint8)
    return _unpack_differences(data[4:end])[0], np.ascontiguousarray(raw.reshape(8, -1).T).view("<f8").ravel()
