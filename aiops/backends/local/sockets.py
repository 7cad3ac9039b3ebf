"""Marks every socket of a cgroup with a traffic class, so that tc can tell one unit's packets from another's.

A program of four instructions (`socket.priority = class; allow`) is attached to the unit's cgroup v2 by the bpf system call
itself: no compiler, no library, nothing per packet. It goes with the cgroup. Needs CAP_BPF or root and a cgroup v2 mount.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_PROG_LOAD, _PROG_ATTACH = 5, 8
_CGROUP_SOCK, _INET_SOCK_CREATE = 9, 2
_PRIORITY_AT = 20  # struct bpf_sock: bound_dev_if, family, type, protocol, mark, priority
_MOVE_IMMEDIATE, _STORE_WORD, _EXIT = 0xB7, 0x63, 0x95


def mark(cgroup: Path, priority: int) -> None:
    """Give every socket that processes in `cgroup` create from now on this priority. Raises OSError where not permitted."""
    program = _load(priority)
    try:
        directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _bpf(_PROG_ATTACH, struct.pack("=IIII", directory, program, _INET_SOCK_CREATE, 0))
        finally:
            os.close(directory)
    finally:
        os.close(program)


def _load(priority: int) -> int:
    code = ctypes.create_string_buffer(
        b"".join(
            (
                struct.pack("=BBhi", _MOVE_IMMEDIATE, 2, 0, priority),  # r2 = priority
                struct.pack("=BBhi", _STORE_WORD, 2 << 4 | 1, _PRIORITY_AT, 0),  # *(u32 *)(r1 + 20) = r2
                struct.pack("=BBhi", _MOVE_IMMEDIATE, 0, 0, 1),  # r0 = 1: allow
                struct.pack("=BBhi", _EXIT, 0, 0, 0),
            )
        )
    )
    license_ = ctypes.create_string_buffer(b"Apache-2.0")
    # type, count; addresses of code and licence; log: level, size, address; kernel, flags, name, device, attach type
    pointers = ctypes.addressof(code), ctypes.addressof(license_)
    asked = struct.pack("=IIQQIIQII16sII", _CGROUP_SOCK, 4, *pointers, 0, 0, 0, 0, 0, b"aiops_class", 0, _INET_SOCK_CREATE)
    return _bpf(_PROG_LOAD, asked)


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(f"bpf: no system call number is known for {platform.machine()}")
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    libc = ctypes.CDLL(None, use_errno=True)
    answer = int(libc.syscall(number, command, ctypes.byref(buffer), len(attributes)))
    if answer < 0:
        raise OSError(ctypes.get_errno(), f"bpf: {os.strerror(ctypes.get_errno())}")
    return answer
