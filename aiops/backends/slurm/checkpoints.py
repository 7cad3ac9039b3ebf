"""Checkpoint requests and proofs of Slurm jobs, by the protocol of docs/jobs.md over a shared directory per job.

A run on Slurm names itself by its restart count. Because ids are reused, a proof also has to be younger than the run's start.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aiops.backends import checkpoint, disk
from aiops.backends.slurm.commands import Commands, Refused
from aiops.backends.slurm.declare import SlurmSettings
from aiops.backends.slurm.rows import JobRow
from aiops.model import Checkpoint

_SIGNALS = {10: "USR1", 12: "USR2"}
_SKEW_S = 2.0  # submit host, compute node and slurmctld are kept in step; times are whole seconds


class Checkpoints:
    """Reads and writes control directories, `control_dir` with {job} and {user} filled in."""

    def __init__(self, commands: Commands, settings: SlurmSettings) -> None:
        self._commands = commands
        self._settings = settings
        self._proofs = checkpoint.Proofs()

    def directory(self, row: JobRow) -> Path | None:
        """Where this job and we speak to each other; None where nothing is configured or the user's name is not plain."""
        plain = row.user.replace("-", "").replace("_", "").replace(".", "").isalnum() and not row.user.startswith(".")
        if self._settings.control_dir is None or not plain:
            return None
        return Path(self._settings.control_dir.format(job=row.id, user=row.user))

    def proof(self, row: JobRow, now: float, patience_s: float = 0.02) -> Checkpoint | None:
        """Newest checkpoint of this run, as read and verified now."""
        place = self.directory(row)
        if place is None or row.start is None:
            return None
        found = self._proofs.look(place, str(row.restarts), now, patience_s)
        if found is None or found.at < row.start - _SKEW_S:
            return None  # an earlier job of the same id
        return replace(found, run_id=row.run_id)

    def requested_at(self, row: JobRow) -> float | None:
        """When this run was asked for a checkpoint that it has not given yet; None where nothing is asked of it.

        The answer is known by its id: the clock of its node may be behind ours.
        """
        place = self.directory(row)
        if place is None or row.start is None:
            return None
        match disk.read(place / "checkpoint-request.json"):
            case {"id": str(id), "run_id": str(run), "at": int() | float() as at} if run == str(row.restarts):
                given = (disk.read(place / "checkpoint-ack.json") or {}).get("id") == id
                return None if given or at < row.start - _SKEW_S else float(at)
        return None

    def request(self, row: JobRow, id: str, now: float) -> str:
        """Write the request; ring with a signal only where the run itself said that it takes one. Raises Refused, OSError."""
        place = self.directory(row)
        if place is None or not place.is_dir():
            raise Refused("this job has no control directory: it takes no requests")
        checkpoint.ask(place, id, str(row.restarts), now)
        client = disk.read(place / "checkpoint-client.json") or {}
        bell = _SIGNALS.get(client.get("signal", 0)) if client.get("run_id") == str(row.restarts) else None
        if self._settings.signal == "off" or bell is None:
            return "asked; the job looks once per second"
        scope = ["--batch"] if self._settings.signal == "batch" else []
        self._commands.write("scancel", f"--signal={bell}", *scope, "--", row.address)
        return f"asked, and rang with {bell}"

    def requested(self, row: JobRow, id: str) -> bool:
        """True where this request lies in the job's directory, or was answered already."""
        place = self.directory(row)
        names = ("checkpoint-request.json", "checkpoint-ack.json")
        return place is not None and any((disk.read(place / file) or {}).get("id") == id for file in names)

    def close(self) -> None:
        """Let hashing in progress run out."""
        self._proofs.close()
