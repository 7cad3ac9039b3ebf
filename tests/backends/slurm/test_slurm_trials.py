"""A few randomised trials; `python tests/backends/slurm/slurm_trials.py 500` runs many."""

import pytest
import slurm_trials
from slurm_server import missing

pytestmark = pytest.mark.real


def test_no_wrong_job_and_no_duplicate_effect() -> None:
    lacking = missing()
    if lacking:
        pytest.skip(f"needs a real Slurm; not installed: {lacking}")
    done = slurm_trials.run(20, seed=7)
    assert not done.wrong and not done.double
    assert sum(count for name, count in done.tally.items() if name.endswith(("done", "already"))) >= 5
