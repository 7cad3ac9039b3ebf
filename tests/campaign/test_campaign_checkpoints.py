"""The short form of the campaign of mutated checkpoints, and proof that its judgement sees what it is there to see."""

from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import NOW, POLICIES, campaign
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops.backends.checkpoint import Proofs
from aiops.decide import admit as gates
from aiops.decide.gates import proven
from aiops.model import Checkpoint


def test_nobody_is_stopped_without_a_valid_proof_and_who_has_one_still_is(tmp_path: Path) -> None:
    count = campaign(900, seed=7, place=tmp_path)
    assert count.wrong == []
    assert count.useful > 200
    assert len(count.missed) <= 0.01 * count.useful, count.missed
    assert min(count.valid, count.cases - count.valid) > 200, "both sides are tried"


def test_a_core_that_believes_every_proof_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "GATES", tuple(gate for gate in gates.GATES if gate is not proven))
    assert any("late record" in line for line in campaign(300, seed=1, place=tmp_path).wrong)


def test_a_verifier_that_does_not_hash_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proofs, "_hashed", lambda self, ack, patience_s: True)
    assert any("disk" in line for line in campaign(300, seed=1, place=tmp_path).wrong)


def test_a_policy_that_stops_nobody_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES, "preempt", type("Timid", (), {"name": "preempt", "decide": lambda self, seen: ()})())
    assert campaign(300, seed=1, place=tmp_path).missed


@given(at=st.floats(allow_nan=True, allow_infinity=True), read_at=st.floats(allow_nan=True, allow_infinity=True))
@settings(max_examples=200, deadline=None)
def test_no_time_whatever_makes_a_broken_record_valid(at: float, read_at: float) -> None:
    from checkpoints import seen, stops, valid

    proof = Checkpoint(id="c", run_id="train.3", at=at, read_at=read_at, verified=True)
    for odd in (proof, replace(proof, at=NOW - 5.0), replace(proof, read_at=NOW - 5.0)):
        assert not stops(seen(odd, "preempt"), "preempt") or valid(odd)
