"""Whole files or none: how a backend writes and reads the files that it and its jobs share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

from aiops import codec

_MOST = 64 * 2**20  # a file of ours is never near this; a larger one is not ours


def write(path: Path, value: object) -> None:
    """Durably replace `path` by the canonical JSON of `value`: all of it or nothing, also over a power cut."""
    replace(path, codec.encode(value))


def replace(path: Path, data: bytes) -> None:
    """Durably replace `path` by `data`: all of it or nothing, also over a power cut."""
    beside = path.with_name(f".{path.name}.part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync(path.parent)


def sync(directory: Path) -> None:
    """Make renames and links in `directory` durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None where there is no such file or it is not one (what others write is hostile)."""
    try:
        if path.stat().st_size > _MOST:
            return None
        raw = orjson.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None
