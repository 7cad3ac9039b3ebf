"""A training job that answers checkpoint requests (docs/jobs.md) without any framework. Standard library only.

It counts steps, saves them to `--path` when asked and every `--every` steps, and continues from there when it starts again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path


def write(path: Path, value: dict[str, object]) -> None:
    """Write beside and rename, so that a reader sees all or nothing."""
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(value))
    beside.replace(path)


def save(path: Path, control: Path, step: int, request: str) -> None:
    """Save the step and acknowledge it with a proof."""
    write(path, {"step": step})
    data = path.read_bytes()
    files = [{"path": str(path.resolve()), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}]
    run = os.environ["AIOPS_RUN_ID"]
    ack = {"id": request, "run_id": run, "at": time.time(), "step": step, "manifest": {"files": files}, "complete": True}
    write(control / "checkpoint-ack.json", ack)


def requested(control: Path, answered: str) -> str:
    """Id of a request to this run that is not yet answered, else empty."""
    try:
        row = json.loads((control / "checkpoint-request.json").read_text())
    except (OSError, ValueError):
        return ""
    mine = row.get("run_id") == os.environ["AIOPS_RUN_ID"] and row.get("id") != answered
    return str(row["id"]) if mine else ""


def main() -> int:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--step-s", type=float, default=1.0)
    parser.add_argument("--every", type=int, default=60)
    options = parser.parse_args()
    control, answered = Path(os.environ["AIOPS_CONTROL_DIR"]), ""
    write(control / "checkpoint-client.json", {"pid": os.getpid(), "signal": 0, "run_id": os.environ["AIOPS_RUN_ID"]})
    step = json.loads(options.path.read_text())["step"] if options.path.exists() else 0
    print(f"from step {step} on GPUs {os.environ['CUDA_VISIBLE_DEVICES'] or 'none'}", flush=True)
    while step < options.steps:
        time.sleep(options.step_s)
        step += 1
        request = requested(control, answered)
        if request or step % options.every == 0:
            save(options.path, control, step, request)
            answered = request or answered
    return 0


if __name__ == "__main__":
    sys.exit(main())
