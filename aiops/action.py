"""The sealed union of actions, and what becomes of one: Decision -> Admission -> Receipt -> Verdict.

A `Decision` is a policy's wish. An `Admission` is a permission or a named refusal. A `Receipt` is what the cluster
answered. A `Verdict` is what happened. Each action carries its own precondition (identity and version of its target),
so that a backend can refuse with STALE if the world moved between looking and acting. Values are absolute, never deltas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleService:
    """Set a service to `replicas`, if it still has identity `uid` and `version`."""

    service: str
    uid: str
    version: str
    replicas: int
    was: int
    kind: str = field(default="scale_service", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePool:
    """Set a node pool to `nodes`, if it still has `version`; `remove` names the nodes that go when it shrinks."""

    pool: str
    version: str
    nodes: int
    was: int
    remove: tuple[str, ...] = ()
    kind: str = field(default="scale_pool", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCheckpoint:
    """Ask a run for a durable checkpoint; harmless, and the first half of every preemption."""

    job: str
    run_id: str
    kind: str = field(default="request_checkpoint", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preempt:
    """Stop run `run_id` of `job` on exactly `on_nodes` and requeue it; `checkpoint` is the proof that it loses nothing more.

    `bind_to` names the hold that the freed capacity belongs to from the first eviction on.
    """

    job: str
    run_id: str
    on_nodes: tuple[str, ...]
    checkpoint: str
    gpus: int
    lost_gpu_s: float
    bind_to: str = ""
    kind: str = field(default="preempt", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeue:
    """Put a failed or held job back in its queue, optionally excluding nodes."""

    job: str
    run_id: str
    exclude_nodes: tuple[str, ...] = ()
    kind: str = field(default="requeue", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspend:
    """Freeze a run in place; its memory stays."""

    job: str
    run_id: str
    kind: str = field(default="suspend", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Thaw a suspended run, or release a held job."""

    job: str
    run_id: str
    kind: str = field(default="resume", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrate:
    """Checkpoint-and-restart a run from its nodes to `to_nodes` (and GPU slots, where the backend places by slot)."""

    job: str
    run_id: str
    on_nodes: tuple[str, ...]
    to_nodes: tuple[str, ...]
    checkpoint: str
    gpus: int
    to_gpus: tuple[str, ...] = ()
    kind: str = field(default="migrate", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LendQueue:
    """Let queued `job` run on idle capacity of `lender`'s queue; reclaimable at any time."""

    job: str
    run_id: str
    borrower: str
    lender: str
    nodes: tuple[str, ...]
    gpus: int
    kind: str = field(default="lend_queue", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cordon:
    """Take no new work on a node."""

    node: str
    uid: str
    reason: str
    kind: str = field(default="cordon", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncordon:
    """Take work on a node again."""

    node: str
    uid: str
    kind: str = field(default="uncordon", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Cordon a node and move its work off with the backend's own gentleness (budgets, grace periods)."""

    node: str
    uid: str
    reason: str
    kind: str = field(default="drain", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldCapacity:
    """First phase of a reservation: bind capacity to `owner` for `ttl_s` seconds, all dimensions or none."""

    hold: str
    owner: str
    nodes: tuple[str, ...]
    gpus: int
    ttl_s: float
    fence: int
    cpu_cores: float = 0.0
    bandwidth_bytes_per_s: Mapping[str, float] = field(default_factory=dict)
    starts_at: float | None = None
    kind: str = field(default="hold_capacity", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmHold:
    """Second phase: turn a live hold into an active reservation; refused when its fence is not `fence`."""

    hold: str
    fence: int
    kind: str = field(default="confirm_hold", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseHold:
    """Give a hold's or reservation's capacity back."""

    hold: str
    fence: int
    kind: str = field(default="release_hold", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveBandwidth:
    """Guarantee `bytes_per_s` on `link` (and all its parents) to `owner`."""

    link: str
    owner: str
    bytes_per_s: float
    kind: str = field(default="reserve_bandwidth", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseBandwidth:
    """End `owner`'s guarantee on `link`."""

    link: str
    owner: str
    kind: str = field(default="release_bandwidth", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitBandwidth:
    """Cap `owner` on `link`; None lifts the cap."""

    link: str
    owner: str
    bytes_per_s: float | None
    was: float | None
    kind: str = field(default="limit_bandwidth", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPowerLimit:
    """Set a GPU's power limit in watts."""

    node: str
    gpu: str
    watts: float
    was: float | None
    kind: str = field(default="set_power_limit", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneJob:
    """Tell a run a new value of one of its declared knobs (loader threads, compression level)."""

    job: str
    run_id: str
    knob: str
    value: float
    was: float
    kind: str = field(default="tune_job", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStep:
    """Give `share` of a service's traffic to `revision`."""

    service: str
    uid: str
    revision: str
    share: float
    was: float
    kind: str = field(default="rollout_step", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """Undo one earlier action by restoring what its target was before."""

    of: str
    action: Restorable
    kind: str = field(default="rollback", init=False)


Restorable = ScaleService | ScalePool | LimitBandwidth | SetPowerLimit | TuneJob | RolloutStep | Uncordon | ReleaseBandwidth
Action = (
    ScaleService | ScalePool | RequestCheckpoint | Preempt | Requeue | Suspend | Resume | Migrate | LendQueue | Cordon
    | Uncordon | Drain | HoldCapacity | ConfirmHold | ReleaseHold | ReserveBandwidth | ReleaseBandwidth | LimitBandwidth
    | SetPowerLimit | TuneJob | RolloutStep | Rollback
)  # fmt: skip


class Deny(StrEnum):
    """Why a decision was refused: the same word in ledger, metrics, API, alert and dashboard."""

    OBSERVE_ONLY = "observe_only"
    ADVISE_ONLY = "advise_only"
    KILL_SWITCH = "kill_switch"
    PAUSED = "paused"
    BREAKER_OPEN = "breaker_open"
    MASS_FAULT = "mass_fault"
    STALE_INPUT = "stale_input"
    LOW_COVERAGE = "low_coverage"
    IN_FLIGHT = "in_flight"
    CONFLICT = "conflict"
    COOLDOWN = "cooldown"
    WITHIN_TOLERANCE = "within_tolerance"
    BUDGET_SPENT = "budget_spent"
    BLAST_RADIUS = "blast_radius"
    PROTECTED = "protected"
    NO_AUTHORITY = "no_authority"
    NEEDS_APPROVAL = "needs_approval"
    NO_CHECKPOINT = "no_checkpoint"
    NO_CAPACITY = "no_capacity"
    EMPTY_TARGET = "empty_target"
    OUT_OF_BOUNDS = "out_of_bounds"
    UNSUPPORTED = "unsupported"
    CLOCK_STEPPED = "clock_stepped"
    INVALID = "invalid"


class Outcome(StrEnum):
    """What a backend answered. UNKNOWN is not FAILED: it may have happened, and must be read before anything else."""

    DONE = "done"
    ALREADY = "already"
    STALE = "stale"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Effect(StrEnum):
    """What a later look at the cluster proves about an action."""

    PRESENT = "present"
    ABSENT = "absent"
    UNREADABLE = "unreadable"


class EntryState(StrEnum):
    """Life of a ledger entry; every INTENT ends in one of the last five."""

    INTENT = "intent"
    SENT = "sent"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    EXPIRED = "expired"
    NEEDS_HUMAN = "needs_human"


class Mode(StrEnum):
    """How far a policy may go. Anything not understood is OBSERVE."""

    OBSERVE = "observe"
    ADVISE = "advise"
    ACT = "act"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A policy's wish: the action, why, on what evidence, what it should change, and by when that can be judged.

    `within_s` is the verdict's deadline in seconds from admission. `rejected` names the alternatives not taken.
    `inputs_at` is the time of the oldest input that the decision rests on; None where it rests on the cluster alone.
    Decisions of one policy with the same non-empty `plan` are admitted all or none.
    """

    policy: str
    action: Action
    reason: str
    evidence: tuple[str, ...] = ()
    expect: str = ""
    within_s: float = 300.0
    cause: str = ""
    rejected: tuple[str, ...] = ()
    inputs_at: float | None = None
    plan: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A permission (`denied` None) or a named refusal. `id` is derived from cycle and decision: the idempotence key."""

    id: str
    at: float
    decision: Decision
    denied: Deny | None = None
    detail: str = ""
    mode: Mode = Mode.OBSERVE

    @property
    def permitted(self) -> bool:
        """True where the backend may be called."""
        return self.denied is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What the cluster answered to admission `id`."""

    id: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a later cycle saw of admission `id`: its effect, and in words what was expected and found."""

    id: str
    at: float
    effect: Effect
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One admitted action in the ledger, as of its latest transition at `changed_at`."""

    admission: Admission
    state: EntryState
    epoch: int
    expires_at: float
    changed_at: float
    attempts: int = 0
    receipt: Receipt | None = None
    verdict: Verdict | None = None


class OrderKind(StrEnum):
    """What an operator can tell the daemon; applied by the next cycle."""

    KILL = "kill"
    UNKILL = "unkill"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    APPROVE = "approve"
    SILENCE = "silence"
    RESET_BREAKER = "reset_breaker"
    SET_MODE = "set_mode"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An operator's order: who, what, on which target, until when (None: until undone)."""

    id: str
    at: float
    by: str
    kind: OrderKind
    target: str = ""
    until: float | None = None
    note: str = ""


DESTRUCTIVE: tuple[type, ...] = (Preempt, Requeue, Suspend, Migrate, Drain, ReleaseBandwidth)
"""Actions that are destructive whatever their values; a scale action is so when it shrinks (see `destructive`)."""


PREPARES: tuple[type, ...] = (RequestCheckpoint, LendQueue)
"""Actions after which something destructive on the same target need not wait out a cooldown: a request for a checkpoint is
the first half of a stop, and what is lent is reclaimable at any time. The other gates hold all the same."""


def destructive(action: Action) -> bool:
    """True where carrying out `action` can take running work or guaranteed capacity away (safety.md: 'destructive')."""
    match action:
        case ScaleService() | ScalePool():
            return action.replicas < action.was if isinstance(action, ScaleService) else action.nodes < action.was
        case LimitBandwidth():
            return action.bytes_per_s is not None and (action.was is None or action.bytes_per_s < action.was)
        case SetPowerLimit():
            return action.was is None or action.watts < action.was
        case Rollback():
            return destructive(action.action)
        case _:
            return isinstance(action, DESTRUCTIVE)


def target(action: Action) -> str:
    """The one object that `action` changes, as `kind/name`: key of in-flight, cooldown and conflict rules."""
    match action:
        case ScaleService() | RolloutStep():
            return f"service/{action.service}"
        case ScalePool():
            return f"pool/{action.pool}"
        case Cordon() | Uncordon() | Drain():
            return f"node/{action.node}"
        case HoldCapacity() | ConfirmHold() | ReleaseHold():
            return f"hold/{action.hold}"
        case ReserveBandwidth() | ReleaseBandwidth() | LimitBandwidth():
            return f"link/{action.link}/{action.owner}"
        case SetPowerLimit():
            return f"gpu/{action.node}/{action.gpu}"
        case Rollback():
            return target(action.action)
        case _:
            return f"job/{action.job}"
