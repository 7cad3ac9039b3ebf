"""Slurm's short form of node names, `gpu[1-3,07],login1`, opened. Pure; names must be plain before they reach a command."""

from __future__ import annotations

import re

_MOST = 100_000  # a range that opens to more names than any cluster has nodes is a broken answer
_PART = re.compile(r"([A-Za-z0-9._-]+|\[[0-9,\-]+\])+")
_PIECE = re.compile(r"[A-Za-z0-9._-]+|\[[0-9,\-]+\]")


def expand(text: str) -> tuple[str, ...]:
    """Names in the order written; empty for Slurm's ways to say 'none'. ValueError where it is not a host list."""
    if text in ("", "(null)", "None assigned", "n/a", "N/A"):
        return ()
    names: list[str] = []
    for part in re.split(r",(?![^\[]*\])", text):
        if not _PART.fullmatch(part):
            raise ValueError(f"not a list of hosts: {text[:80]!r}")
        names += _opened(part)
    return tuple(names)


def _opened(part: str) -> list[str]:
    names = [""]
    for piece in _PIECE.findall(part):
        endings = _numbers(piece[1:-1]) if piece.startswith("[") else [piece]
        if len(names) * len(endings) > _MOST:
            raise ValueError("a list of too many hosts")
        names = [name + ending for name in names for ending in endings]
    return names


def _numbers(inner: str) -> list[str]:
    """`1-3,07` as texts; leading zeros are part of a name."""
    out: list[str] = []
    for item in inner.split(","):
        first, dash, last = item.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or int(last or first) - int(first) > _MOST:
            raise ValueError(f"not a range: {item[:40]!r}")
        out += [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]
    return out
