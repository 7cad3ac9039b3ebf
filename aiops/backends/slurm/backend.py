"""`SlurmBackend`: the contract's three verbs over one slurmctld.

An action goes: known id? supported? read the target afresh; precondition; journal "begin"; mark; the change; journal "done".
A reply that never comes is UNKNOWN, and a later look at what Slurm itself says settles it: never a blind second try.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

from aiops.action import (
    Admission,
    ConfirmHold,
    Cordon,
    Drain,
    Effect,
    HoldCapacity,
    LendQueue,
    Migrate,
    Outcome,
    Preempt,
    Receipt,
    ReleaseBandwidth,
    ReleaseHold,
    RequestCheckpoint,
    Requeue,
    ReserveBandwidth,
    Resume,
    ScalePool,
    Suspend,
    Uncordon,
    target,
)
from aiops.backends.journal import Journal
from aiops.backends.slurm import evidence, finishing, marks, picture, preconditions, restart, tokens
from aiops.backends.slurm.checkpoints import Checkpoints
from aiops.backends.slurm.commands import Commands, Lost, Refused, Run, environment, system
from aiops.backends.slurm.declare import SlurmSettings, read
from aiops.backends.slurm.effects import Effects
from aiops.backends.slurm.preconditions import SUPPORTS, HoldAction, JobAction, LinkAction, NodeAction, Slurms, View
from aiops.backends.slurm.query import Query
from aiops.backends.slurm.rows import TERMINAL
from aiops.errors import Permanent, Unreadable
from aiops.model import Checkpoint, Cluster, JobState

_PATIENCE_S = 2.0  # for hashing a checkpoint, at the moment that it is needed
_ONCE = frozenset({"request_checkpoint", "preempt", "migrate", "requeue", "hold_capacity"})
"""Actions that are over once done: a later state of their target does not undo them."""


class SlurmBackend:
    """One Slurm cluster. Safe to call from several threads."""

    name: ClassVar[str] = "slurm"
    supports: frozenset[str] = SUPPORTS

    def __init__(
        self,
        settings: SlurmSettings,
        run: Run | None = None,
        uid: int | None = None,
        failpoint: Callable[[str], None] = lambda point: None,
    ) -> None:
        """`run` starts Slurm's programs, as user `uid`: by default this process's own."""
        self.settings = settings
        self._lock = threading.RLock()
        self._uid = os.geteuid() if uid is None else uid
        self._failpoint = failpoint
        self._commands = Commands(run or system(environment(settings.conf)), settings.timeout, self._token)
        self._query = Query(self._commands, settings)
        self._checkpoints = Checkpoints(self._commands, settings)
        self._journal = Journal(settings.state_dir / "effects.jsonl")
        self._effects = Effects(self._commands, self._query, self._checkpoints, failpoint, self._sending)
        self._ready = False

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Self:
        """From the section `backend.slurm`; ConfigError if it is wrong. Touches nothing yet."""
        return cls(read(section, where))

    @property
    def asked(self) -> int:
        """How often slurmctld was asked for the list of all jobs."""
        return self._query.asked

    def observe(self, now: float) -> Cluster:
        """The whole cluster, at most one query interval old. Raises Unreadable; Permanent as root or SlurmUser."""
        with self._lock:
            self._open()
            seen = self._query.picture(now)
            running = [row for row in seen.jobs if picture.job_state(row) in (JobState.RUNNING, JobState.SUSPENDED)]
            speaking = running if self.settings.control_dir else []
            said = {str(row.id): (self._checkpoints.requested_at(row), self._checkpoints.proof(row, now)) for row in speaking}
            whole = picture.cluster(seen, self.settings, self._query.controller(), said)
            return replace(whole, at=now)

    def _token(self) -> dict[str, str]:
        """What Slurm's programs present in place of munge. Raises NoToken."""
        path = self.settings.token_file
        return {"SLURM_JWT": tokens.current(path)} if path is not None else {}

    def _open(self) -> None:
        """Refuse powers that one mistake would turn on the whole site; then the journal."""
        if not self._ready:
            controller, speaker = self._query.controller(), tokens.speaks_for(self.settings.token_file)
            if self._uid in (0, controller.slurm_uid) or speaker in ("root", controller.slurm_user):
                raise Permanent("never as root or SlurmUser: run as a user with Slurm's AdminLevel Operator")
            self._ready = True
        self.settings.state_dir.mkdir(parents=True, exist_ok=True)
        self._journal.open()

    def apply(self, admission: Admission, now: float) -> Receipt:
        """Carry out an admitted action at most once per admission id, over restarts and hosts."""
        with self._lock:
            try:
                outcome, detail = self._apply(admission, now)
            except (Lost, Unreadable, OSError) as error:
                outcome = Outcome.UNKNOWN if self._journal.may_have_begun(admission.id) else Outcome.FAILED
                detail = str(error)
            except (Permanent, ValueError) as error:
                outcome, detail = Outcome.FAILED, str(error)
            finally:
                self._query.forget()
            return Receipt(id=admission.id, outcome=outcome, detail=detail)

    def _apply(self, admission: Admission, now: float) -> tuple[Outcome, str]:
        if not admission.permitted:
            return Outcome.FAILED, f"not permitted: {admission.denied}"
        action = preconditions.real(admission.decision.action)
        if action is None:
            return Outcome.UNSUPPORTED, f"slurm backend has no {admission.decision.action.kind}"
        self._open()
        if admission.id in self._journal.done:
            return Outcome.ALREADY, "done before"
        view = self._view(action, admission.id, now)
        known = self._known(admission, action, view)
        if known is not None:
            return known
        continues = isinstance(action, Migrate) and evidence.half_moved(action, admission.id, view)
        refused = None if continues else preconditions.refusal(action, view)
        return refused if refused is not None else self._effect(admission, action, view)

    def _known(self, admission: Admission, action: Slurms, view: View) -> tuple[Outcome, str] | None:
        """The answer to an id seen before, here or by another daemon; None where it is new or its effect proved absent."""
        marked = marks.marked(view.comment, admission.id) is not None
        if admission.id not in self._journal.begun and not marked:
            return None
        found = self._present(admission, action, view.now)
        if found is None:
            return Outcome.UNKNOWN, _doubt(action, view) or "begun before, and Slurm does not say whether it happened"
        if found:
            self._journal.write(admission.id, "done", {"found": True})
            return Outcome.ALREADY, "found done"
        if evidence.overtaken(action, admission.id, view):
            return Outcome.STALE, "begun before, and the run was suspended or resumed since: not repeated"
        return None

    def _sending(self, id: str) -> None:
        self._journal.write(id, "sent", {})

    def _effect(self, admission: Admission, action: Slurms, view: View) -> tuple[Outcome, str]:
        row: dict[str, object] = {"at": view.now, "kind": action.kind, "target": target(action), "booted_at": view.booted_at}
        if admission.id not in self._journal.begun:
            self._journal.write(admission.id, "begin", row)
        self._failpoint("after_begin")
        try:
            detail = self._effects.carry_out(action, admission.id, view)
        except Refused as error:
            if self._forgotten(admission, action, view.now):
                return Outcome.UNKNOWN, f"slurmctld was restarted meanwhile ({error})"
            if self._seen(admission, action, view):
                return Outcome.UNKNOWN, f"slurmctld said no ({error}), and it is there"
            return (Outcome.STALE if _moved(str(error)) else Outcome.FAILED), str(error)
        if self._seen(admission, action, view) is False:
            return Outcome.UNKNOWN, "slurmctld said yes, and it is not there"
        self._failpoint("before_done")
        self._journal.write(admission.id, "done", row)
        return Outcome.DONE, detail

    def _seen(self, admission: Admission, action: Slurms, before: View) -> bool | None:
        """Whether the effect on a node or a reservation is there after the answer; None for runs: they are looked at before it.

        A `State=RESUME` that slurmctld refuses ("Invalid node state specified"), because the node has not registered since a
        restart, has cleared the drain all the same: seen in the trials.
        """
        if isinstance(action, NodeAction):
            return evidence.present(action, admission.id, replace(before, node=self._query.node(action.node)))
        if isinstance(action, HoldAction | LinkAction):
            return evidence.present(action, admission.id, replace(before, site=self._query.site(("reservations",))))
        return None

    def _forgotten(self, admission: Admission, action: Slurms, now: float) -> bool:
        """True where it was refused only because slurmctld, restarted since, has forgotten what it was told: look again."""
        if not isinstance(action, Preempt | Migrate):
            return False
        view = self._view(action, admission.id, now)
        undone = view.restarted and view.job is not None and restart.undone(view.job, action.run_id)
        return undone or bool(_doubt(action, view))

    def _view(self, action: Slurms, id: str, now: float) -> View:
        """What this action is judged on, read now and not from any picture that may be seconds old."""
        job = self._query.job(action.job) if isinstance(action, JobAction) else None
        node = self._query.node(action.node) if isinstance(action, Cordon | Drain | Uncordon) else None
        proof: Checkpoint | None = None
        if isinstance(action, Preempt | Migrate) and job is not None:
            proof = self._checkpoints.proof(job, now, _PATIENCE_S)
        freezes = isinstance(action, Suspend | Resume) and job is not None and not job.held
        frozen_at = self._query.suspended_at(job) if freezes and job is not None else 0.0
        site = self._query.site(_around(action))
        stops = isinstance(action, Preempt | Migrate)
        lines = self._journal.lines(id) if stops else ()
        began_under = next((line.get("booted_at") for line in lines), None)
        return View(
            settings=self.settings, controller=self._query.controller(), now=now, job=job, node=node, proof=proof,
            site=site, comment=job.admin_comment if job is not None else "", frozen_at=frozen_at,
            booted_at=self._query.booted_at() if stops else 0.0,
            began_under=began_under if isinstance(began_under, float) else 0.0,
            known=bool(lines), sent=any(line["what"] == "sent" for line in lines),
        )  # fmt: skip

    def probe(self, admission: Admission, now: float) -> Effect:
        """Whether the action's effect is there, by reading; never changes anything."""
        with self._lock:
            action = preconditions.real(admission.decision.action)
            try:
                self._open()
                found = None if action is None else self._present(admission, action, now)
            except (Lost, Unreadable, Permanent, OSError, ValueError):
                return Effect.UNREADABLE
        return Effect.UNREADABLE if found is None else Effect.PRESENT if found else Effect.ABSENT

    def _present(self, admission: Admission, action: Slurms, now: float) -> bool | None:
        if action.kind in _ONCE and admission.id in self._journal.done:
            return True
        self._query.forget()
        view = self._view(action, admission.id, now)
        if isinstance(action, RequestCheckpoint):
            return view.job is not None and self._checkpoints.requested(view.job, admission.id)
        if _doubt(action, view):
            return None
        return evidence.present(action, admission.id, view)

    def finish(self, now: float) -> tuple[str, ...]:
        """End moves that a daemon which died or lost its lease left half done: their runs are held, and nobody lets them go.

        Looks through the newest list of jobs, which costs nothing, and reads a job afresh before it touches it. Raises Lost.
        """
        with self._lock:
            ids = [row.id for row in self._query.jobs_seen() if marks.moving(row.admin_comment) and not row.states & TERMINAL]
            if not ids:
                return ()
            self._open()
            self._query.forget()
            return tuple(told for id in ids for told in [finishing.end(self._query, self._effects, self._journal, id)] if told)

    def close(self) -> None:
        """Let go of files and connections; jobs go on."""
        with self._lock:
            self._journal.close()
            self._checkpoints.close()
            self._query.close()


def _doubt(action: Slurms, view: View) -> str:
    """Why what became of a run cannot be told since slurmctld was restarted; empty where it can, or it was not."""
    stops = isinstance(action, Preempt | Migrate) and view.restarted
    return restart.doubt(view.job, action.job, action.run_id) if stops and isinstance(action, JobAction) else ""


def _around(action: Slurms) -> tuple[str, ...]:
    """What of the site an action is judged on, beside its own target: what is not needed is not asked."""
    match action:
        case HoldCapacity():
            return ("nodes", "reservations", *(("licences",) if action.bandwidth_bytes_per_s else ()))
        case ReserveBandwidth() | ReleaseBandwidth():
            return ("licences", "reservations")
        case ConfirmHold() | ReleaseHold():
            return ("reservations",)
        case Preempt():
            return ("reservations",) if action.bind_to else ()
        case ScalePool() | Migrate() | Requeue():
            return ("nodes",)
        case LendQueue():
            return ("partitions",)
        case _:
            return ()


def _moved(text: str) -> bool:
    """Slurm's refusals that mean: the target is no longer what was seen."""
    words = "Invalid job id|completing|already|overlaps|is pending|no longer|not suspended|busy|disabled"
    return re.search(words, text) is not None
