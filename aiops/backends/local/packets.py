"""Counts what a unit sends and receives on given network devices, and lets no more be received than its cap.

A program at each end of the unit's cgroup v2 looks at every packet of its sockets. Above the cap a received packet is dropped
once a burst is used up, so that its sender slows down (policing: a receiver cannot queue what others send). What leaves is
only counted here; tc shapes it (`shaping.py`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiops.backends.local import bpf
from aiops.backends.local.bpf import op, wide

_CGROUP_SKB, _RECEIVED, _SENT = 8, 0, 1
_LENGTH_AT, _DEVICE_AT = 0, 40  # struct __sk_buff
_ROW = 16  # bytes counted; the moment (ns) until which what was let through has used up the rate
_LOOKUP, _NOW_NS = 1, 5  # helper functions of the kernel
_BURST_S, _LEAST_BURST_BYTES = 0.25, 262_144  # measured: at 0.05 s TCP reaches 0.36 of a cap of 50 MB/s, at 0.25 s 0.96


@dataclass(frozen=True, slots=True)
class Counters:
    """Tables of one unit: received and sent, an entry per device in this order."""

    devices: tuple[int, ...]
    received: int
    sent: int


class Packets:
    """Programs on units' groups in one directory (None: not permitted). The first `lay` of a group replaces what is there."""

    def __init__(self, groups: Path | None) -> None:
        self._groups = groups
        self._laid: dict[str, Mapping[int, float | None]] = {}
        self._counters: dict[str, Counters] = {}

    @classmethod
    def detect(cls, groups: Path | None) -> Packets:
        """What this process may do in the directory of units' groups, found by counting in a group of no processes."""
        if groups is None:
            return cls(None)
        trial = groups / "trial"
        packets = cls(groups)
        try:
            trial.mkdir(exist_ok=True)
            can = packets.lay("trial", {1: 1.0})
            packets.forget("trial")
            trial.rmdir()
        except OSError:
            return cls(None)
        return packets if can else cls(None)

    @property
    def can(self) -> bool:
        """True where packets of units may be counted and dropped here."""
        return self._groups is not None

    def lay(self, group: str, caps: Mapping[int, float | None]) -> bool:
        """Count on exactly these devices (by index), and receive at most the cap where there is one; False where refused."""
        if self._groups is None or not (self._groups / group).is_dir():
            return False
        if self._laid.get(group) == caps:
            return bool(caps)
        self.forget(group)
        try:
            if caps:
                self._counters[group] = _attached(self._groups / group, caps)
            else:
                _detached(self._groups / group)
        except OSError:
            return False
        self._laid[group] = dict(caps)
        return bool(caps)

    def counted(self, group: str, device: int) -> tuple[int, int] | None:
        """Bytes received and sent by a unit on a device since its program was laid; None where it is not counted."""
        tables = self._counters.get(group)
        if tables is None or device not in tables.devices:
            return None
        index = tables.devices.index(device)
        try:
            rows = [struct.unpack("=QQ", bpf.entry(table, index, _ROW))[0] for table in (tables.received, tables.sent)]
        except OSError:
            return None
        return int(rows[0]), int(rows[1])

    def forget(self, group: str) -> None:
        """Let go of a group's tables; its programs go with the group itself."""
        tables = self._counters.pop(group, None)
        self._laid.pop(group, None)
        if tables is not None:
            os.close(tables.received)
            os.close(tables.sent)

    def close(self) -> None:
        """Let go of all tables; what was laid stays in force."""
        for group in list(self._counters):
            self.forget(group)


def _attached(group: Path, caps: Mapping[int, float | None]) -> Counters:
    tables: list[int] = []
    try:
        for where in (_RECEIVED, _SENT):
            tables.append(bpf.table(len(caps), _ROW))
            rates = caps if where == _RECEIVED else dict.fromkeys(caps)
            program = bpf.load(_program(tables[-1], rates), _CGROUP_SKB, where, b"aiops_packets")
            try:
                bpf.attach(group, program, where)
            finally:
                os.close(program)
    except OSError:
        for table in tables:
            os.close(table)
        raise
    return Counters(tuple(caps), tables[0], tables[1])


def _detached(group: Path) -> None:
    for where in (_RECEIVED, _SENT):
        try:
            bpf.detach(group, where)
        except OSError as error:
            if error.errno != errno.ENOENT:  # there was none
                raise


def _program(table: int, caps: Mapping[int, float | None]) -> tuple[bytes, ...]:
    """Allow, count per device, and above a cap drop; r6 the packet, r7 the table's entry, r8 its length, r9 its device."""
    out = [op(0xBF, 6, 1), op(0x61, 8, 6, _LENGTH_AT), op(0x61, 9, 6, _DEVICE_AT)]
    for index, (device, cap) in enumerate(caps.items()):
        body = _counting(table, index, _policing(cap) if cap is not None else ())
        out += [op(0x55, 9, offset=_slots(body), value=device), *body]  # another device: over the body
    return (*out, op(0xB7, 0, value=1), op(0x95))


def _counting(table: int, index: int, police: tuple[bytes, ...]) -> list[bytes]:
    count = (op(0xDB, 7, 8), op(0xB7, 0, value=1), op(0x95))  # entry[0] += length; allow
    found = (op(0xBF, 7, 0), *police, *count)
    return [
        op(0x62, 10, offset=-4, value=index),  # the key, on the stack
        op(0xBF, 2, 10), op(0x07, 2, value=-4), wide(1, table, 1), op(0x85, value=_LOOKUP),
        op(0x55, 0, offset=2, value=0), op(0xB7, 0, value=1), op(0x95),  # no entry: allow
        *found,
    ]  # fmt: skip


def _policing(cap: float) -> tuple[bytes, ...]:
    """A virtual clock (GCRA, ITU-T I.371): each byte moves it on by 1/rate; drop while it is ahead of now by the burst."""
    rate = max(1, int(cap))
    burst_ns = int(max(_BURST_S, _LEAST_BURST_BYTES / rate) * 1e9)
    return (
        op(0x85, value=_NOW_NS),
        op(0x79, 1, 7, 8),  # r1 = the clock
        op(0x3D, 1, 0, offset=2), op(0xBF, 1, 0), op(0x7B, 7, 1, 8),  # behind now: it starts at now
        wide(2, burst_ns), op(0x0F, 0, 2),
        op(0xBD, 1, 0, offset=2), op(0xB7, 0, value=0), op(0x95),  # ahead by more than the burst: drop
        op(0xBF, 3, 8), op(0xB7, 4, value=1_000_000_000), op(0x2F, 3, 4), wide(4, rate), op(0x3F, 3, 4),
        op(0xDB, 7, 3, 8),  # the clock moves on, whole also when several processors count at once
    )  # fmt: skip


def _slots(code: list[bytes]) -> int:
    return sum(len(one) // 8 for one in code)


def device_index(device: str) -> int | None:
    """Index of a network device, or None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        return int((Path("/sys/class/net") / device / "ifindex").read_text())
    return None
