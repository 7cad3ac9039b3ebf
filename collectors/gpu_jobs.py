"""Which Slurm job holds which GPU of this node, from the mapping files that its prolog and epilog write.

One file per GPU in `mapping_dir` (dcgm-exporter's --hpc-job-mapping-dir; see deploy/slurm), a job id a line; its name is the
GPU's minor number, whose UUID the driver tells. A GPU that no file names is a sample without a job: seen, and nobody's. So a
node that runs no dcgm-exporter is attributed, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from aiops.errors import NoData, Temporary
from aiops.model import Batch, SeriesKey
from aiops.settings import Section
from collectors.section import parse as parse_section

_UUID = re.compile(r"^GPU UUID:\s*(GPU-[0-9A-Za-z-]+)\s*$", re.M)
_MINOR = re.compile(r"^Device Minor:\s*([0-9]+)\s*$", re.M)
_FILE = re.compile(r"([0-9]+)(?:\.[0-9]+)?")  # of a MIG instance `0.7`: the GPU's, too
_JOB = re.compile(r"[0-9]{1,10}(?:_[0-9]{1,10})?")
_MOST_BYTES = 65_536


class GpuJobsOptions(Section):
    """Where the mapping files are, and where the driver describes its GPUs."""

    mapping_dir: Path = Path("/run/dcgm-job-mapping")
    driver_dir: Path = Path("/proc/driver/nvidia/gpus")


class GpuJobsCollector:
    """Collector `gpu_jobs`."""

    name: ClassVar[str] = "gpu_jobs"

    def __init__(self, options: GpuJobsOptions | None = None) -> None:
        self._options = options or GpuJobsOptions()

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Self:
        """Keys as in `GpuJobsOptions`; ConfigError otherwise."""
        return cls(parse_section(GpuJobsOptions, section, where, cls.name))

    def collect(self, now: float) -> Batch:
        """`gpu_job_info` 1 per GPU and job. NoData where there is no driver or no mapping; Temporary where it is unreadable."""
        try:
            uuids, jobs = dict(self._uuids()), self._jobs()
        except FileNotFoundError as error:
            raise NoData(f"no {error.filename}") from None
        except OSError as error:
            raise Temporary(f"{error.filename}: {error.strerror}") from None
        if not uuids:
            raise NoData("the driver names no GPU")
        return Batch.of(
            now, [pair for gpu, uuid in sorted(uuids.items()) for pair in _samples(gpu, uuid, jobs.get(gpu, set()))]
        )

    def _uuids(self) -> Iterator[tuple[str, str]]:
        for place in sorted(self._options.driver_dir.iterdir()):
            text = _text(place / "information")
            uuid, minor = _UUID.search(text), _MINOR.search(text)
            if uuid and minor:
                yield minor[1], uuid[1]

    def _jobs(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for path in self._options.mapping_dir.iterdir():
            name = _FILE.fullmatch(path.name)
            if name is not None:
                jobs = {line.strip() for line in _text(path).splitlines() if _JOB.fullmatch(line.strip())}
                found.setdefault(name[1], set()).update(jobs)
        return found


def _samples(gpu: str, uuid: str, jobs: set[str]) -> Iterator[tuple[SeriesKey, float]]:
    if not jobs:
        yield SeriesKey.of("gpu_job_info", gpu=gpu, uuid=uuid), 1.0
    for job in sorted(jobs):
        yield SeriesKey.of("gpu_job_info", gpu=gpu, uuid=uuid, hpc_job=job), 1.0


def _text(path: Path) -> str:
    """At most 64 KiB; empty where the epilog has just taken the file away."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
