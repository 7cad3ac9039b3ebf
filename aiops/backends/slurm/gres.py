"""What Slurm's resource texts say: GPUs asked for, GPUs given by index, licences. Pure.

Three notations of one thing: `gres/gpu:h200=8` (TRES), `gres:gpu:h200:8` (per node, task, socket), `gpu:h200:8(IDX:0-7)`.
"""

from __future__ import annotations

import re
from functools import lru_cache

_TEXTS = 4096  # thousands of jobs ask with the same few texts
_TRES = re.compile(r"(?:^|,)gres/gpu(?::([A-Za-z0-9._-]+))?=(\d+)")
_GRES = re.compile(r"(?:^|,)(?:gres[:/])?gpu(?::([A-Za-z][A-Za-z0-9._-]*))?(?:[:=](\d+))?(?:\(IDX:([0-9,\-]*|N/A)\))?")
_LICENCE = re.compile(r"([A-Za-z0-9._-]+)(?:@[A-Za-z0-9._-]+)?(?:[:=](\d+))?")


@lru_cache(maxsize=_TEXTS)
def tres_gpus(text: str) -> tuple[int, str]:
    """(GPUs, type) of a TRES text. The untyped row is the total where typed ones stand beside it."""
    rows = [(kind, int(count)) for kind, count in _TRES.findall(text)]
    plain = [count for kind, count in rows if not kind]
    typed = [(kind, count) for kind, count in rows if kind]
    return (plain[0] if plain else sum(count for _, count in typed)), (typed[0][0] if typed else "")


@lru_cache(maxsize=_TEXTS)
def asked_gpus(text: str) -> tuple[int, str]:
    """(GPUs, type) of a request per node, job, task or socket; a type without a count asks for one."""
    rows = [(kind, int(count or 1)) for kind, count, _ in _GRES.findall(text)]
    return sum(count for _, count in rows), next((kind for kind, _ in rows if kind), "")


def indices(text: str) -> tuple[int, ...]:
    """GPU indices of one node's allocation, `gpu:h200:3(IDX:0-1,5)`."""
    out: list[int] = []
    for _, _, ranges in _GRES.findall(text):
        for item in ranges.split(",") if ranges and ranges != "N/A" else ():
            first, _, last = item.partition("-")
            out += range(int(first), int(last or first) + 1)
    return tuple(out)


def licences(text: str) -> dict[str, int]:
    """Units by licence name of `net_gbps:10,matlab`; empty for none."""
    if text in ("", "(null)"):
        return {}
    return {name: int(count or 1) for name, count in _LICENCE.findall(text)}
