"""A few randomised trials; `python tests/backends/slurm/slurm_trials.py 500 1 6` runs many."""

import pytest
import slurm_trials
from slurm_server import missing

pytestmark = pytest.mark.real


def test_no_wrong_target_and_no_duplicate_effect() -> None:
    lacking = missing()
    if lacking:
        pytest.skip(f"needs a real Slurm; not installed: {lacking}")
    done = slurm_trials.run(32, seed=7, clusters=4, limit_s=60.0)
    print(slurm_trials.report(done))
    assert not any(trials.wrong or trials.double for trials in done)
    outcomes = sum((trials.tally for trials in done), slurm_trials.Counter())
    assert sum(count for name, count in outcomes.items() if name.endswith(("done", "already"))) >= 10
