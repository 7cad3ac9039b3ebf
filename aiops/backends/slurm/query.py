"""Asks slurmctld: the whole picture at most once per interval, and one record freshly, right before it is changed.

Jobs and nodes come as JSON, from Slurm's own programs or from slurmrestd; the rest is small and comes from scontrol.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import orjson

from aiops.backends.slurm import rows
from aiops.backends.slurm.commands import Commands, Lost, job_id, name
from aiops.backends.slurm.declare import SlurmSettings
from aiops.backends.slurm.hostlist import expand
from aiops.backends.slurm.rest import RestReader
from aiops.backends.slurm.rows import Controller, JobRow, NodeRow, Reserved
from aiops.errors import Unreadable

# every field is chosen by Slurm or an administrator: a user's job name or comment cannot pose as one
_FIELDS = (
    "JobID", "ArrayJobID", "ArrayTaskID", "State", "Reason", "SubmitTime", "StartTime", "RestartCnt", "PriorityLong", "Nice",
    "NodeList", "ReqNodes", "HetJobID", "Partition", "UserName", "Account",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Everything that slurmctld said at `at`."""

    at: float
    jobs: tuple[JobRow, ...]
    nodes: tuple[NodeRow, ...]
    licences: dict[str, tuple[int, int]]
    reservations: tuple[Reserved, ...]
    partitions: dict[str, tuple[str, ...]]


