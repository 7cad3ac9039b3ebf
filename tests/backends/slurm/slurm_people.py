"""What a person does to a job between a daemon's death and the next daemon's look: it must stand, whatever was begun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from slurm_server import SlurmServer, wait_for

ACTS = ("cancels", "holds", "requeues and holds")


@dataclass(frozen=True)
class Act:
    """An act that Slurm took, and the job's record right after it."""

    job: str
    what: str
    state: str
    restarts: str
    added: int
    """Restarts that the act itself counted."""

    def undone(self, row: Mapping[str, str]) -> str:
        """What became of it, where it does not stand any more; empty where it does, or the job was forgotten since."""
        held = row.get("Priority") == "0" or self.what == "cancels"
        if not row or (row["JobState"] == self.state and row["Restarts"] == self.restarts and held):
            return ""
        return f"a person {self.what} it ({self.state}, {self.restarts}); now {row['JobState']}, {row['Restarts']}, held {held}"


def act(server: SlurmServer, job: str, what: str) -> Act | None:
    """Do it; None where there was nothing to do: over already, or held already (by the half of a move, or a person before)."""
    row = server.job(job)
    if row.get("JobState") not in ("RUNNING", "PENDING", "SUSPENDED") or row["Priority"] == "0":
        return None
    if what == "holds" and row["JobState"] != "PENDING":
        return None  # of a run that is on its nodes it would hold the next one, trials later
    commands = {"cancels": ("scancel",), "holds": ("scontrol", "hold"), "requeues and holds": ("scontrol", "requeuehold")}
    if server.run(*commands[what], job, check=False).returncode:
        return None

    def stands() -> bool:
        now = server.job(job)
        return not now or (now["JobState"] == "CANCELLED" if what == "cancels" else now["JobState"] == "PENDING")

    try:
        wait_for(stands, f"job {job} that a person {what}", 10.0)
    except AssertionError:
        return None
    now = server.job(job)
    if not now or (what != "cancels" and now["Priority"] != "0"):
        return None
    return Act(job, what, now["JobState"], now["Restarts"], int(now["Restarts"]) - int(row["Restarts"]))
