"""The mapping files of Slurm's prolog, joined with what the driver says of its GPUs."""

import os
import subprocess
from pathlib import Path

import pytest

from aiops.errors import NoData
from aiops.metrics import CATALOGUE
from aiops.model import SeriesKey
from collectors.gpu_jobs import GpuJobsCollector

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "slurm"


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """Two GPUs as /proc/driver/nvidia/gpus shows them."""
    for minor, bus in enumerate(("0000:01:00.0", "0000:41:00.0")):
        place = tmp_path / "gpus" / bus
        place.mkdir(parents=True)
        text = f"Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-{minor}a-b\nBus Type: \t PCIe\nDevice Minor: \t {minor}\n"
        (place / "information").write_text(text)
    (tmp_path / "map").mkdir()
    return tmp_path


def seen(node: Path) -> set[SeriesKey]:
    section = {"mapping_dir": str(node / "map"), "driver_dir": str(node / "gpus")}
    batch = GpuJobsCollector.from_settings(section, "test").collect(1.0)
    assert set(map(float, batch.values)) == {1.0}
    return set(batch.keys)


def info(gpu: int, job: str = "") -> SeriesKey:
    return SeriesKey.of("gpu_job_info", gpu=str(gpu), uuid=f"GPU-{gpu}a-b", **({"hpc_job": job} if job else {}))


def slurm(script: str, node: Path, job: str, gpus: str = "") -> None:
    env = {"PATH": os.environ["PATH"], "AIOPS_JOB_MAPPING_DIR": str(node / "map"), "SLURM_JOB_ID": job, "SLURM_JOB_GPUS": gpus}
    subprocess.run([DEPLOY / script], env=env, check=True)


def test_jobs_come_share_and_go(node: Path) -> None:
    assert seen(node) == {info(0), info(1)}, "nobody's"
    slurm("prolog.sh", node, "7", "0,1")
    slurm("prolog.sh", node, "8", "1")
    assert seen(node) == {info(0, "7"), info(1, "7"), info(1, "8")}
    slurm("epilog.sh", node, "7")
    assert seen(node) == {info(0), info(1, "8")}
    assert {key.metric for key in seen(node)} <= set(CATALOGUE)


@pytest.mark.parametrize(
    ("name", "text", "job", "why"),
    [
        ("0.7", "9\n", "9", "a MIG instance is on its GPU"),
        ("0", "9_3\n\n", "9_3", "a task of an array"),
        ("0", 'x\n9 8\n"\n', "", "what is no job id names nobody"),
        ("0.part", "9\n", "", "half written"),
        (".lock", "", "", "the lock of the scripts"),
    ],
)
def test_odd_files(node: Path, name: str, text: str, job: str, why: str) -> None:
    (node / "map" / name).write_text(text)
    assert seen(node) == {info(0, job), info(1)}, why


def test_a_node_without_driver_or_prolog_has_nothing_to_say(tmp_path: Path, node: Path) -> None:
    for section in ({"mapping_dir": str(tmp_path / "no")}, {"driver_dir": str(tmp_path / "no")}):
        whole = {"mapping_dir": str(node / "map"), "driver_dir": str(node / "gpus"), **section}
        with pytest.raises(NoData):
            GpuJobsCollector.from_settings(whole, "test").collect(1.0)
