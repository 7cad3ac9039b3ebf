"""One real Slurm cluster for all tests here; they say so and are skipped where its packages are not installed."""

from collections.abc import Iterator

import pytest
from slurm_server import SlurmServer, missing
from slurm_stage import SlurmStage


@pytest.fixture(scope="session")
def slurm_server() -> Iterator[SlurmServer]:
    lacking = missing()
    if lacking:
        pytest.skip(f"needs a real Slurm (apt-get install slurmctld slurmd slurm-client munge); not installed: {lacking}")
    server = SlurmServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def slurm(slurm_server: SlurmServer) -> Iterator[SlurmStage]:
    stage = SlurmStage(slurm_server)
    yield stage
    stage.finish()
