"""What a site says of a QOS: hands off, or needs no checkpoint. By a fake: without slurmdbd a real cluster has none."""

from dataclasses import replace
from pathlib import Path

import pytest
from test_slurm_restart import RUN, STOP, Fake, backend

from aiops.action import Outcome, Preempt
from aiops.backends.slurm import SlurmBackend
from aiops.backends.slurm.rows import job
from aiops.testing.backend import admit


@pytest.mark.parametrize(
    ("qos", "partition", "expected", "why"),
    [
        ("scavenger", "other", Outcome.DONE, "needs no checkpoint by its QOS"),
        ("normal", "other", Outcome.STALE, "needs one, and has none"),
        ("urgent", "train", Outcome.FAILED, "hands off, though its partition needs no checkpoint"),
    ],
)
def test_a_qos_is_honoured(tmp_path: Path, qos: str, partition: str, expected: Outcome, why: str) -> None:
    fake = Fake({**RUN, "State": "RUNNING", "QOS": qos, "Partition": partition})
    slurm = backend(fake, tmp_path, None)
    settings = slurm.settings.model_copy(update={"protected_qos": ("urgent",), "preemptible_qos": ("scavenger",)})
    slurm = SlurmBackend(settings, fake.run, 4242)
    (seen,) = slurm.observe(3000.0).jobs
    assert (seen.protected, seen.preemptible) == (qos == "urgent", qos == "scavenger" or partition == "train")
    wish = STOP["preempt"]
    assert isinstance(wish, Preempt)
    told = slurm.apply(admit(replace(wish, gpus=4)), 3000.0)
    assert told.outcome is expected, f"{why}: {told.detail}"
    assert bool(fake.requeues) is (expected is Outcome.DONE)


def test_it_is_read_from_slurmrestd_too() -> None:
    assert job({"job_id": 1, "submit_time": 5, "job_state": "RUNNING", "qos": "urgent"}).qos == "urgent"
