"""The public suite over a real slurmctld: what it asks of every backend, asked of Slurm."""

from collections.abc import Iterator

import pytest
from slurm_server import SlurmServer
from slurm_stage import SlurmStage

from aiops.testing.backend import BackendConformance

pytestmark = pytest.mark.real


class TestSlurmBackend(BackendConformance):
    @pytest.fixture
    def stage(self, slurm_server: SlurmServer) -> Iterator[SlurmStage]:
        stage = SlurmStage(slurm_server)
        slurm_server.wait_state(slurm_server.submit("--gpus=1", "-J", "train"), "RUNNING")
        yield stage
        stage.finish()
