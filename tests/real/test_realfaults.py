"""A real fault done to a real training job on this machine: telemetry shows it, and the diagnosis is asked."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))

from realstage import missing  # noqa: E402

pandas = pytest.importorskip("pandas")
reason = missing()
pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.skipif(bool(reason), reason=f"real faults: {reason}")]


def rates(folder: Path, entity: str, metric: str) -> tuple[float, float]:
    """Median rate of a counter before and after the onset."""
    told = json.loads((folder / "truth.json").read_text())
    table = pandas.read_csv(folder / "metrics.csv.gz")
    rows = table[(table["entity"] == entity) & (table["metric"] == metric)]
    rate, times = np.diff(rows["value"]) / np.diff(rows["time"]), rows["time"].to_numpy()[1:]
    return float(np.median(rate[times < told["onset"]])), float(np.median(rate[times >= told["onset"] + 3]))


def test_a_disk_hog_beside_a_training_job(tmp_path: Path) -> None:
    """Given a job that reads a shared volume, when a neighbour scans it, then the job's own client counts the waiting."""
    command = [sys.executable, str(ROOT / "bench" / "realfaults.py"), "--quick", "--record-only", "--keep", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True, timeout=240)
    (folder,) = tmp_path.iterdir()
    calm, hurt = rates(folder, "loader-0", "job_data_wait_seconds_total")
    assert hurt > 0.5 > calm  # most of every second goes into waiting for data
    calm, hurt = rates(folder, "tenant-io", "node_disk_read_bytes_total")
    assert calm == 0 < hurt
    calm, hurt = rates(folder, "vol", "node_disk_read_time_seconds_total")
    assert hurt > 3 * calm  # requests queue at the volume
