"""A real fault done to a real training job on this machine: telemetry shows it, and the diagnosis is asked."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))

from realfaults import diagnose  # noqa: E402
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


def record(into: Path, patience_s: float = 240.0) -> Path:
    """One recorded run. A run that hangs is told to end, so that it takes its stage (mounts, groups, network) down."""
    command = [sys.executable, str(ROOT / "bench" / "realfaults.py"), "--quick", "--record-only", "--keep", str(into)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            told, _ = process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            told, _ = process.communicate(timeout=30)
    assert process.returncode == 0, told[-2000:]
    (folder,) = into.iterdir()
    return folder


def test_a_disk_hog_beside_a_training_job(tmp_path: Path) -> None:
    """Given a job that reads a shared volume, when a neighbour scans it, then its client counts the waiting and he is named."""
    folder = record(tmp_path)
    calm, hurt = rates(folder, "loader-0", "job_data_wait_seconds_total")
    assert hurt > 0.5 > calm  # most of every second goes into waiting for data
    calm, hurt = rates(folder, "tenant-io", "node_disk_read_bytes_total")
    assert calm == 0 < hurt
    calm, hurt = rates(folder, "vol", "node_disk_read_time_seconds_total")
    assert hurt > 3 * calm  # requests queue at the volume
    report = diagnose(folder)
    assert report["verdict"] in ("noisy_neighbour", "io_stall")
    assert report["causes"][0]["entity"] in ("tenant-io", "vol")
    assert all(remedy["action"] not in ("scale_service", "scale_pool") for remedy in report["causes"][0]["remedies"])
