"""What a killed slurmctld forgets: that it had told a node to end a run so that we might requeue it. Pure.

It saves its state some seconds late. Killed in between, it comes back with the run as running, hears from the node that a
signal ended it, and calls it FAILED; nobody would run it again. These rules tell such a run from one that failed by itself.
They hold only where slurmctld was started anew since we began (`View.restarted`) and for the very run that we began to requeue.
"""

from __future__ import annotations

from aiops.backends.slurm.rows import JobRow

_STOPS = (15, 9)  # how slurmd ends a run: SIGTERM, and SIGKILL after KillWait


def undone(row: JobRow, run_id: str) -> bool:
    """True where this run was ended by our requeue, and is FAILED only because that requeue was forgotten.

    An exit status, any other signal and CANCELLED (a person's word) are not ours, and a run of another identity never is.
    """
    return row.run_id == run_id and row.states == {"FAILED"} and row.ended_by in _STOPS


def doubt(row: JobRow | None, job: str, run_id: str) -> str:
    """Why it cannot be told yet, or any more, what became of this run; empty where it can."""
    if row is None:
        return f"slurmctld was restarted while job {job} was being requeued, and no longer knows it: submit it again by hand"
    ending = row.run_id == run_id and bool(row.states & {"COMPLETING", "REQUEUED", "SIGNALING"})
    return f"slurmctld was restarted while job {job} was being requeued, and it is still ending" if ending else ""
