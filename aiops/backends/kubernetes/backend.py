"""`KubernetesBackend`: the contract's three verbs over one API server.

`observe` reads mirrors and proves by one consistent read that the server still answers. `apply` never trusts them: it reads
its target afresh, checks identity and precondition on that, and writes with the version that it read, so that a change by
anybody in between is a 409, which is STALE. `probe` reads what the write left on the object.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from aiops.action import Admission, Effect, Outcome, Receipt
from aiops.backends.kubernetes import account, effects, finishing, picture
from aiops.backends.kubernetes.connection import Connection, Lost, NotSent, Refused
from aiops.backends.kubernetes.declare import KubernetesSettings, read
from aiops.backends.kubernetes.desk import Desk
from aiops.backends.kubernetes.inventory import Inventory
from aiops.backends.kubernetes.leader import Leader
from aiops.errors import Temporary, Unreadable
from aiops.model import Cluster


class KubernetesBackend:
    """One cluster. Safe to call from several threads."""

    name: ClassVar[str] = "kubernetes"
    supports: frozenset[str] = effects.SUPPORTS

    def __init__(self, settings: KubernetesSettings) -> None:
        self.settings = settings
        self.supports = effects.SUPPORTS | ({"tune_job"} if settings.kueue_boost else set())
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._inventory: Inventory | None = None
        self._leader: Leader | None = None

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Self:
        """From the section `backend.kubernetes`; ConfigError if it is wrong. Connects to nothing yet."""
        return cls(read(section, where))

    def observe(self, now: float) -> Cluster:
        """The whole cluster, with every write of this backend in it. Raises Unreadable."""
        inventory = self._mirrors()
        try:
            # A mirror may be fed by a connection that died without a word: a consistent read proves the server to be there.
            _, promised = account.read(Desk(self._connected(), self.settings, "", now))
        except (Temporary, ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"{account.NAME}: {error}") from None
        return picture.cluster(self.settings, inventory.records(), promised, now)

    def apply(self, admission: Admission, now: float) -> Receipt:
        """Carry out an admitted action at most once per admission id, over restarts too."""
        outcome, detail = self._apply(admission, now)
        return Receipt(id=admission.id, outcome=outcome, detail=detail)

    def _apply(self, admission: Admission, now: float) -> tuple[Outcome, str]:
        action = admission.decision.action
        if not admission.permitted:
            return Outcome.FAILED, f"not permitted: {admission.denied}"
        if action.kind not in self.supports:
            return Outcome.UNSUPPORTED, f"kubernetes backend has no {action.kind}"
        try:
            desk = Desk(self._connected(), self.settings, admission.id, now)
            outcome, detail = effects.carry_out(desk, action)
            self._note(desk)
            return outcome, detail
        except Lost as error:
            return Outcome.UNKNOWN, str(error)
        except (NotSent, Refused) as error:
            return Outcome.FAILED, str(error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return Outcome.UNKNOWN, f"an answer that cannot be understood: {type(error).__name__}: {error}"

    def probe(self, admission: Admission, now: float) -> Effect:
        """Whether the action's effect is there, by reading; never changes anything."""
        try:
            found = effects.present(Desk(self._connected(), self.settings, admission.id, now), admission.decision.action)
        except (Temporary, KeyError, TypeError, ValueError, AttributeError):
            return Effect.UNREADABLE
        return Effect.PRESENT if found else Effect.ABSENT

    def finish(self, now: float) -> tuple[str, ...]:
        """End what a daemon began on this cluster and could not finish, or put it back; what was ended, in words."""
        try:
            seen = self._mirrors().unfinished()
        except Unreadable:
            return ()  # no picture yet, or none now: the next look is a second away, and the cycle says why
        desks: list[Desk] = []

        def opened(id: str) -> Desk:
            desks.append(Desk(self._connected(), self.settings, id, now))
            return desks[-1]

        try:
            return finishing.finish(opened, seen)
        finally:
            for desk in desks:
                self._note(desk)

    def announce(self, holder: str, epoch: int, now: float) -> bool:
        """Show in a Lease object that `holder` leads with `epoch`; never over a newer one. It fences nobody. Never raises."""
        with self._lock:
            if self._leader is None:
                self._leader = Leader(self._connected(), self.settings)
            leader = self._leader
        return leader.announce(holder, epoch, now)

    def close(self) -> None:
        """End the mirrors and let go of connections; the cluster goes on."""
        with self._lock:
            if self._inventory is not None:
                self._inventory.close()
            if self._connection is not None:
                self._connection.close()
            self._inventory = self._connection = self._leader = None

    def _connected(self) -> Connection:
        with self._lock:
            if self._connection is None:
                self._connection = Connection(self.settings)
            return self._connection

    def _mirrors(self) -> Inventory:
        with self._lock:
            if self._inventory is None:
                self._inventory = Inventory(self._connected(), self.settings)
            return self._inventory

    def _note(self, desk: Desk) -> None:
        """The next observation must show what was just written."""
        with self._lock:
            if self._inventory is not None:
                for path, version in desk.written:
                    self._inventory.expect(path, version)
