"""A small, real training loop that reports where its time goes; `bench/realfaults.py` makes its life hard.

    AIOPS_TELEMETRY=/tmp/telemetry python examples/train.py DATA_DIR --seconds 30

Every sample is one MiB read with O_DIRECT (the page cache would hide the storage). With WORLD_SIZE > 1 the ranks average
gradients over gloo. Knobs that the cluster may turn: loader_workers, batch_size, micro_batches. Needs PyTorch.
"""

from __future__ import annotations

import argparse
import functools
import mmap
import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from aiops import jobs

SAMPLE_BYTES = 1 << 20
PIXELS = 64 * 64


class Files(Dataset[Any]):
    """Samples of one MiB out of all files of a directory, past the page cache."""

    def __init__(self, folder: Path, latency_s: float) -> None:
        self._latency_s = latency_s
        sizes = [(path, path.stat().st_size // SAMPLE_BYTES) for path in sorted(folder.iterdir()) if path.is_file()]
        self._places = [(path, index * SAMPLE_BYTES) for path, count in sizes for index in range(count)]

    @functools.cache  # noqa: B019 - one per worker process, as long as the worker lives
    def _buffer(self) -> mmap.mmap:
        return mmap.mmap(-1, SAMPLE_BYTES, flags=mmap.MAP_PRIVATE)  # O_DIRECT wants aligned memory

    def __len__(self) -> int:
        return 1 << 30  # for ever

    def __getitem__(self, index: int) -> torch.Tensor:
        path, offset = self._places[index * 7919 % len(self._places)]
        time.sleep(self._latency_s)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            os.preadv(descriptor, [self._buffer()], offset)
        finally:
            os.close(descriptor)
        image = torch.frombuffer(self._buffer(), dtype=torch.uint8).float().view(1, 1, 1024, 1024)
        return torch.nn.functional.avg_pool2d(image / 255.0 - 0.5, 16).view(PIXELS)


def average(model: torch.nn.Module) -> None:
    """Average gradients over the ranks, in one piece."""
    flat = torch.cat([p.grad.view(-1) for p in model.parameters() if p.grad is not None])
    with jobs.comm_wait():
        dist.all_reduce(flat)
    flat /= dist.get_world_size()
    torch.nn.utils.vector_to_parameters(flat, [p.grad for p in model.parameters() if p.grad is not None])


def train(data: Files, seconds: float, width: int) -> None:
    """Train until the time is over; a turned knob rebuilds the loader."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    model = torch.nn.Sequential(
        torch.nn.Linear(PIXELS, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, 10),
    )
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    until, number = time.monotonic() + seconds, 0

    def ended() -> bool:
        """Rank 0 decides for all: ranks that stop at different steps would wait for each other."""
        over = torch.tensor([float(time.monotonic() >= until)])
        if ranks > 1:
            dist.broadcast(over, 0)
        return bool(over)

    over = False
    while not over:
        workers, size = jobs.knob("loader_workers", 2), jobs.knob("batch_size", 6)
        options: dict[str, Any] = {"num_workers": workers, "prefetch_factor": 4 if workers else None}
        for batch in jobs.steps(DataLoader(data, batch_size=size, **options)):
            optimiser.zero_grad()
            for _ in range(jobs.knob("micro_batches", 6)):
                model(batch).square().mean().backward()
            if ranks > 1:
                average(model)
            optimiser.step()
            number += 1
            over = number % 10 == 0 and ended()
            if over or (workers, size) != (jobs.knob("loader_workers", 2), jobs.knob("batch_size", 6)):
                break
    print(f"{number} steps")


def main() -> None:
    """Read the command line, join the other ranks, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--latency", type=float, default=0.005, help="seconds that a far store adds to every sample")
    parser.add_argument("--width", type=int, default=1024)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
    train(Files(args.folder, args.latency), args.seconds, args.width)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
