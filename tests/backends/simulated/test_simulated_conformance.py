"""The public suite over the simulator's backend: what a simulation shows of a policy is shown under the same rules."""

import pytest
from simulated_stage import SimulatedStage

from aiops.testing.backend import BackendConformance


class TestSimulatedBackend(BackendConformance):
    @pytest.fixture
    def stage(self) -> SimulatedStage:
        return SimulatedStage()
