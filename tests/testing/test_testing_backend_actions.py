"""The rows for every kind of action pass a correct backend, and catch each bug in each kind: 22 kinds, 10 bugs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from aiops.action import (
    Action,
    Admission,
    ConfirmHold,
    Cordon,
    Drain,
    Effect,
    HoldCapacity,
    LendQueue,
    LimitBandwidth,
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
    Rollback,
    RolloutStep,
    ScalePool,
    ScaleService,
    SetPowerLimit,
    Suspend,
    TuneJob,
    Uncordon,
)
from aiops.errors import Unreadable
from aiops.model import Cluster
from aiops.testing.backend import KINDS, ReplyLost
from aiops.testing.backend_actions import ActionConformance

RUN = {"job": "j", "run_id": "r"}
EVERY: tuple[Action, ...] = (
    ScaleService(service="s", uid="u", version="1", replicas=2, was=1),
    ScalePool(pool="p", version="1", nodes=2, was=1),
    RequestCheckpoint(**RUN),
    Preempt(**RUN, on_nodes=("n",), checkpoint="c", gpus=1, lost_gpu_s=0.0),
    Requeue(**RUN),
    Suspend(**RUN),
    Resume(**RUN),
    Migrate(**RUN, on_nodes=("n",), to_nodes=("m",), checkpoint="c", gpus=1),
    LendQueue(**RUN, borrower="a", lender="b", nodes=("n",), gpus=1),
    Cordon(node="n", uid="u", reason="r"),
    Uncordon(node="n", uid="u"),
    Drain(node="n", uid="u", reason="r"),
    HoldCapacity(hold="h", owner="o", nodes=("n",), gpus=1, ttl_s=30.0, fence=1),
    ConfirmHold(hold="h", fence=1),
    ReleaseHold(hold="h", fence=1),
    ReserveBandwidth(link="l", owner="o", bytes_per_s=1.0),
    ReleaseBandwidth(link="l", owner="o"),
    LimitBandwidth(link="l", owner="o", bytes_per_s=1.0, was=None),
    SetPowerLimit(node="n", gpu="g", watts=300.0, was=None),
    TuneJob(**RUN, knob="k", value=2.0, was=1.0),
    RolloutStep(service="s", uid="u", revision="r", share=0.1, was=0.0),
    Rollback(of="x", action=TuneJob(**RUN, knob="k", value=1.0, was=2.0)),
)
BY_KIND = {action.kind: action for action in EVERY}


@dataclass
class World:
    """A cluster in which exactly the actions of `EVERY` are right; it outlives any backend."""

    log: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    blind: bool = False
    loses: bool = False


class AnyKind:
    """Carries out every kind; `bug` says what it does wrong, with actions of `kind` only."""

    name: ClassVar[str] = "anykind"

    def __init__(self, world: World, bug: str, kind: str) -> None:
        self.world, self.bug, self.kind = world, bug, kind
        self.supports = frozenset(KINDS - ({kind} if bug.startswith("unsupported") else set()))
        self.known = set(world.done) if bug != "forgets over a restart" else set()

    def observe(self, now: float) -> Cluster:
        return Cluster(at=now, backend=self.name)

    def wrong(self, admission: Admission, bug: str) -> bool:
        return self.bug == bug and admission.decision.action.kind == self.kind

    def apply(self, admission: Admission, now: float) -> Receipt:
        if self.world.blind and not self.wrong(admission, "acts when blind"):
            if self.wrong(admission, "raises when blind"):
                raise Unreadable("blind")
            return Receipt(id=admission.id, outcome=Outcome.UNKNOWN)
        kind = admission.decision.action.kind
        if kind not in self.supports and self.bug != "unsupported, and acts":
            return Receipt(id=admission.id, outcome=Outcome.UNSUPPORTED, detail=kind)
        return Receipt(id=admission.id, outcome=self._judged(admission))

    def _judged(self, admission: Admission) -> Outcome:
        action = admission.decision.action
        if not admission.permitted and not self.wrong(admission, "acts though denied"):
            return Outcome.FAILED
        if admission.id in self.known and not self.wrong(admission, "repeats"):
            return Outcome.ALREADY
        if action != BY_KIND[action.kind] and not self.wrong(admission, "ignores the precondition"):
            return Outcome.STALE
        self.world.log.append(admission.id)
        self.known.add(admission.id)
        if not (self.wrong(admission, "notes too late") and self.world.loses):
            self.world.done.add(admission.id)
        if self.world.loses:
            raise ReplyLost("on its way")
        return Outcome.DONE

    def probe(self, admission: Admission, now: float) -> Effect:
        if self.world.blind and not self.wrong(admission, "guesses when blind"):
            return Effect.UNREADABLE
        there = admission.id in self.world.log or self.wrong(admission, "always says present")
        return Effect.PRESENT if there else Effect.ABSENT

    def close(self) -> None:
        """Nothing to let go of."""


class AnyKindStage:
    def __init__(self, bug: str = "", kind: str = "") -> None:
        self.world, self.bug, self.kind = World(), bug, kind
        self.backend = AnyKind(self.world, bug, kind)

    def prepare(self, kind: str) -> Action | str:
        return BY_KIND[kind]

    def now(self) -> float:
        return 1000.0

    def until(self, holds: Callable[[Cluster], bool]) -> Cluster:
        return self.backend.observe(self.now())

    def restart(self) -> None:
        self.world.loses = False
        self.backend = AnyKind(self.world, self.bug, self.kind)

    def lose_next_reply(self) -> None:
        self.world.loses = True

    def recreate(self, service: str) -> None:
        """There is none."""

    def blind(self) -> None:
        self.world.blind = True

    def effects(self) -> tuple[str, ...]:
        return tuple(self.world.log)


class TestAnyKind(ActionConformance):
    @pytest.fixture
    def stage(self) -> AnyKindStage:
        return AnyKindStage()


def test_every_kind_of_the_contract_is_among_them() -> None:
    assert set(BY_KIND) == KINDS


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(
    ("bug", "row"),
    [
        ("repeats", "an_action_has_its_effect_once"),
        ("always says present", "an_action_has_its_effect_once"),
        ("forgets over a restart", "a_repeat_after_a_restart_has_no_second_effect"),
        ("notes too late", "a_lost_reply_is_found_and_not_repeated"),
        ("ignores the precondition", "a_world_that_moved_is_stale"),
        ("acts though denied", "a_denied_action_has_no_effect"),
        ("guesses when blind", "an_unreadable_cluster_is_neither_changed_nor_guessed_at"),
        ("acts when blind", "an_unreadable_cluster_is_neither_changed_nor_guessed_at"),
        ("raises when blind", "an_unreadable_cluster_is_neither_changed_nor_guessed_at"),
        ("unsupported, and acts", "an_unsupported_kind_is_refused_by_name"),
    ],
)
def test_each_bug_in_each_kind_is_caught_by_its_row(bug: str, row: str, kind: str) -> None:
    check = getattr(ActionConformance(), f"test_{row}")
    if not bug.startswith("unsupported"):
        check(AnyKindStage(), kind)
    with pytest.raises((AssertionError, Unreadable)):
        check(AnyKindStage(bug, kind), kind)
