"""Reading the kernel's text files: bounded, and with the errors of a collector.

Roots are always given, so that tests read recorded trees and a container reads the host's `/proc` under another path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

from aiops.errors import NoData, Temporary

# The longest file read here is mountstats with thousands of NFS mounts, about 5 kB each.
LIMIT_BYTES = 16 * 1024 * 1024


def read(path: Path) -> str:
    """Text of a kernel file. NoData where it does not exist or the kernel has it switched off, Temporary where it fails."""
    try:
        with path.open("rb") as file:
            return file.read(LIMIT_BYTES).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name with a NUL byte, out of a broken file
        raise NoData(f"{str(path)!r} does not exist") from None
    except OSError as error:
        # psi=0 on the kernel command line: the files are there and answer EOPNOTSUPP.
        kind = NoData if error.errno == 95 else Temporary
        raise kind(f"{path}: {error.strerror}") from None


def text(path: Path) -> str | None:
    """As `read`, stripped; None where it cannot be had. For one attribute among many, such as a NIC's speed."""
    try:
        return read(path).strip()
    except (NoData, Temporary):
        return None


def number(path: Path) -> float | None:
    """The non-negative number that a file holds, or None: drivers write -1 or `N/A` for what they do not know."""
    content = text(path)
    return parse_number(content.split(None, 1)[0]) if content else None


def parse_number(word: str) -> float | None:
    """A finite, non-negative number, else None."""
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def pick(words: list[str], positions: dict[int, str]) -> Iterator[tuple[str, float]]:
    """(metric, value) for the table `positions` of column -> metric; columns that are missing or no number are left out."""
    for position, metric in positions.items():
        value = parse_number(words[position]) if position < len(words) else None
        if value is not None:
            yield metric, value


def children(path: Path, keep: Callable[[str], bool] = bool) -> list[Path]:
    """Entries of a directory in name order; empty where there is none."""
    try:
        return sorted(child for child in path.iterdir() if keep(child.name))
    except OSError:
        return []
