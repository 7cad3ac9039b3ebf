"""Whole simulations of jobs: the command, its report, and what it refuses."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from aiops.cli.simulate import simulate as command
from aiops.sim.baselines.jobs import SCHEDULERS

SCENARIO = """name: two teams
tick: 10s
pools: [{name: p, gpu_type: A100, nodes: 2, gpus: 4}]
queues: [{name: a, quota: 4}, {name: b, quota: 4}]
jobs: {checkpoint_interval: 10m, checkpoint: 10s, restart: 20s, stop: 30s}
policies: {preempt: {}}
"""
TRACE = """submit,job,gpus,duration_s,queue,user,priority,gpu_type,checkpoint_interval_s,status
0,a1,4,3000,a,eve,0,,,ok
60,a2,2,3000,a,eve,0,,300,failed
600,b1,4,1200,b,bob,0,A100,,ok
700,b2,0,1200,b,bob,0,,,ok
900,b3,64,1200,b,bob,0,,,ok
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    scenario, trace = tmp_path / "two.yaml", tmp_path / "jobs.csv"
    scenario.write_text(SCENARIO)
    trace.write_text(TRACE)
    return scenario, trace


def run(*arguments: str) -> tuple[int, str, object]:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.exception


def test_the_report_tells_every_figure_of_every_run(files: tuple[Path, Path]) -> None:
    status, text, error = run(str(files[0]), "--trace", str(files[1]), "--out", "-")
    assert status == 0, error
    report = json.loads(text)
    assert (report["kind"], report["jobs"], report["jobs_left_out"]) == ("jobs", 3, 2)
    assert list(report["baselines"]) == list(SCHEDULERS)
    for told in (*report["policies"].values(), *report["baselines"].values()):
        assert told["invariant_violations"] == 0
        wanted = {"utilisation", "wait_mean_s", "wait_p95_s", "lost_gpu_s", "evictions", "makespan_s", "decisions", "refusals"}
        assert wanted <= told.keys()
    # a2 waits for its own quota for 2940 s beside idle GPUs; who lends lets it run at once
    alone, lending = report["baselines"]["no-lending"], report["baselines"]["newest-first"]
    assert alone["queued_gpu_hours"] == pytest.approx(2 * 2990 / 3600, abs=0.02), "a1 writes four checkpoints of 10 s"
    assert (lending["lent"], lending["evictions"]) == (2, 1), "until b1 comes, and again after it"
    assert lending["queued_gpu_hours"] < alone["queued_gpu_hours"]


def test_equal_seed_equal_bytes_and_a_table_for_people(tmp_path: Path) -> None:
    scenario = tmp_path / "synthetic.yaml"
    scenario.write_text(SCENARIO + "length: 2h\narrivals: [{queue: a, per_hour: 12, sizes: [1, 2], median: 10m, p90: 1h}]\n")
    for seed, out in (("7", "a"), ("7", "b"), ("8", "c")):
        status, text, error = run(str(scenario), "--seed", seed, "--out", str(tmp_path / out))
        assert status == 0, error
        assert "no-lending" in text
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param("5,x,1.5,10,a,,,,,", "jobs.csv:7: expected a whole number of GPUs", id="half a GPU"),
        pytest.param("5,x,1,-1,a,,,,,", "jobs.csv:7: expected a duration", id="negative duration"),
        pytest.param("5,x,1,10,z,,,,,", "jobs.csv:7: expected a queue of the scenario (a, b)", id="unknown queue"),
        pytest.param("5,x,1,10,a,,,,0,", "jobs.csv:7: expected a checkpoint interval above", id="interval of zero"),
        pytest.param("5,a1,1,10,a,,,,,", "jobs.csv:7: expected each job once, found a1", id="the same job twice"),
        pytest.param("5,x,,10,a,,,,,", "jobs.csv:7: expected a whole number of GPUs", id="missing is not zero"),
    ],
)
def test_rows_that_make_no_sense_are_named_by_their_line(files: tuple[Path, Path], row: str, message: str) -> None:
    files[1].write_text(TRACE + row + "\n")
    status, _, error = run(str(files[0]), "--trace", str(files[1]))
    assert status != 0
    assert message in str(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(("quota: 4}]", "quota: 5}]"), "quotas of at most the 8 GPUs", id="promised more than there is"),
        pytest.param(("name: b", "name: a"), "expected each name once in queues", id="a queue twice"),
        pytest.param(("tick: 10s", "tock: 10s"), "tock: unknown key", id="unknown key"),
        pytest.param(("preempt: {}", "nonsense: {}"), "policies.nonsense: expected one of:", id="unknown policy"),
        pytest.param(("tick: 10s", "tick: 10s\nwarm_up: 1e9"), "warm_up: expected at least", id="nothing left to score"),
    ],
)
def test_wrong_scenarios_are_refused_by_their_key(files: tuple[Path, Path], change: tuple[str, str], message: str) -> None:
    files[0].write_text(SCENARIO.replace(*change))
    status, _, error = run(str(files[0]), "--trace", str(files[1]))
    assert status != 0
    assert message in str(error)


def test_baselines_of_services_and_missing_jobs_are_refused(files: tuple[Path, Path]) -> None:
    for arguments, message in (
        (("--trace", str(files[1]), "--baseline", "hpa"), "hpa scales services, and this scenario has only jobs"),
        (("--trace", str(files[1]), "--baseline", "x"), "expected one of no-lending, fifo, priority, newest-first or none"),
        ((), "give --trace, or an `arrivals` section"),
    ):
        status, _, error = run(str(files[0]), *arguments)
        assert status != 0
        assert message in str(error)
