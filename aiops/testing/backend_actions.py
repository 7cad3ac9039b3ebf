"""The rows that hold for every kind of action: subclass `ActionConformance` beside `BackendConformance`, stage as there.

    class TestMyActions(ActionConformance):
        @pytest.fixture
        def stage(self, tmp_path): ...   # a `Stage` that is also an `Acts`

Each row runs once per kind of the contract. A kind that the backend does not support must be refused by name; one that the
stage cannot bring about is skipped by its name, with the stage's reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Protocol, assert_never

import pytest

from aiops.action import (
    Action,
    ConfirmHold,
    Cordon,
    Deny,
    Drain,
    Effect,
    HoldCapacity,
    LendQueue,
    LimitBandwidth,
    Migrate,
    Outcome,
    Preempt,
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
from aiops.testing.backend import KINDS, Stage, admit, lost


class Acts(Stage, Protocol):
    """A stage that can bring its cluster to where an action of any kind may be carried out."""

    def prepare(self, kind: str) -> Action | str:
        """An action of this kind that would be carried out now and whose effect is not there yet; or why there is none."""
        ...


def moved(action: Action) -> tuple[Action, ...]:
    """The same wish for a world that is not there: another identity, version, run, place, fence, or earlier value."""
    match action:
        case ScaleService():
            return replace(action, uid="another"), replace(action, version="another")
        case ScalePool():
            return (replace(action, version="another"),)
        case RequestCheckpoint() | Preempt() | Requeue() | Suspend() | Resume() | Migrate() | LendQueue() | TuneJob():
            return replace(action, run_id="another"), replace(action, job="another"), *_moved_run(action)
        case Cordon() | Uncordon() | Drain() | RolloutStep():
            return (replace(action, uid="another"),)
        case HoldCapacity():
            return (replace(action, nodes=("elsewhere",)),)
        case ConfirmHold() | ReleaseHold():
            return replace(action, fence=action.fence + 1), replace(action, hold="another")
        case ReserveBandwidth() | ReleaseBandwidth():
            return (replace(action, link="another"),)
        case LimitBandwidth():
            return replace(action, link="another"), replace(action, was=(action.was or 0.0) + 1.0)
        case SetPowerLimit():
            return (replace(action, gpu="another"),)
        case Rollback():
            return tuple(replace(action, action=one) for one in moved(action.action) if not isinstance(one, Rollback))  # type: ignore[arg-type]  # kinds stay
        case _:
            assert_never(action)


def _moved_run(action: Action) -> tuple[Action, ...]:
    match action:
        case Preempt() | Migrate():
            return replace(action, on_nodes=("elsewhere",)), replace(action, checkpoint="none")
        case TuneJob():
            return (replace(action, was=action.was + 1.0),)
        case _:
            return ()


def prepared(stage: Acts, kind: str) -> Action:
    """The stage's action of a kind; skips the row where there is none."""
    if kind not in stage.backend.supports:
        pytest.skip(f"the {stage.backend.name} backend does not support {kind}")
    action = stage.prepare(kind)
    if isinstance(action, str):
        pytest.skip(f"{kind}: {action}")
    assert action.kind == kind
    return action


@pytest.mark.parametrize("kind", sorted(KINDS))
class ActionConformance:
    """Seven rows per kind."""

    def test_an_action_has_its_effect_once(self, stage: Acts, kind: str) -> None:
        admission = admit(prepared(stage, kind), id="once")
        assert stage.backend.probe(admission, stage.now()) is Effect.ABSENT
        assert stage.backend.apply(admission, stage.now()).outcome is Outcome.DONE
        assert stage.backend.probe(admission, stage.now()) is Effect.PRESENT
        assert stage.backend.apply(admission, stage.now()).outcome is Outcome.ALREADY
        assert Counter(stage.effects())["once"] == 1

    def test_a_repeat_after_a_restart_has_no_second_effect(self, stage: Acts, kind: str) -> None:
        admission = admit(prepared(stage, kind), id="once")
        assert stage.backend.apply(admission, stage.now()).outcome is Outcome.DONE
        stage.restart()
        assert stage.backend.apply(admission, stage.now()).outcome is Outcome.ALREADY
        assert Counter(stage.effects())["once"] == 1

    def test_a_lost_reply_is_found_and_not_repeated(self, stage: Acts, kind: str) -> None:
        admission = admit(prepared(stage, kind), id="once")
        stage.lose_next_reply()
        assert lost(stage, admission)
        stage.restart()
        assert stage.backend.probe(admission, stage.now()) is Effect.PRESENT
        assert stage.backend.apply(admission, stage.now()).outcome is Outcome.ALREADY
        assert Counter(stage.effects())["once"] == 1

    def test_a_world_that_moved_is_stale(self, stage: Acts, kind: str) -> None:
        for number, wish in enumerate(moved(prepared(stage, kind))):
            admission = admit(wish, id=f"moved-{number}")
            assert stage.backend.apply(admission, stage.now()).outcome is Outcome.STALE, wish
            assert admission.id not in stage.effects()

    def test_a_denied_action_has_no_effect(self, stage: Acts, kind: str) -> None:
        admission = admit(prepared(stage, kind), id="denied", denied=Deny.PAUSED)
        assert stage.backend.apply(admission, stage.now()).outcome is Outcome.FAILED
        assert "denied" not in stage.effects()

    def test_an_unreadable_cluster_is_neither_changed_nor_guessed_at(self, stage: Acts, kind: str) -> None:
        admission = admit(prepared(stage, kind), id="blind")
        stage.blind()
        assert stage.backend.probe(admission, stage.now()) is Effect.UNREADABLE
        assert stage.backend.apply(admission, stage.now()).outcome in (Outcome.FAILED, Outcome.UNKNOWN)
        assert "blind" not in stage.effects()

    def test_an_unsupported_kind_is_refused_by_name(self, stage: Acts, kind: str) -> None:
        if kind in stage.backend.supports:
            pytest.skip(f"the {stage.backend.name} backend supports {kind}")
        action = stage.prepare(kind)
        if isinstance(action, str):
            pytest.skip(f"{kind}: {action}")
        receipt = stage.backend.apply(admit(action, id="once"), stage.now())
        assert receipt.outcome is Outcome.UNSUPPORTED and kind in receipt.detail
        assert "once" not in stage.effects()
