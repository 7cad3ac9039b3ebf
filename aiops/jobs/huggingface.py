"""A Hugging Face Trainer callback: steps, data waits, and checkpoints on request."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from aiops.jobs import process
from aiops.jobs.lightning import ASK_EVERY
from aiops.jobs.recorder import Relay


def huggingface_callback(samples: float = 0) -> Any:
    """A callback for `Trainer(callbacks=[...])`; imports transformers, ImportError without it."""
    transformers: Any = importlib.import_module("transformers")

    relay = Relay()

    class JobTelemetry(transformers.TrainerCallback):  # type: ignore[misc]
        """The Trainer fetches between the end of one step and the start of the next: that is the data wait."""

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            relay.turn(process.data_wait())

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            relay.turn(process.step(samples))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            relay.turn(None)
            if state.global_step % ASK_EVERY == 0 and _agreed(process.checkpoint_requested()):
                control.should_save = True
            if not control.should_evaluate:
                relay.turn(process.checkpoint() if control.should_save else process.data_wait())

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            relay.turn(process.checkpoint() if control.should_save else process.data_wait())

        def on_save(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.is_world_process_zero:
                process.prove(Path(args.output_dir) / f"checkpoint-{state.global_step}", state.global_step)
            relay.turn(process.data_wait())

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            relay.turn(None)

    return JobTelemetry()


def _agreed(request: str) -> str:
    """Rank 0's answer on every rank: sharded checkpoints are saved by all ranks or by none."""
    try:
        distributed: Any = importlib.import_module("torch.distributed")
    except ImportError:
        return request
    if not (distributed.is_available() and distributed.is_initialized()):
        return request
    answer = [request]
    distributed.broadcast_object_list(answer, src=0)
    return str(answer[0])
