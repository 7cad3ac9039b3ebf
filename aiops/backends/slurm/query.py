"""Asks slurmctld: the whole picture at most once per interval, and one record freshly, right before it is changed.

Jobs and nodes come as text from Slurm's own programs (`listing.py` says why not as JSON), or as JSON from slurmrestd; the rest
is small and comes from scontrol. Which GPUs a run has does not change while it runs, and is asked only for runs that are new.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import structlog

from aiops.backends.slurm import listing, rows
from aiops.backends.slurm.commands import Commands, Lost, job_id, name
from aiops.backends.slurm.declare import SlurmSettings
from aiops.backends.slurm.hostlist import expand
from aiops.backends.slurm.rest import RestReader
from aiops.backends.slurm.rows import Controller, JobRow, NodeRow, Reserved
from aiops.errors import Unreadable

_INDICES_EVERY = 6  # intervals: which GPUs a run has may show half a minute late, and costs a second list of jobs
log = structlog.get_logger("aiops.slurm")
Row = TypeVar("Row")
PARTS = ("nodes", "partitions", "licences", "reservations")
_HOLDING = frozenset({"RUNNING", "SUSPENDED", "COMPLETING"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What slurmctld said of all but jobs: what actions are judged on beside their target. Unread parts are empty."""

    nodes: tuple[NodeRow, ...] = ()
    licences: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    reservations: tuple[Reserved, ...] = ()
    partitions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture(Site):
    """Everything that slurmctld said at `at`."""

    at: float
    jobs: tuple[JobRow, ...]


