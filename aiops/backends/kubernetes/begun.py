"""What an action has begun on a Job and not ended yet: a journal on the object itself, written with the first of its writes.

Whoever leads next finds it there, and finishes or puts back what it names (`finishing`). It says enough to judge whether the
object is still as that first write left it: of an object that others have changed since, aiops keeps its hands off.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import orjson

from aiops.backends.kubernetes import marks
from aiops.backends.kubernetes.connection import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A run suspended to be resumed elsewhere; `generation` is the Job's since the suspension."""

    id: str
    generation: int
    on_nodes: tuple[str, ...]
    to_nodes: tuple[str, ...]
    gpus: int

    def mark(self) -> dict[str, str | None]:
        """The annotation that says it."""
        return {marks.MOVING: orjson.dumps(asdict(self)).decode()}

    @classmethod
    def of(cls, found: Object) -> Self | None:
        """What the object says; None where it says nothing, or nothing that this could have written."""
        row = _row(found, "moving")
        try:
            return cls(
                id=str(row["id"]), generation=int(row["generation"]), on_nodes=tuple(map(str, row["on_nodes"])),
                to_nodes=tuple(map(str, row["to_nodes"])), gpus=int(row["gpus"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A run whose pods are being evicted since `at` (Unix seconds): which run, and which pods it had."""

    id: str
    run_id: str
    pods: tuple[str, ...]
    at: float

    def mark(self) -> dict[str, str | None]:
        """The annotation that says it."""
        return {marks.STOPPING: orjson.dumps(asdict(self)).decode()}

    @classmethod
    def of(cls, found: Object) -> Self | None:
        """What the object says; None where it says nothing, or nothing that this could have written."""
        row = _row(found, "stopping")
        try:
            pods = tuple(map(str, row["pods"]))
            return cls(id=str(row["id"]), run_id=str(row["run_id"]), pods=pods, at=float(row["at"]))
        except (KeyError, TypeError, ValueError):
            return None


def _row(found: Object, name: str) -> dict[str, Any]:
    try:
        row = orjson.loads(marks.of(found).get(name, "{}"))
    except orjson.JSONDecodeError:
        return {}
    return row if isinstance(row, dict) else {}
