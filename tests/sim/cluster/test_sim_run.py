"""Whole simulations: the real core and policy beside the baselines; equal seed, equal bytes; no invariant broken."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from aiops import plugins
from aiops.action import Admission, Decision, Receipt
from aiops.cli.simulate import simulate as command
from aiops.codec import encode
from aiops.model import Cluster
from aiops.sim.baselines.catalogue import BASELINES
from aiops.sim.cluster.backend import SimBackend
from aiops.sim.cluster.foresee import foresee
from aiops.sim.cluster.report import as_json, simulate, stage_of
from aiops.sim.cluster.scenario import read_scenario
from aiops.snapshot import Need, Snapshot

STEP = """name: step
history: 1h
length: 1h
pools: [{name: p, gpu_type: A100, nodes: 4, gpus: 8}]
services:
  - {name: chat, pool: p, gpus_per_replica: 1, capacity: 10, max_replicas: 30, latency: 100ms, slo: 1s,
     cold_start: {p50: 21s, p90: 41s}}
"""


@contextmanager
def silent(what: str) -> Iterator[Callable[[float], None]]:
    yield lambda share: None


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A load that steps from 14 to 140 requests/s half way into the simulated hour, and back ten minutes later."""
    scenario, trace = tmp_path / "step.yaml", tmp_path / "trace.csv"
    scenario.write_text(STEP)
    rows = [f"{60 * i},chat,{8400 if 90 <= i < 100 else 840}" for i in range(120)]
    trace.write_text("time,service,requests\n" + "\n".join(rows) + "\n")
    return scenario, trace


def run(*arguments: str) -> tuple[int, str, object]:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.exception


def test_equal_seed_equal_bytes(files: tuple[Path, Path], tmp_path: Path) -> None:
    scenario, trace = map(str, files)
    for seed, out in (("7", "a"), ("7", "b"), ("8", "c")):
        status, text, error = run(scenario, "--trace", trace, "--seed", seed, "--out", str(tmp_path / out))
        assert status == 0, error
        assert "aiops (prescale)" in text
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_the_step_costs_what_cold_starts_cost(files: tuple[Path, Path]) -> None:
    scenario, trace = files
    _, text, _ = run(str(scenario), "--trace", str(trace), "--out", "-")
    report = json.loads(text)
    own, others = report["policies"]["prescale"], report["baselines"]
    assert list(others) == list(BASELINES)
    # Then the oracle alone was there in time, and whoever reacts pays for at least one cold start
    assert others["oracle"]["slo_violation_minutes"] < 0.5
    assert others["oracle"]["services"]["chat"]["lead_mean_s"] >= 0
    for name in ("hpa", "kpa", "aibrix"):
        assert 0.5 < others[name]["slo_violation_minutes"] < 10, name
        assert others[name]["services"]["chat"]["lead_mean_s"] < 0, name
    # And the real policy is in the same world: it reacts, within every rule
    assert 0.5 < own["slo_violation_minutes"] < 10
    assert own["decisions"] > 0
    assert own["policies_failed"] == own["invariant_violations"] == 0
    assert own["services"]["chat"]["scale_ups"] + sum(own["refusals"].values()) <= own["decisions"]
    # And 2 replicas for 50 minutes and 20 for ten, plus what shrinking waits for, is about what everybody pays
    assert all(4 < told["replica_hours"] < 9 for told in (own, *others.values()))


class Broken:
    """A third party's policy with a bug."""

    name = "broken"
    every_s = 30.0

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        return ()

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        raise ZeroDivisionError("broken plug-in")


def test_a_policy_that_raises_costs_only_its_own_decisions(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, trace = files
    real = plugins.load
    monkeypatch.setattr(plugins, "load", lambda g, n, *rest: Broken() if n == "broken" else real(g, n, *rest))
    scenario.write_text(STEP + "policies: {broken: {}, prescale: {}}\n")
    world = read_scenario(scenario)
    report = simulate(stage_of(world, trace, 0), (), "here", silent)
    told = report["policies"]["broken+prescale"]
    assert told["policies_failed"] == 120, "every 30 s of an hour"
    assert told["scale_ups"] > 0
    assert json.loads(as_json(report)) == report


def test_limits_bind_in_the_simulation_too(files: tuple[Path, Path]) -> None:
    scenario, trace = files
    scenario.write_text(STEP + "limits: {scopes: {prescale: []}}\n")
    _, text, _ = run(str(scenario), "--trace", str(trace), "--baseline", "none", "--out", "-")
    told = json.loads(text)["policies"]["prescale"]
    assert told["refusals"] == {"no_authority": told["decisions"]}
    assert told["scale_ups"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--baseline", "keda"), "expected one of hpa, kpa, crane, last-week-max, aibrix, oracle or none, found 'keda'"),
        (("--baseline", "fifo"), "fifo schedules jobs, and this scenario has only services"),
        (("--policy", "rebalance"), "--policy: expected one of prescale, found 'rebalance'"),
    ],
)
def test_unknown_names_are_refused(files: tuple[Path, Path], arguments: tuple[str, ...], message: str) -> None:
    status, _, error = run(str(files[0]), "--trace", str(files[1]), *arguments)
    assert status != 0
    assert message in str(error)


def test_an_unknown_policy_in_the_scenario_is_refused_before_anything_runs(files: tuple[Path, Path]) -> None:
    scenario, trace = files
    scenario.write_text(STEP + "policies: {nonsense: {}}\n")
    status, _, error = run(str(scenario), "--trace", str(trace))
    assert status != 0
    assert "policies.nonsense: expected one of:" in str(error)


def test_a_backend_that_acts_twice_is_caught_by_the_invariants(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = SimBackend.apply

    def twice(self: SimBackend, admission: Admission, now: float) -> Receipt:
        receipt = honest(self, admission, now)
        self.effects.append(self.effects[-1])
        return receipt

    monkeypatch.setattr(SimBackend, "apply", twice)
    scenario, trace = files
    told = simulate(stage_of(read_scenario(scenario), trace, 0), (), "here", silent)["policies"]["prescale"]
    assert told["invariant_violations"] > 0
    assert any(line.startswith("I1 ") for line in told["violations"])


def test_forecasts_know_nothing_of_what_comes(tmp_path: Path) -> None:
    # Given two loads that are equal for five hours and differ after
    scenario, trace = tmp_path / "step.yaml", tmp_path / "trace.csv"
    scenario.write_text(STEP.replace("history: 1h", "history: 4h").replace("length: 1h", "length: 2h"))
    made = []
    for later in (1, 20):
        rows = [f"{60 * i},chat,{600 + 60 * (i % 30) if i < 300 else 600 * later}" for i in range(360)]
        trace.write_text("time,service,requests\n" + "\n".join(rows) + "\n")
        made.append(foresee(stage_of(read_scenario(scenario), trace, 0), lambda share: None))
    # Then what was said in those five hours is equal, bit for bit, and not after
    before = [[encode(one) for one in some if one.made_at <= 5 * 3600] for some in made]
    assert len(before[0]) == 13
    assert before[0] == before[1]
    assert encode(made[0][-1]) != encode(made[1][-1])
