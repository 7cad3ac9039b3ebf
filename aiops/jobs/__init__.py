"""The tiny client that a training job imports: where a step's time goes, checkpoint proofs, tunable knobs.

It runs inside other people's jobs. Therefore: standard library only, nothing of the rest of aiops, a few microseconds
per step on the training thread, all writing on a background thread, and no failure of its own ever reaches the job (the
one exception is `acknowledge`, whose caller must know). `docs/jobs.md` is the contract of every file and variable.
"""

from aiops.jobs.huggingface import huggingface_callback
from aiops.jobs.lightning import lightning_callback
from aiops.jobs.loader import steps, timed
from aiops.jobs.process import (
    acknowledge,
    checkpoint,
    checkpoint_requested,
    comm_wait,
    data_wait,
    flush,
    knob,
    step,
)

__all__ = [
    "acknowledge",
    "checkpoint",
    "checkpoint_requested",
    "comm_wait",
    "data_wait",
    "flush",
    "huggingface_callback",
    "knob",
    "lightning_callback",
    "step",
    "steps",
    "timed",
]