class Query:
    """Reads one cluster. `asked` counts questions for the list of all jobs."""

    def __init__(self, commands: Commands, settings: SlurmSettings) -> None:
        self._commands = commands
        self._settings = settings
        self._rest = RestReader(settings.rest, settings.timeout) if settings.rest else None
        self._newest: Picture | None = None
        self._controller: Controller | None = None
        self._indices: dict[tuple[int, str], listing.Indices] = {}
        self._indices_at = float("-inf")
        self._failed = ""
        self.asked = 0

    def controller(self) -> Controller:
        """Configuration of slurmctld, read once. Raises Unreadable."""
        if self._controller is None:
            try:
                self._controller = rows.controller(self._text("config"))
            except (Lost, ValueError) as error:
                raise Unreadable(f"scontrol show config: {error}") from None
        return self._controller

    def booted_at(self) -> float:
        """When the slurmctld that answers now was started, by its own clock; 0 where it does not say. Raises Lost."""
        found = re.search(r"^BOOT_TIME\s*=\s*([0-9]+)\s*$", self._text("config"), re.M)
        return float(found[1]) if found else 0.0

    def picture(self, now: float) -> Picture:
        """The whole cluster, at most `interval` seconds old. Raises Unreadable; a part is never returned."""
        newest = self._newest
        if newest is None or not 0 <= now - newest.at < self._settings.interval:
            self._newest = None
            newest = self._newest = self._read(now)
        return newest

    def jobs_seen(self) -> tuple[JobRow, ...]:
        """The newest list of jobs, however old, without a question; empty where there is none or something was changed."""
        return self._newest.jobs if self._newest is not None else ()

    def forget(self) -> None:
        """The next picture is read anew: something was changed."""
        self._newest = None

    def _read(self, now: float) -> Picture:
        try:
            jobs, site = self._jobs(now), self._site()
        except Lost as error:
            raise Unreadable(str(error)) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unreadable(f"an answer that is not Slurm's ({type(error).__name__}: {str(error)[:120]})") from None
        return Picture(
            at=now, jobs=jobs, nodes=site.nodes, licences=site.licences, reservations=site.reservations,
            partitions=site.partitions,
        )  # fmt: skip

    def site(self, parts: Collection[str] = PARTS) -> Site:
        """Those of nodes, partitions, licences and reservations that are asked for, as they are now. Raises Unreadable."""
        try:
            return self._site(parts)
        except (Lost, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unreadable(str(error)) from None

    def _site(self, parts: Collection[str] = PARTS) -> Site:
        shown = rows.shown(self._text("partition")) if "partitions" in parts else ()
        return Site(
            nodes=self._nodes() if "nodes" in parts else (),
            partitions={row["PartitionName"]: expand(row["Nodes"]) for row in shown},
            reservations=rows.reserved(self._text("reservation")) if "reservations" in parts else (),
            licences=rows.licence_totals(self._text("licenses")) if "licences" in parts else {},
        )

    def _nodes(self) -> tuple[NodeRow, ...]:
        found = self._by_rest("nodes", rows.node)
        if found is not None:
            return found
        return tuple(rows.node_shown(line) for line in self._text("node").splitlines() if line.startswith("NodeName="))

    def _jobs(self, now: float) -> tuple[JobRow, ...]:
        self.asked += 1
        found = self._by_rest("jobs", rows.job)
        return found if found is not None else self._with_indices(self._listed(), now)

    def _by_rest(self, what: str, row: Callable[[rows.Raw], Row]) -> tuple[Row, ...] | None:
        """`what` as slurmrestd tells it, whole; None where it is not used, or fails and the commands are to be asked."""
        if self._rest is None or self._settings.rest is None:
            return None
        try:
            found = tuple(row(raw) for raw in self._rest.read(what))
        except (Lost, ValueError, KeyError, TypeError, AttributeError) as error:
            if not self._settings.rest.else_commands:
                raise
            self._tell(str(error)[:200])
            return None
        self._tell("")
        return found

    def _tell(self, failure: str) -> None:
        """Log a failure once, and its end once."""
        if failure and not self._failed:
            log.warning("slurmrestd fails: asking Slurm's own programs", reason=failure)
        elif self._failed and not failure:
            log.info("slurmrestd answers again")
        self._failed = failure

    def _listed(self, *options: str, missing: str = "") -> tuple[JobRow, ...]:
        between = listing.separator()
        answer = self._commands.read("squeue", "--states=all", *options, missing=missing, environment=listing.form(between))
        return listing.jobs(answer.decode(errors="replace"), between) if answer or not missing else ()

    def _with_indices(self, found: Sequence[JobRow], now: float) -> tuple[JobRow, ...]:
        """The runs with their GPUs by index; those of new runs are asked for, all at once and not at every interval."""
        holding = {(row.id, row.run_id): row for row in found if row.gpus and row.states & _HOLDING}
        self._indices = {key: ids for key, ids in self._indices.items() if key in holding}
        due = not 0 <= now - self._indices_at < _INDICES_EVERY * self._settings.interval
        if due and holding.keys() - self._indices.keys():
            self.asked += 1
            self._indices_at = now
            text = self._commands.read("scontrol", "-d", "-o", "show", "job")
            given = listing.given(text, list(holding.values()))
            self._indices = {key: given.get(key[0], ()) for key in holding}
        known = self._indices
        return tuple(replace(row, gpu_ids=known[key]) if (key := (row.id, row.run_id)) in known else row for row in found)

    def _text(self, what: str) -> str:
        return self._commands.read("scontrol", "--all", "-o", "show", what).decode(errors="replace")

    def job(self, id: str) -> JobRow | None:
        """One job as it is now: what identity checks are made on; None where there is no such id. Raises Lost."""
        try:
            listed = self._listed(f"--jobs={job_id(id)}", missing="Invalid job id")
            found = [row for row in listed if str(row.id) == id]
        except ValueError as error:
            raise Lost(f"squeue: {error}") from None
        if len(found) > 1:
            raise Lost("squeue: an answer that is not one job")
        return found[0] if found else None

    def suspended_at(self, job: JobRow) -> float:
        """When one job was last suspended or resumed, 0 if never. Raises Lost where a user's text imitates that line."""
        text = self._commands.read("scontrol", "--", "show", "job", job.address, missing="Invalid job id")
        lines = text.decode(errors="replace").splitlines()
        found = [line.split()[0] for line in lines if line.startswith("   SuspendTime=")]
        if len(found) > 1:
            raise Lost("scontrol: an answer that is not one job")
        return listing.time(found[0].removeprefix("SuspendTime=")) or 0.0 if found else 0.0

    def node(self, node: str) -> NodeRow | None:
        """One node as it is now; None where there is none of that name. Raises Lost or ValueError."""
        text = self._commands.read("scontrol", "--all", "-o", "show", "node", name(node), missing="not found")
        lines = text.decode(errors="replace").splitlines()
        return rows.node_shown(lines[0]) if lines and lines[0].startswith("NodeName=") else None

    def close(self) -> None:
        """Let go of connections."""
        if self._rest is not None:
            self._rest.close()