class Query:
    """Reads one cluster. `asked` counts questions for the list of all jobs: at most one per interval."""

    def __init__(self, commands: Commands, settings: SlurmSettings) -> None:
        self._commands = commands
        self._settings = settings
        self._rest = RestReader(settings.rest, settings.timeout) if settings.rest else None
        self._newest: Picture | None = None
        self._controller: Controller | None = None
        self.asked = 0

    def controller(self) -> Controller:
        """Configuration of slurmctld, read once. Raises Unreadable."""
        if self._controller is None:
            try:
                self._controller = rows.controller(self._text("config"))
            except (Lost, ValueError) as error:
                raise Unreadable(f"scontrol show config: {error}") from None
        return self._controller

    def picture(self, now: float) -> Picture:
        """The whole cluster, at most `interval` seconds old. Raises Unreadable; a part is never returned."""
        newest = self._newest
        if newest is None or not 0 <= now - newest.at < self._settings.interval:
            self._newest = None
            newest = self._newest = self._read(now)
        return newest

    def picture_with_nodes_of_now(self, now: float) -> Picture:
        """As `picture`, but with the nodes read now: what an action is judged on. Raises Unreadable."""
        newest = self.picture(now)
        try:
            return newest if newest.at == now else replace(newest, nodes=self._nodes())
        except (Lost, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unreadable(str(error)) from None

    def _nodes(self) -> tuple[NodeRow, ...]:
        return tuple(rows.node(raw) for raw in self._list("nodes"))

    def forget(self) -> None:
        """The next picture is read anew: something was changed."""
        self._newest = None

    def _read(self, now: float) -> Picture:
        self.asked += 1
        try:
            partitions = {row["PartitionName"]: expand(row["Nodes"]) for row in rows.shown(self._text("partition"))}
            return Picture(
                at=now, jobs=tuple(rows.job(raw) for raw in self._list("jobs")), partitions=partitions,
                nodes=self._nodes(), reservations=self.reservations(),
                licences=rows.licence_totals(self._text("licenses")),
            )  # fmt: skip
        except Lost as error:
            raise Unreadable(str(error)) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unreadable(f"an answer that is not Slurm's ({type(error).__name__}: {str(error)[:120]})") from None

    def _list(self, what: str) -> list[dict[str, Any]]:
        """`jobs` or `nodes`, whole."""
        if self._rest is not None:
            return self._rest.read(what)
        argv = ("squeue", "--json") if what == "jobs" else ("sinfo", "--json", "--all")
        answer = orjson.loads(self._commands.read(*argv))
        found = answer[what] if what in answer else answer["sinfo"]
        if answer.get("errors") or not isinstance(found, list):
            raise ValueError(f"{argv[0]}: {str(answer.get('errors'))[:120]}")
        return found

    def _text(self, what: str) -> str:
        return self._commands.read("scontrol", "--all", "-o", "show", what).decode(errors="replace")

    def job(self, id: str) -> JobRow | None:
        """One job as it is now: what identity checks are made on; None where there is no such id. Raises Lost."""
        spec = ",".join(f"{field}:|" for field in _FIELDS)
        argv = ("squeue", "--noheader", "--states=all", f"--jobs={job_id(id)}", f"--Format={spec}")
        text = self._commands.read(*argv, missing="Invalid job id").decode(errors="replace")
        found = [line.split("|") for line in text.splitlines() if line.split("|")[0].strip() == id]
        if len(found) > 1 or (found and len(found[0]) < len(_FIELDS)):
            raise Lost("squeue: an answer that is not one job")
        return _row(dict(zip(_FIELDS, (cell.strip() for cell in found[0]), strict=False))) if found else None

    def whole_job(self, id: str) -> JobRow | None:
        """One job with what only the JSON tells (marks, suspension), from a fresh list of all. Raises Unreadable."""
        self.forget()
        self.asked += 1
        try:
            return next((rows.job(raw) for raw in self._list("jobs") if str(raw.get("job_id")) == id), None)
        except (Lost, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unreadable(str(error)) from None

    def mark(self, job: JobRow) -> tuple[str, float]:
        """(administrators' comment, when last suspended or resumed) of one job; only to add to it: a user can imitate lines."""
        text = self._commands.read("scontrol", "--", "show", "job", job.address, missing="Invalid job id")
        lines = text.decode(errors="replace").splitlines()
        comments = [line for line in lines if line.startswith("   AdminComment=")]
        frozen = [line.split()[0] for line in lines if line.startswith("   SuspendTime=")]
        at = frozen[-1].removeprefix("SuspendTime=") if frozen else ""
        return comments[-1].removeprefix("   AdminComment=").strip() if comments else "", _time(at) or 0.0

    def node(self, node: str) -> NodeRow | None:
        """One node as it is now; None where there is none of that name. Raises Lost or ValueError."""
        text = self._commands.read("scontrol", "--all", "-o", "show", "node", name(node), missing="not found")
        row = next(iter(rows.shown(text.decode(errors="replace"))), None)
        if row is None:
            return None
        reason = text.decode(errors="replace").rpartition(" Reason=")[2].strip() if b" Reason=" in text else ""
        return NodeRow(
            name=row["NodeName"], address=f"{row.get('NodeAddr', '')}:{row.get('Port', 0)}", reason=reason,
            states=frozenset(row["State"].upper().rstrip("*~#!%$@^-").split("+")), gres=row.get("Gres", ""),
            allocated_cpus=float(row.get("CPUAlloc", 0)),
        )  # fmt: skip

    def reservations(self) -> tuple[Reserved, ...]:
        """All reservations as they are now. Raises Lost or ValueError."""
        return rows.reserved(self._text("reservation"))

    def close(self) -> None:
        """Let go of connections."""
        if self._rest is not None:
            self._rest.close()


def _row(cell: dict[str, str]) -> JobRow:
    task = cell["ArrayTaskID"]
    try:
        return JobRow(
            id=int(cell["JobID"]), submit=_time(cell["SubmitTime"]) or 0.0, restarts=int(cell["RestartCnt"]),
            states=frozenset({cell["State"]}), reason=cell["Reason"],
            array_job=0 if task in ("", "N/A") else int(cell["ArrayJobID"]), array_task=int(task) if task.isdigit() else None,
            unsplit=task not in ("", "N/A") and not task.isdigit(), het=cell["HetJobID"] not in ("", "N/A", "0"),
            user=cell["UserName"], account=cell["Account"], partition=cell["Partition"], start=_time(cell["StartTime"]),
            priority=int(cell["PriorityLong"]), nice=int(cell["Nice"] or 0), nodes=expand(cell["NodeList"]),
            required_nodes=expand(cell["ReqNodes"]),
        )  # fmt: skip
    except ValueError as error:
        raise Lost(f"squeue: {error}") from None


def _time(text: str) -> float | None:
    return float(text) if text.isdigit() and int(text) else None
