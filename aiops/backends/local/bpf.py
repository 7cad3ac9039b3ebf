"""The bpf system call, as far as control groups need it: load a short program, attach it, keep a table beside it.

Its place: below `sockets.py` and `packets.py`, which say what the programs do. No compiler, no library: a program is a few
instructions, and goes with its cgroup. Needs CAP_BPF and CAP_NET_ADMIN, or root.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Sequence
from pathlib import Path

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_MAP_CREATE, _MAP_LOOKUP, _PROG_LOAD, _PROG_ATTACH, _PROG_DETACH = 0, 1, 5, 8, 9
_ARRAY = 2
_LICENCE = b"Apache-2.0"


def op(code: int, to: int = 0, of: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """One instruction: operation, registers `to` and `of`, offset (jump or memory), 32-bit immediate."""
    return struct.pack("=BBhi", code, of << 4 | to, offset, value)


def wide(to: int, value: int, of: int = 0) -> bytes:
    """Load a 64-bit immediate (two instructions); `of` 1 makes it the table with this descriptor."""
    return struct.pack("=BBhi", 0x18, of << 4 | to, 0, value & 0xFFFFFFFF if value < 2**31 else _signed(value)) + struct.pack(
        "=BBhi", 0, 0, 0, value >> 32
    )


def _signed(value: int) -> int:
    low = value & 0xFFFFFFFF
    return low - 2**32 if low >= 2**31 else low


def load(instructions: Sequence[bytes], kind: int, attach: int, name: bytes) -> int:
    """Descriptor of a program of `kind` for attach point `attach`. Raises OSError where the kernel refuses it."""
    code = ctypes.create_string_buffer(b"".join(instructions))
    licence = ctypes.create_string_buffer(_LICENCE)
    # type, count; addresses of code and licence; log: level, size, address; kernel, flags, name, device, attach type
    pointers = ctypes.addressof(code), ctypes.addressof(licence)
    count = (len(code) - 1) // 8
    return _call(_PROG_LOAD, struct.pack("=IIQQIIQII16sII", kind, count, *pointers, 0, 0, 0, 0, 0, name, 0, attach))


def attach(cgroup: Path, program: int, where: int) -> None:
    """Make `program` the one of `cgroup` at attach point `where`, in place of an earlier one. Raises OSError."""
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _call(_PROG_ATTACH, struct.pack("=IIII", directory, program, where, 0))
    finally:
        os.close(directory)


def detach(cgroup: Path, where: int) -> None:
    """Leave `cgroup` without a program at attach point `where`. Raises OSError, FileNotFoundError where it has none."""
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _call(_PROG_DETACH, struct.pack("=IIII", directory, 0, where, 0))
    finally:
        os.close(directory)


def table(entries: int, width: int) -> int:
    """Descriptor of an array of `entries` values of `width` bytes, all zero. Raises OSError."""
    return _call(_MAP_CREATE, struct.pack("=IIIII", _ARRAY, 4, width, entries, 0))


def entry(table_: int, index: int, width: int) -> bytes:
    """One value of a table. Raises OSError."""
    key = ctypes.create_string_buffer(struct.pack("=I", index), 4)
    value = ctypes.create_string_buffer(width)
    _call(_MAP_LOOKUP, struct.pack("=IIQQQ", table_, 0, ctypes.addressof(key), ctypes.addressof(value), 0))
    return value.raw


def _call(command: int, attributes: bytes) -> int:
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(f"bpf: no system call number is known for {platform.machine()}")
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    libc = ctypes.CDLL(None, use_errno=True)
    answer = int(libc.syscall(number, command, ctypes.byref(buffer), len(attributes)))
    if answer < 0:
        raise OSError(ctypes.get_errno(), f"bpf: {os.strerror(ctypes.get_errno())}")
    return answer
