"""`LocalBackend`: the contract's three verbs over one state directory.

An action goes: known id? supported? precondition, at this moment? journal "begin"; the state, durably; the processes;
journal "done". A crash anywhere leaves either nothing, or a begun line whose question the state answers exactly, because
every change in it names the admission that made it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

from aiops.action import (
    Action,
    Admission,
    Effect,
    LimitBandwidth,
    Migrate,
    Outcome,
    Preempt,
    Receipt,
    ReserveBandwidth,
    Rollback,
    SetPowerLimit,
    target,
)
from aiops.backends.journal import Journal
from aiops.backends.local import changes, endpoints, evidence, machine, picture, power, preconditions
from aiops.backends.local.declare import LocalSettings, read
from aiops.backends.local.imposing import Imposed
from aiops.backends.local.state import Phase
from aiops.backends.local.supervise import Supervisor
from aiops.clock import SystemClock
from aiops.errors import Unreadable
from aiops.model import Checkpoint, Cluster, Link, Node, Share


class LocalBackend:
    """One machine. Safe to call from several threads; one process at a time owns a state directory."""

    name: ClassVar[str] = "local"
    supports: frozenset[str] = preconditions.SUPPORTS

    def __init__(
        self,
        settings: LocalSettings,
        failpoint: Callable[[str], None] = lambda point: None,
        elapsed: Callable[[], float] | None = None,
    ) -> None:
        """`failpoint` is told the name of each point at which a crash would be interesting; tests die there.

        `elapsed` is a steady clock, by default the machine's: what tells a stepped wall clock from time that passed.
        """
        self.settings = settings
        self._lock = threading.RLock()
        self._failpoint = failpoint
        self._supervisor = Supervisor(settings, failpoint, elapsed or SystemClock().elapsed)
        self._journal = Journal(settings.state_dir / "effects.jsonl", failpoint)

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Self:
        """From the section `backend.local`; ConfigError if it is wrong. Touches nothing yet."""
        return cls(read(section, where))

    def observe(self, now: float) -> Cluster:
        """One step of supervision, then the whole machine as it is. Raises Unreadable."""
        with self._lock:
            nodes = self.supervise(now)
            return picture.cluster(self.settings, self._supervisor.book.state, (nodes, self._links(nodes)), now)

    def _links(self, nodes: tuple[Node, ...]) -> tuple[Link, ...]:
        supervisor = self._supervisor
        found = machine.links(self.settings, nodes, supervisor.book.state, supervisor.enforced_links())
        return tuple(replace(link, shares=self._measured(link)) for link in found)

    def _measured(self, link: Link) -> tuple[Share, ...]:
        return tuple(replace(one, used_bytes_per_s=self._supervisor.used(link.name, one.owner)) for one in link.shares)

    def supervise(self, now: float) -> tuple[Node, ...]:
        """Start, restart, check and stop what is due; cheap enough to be called once a second between cycles."""
        with self._lock:
            self._open()
            return self._supervisor.step(now)

    def _open(self) -> None:
        self._supervisor.book.open()
        self._journal.open()

    def apply(self, admission: Admission, now: float) -> Receipt:
        """Carry out an admitted action at most once per admission id, over restarts too."""
        with self._lock:
            try:
                outcome, detail = self._apply(admission, now)
            except (OSError, Unreadable) as error:
                outcome = Outcome.UNKNOWN if self._journal.may_have_begun(admission.id) else Outcome.FAILED
                detail = str(error)
            return Receipt(id=admission.id, outcome=outcome, detail=detail)

    def _apply(self, admission: Admission, now: float) -> tuple[Outcome, str]:
        action = admission.decision.action
        if not admission.permitted:
            return Outcome.FAILED, f"not permitted: {admission.denied}"
        if action.kind not in self.supports:
            return Outcome.UNSUPPORTED, f"local backend has no {action.kind}"
        self._open()
        self._supervisor.keep_time(now)
        known = self._known(admission)
        if known is not None:
            return known
        view = self._view(action, now)
        refused = preconditions.refusal(self._supervisor.book.state, action, view)
        return refused if refused is not None else self._effect(admission, action, view)

    def _known(self, admission: Admission) -> tuple[Outcome, str] | None:
        """The answer to an id seen before; None where it is new, or a read proves that its effect never came about."""
        if admission.id in self._journal.done:
            return Outcome.ALREADY, "done before"
        if admission.id not in self._journal.begun:
            return None
        found = self._present(admission)
        if found is None:
            return Outcome.UNKNOWN, "begun before, and the target does not say whether it happened"
        if found:
            self._journal.write(admission.id, "done", {"found": True})
            return Outcome.ALREADY, "found done"
        return None

    def _effect(self, admission: Admission, action: Action, view: preconditions.View) -> tuple[Outcome, str]:
        row = {"at": view.now, "kind": action.kind, "target": target(action)}
        self._journal.write(admission.id, "begin", row)
        self._failpoint("after_begin")
        real = action.action if isinstance(action, Rollback) else action
        if isinstance(real, SetPowerLimit):
            problem = power.write_watts(real.gpu, real.watts)
            if problem:
                return Outcome.FAILED, problem
        state = changes.change(self._supervisor.book.state, action, admission.id, view)
        self._supervisor.book.put(state)
        self._failpoint("after_state")
        detail = self._carry_out(real, view.now)
        self._failpoint("after_effect")
        self._journal.write(admission.id, "done", row)
        return Outcome.DONE, detail

    def _carry_out(self, action: Action, now: float) -> str:
        """What can be done at once; supervision repeats whatever is cut short here."""
        self._supervisor.enforce(now)
        match action:
            case LimitBandwidth() | ReserveBandwidth() if action.link in self.settings.links:
                return _told(action, self._supervisor.impose(action.link), self.settings.links[action.link].kind)
            case LimitBandwidth() | ReserveBandwidth():
                return "accounted, not enforced"
            case _:
                return ""

    def _view(self, action: Action, now: float) -> preconditions.View:
        nodes = machine.nodes(self.settings, self._supervisor.book.state)
        proof = self._proof(action, now)
        return preconditions.View(settings=self.settings, nodes=nodes, links=self._links(nodes), now=now, proof=proof)

    def _proof(self, action: Action, now: float) -> Checkpoint | None:
        """The target run's checkpoint, read afresh: what a cycle saw some seconds ago may be gone."""
        if not isinstance(action, Preempt | Migrate):
            return None
        job = self._supervisor.book.state.jobs.get(action.job)
        if job is None or not job.unit:
            return None
        return self._supervisor.proofs.look(self._supervisor.control(job), job.run_id, now, patience_s=2.0)

    def probe(self, admission: Admission, now: float) -> Effect:
        """Whether the action's effect is there, by reading; never changes anything."""
        with self._lock:
            try:
                self._open()
                found = self._present(admission)
            except (OSError, Unreadable):
                return Effect.UNREADABLE
        return Effect.UNREADABLE if found is None else Effect.PRESENT if found else Effect.ABSENT

    def _present(self, admission: Admission) -> bool | None:
        action = admission.decision.action
        real = action.action if isinstance(action, Rollback) else action
        if isinstance(real, SetPowerLimit):
            watts = power.read_watts(real.gpu)
            return None if watts is None else power.close(watts, real.watts)
        if real.kind in _EVENTS and admission.id in self._journal.done:
            return True
        return evidence.present(self._supervisor.book.state, action, admission.id)

    def endpoints(self) -> tuple[endpoints.Endpoint, ...]:
        """Where the replicas of all services listen; also in `endpoints.json` of the state directory."""
        with self._lock:
            self._open()
            return endpoints.endpoints(self._supervisor.book.state, self.settings.services)

    def describe(self) -> str:
        """One line on what this machine lets us enforce."""
        return self._supervisor.cgroups.describe()

    def shutdown_units(self) -> int:
        """Kill every unit at once and forget it; how many there were. For examples and tests: a daemon never calls it."""
        with self._lock:
            self._open()
            book, spawner = self._supervisor.book, self._supervisor.spawner
            units = [spawner.adopt(unit) for unit in book.state.units.values()]
            book.put(replace(book.state, units={u.id: replace(u, phase=Phase.STOPPING) for u in units if u is not None}))
            for unit in book.state.units.values():
                spawner.signal(unit, signal.SIGKILL)
                spawner.forget(unit.id)
            count = len(book.state.units)
            book.put(replace(book.state, units={}))
            return count

    def stand_down(self) -> None:
        """Leave the state directory to another process; the next look takes it again, as it then is."""
        with self._lock:
            self._journal.close()
            self._supervisor.stand_down()

    def close(self) -> None:
        """Let go of files and threads; services and jobs go on."""
        with self._lock:
            self._journal.close()
            self._supervisor.close()


def _told(action: LimitBandwidth | ReserveBandwidth, imposed: Imposed, kind: str) -> str:
    """What the kernel does of a cap or guarantee, in the words of the receipt."""
    if isinstance(action, LimitBandwidth) and action.bytes_per_s is None:
        return ""
    sure = isinstance(action, ReserveBandwidth)
    if action.owner not in (imposed.sure if sure else imposed.caps):
        return "accounted, not enforced"
    halved = kind == "nic" and (sure or action.owner not in imposed.received)
    return "enforced on what is sent; what is received is accounted" if halved else "enforced"


_EVENTS = frozenset({"request_checkpoint", "preempt", "migrate", "requeue"})
"""Actions that are over once done: a later state of their target does not undo them."""
