"""The public suite over the simulator's backends: what a simulation shows of a policy is shown under the same rules."""

import pytest
from job_stage import JobStage
from simulated_stage import SimulatedStage

from aiops.testing.backend import BackendConformance


class TestSimulatedBackend(BackendConformance):
    @pytest.fixture
    def stage(self) -> SimulatedStage:
        return SimulatedStage()


class TestSimulatedJobs(BackendConformance):
    @pytest.fixture
    def stage(self) -> JobStage:
        return JobStage()
