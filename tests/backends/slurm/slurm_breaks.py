"""What goes wrong between the backend and slurmctld in a trial: an answer that is lost, a slurmctld that is killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slurm_stage import SlurmStage


def dropper(nth: int) -> Callable[[Sequence[str]], bool]:
    """Loses the answer of the nth command that changes something."""
    seen = 0

    def drop(argv: Sequence[str]) -> bool:
        nonlocal seen
        writes = tuple(argv[:2]) == ("scontrol", "--") and argv[2] != "show"
        seen += writes
        return writes and seen == nth

    return drop


def killer(stage: SlurmStage, nth: int) -> Callable[[Sequence[str]], None]:
    """Kills slurmctld right before the nth question or command, once."""
    seen = 0

    def kill(argv: Sequence[str]) -> None:
        nonlocal seen
        seen += 1
        if seen == nth:
            stage.server.kill_controller()

    return kill
