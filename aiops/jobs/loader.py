"""Data loaders that time how long they keep the training thread waiting, and how full their prefetch queue was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from aiops.jobs import process

Batch = TypeVar("Batch")


class Timed(Generic[Batch]):
    """A loader as it was (attributes, length), whose iteration is timed as data wait."""

    def __init__(self, loader: Iterable[Batch]) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Batch]:
        with process.data_wait():  # starting workers is waiting, too
            batches = iter(self._loader)
        recorder = process.client().recorder
        while True:
            recorder.queue(ready(batches))
            with process.data_wait():
                try:
                    batch = next(batches)
                except StopIteration:
                    return
            yield batch

    def __len__(self) -> int:
        return len(self._loader)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":  # asked while unpickling, before it exists
            raise AttributeError(name)
        return getattr(self._loader, name)


def timed(loader: Iterable[Batch]) -> Timed[Batch]:
    """The same loader, with its waits reported."""
    return Timed(loader)


def steps(loader: Iterable[Batch], samples: float | None = None) -> Iterator[Batch]:
    """Iterate over `loader` so that every turn of the loop is a step, and the wait before it its data wait.

    `samples` per batch defaults to the loader's `batch_size` where it has one.
    """
    if samples is None:
        size = getattr(loader, "batch_size", None)
        samples = float(size) if isinstance(size, int) else 0.0
    for batch in loader if isinstance(loader, Timed) else Timed(loader):
        with process.step(samples):
            yield batch


def ready(batches: object) -> float | None:
    """Prefetched batches that wait in a PyTorch loader's queues, or None where that cannot be seen."""
    queue = getattr(batches, "_data_queue", None)
    try:
        arrived = queue.qsize() if queue is not None else None
        # Batches that came early wait in `_task_info` as (worker, batch) until it is their turn.
        early = sum(len(task) == 2 for task in getattr(batches, "_task_info", {}).values())
    except (NotImplementedError, TypeError, AttributeError, OSError, ValueError, RuntimeError):
        return None  # private to PyTorch, absent on macOS: a missing depth is no reason to fail
    return None if arrived is None else float(arrived + early)
