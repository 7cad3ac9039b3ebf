"""The simulated cluster of jobs as the conformance suite wants it: two nodes, a job that runs and one that waits, time by hand.

As with services (`simulated_stage.py`), world and backend are one thing in one process: no daemon restarts, all can be read.
"""

from __future__ import annotations

from simulated_stage import Losing, SimulatedStage

from aiops.sim.baselines.jobs import SCHEDULERS
from aiops.sim.jobs.backend import JobBackend
from aiops.sim.jobs.scenario import JobScenario
from aiops.sim.jobs.trace import Submitted
from aiops.sim.jobs.world import World

SCENARIO = {
    "name": "two nodes",
    "pools": [{"name": "p", "nodes": 2, "gpus": 8, "gpu_type": "h200"}],
    "queues": [{"name": "train", "quota": 16}],
    "jobs": {"checkpoint_interval": 600.0},
}
JOBS = (
    Submitted(id="train1", submit=0.0, gpus=8, duration_s=90_000.0, queue="train", interval_s=600.0),
    Submitted(id="wide", submit=1.0, gpus=16, duration_s=90_000.0, queue="train"),
)


class LosingJobs(Losing, JobBackend):
    """The simulated jobs' backend, whose next answer may be lost."""


class JobStage(SimulatedStage):
    """Implements `aiops.testing.backend.Stage`; its jobs take longer than services to change."""

    PATIENCE_S = 2000

    def __init__(self) -> None:
        self.world, self.time = World(JobScenario(**SCENARIO), JOBS, SCHEDULERS["fifo"]()), 0.0
        self.world.advance(self.time)
        self.backend = LosingJobs(self.world)
