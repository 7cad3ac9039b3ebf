"""A PyTorch Lightning callback: steps, data waits, checkpoint time, and checkpoints on request."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from aiops.jobs import process
from aiops.jobs.recorder import Relay

ASK_EVERY = 10
"""Steps between agreeing on a request over all ranks: a broadcast costs tens of microseconds, a request has minutes."""


def lightning_callback(samples: float = 0) -> Any:
    """A callback for `Trainer(callbacks=[...])`; imports lightning (or pytorch_lightning), ImportError without either."""
    try:
        lightning: Any = importlib.import_module("lightning.pytorch")
    except ImportError:
        lightning = importlib.import_module("pytorch_lightning")

    relay = Relay()

    class JobTelemetry(lightning.Callback):  # type: ignore[misc]
        """Waits run from the end of one batch to the start of the next, steps from there to the batch's end."""

        def on_train_epoch_start(self, *_: Any) -> None:
            relay.turn(process.data_wait())

        def on_train_batch_start(self, *_: Any) -> None:
            relay.turn(process.step(samples))

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step % ASK_EVERY == 0 and trainer.strategy.broadcast(process.checkpoint_requested()):
                self._save(trainer)
            relay.turn(process.data_wait())

        def on_validation_start(self, *_: Any) -> None:
            relay.turn(None)

        def on_train_epoch_end(self, *_: Any) -> None:
            relay.turn(None)

        def _save(self, trainer: Any) -> None:
            path = Path(trainer.default_root_dir) / f"aiops-step-{trainer.global_step}.ckpt"
            with process.checkpoint():
                trainer.save_checkpoint(path)
                if trainer.is_global_zero:
                    process.prove(path, trainer.global_step)

    return JobTelemetry()
