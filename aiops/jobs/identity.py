"""Who this process is: job, run, rank, and where telemetry and control files go; read from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_JOB = ("AIOPS_JOB_ID", "SLURM_JOB_ID")
_RUN = ("AIOPS_RUN_ID", "SLURM_RESTART_COUNT")
_RANK = ("AIOPS_RANK", "RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")


@dataclass(frozen=True, slots=True)
class Identity:
    """One rank of one run of one job; `telemetry` and `control` are None where nobody listens."""

    job_id: str
    run_id: str
    rank: str
    telemetry: Path | None = None
    control: Path | None = None

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Identity:
        """Identity from environment variables, the first of each list that is set and not empty."""
        telemetry, control = environment.get("AIOPS_TELEMETRY"), environment.get("AIOPS_CONTROL_DIR")
        return cls(
            job_id=_first(environment, _JOB, "unknown"),
            run_id=_first(environment, _RUN, "0"),
            rank=_first(environment, _RANK, "0"),
            telemetry=Path(telemetry) if telemetry else None,
            control=Path(control) if control else None,
        )

    def labels(self, **more: str) -> str:
        """The label part of a line in the Prometheus text format."""
        pairs = {"job_id": self.job_id, "run_id": self.run_id, "rank": self.rank, **more}
        return ",".join(f'{name}="{_escape(value)}"' for name, value in pairs.items())


def _first(environment: Mapping[str, str], names: tuple[str, ...], otherwise: str) -> str:
    return next((environment[name] for name in names if environment.get(name)), otherwise)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
