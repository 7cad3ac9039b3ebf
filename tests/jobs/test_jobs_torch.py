"""Against the real thing: PyTorch's DataLoader with workers."""

import subprocess
import sys
from pathlib import Path

import pytest

from collectors.jobs import parse

pytest.importorskip("torch", reason="PyTorch is not installed")
ROOT = Path(__file__).parents[2]

CODE = """
import time, torch
from itertools import islice
from torch.utils.data import DataLoader, Dataset
from aiops import jobs

class Slow(Dataset):
    def __len__(self):
        return 60  # more than is taken: a queue that drains at the end says nothing
    def __getitem__(self, index):
        time.sleep(%s)
        return torch.zeros(8)

for batch in islice(jobs.steps(DataLoader(Slow(), batch_size=2, num_workers=2)), 20):
    assert batch.shape == (2, 8)
    time.sleep(%s)
"""


def run(folder: Path, load_s: float, compute_s: float) -> dict[str, float]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "AIOPS_TELEMETRY": str(folder), "OMP_NUM_THREADS": "1"}
    code = CODE % (load_s, compute_s)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.prom")  # the workers, which are forks of this process, report nothing
    return {key.metric: value for key, value in parse(path.read_text())}


def test_a_fast_loader_keeps_its_queue_full_and_a_slow_one_keeps_the_step_waiting(tmp_path: Path) -> None:
    for name in ("fast", "slow"):
        (tmp_path / name).mkdir()
    fast = run(tmp_path / "fast", load_s=0.0, compute_s=0.1)
    slow = run(tmp_path / "slow", load_s=0.1, compute_s=0.0)
    for got in (fast, slow):
        assert (got["job_steps_total"], got["job_samples_total"]) == (20, 40)
    assert fast["job_loader_queue_batches"] > max(1, slow["job_loader_queue_batches"])
    assert fast["job_compute_seconds_total"] > 0.9 and slow["job_data_wait_seconds_total"] > 0.5
    assert slow["job_compute_seconds_total"] < slow["job_data_wait_seconds_total"]
