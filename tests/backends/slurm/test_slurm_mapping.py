"""The prolog and epilog that write dcgm-exporter's job mapping files: one file per GPU, a job id a line."""

import os
import subprocess
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[3] / "deploy" / "slurm"


def run(script: str, directory: Path, job: str, gpus: str = "") -> int:
    environment = {
        "PATH": os.environ["PATH"],
        "AIOPS_JOB_MAPPING_DIR": str(directory),
        "SLURM_JOB_ID": job,
        "SLURM_JOB_GPUS": gpus,
    }
    return subprocess.run([DEPLOY / script], env=environment, check=False).returncode


def mapping(directory: Path) -> dict[str, list[str]]:
    return {path.name: path.read_text().split() for path in sorted(directory.glob("[0-9]*"))}


def test_jobs_come_and_go_and_share(tmp_path: Path) -> None:
    place = tmp_path / "map"
    assert run("prolog.sh", place, "7", "0,1") == run("prolog.sh", place, "8", "1") == run("prolog.sh", place, "7", "0,1") == 0
    assert {gpu: sorted(jobs) for gpu, jobs in mapping(place).items()} == {"0": ["7"], "1": ["7", "8"]}
    assert run("epilog.sh", place, "7") == 0
    assert mapping(place) == {"1": ["8"]}
    assert run("epilog.sh", place, "8") == run("epilog.sh", place, "8") == 0
    assert mapping(place) == {}


def test_odd_environments_neither_fail_nor_write(tmp_path: Path) -> None:
    place = tmp_path / "map"
    for job, gpus in (("", "0"), ("7", ""), ("../x", "0"), ("7", "../../etc/x"), ("7; id", "0")):
        assert run("prolog.sh", place, job, gpus) == run("epilog.sh", place, job) == 0
    assert not place.exists() or mapping(place) == {}
