"""Marks every socket of a cgroup with a traffic class, so that tc can tell one unit's packets from another's.

A program of four instructions (`socket.priority = class; allow`) is attached to the unit's cgroup v2: nothing per packet.
"""

from __future__ import annotations

import os
from pathlib import Path

from aiops.backends.local import bpf
from aiops.backends.local.bpf import op

_CGROUP_SOCK, _INET_SOCK_CREATE = 9, 2
_PRIORITY_AT = 20  # struct bpf_sock: bound_dev_if, family, type, protocol, mark, priority
_MOVE_IMMEDIATE, _STORE_WORD, _EXIT = 0xB7, 0x63, 0x95


def mark(cgroup: Path, priority: int) -> None:
    """Give every socket that processes in `cgroup` create from now on this priority. Raises OSError where not permitted."""
    instructions = (
        op(_MOVE_IMMEDIATE, 2, value=priority),  # r2 = priority
        op(_STORE_WORD, 1, 2, _PRIORITY_AT),  # *(u32 *)(r1 + 20) = r2
        op(_MOVE_IMMEDIATE, 0, value=1),  # r0 = 1: allow
        op(_EXIT),
    )
    program = bpf.load(instructions, _CGROUP_SOCK, _INET_SOCK_CREATE, b"aiops_class")
    try:
        bpf.attach(cgroup, program, _INET_SOCK_CREATE)
    finally:
        os.close(program)
