"""What every gate looks at: one decision, the snapshot, the limits, and what was admitted before it in this cycle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

from aiops.action import Action, Decision, Deny, Entry, Mode, OrderKind, destructive, target
from aiops.codec import digest
from aiops.decide.index import Index
from aiops.decide.limits import Limits
from aiops.model import Job, Node, Reservation
from aiops.snapshot import Snapshot

Refusal = tuple[Deny, str] | None
VOLATILE = ("version", "lost_gpu_s", "checkpoint", "reason", "fence")  # change from cycle to cycle while the plan is the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A decision before the gates.

    `index` is the snapshot, ready for lookups. `earlier` and `ledger` are the decisions before it in this cycle and their
    holds. `resends` is the id of the entry that it sends once more, '' for a new decision.
    """

    decision: Decision
    index: Index
    limits: Limits
    earlier: tuple[Decision, ...] = ()
    ledger: tuple[Reservation, ...] = ()
    resends: str = ""

    @property
    def snapshot(self) -> Snapshot:
        """What the decision was made on."""
        return self.index.snapshot

    @property
    def action(self) -> Action:
        """The action asked for."""
        return self.decision.action

    @property
    def destructive(self) -> bool:
        """Whether it can take running work away."""
        return destructive(self.decision.action)

    def job(self) -> Job | None:
        """The job that the action names, as this snapshot sees it."""
        return self.index.jobs.get(getattr(self.action, "job", ""))

    def node(self) -> Node | None:
        """The node that the action names, as this snapshot sees it."""
        return self.index.nodes.get(getattr(self.action, "node", ""))

    def ordered(self, kind: OrderKind) -> bool:
        """Whether an operator's order of this kind holds for everything, this policy or this target."""
        kind_and_name = target(self.action)
        names = ("", "*", self.decision.policy, kind_and_name, kind_and_name.partition("/")[2])
        return any(order.kind is kind and order.target in names for order in self.snapshot.orders)

    def others(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """These recorded entries, without the one that is sent again."""
        return (entry for entry in entries if entry.admission.id != self.resends)

    def since(self, at: float) -> float:
        """Seconds that surely passed since `at`: a wall clock that jumped ahead does not count as time passed (I15)."""
        return self.snapshot.now - at - abs(self.snapshot.wall_step_s)


def plan_hash(action: Action) -> str:
    """Fingerprint of what an action does to what, for approvals: equal in every cycle that wishes for the same."""
    return digest({f.name: getattr(action, f.name) for f in fields(action) if f.name not in VOLATILE})


def mode_of(request: Request) -> Mode:
    """How far the policy that decided may go now."""
    return mode_for(request.decision.policy, request.snapshot)


def mode_for(policy: str, snapshot: Snapshot) -> Mode:
    """How far a policy may go now: its setting, or the newest order `policy=mode`; what is not understood is OBSERVE."""
    orders = [o.target.partition("=") for o in snapshot.orders if o.kind is OrderKind.SET_MODE]
    ordered = [mode for name, _, mode in orders if name == policy]
    if ordered:
        return Mode(ordered[-1]) if ordered[-1] in set(Mode) else Mode.OBSERVE
    return snapshot.modes.get(policy, Mode.OBSERVE)
