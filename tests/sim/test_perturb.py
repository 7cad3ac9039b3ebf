"""Whatever goes wrong between daemon and cluster, no invariant breaks; and a bug in what protects against it is seen."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aiops.action import Admission, Effect, EntryState, Outcome, Receipt
from aiops.errors import Unreadable
from aiops.model import Batch, Cluster
from aiops.sim.cluster.backend import SimBackend
from aiops.sim.cluster.drive import run_policies
from aiops.sim.cluster.report import as_json, simulate, stage_of
from aiops.sim.cluster.scenario import Scenario
from aiops.sim.cluster.shelf import SimStore
from aiops.sim.perturb import Crash, Perturbations, Perturbed

KINDS = [name for name in Perturbations.model_fields if name != "late_by"]


@contextmanager
def silent(what: str) -> Iterator[Any]:
    yield lambda share: None


def world(perturb: dict[str, Any], length: str = "30m", bursts: float = 96.0) -> Scenario:
    """Bursts every quarter of an hour: something is always to be done."""
    return Scenario(
        name="wrong", history="20m", length=length, perturb=perturb,
        load=[{"service": "chat", "mean": 60, "daily": 0, "bursts_per_day": bursts, "burst": 1.5, "burst_length": "5m"}],
        pools=[{"name": "p", "gpu_type": "A100", "nodes": 8, "gpus": 8}],
        services=[{
            "name": "chat", "pool": "p", "gpus_per_replica": 1, "capacity": 10, "max_replicas": 60, "latency": "100ms",
            "slo": "1s", "cold_start": {"p50": "21s", "p90": "41s"},
        }],
    )  # fmt: skip


CALLS = ("lost_request", "lost_reply", "late_effect", "does_nothing")  # there are few of them
CHANCE = st.sampled_from([0.0, 0.0, 0.05, 0.3])


@given(st.fixed_dictionaries(dict.fromkeys(KINDS, CHANCE)), st.integers(0, 1000), st.sampled_from([15.0, 45.0, 400.0]))
@example(
    {
        "lost_reply": 0.3,
        "stale_view": 0.3,
        "unreadable_view": 0.3,
        "blind_probe": 0.3,
        "late_sample": 0.05,
        "missed_sample": 0.05,
        "crash": 0.05,
    },
    291,
    400.0,
)  # a cycle that only sends again
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_invariant_breaks_whatever_goes_wrong(chances: dict[str, float], seed: int, late_by: float) -> None:
    run = run_policies(stage_of(world({**chances, "late_by": late_by}), None, seed), (), "here", lambda share: None)
    assert run.violations == ()
    assert run.failed == 0


def test_everything_at_once_for_hours_and_the_service_is_still_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    stores: list[SimStore] = []
    real = SimStore.__init__

    def kept(self: SimStore) -> None:
        real(self)
        stores.append(self)

    monkeypatch.setattr(SimStore, "__init__", kept)  # to look into the ledger afterwards
    stage = stage_of(world(dict.fromkeys(KINDS, 0.05) | dict.fromkeys(CALLS, 0.2), "4h"), None, 1)
    run = run_policies(stage, (), "here", lambda share: None)
    # Then every kind happened, no invariant broke, and what was begun long enough ago is over
    assert set(run.perturbed) == set(KINDS)
    assert run.violations == ()
    open_for = [stage.end - e.admission.at for e in stores[-1].ledger() if e.state in (EntryState.INTENT, EntryState.SENT)]
    assert all(seconds < 600 for seconds in open_for)
    # And it still scaled
    assert len(run.world.fleets["chat"].orders) > 10


def test_equal_seeds_go_wrong_equally() -> None:
    reports = [simulate(stage_of(world(dict.fromkeys(KINDS, 0.05)), None, seed), (), "here", silent) for seed in (3, 3, 4)]
    one, same, other = map(as_json, reports)
    assert one == same
    assert one != other
    assert reports[0]["policies"]["prescale"]["perturbed"]["crash"] > 0


def test_a_backend_that_repeats_what_it_did_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply is lost, the next look is stale, the call is sent again: only idempotence keeps that from acting twice."""
    honest = SimBackend.apply

    def forgetful(self: SimBackend, admission: Admission, now: float) -> Receipt:
        receipt = honest(self, admission, now)
        if receipt.outcome is Outcome.ALREADY:
            self.effects.append(next(e for e in self.effects if e.id == admission.id))
        return receipt

    monkeypatch.setattr(SimBackend, "apply", forgetful)
    monkeypatch.setattr(SimBackend, "probe", lambda self, admission, now: Effect.ABSENT)
    run = run_policies(stage_of(world({"lost_reply": 0.9}), None, 0), (), "here", lambda share: None)
    assert any(line.startswith("I1 ") for line in run.violations)


class Still:
    """A cluster that counts its calls."""

    name = "simulated"
    supports = frozenset[str]()

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.looks = 0

    def observe(self, now: float) -> Cluster:
        self.looks += 1
        return Cluster(at=now, backend=f"look {self.looks}")

    def apply(self, admission: Admission, now: float) -> Receipt:
        self.applied.append(admission.id)
        return Receipt(id=admission.id, outcome=Outcome.DONE)

    def probe(self, admission: Admission, now: float) -> Effect:
        return Effect.PRESENT

    def collect(self, now: float) -> Batch:
        return Batch.of(now, [])


def perturbed(**wrong: float) -> tuple[Perturbed, Still]:
    inner = Still()
    return Perturbed(inner, Perturbations(**wrong), 0), inner


def admission(id: str) -> Admission:
    from aiops.action import Decision, ScaleService

    action = ScaleService(service="s", uid="u", version="1", replicas=2, was=1)
    return Admission(id=id, at=0.0, decision=Decision(policy="p", action=action, reason="r"))


@pytest.mark.parametrize(
    ("kind", "outcome", "done"),
    [
        ("lost_request", Outcome.UNKNOWN, 0),
        ("lost_reply", Outcome.UNKNOWN, 1),
        ("does_nothing", Outcome.DONE, 0),
        ("late_effect", Outcome.UNKNOWN, 0),
        ("stale_view", Outcome.DONE, 1),
    ],
)
def test_calls(kind: str, outcome: Outcome, done: int) -> None:
    backend, inner = perturbed(**{kind: 1.0})
    assert backend.apply(admission("a"), 0.0).outcome is outcome
    assert len(inner.applied) == done


def test_a_late_effect_comes() -> None:
    backend, inner = perturbed(late_effect=1.0, late_by=30.0)
    backend.apply(admission("a"), 0.0)
    backend.collect(29.0)
    assert inner.applied == []
    backend.observe(30.0)
    assert inner.applied == ["a"]


def test_views_and_samples() -> None:
    stale, _ = perturbed(stale_view=1.0)
    assert stale.observe(1.0).backend == "look 1", "there is no older one yet"
    assert (stale.observe(2.0).backend, stale.observe(3.0).at) == ("look 1", 3.0)
    with pytest.raises(Unreadable):
        perturbed(unreadable_view=1.0)[0].observe(1.0)
    with pytest.raises(Crash):
        perturbed(crash=1.0)[0].guard(lambda: False)()
    assert perturbed(missed_sample=1.0)[0].collect(1.0) == ()
    assert perturbed(blind_probe=1.0)[0].probe(admission("a"), 1.0) is Effect.UNREADABLE
    late, _ = perturbed(late_sample=0.5)
    arrived = [batch.time for now in range(40) for batch in late.collect(float(now))]
    assert len(set(arrived)) == len(arrived) > 30
    assert arrived != sorted(arrived)
