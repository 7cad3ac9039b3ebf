"""How each action is done: the argument lists, in the order that a crash between any two of them can be told afterwards.

A job is marked before it is touched. `requeue incomplete` is Slurm's own precondition: a run that ended a moment ago is not
run again. Everything sets an absolute value, so that a step may be repeated where a read proved it missing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from typing import assert_never

from aiops.action import (
    ConfirmHold,
    Cordon,
    Drain,
    HoldCapacity,
    LendQueue,
    Migrate,
    Preempt,
    ReleaseBandwidth,
    ReleaseHold,
    RequestCheckpoint,
    Requeue,
    ReserveBandwidth,
    Resume,
    ScalePool,
    Suspend,
    TuneJob,
    Uncordon,
)
from aiops.backends.slurm import marks
from aiops.backends.slurm.checkpoints import Checkpoints
from aiops.backends.slurm.commands import Commands, Lost, Refused, name, prose
from aiops.backends.slurm.evidence import restarts, units
from aiops.backends.slurm.marks import Move
from aiops.backends.slurm.picture import in_service, job_state, pool_name, powered
from aiops.backends.slurm.preconditions import JobAction, Slurms, View
from aiops.backends.slurm.query import Query
from aiops.backends.slurm.rows import TERMINAL, JobRow
from aiops.clock import SystemClock
from aiops.model import JobState

_SETTLE_S = 5.0  # a requeued job is COMPLETING for KillWait and an epilog before it can be changed
_LOOK_S = 0.05


class Effects:
    """Carries out admitted actions. `failpoint` is told the name of each point at which a crash would be interesting."""

    def __init__(
        self, commands: Commands, query: Query, checkpoints: Checkpoints, failpoint: Callable[[str], None],
        sending: Callable[[str], None] = lambda by: None,
    ) -> None:  # fmt: skip
        """`sending` is told of an action right before the command that ends its run."""
        self._commands = commands
        self._query = query
        self._checkpoints = checkpoints
        self._failpoint = failpoint
        self._sending = sending

    def carry_out(self, action: Slurms, by: str, view: View) -> str:
        """Do it; what there is to say. Raises Refused (no effect, or a named rest) or Lost."""
        match action:
            case Cordon() | Drain():
                reason = marks.node_reason(action.kind, prose(action.reason), by)
                return self._write("update", f"NodeName={name(action.node)}", "State=DRAIN", f"Reason={reason}")
            case Uncordon():
                return self._write("update", f"NodeName={name(action.node)}", "State=RESUME")
            case HoldCapacity() | ConfirmHold() | ReleaseHold():
                return self._hold(action, view)
            case ReserveBandwidth() | ReleaseBandwidth():
                return self._bandwidth(action, view)
            case ScalePool():
                return self._pool(action, view)
            case RequestCheckpoint() | Preempt() | Requeue() | Suspend() | Resume() | Migrate() | LendQueue() | TuneJob():
                assert view.job is not None, "checked by the preconditions"
                return self._job(action, view.job, by, view)
            case _:
                assert_never(action)

    def _write(self, *argv: str) -> str:
        done = self._commands.write("scontrol", "--", *argv)
        self._failpoint("after_effect")
        return done

    def _job(self, action: JobAction, row: JobRow, by: str, view: View) -> str:
        if isinstance(action, RequestCheckpoint):
            return self._checkpoints.request(row, by, view.now)
        comment = marks.job_comment(view.comment, by, view.frozen_at)
        mark = f"AdminComment={comment}"
        if isinstance(action, Migrate):
            mark = f"AdminComment={marks.moves(comment, restarts(action.run_id), action.to_nodes)}"
        if isinstance(action, LendQueue | TuneJob):
            return self._update(row, mark, _changed(action))  # both or neither, in one command
        if not row.states & TERMINAL:  # Slurm refuses to comment on a run that is over; its end is mark enough
            self._update(row, mark)
            self._failpoint("after_mark")
        match action:
            case Preempt():
                return self._leave("requeue", row, by, mark)
            case Migrate():
                if row.run_id == action.run_id:
                    self._leave("requeuehold", row, by, mark)
                elif not set(action.to_nodes) <= in_service(view.site.nodes):  # of a move that was cut off: do not pin it there
                    raise Refused(self.end_move(row, marks.Move(by, row.restarts, action.to_nodes), ()))
                return self._place(row, action, f"AdminComment={comment}")
            case Requeue():
                return self._requeue(row, action)
            case Suspend():
                return self._write("suspend", row.address)
            case Resume():
                return self._write("release" if row.held else "resume", row.address)
            case _:
                assert_never(action)

    def _leave(self, verb: str, row: JobRow, by: str, mark: str) -> str:
        """Stop the run for another; one that is over already (`restart.py`) is only requeued, and can be marked after that."""
        over = bool(row.states & TERMINAL)
        self._sending(by)
        self._write(verb, *(() if over else ("incomplete",)), row.address)
        left = self._left(row)
        if over:
            self._update(row, mark)
        return left

    def _left(self, row: JobRow) -> str:
        """Slurm says OK and does nothing where the run was ending when `requeue incomplete` came. Raises Refused then.

        A requeue counts a restart at once, while the run is still COMPLETING; a run that ended by itself, or was cancelled,
        is COMPLETING too, and may be forgotten a moment later.
        """
        now = self._query.job(str(row.id))
        if now is not None and now.run_id == row.run_id and job_state(now) is JobState.RUNNING:
            raise Lost(f"job {row.id} runs as if it had not been requeued: slurmctld may have been killed")
        if now is None or now.restarts <= row.restarts:
            raise Refused(f"no longer there: the run ended by itself ({'+'.join(sorted(now.states)) if now else 'forgotten'})")
        return "requeued"

    def _update(self, row: JobRow, *values: str) -> str:
        """Slurm may ask for a moment while a job settles ("not available right now", COMPLETING)."""
        deadline = SystemClock().elapsed() + _SETTLE_S
        while True:
            try:
                return self._write("update", f"JobId={row.address}", *values)
            except Refused as error:
                if "not available right now" not in str(error) or SystemClock().elapsed() > deadline:
                    raise
                time.sleep(_LOOK_S)

    def _place(self, row: JobRow, action: Migrate, mark: str) -> str:
        """The second half of a move: wait until the run has left, name its new nodes, let it go. May be repeated."""
        self._settled(row)
        self._update(row, f"ReqNodeList={','.join(name(node) for node in action.to_nodes)}")
        self._failpoint("after_place")
        self._write("release", row.address)
        if set(action.to_nodes) & set(action.on_nodes):
            return self._update(row, mark)  # Slurm lets it wait two minutes: a slurmd that has just ended a run refuses it
        return self._update(row, "StartTime=now", mark)

    def end_move(self, row: JobRow, move: Move, ready: Collection[str]) -> str:
        """Let go of a run that a move had stopped, to its new nodes if they are in service, else to where there is room.

        When it may start is left to Slurm. Raises Refused or Lost.
        """
        nodes, there = ",".join(name(node) for node in move.to_nodes), set(move.to_nodes) <= set(ready)
        self._update(row, f"ReqNodeList={nodes if there else ''}")
        self._write("release", row.address)
        self.forget_move(row)
        return f"move of job {row.id} to {nodes}" + ("" if there else ": not in service, let go without them")

    def forget_move(self, row: JobRow) -> None:
        """Take a move off the job's comment. Raises Refused or Lost."""
        self._update(row, f"AdminComment={marks.settled(row.admin_comment)}")

    def _requeue(self, row: JobRow, action: Requeue) -> str:
        exclude = f"ExcNodeList={','.join(name(node) for node in action.exclude_nodes)}"
        if row.held:
            if action.exclude_nodes:
                self._update(row, exclude)
            return self._write("release", row.address)
        done = self._write("requeue", row.address)
        self._settled(row)
        if action.exclude_nodes:
            self._update(row, exclude)
        return done

    def _settled(self, row: JobRow) -> None:
        deadline = SystemClock().elapsed() + _SETTLE_S
        while True:
            now = self._query.job(str(row.id))
            if now is None or job_state(now) in (JobState.QUEUED, JobState.HELD):
                return
            if SystemClock().elapsed() > deadline:
                raise Lost(f"job {row.id} is still {'+'.join(sorted(now.states))}")
            time.sleep(_LOOK_S)

    def _hold(self, action: HoldCapacity | ConfirmHold | ReleaseHold, view: View) -> str:
        reservation = f"ReservationName={marks.hold_name(action.hold, action.fence)}"
        if isinstance(action, ReleaseHold):
            return self._write("delete", reservation)
        if isinstance(action, ConfirmHold):
            return self._write("update", "reservation", reservation, "Duration=UNLIMITED")
        start = max(view.now, action.starts_at or 0.0)
        what = [f"Nodes={','.join(name(node) for node in action.nodes)}"] if action.nodes else ["NodeCnt=0"]
        flags = "Flags=IGNORE_JOBS,MAGNETIC" if action.nodes else "Flags=ANY_NODES"
        shares = [
            f"{name(link)}:{units(ReserveBandwidth(link=link, owner=action.owner, bytes_per_s=rate), view)}"
            for link, rate in sorted(action.bandwidth_bytes_per_s.items())
        ]
        rest = [f"Licenses={','.join(shares)}"] if shares else []
        times = [f"StartTime={_when(start, view.now)}", f"EndTime={_when(start + action.ttl_s, view.now)}"]
        return self._write("create", "reservation", reservation, *what, flags, *times, self._users(action.owner, view), *rest)

    def _bandwidth(self, action: ReserveBandwidth | ReleaseBandwidth, view: View) -> str:
        plain = marks.bandwidth_name(action.link, action.owner)
        reservation = f"ReservationName={plain}"
        if isinstance(action, ReleaseBandwidth):
            return self._write("delete", reservation)
        share = f"Licenses={name(action.link)}:{units(action, view)}"
        if any(row.name == plain for row in view.site.reservations):
            return self._write("update", "reservation", reservation, share)
        shape = ("Flags=ANY_NODES", "NodeCnt=0", "StartTime=now", "Duration=UNLIMITED")
        self._write("create", "reservation", reservation, *shape, self._users(action.owner, view), share)
        return "accounted, not enforced"

    def _users(self, owner: str, view: View) -> str:
        """Whose jobs may use a reservation: the owner's own user where it is a job, else the one that is configured."""
        kind, _, id = owner.partition("/")
        kind, id = ("job", kind) if kind.isdigit() and not id else (kind, id)  # policies name a waiting job by its id alone
        job = self._query.job(id) if kind == "job" else None
        user = job.user if job is not None else ""
        chosen = (id if kind == "user" else user) or view.settings.reservation_user or ""
        if not chosen:
            raise Refused(f"whose is {owner[:60]}? Name a job/ID or user/NAME as its owner, or set reservation_user")
        return f"Users={name(chosen)}"

    def _pool(self, action: ScalePool, view: View) -> str:
        members = sorted((row for row in view.site.nodes if pool_name(row) == action.pool), key=lambda row: row.name)
        off = [row.name for row in members if not powered(row)]
        wanted = action.nodes - (len(members) - len(off))
        if wanted > 0:
            nodes, state = off[:wanted], "POWER_UP"
        else:
            nodes, state = list(action.remove), "POWER_DOWN"
        if not nodes:
            return "nothing to power"
        return self._write("update", f"NodeName={','.join(name(node) for node in nodes)}", f"State={state}")


def _changed(action: LendQueue | TuneJob) -> str:
    if isinstance(action, LendQueue):
        return f"Partition={name(action.lender)}"
    return f"{action.knob.capitalize()}={int(action.value)}"


def _when(at: float, now: float) -> str:
    """A time as Slurm reads it; relative, because absolute ones are in slurmctld's local time zone."""
    return "now" if at <= now else f"now+{math.ceil(at - now)}"
