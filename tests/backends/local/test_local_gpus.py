"""GPUs of this machine through the unmodified NVML binding, against the stand-in library of the collectors' tests."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROBE = """
import json, sys
from aiops.action import SetPowerLimit
from aiops.backends.local import LocalBackend
from aiops.clock import SystemClock
from aiops.testing.backend import admit

now = SystemClock().now()
train = {"command": ["sleep", "300"], "gpus": 1}
backend = LocalBackend.from_settings({"state_dir": sys.argv[1], "cgroups": "off", "jobs": {"train": train}}, "test")
try:
    (node,) = backend.observe(now).nodes
    job = backend.observe(now).jobs[0]
    power = admit(SetPowerLimit(node=node.name, gpu="GPU-a", watts=300.0, was=None))
    receipt = backend.apply(power, now)
    gpus = [[gpu.uuid, gpu.model, gpu.memory_bytes, gpu.healthy] for gpu in node.gpus]
    print(json.dumps([gpus, job.gpu_uuids, receipt.outcome, receipt.detail, backend.probe(power, now)]))
finally:
    backend.shutdown_units()
    backend.close()
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: the stand-in libnvidia-ml cannot be compiled")
    folder = tmp_path_factory.mktemp("nvml")
    made = ["gcc", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o", str(folder / "libnvidia-ml.so.1")]
    subprocess.run([*made, str(ROOT / "tests/collectors/fake_nvml.c")], check=True, timeout=60)
    return folder


def test_real_gpus_are_given_by_uuid_and_a_power_limit_says_why_not(library: Path, tmp_path: Path) -> None:
    cards = {"count": 2, "0.uuid": "GPU-a", "0.name": "Fake H100", "0.memory_total": 2**36, "0.memory_used": 0}
    cards |= {"1.uuid": "GPU-b", "1.name": "Fake L4", "1.memory_total": 2**34, "1.memory_used": 0}
    (tmp_path / "cards").write_text("".join(f"{key} {value}\n" for key, value in cards.items()))
    environment = os.environ | {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(tmp_path / "cards"), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", PROBE, str(tmp_path / "state")]
    run = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    gpus, given, outcome, detail, effect = json.loads(run.stdout)
    assert gpus == [["GPU-a", "Fake H100", 2.0**36, True], ["GPU-b", "Fake L4", 2.0**34, True]]
    assert given == ["GPU-a"]
    assert outcome == "failed" and detail.startswith("NVML: ")  # the stand-in lets nobody set a limit
    assert effect == "unreadable"
