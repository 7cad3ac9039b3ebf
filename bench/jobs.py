"""What `aiops.jobs` costs the training thread, per step: bench/jobs.py [--quick] [--json OUT].

CPU time of the thread, so that a busy machine does not count; the step has a data wait, a comm wait and the question for
a checkpoint, and the reporting thread runs. Baselines: the bare loop is taken off; two clock readings by hand.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median


def per_step(loop: Callable[[int], None], steps: int, repeats: int) -> float:
    """Microseconds of thread CPU time per step; median of the repeats."""
    spent = []
    for _ in range(repeats):
        started = time.thread_time()
        loop(steps)
        spent.append((time.thread_time() - started) / steps * 1e6)
    return median(spent)


def bare(steps: int) -> None:
    for _ in range(steps):
        pass


def by_hand(steps: int) -> None:
    total = 0.0
    for _ in range(steps):
        started = time.perf_counter()
        total += time.perf_counter() - started


def with_blocks(steps: int) -> None:
    from aiops import jobs

    for _ in range(steps):
        with jobs.data_wait():
            pass
        with jobs.step(samples=8), jobs.comm_wait():
            pass
        jobs.checkpoint_requested()


def with_iterator(steps: int) -> None:
    from aiops import jobs

    for _ in jobs.steps(range(steps)):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    repeats = 5 if args.quick else 25
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)  # after the client's last report
    os.environ |= {"AIOPS_TELEMETRY": folder, "AIOPS_CONTROL_DIR": folder, "AIOPS_JOB_ID": "bench"}
    loops = {"bare": bare, "two clock readings by hand": by_hand, "steps(loader)": with_iterator, "three spans": with_blocks}
    cost = {name: per_step(loop, 50_000, repeats) for name, loop in loops.items()}
    net = {name: value - cost["bare"] for name, value in cost.items() if name != "bare"}
    for name, value in net.items():
        print(f"{name:28s}{value:8.2f} us per step")
    worst = max(net["steps(loader)"], net["three spans"])
    print(f"goal 20 us per step: {'met' if worst <= 20 else 'MISSED'} (n={repeats} x 50,000 steps)")
    if args.json:
        hand = {"two clock readings by hand": net["two clock readings by hand"]}
        row = {"figure": "jobs client: cost per step on the training thread", "value": worst, "unit": "us", "goal": 20.0}
        args.json.write_text(json.dumps([{**row, "better": "lower", "baseline": hand}], indent=1))


if __name__ == "__main__":
    main()
