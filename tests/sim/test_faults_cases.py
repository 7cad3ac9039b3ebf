"""Cases as files, and the scorer."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from aiops.sim.faults import KINDS, make_case, write_case
from aiops.sim.faults.score import confusion, figures, judge, macro_f1, question, score

ROOT = Path(__file__).parents[2]


def test_a_case_folder_is_what_diagnose_reads(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    case = make_case("straggler", 1, step_s=10)
    folder = write_case(case, tmp_path)
    table = pandas.read_csv(folder / "metrics.csv.gz")
    graph = YAML(typ="safe", pure=True).load(folder / "topology.yaml")
    truth = json.loads((folder / "truth.json").read_text())
    known = {entity["id"] for entity in graph["entities"]}
    assert list(table.columns) == ["time", "entity", "metric", "value"]
    assert set(table["entity"]) <= known
    assert all(edge["from"] in known and edge["to"] in known for edge in graph["edges"])
    assert {"entity", "kind", "at", "sli", "candidates", "verdict"} <= truth.keys()
    assert truth["candidates"] == len(known)
    entity, metric = truth["sli"].split(":")
    assert len(table[(table["entity"] == entity) & (table["metric"] == metric)]) > 50
    assert table["time"].drop_duplicates().tolist() == case.times.tolist()  # to the second, not to nine digits
    assert table["time"].between(truth["at"] - 2000, truth["at"] + 400).all()


def test_the_command_writes_equal_bytes_for_equal_seeds(tmp_path: Path) -> None:
    for out in ("a", "b"):
        command = [
            sys.executable,
            "-m",
            "aiops.sim.faults",
            str(tmp_path / out),
            "--cases",
            "1",
            "--types",
            "normal",
            "--step",
            "10",
        ]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT, timeout=120)
    (one,), (two,) = (list((tmp_path / out).iterdir()) for out in ("a", "b"))
    for name in ("metrics.csv.gz", "topology.yaml", "truth.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_an_unknown_kind_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aiops.sim.faults", str(tmp_path), "--types", "gremlins"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 2 and "unknown kind 'gremlins'" in done.stderr and "Traceback" not in done.stderr


def test_the_simulator_knows_no_diagnosis() -> None:
    for path in (ROOT / "aiops" / "sim" / "faults").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith(("aiops.diagnose", "aiops.forecast", "aiops.decide")) for name in names), path


def test_nobody_is_asked_about_the_future() -> None:
    case = make_case("straggler", 1)
    asked = question(case, lag_s=60.0, drop=0.5)
    assert asked.times[-1] <= case.truth["at"] + 60.0
    assert all(len(values) == len(asked.times) for _, _, values in asked.rows)
    assert 0.3 < len(asked.rows) / len(case.rows) < 0.7
    assert any(f"{entity}:{metric}" == asked.sli for entity, metric, _ in asked.rows)


def test_a_perfect_and_a_useless_answer() -> None:
    cases = [make_case(name, 1, step_s=10) for name in ("straggler", "storage_slow", "bigger_batch", "normal", "two")]
    truths = {case.truth["at"]: case.truth for case in cases}

    def oracle(asked):
        truth = truths[asked.at]
        return {"verdict": truth["verdict"], "causes": [{"entity": e} for e in truth.get("entities", [truth["entity"]])]}

    perfect = figures(score(cases, oracle))
    assert perfect | {"chance": 0} == {
        "macro_f1": 1, "ac1": 1, "ac3": 1, "chance": 0, "abstains_on_load": 1, "false_alarms": 0, "both_of_two": 1, "n": 5,
    }  # fmt: skip
    useless = figures(score(cases, lambda asked: {"verdict": "gpu_fault", "causes": []}))
    assert (useless["macro_f1"], useless["ac1"], useless["abstains_on_load"], useless["false_alarms"]) == (0, 0, 0, 1)


def test_blaming_somebody_for_a_load_change_costs_precision() -> None:
    cases = [make_case("straggler", 1, step_s=10), make_case("bigger_batch", 1, step_s=10)]
    outcomes = score(cases, lambda asked: {"verdict": "straggler", "causes": []})
    assert macro_f1(outcomes) == pytest.approx(2 / 3)
    assert confusion(outcomes)["bigger_batch"] == {"straggler": 1}


def test_verdicts_that_are_not_wrong_count_as_right() -> None:
    case = make_case("host_cpu", 1, step_s=10)
    assert judge(case, {"verdict": "cpu_contention", "causes": []}).right
    assert not judge(case, {"verdict": "io_stall", "causes": []}).right
    assert judge(make_case("normal", 1, step_s=10), {"verdict": "unknown", "causes": []}).right


def test_every_kind_has_a_verdict_that_the_product_can_give() -> None:
    from aiops.model import Cause

    given = {kind.verdict for kind in KINDS.values()} | {verdict for kind in KINDS.values() for verdict in kind.also}
    assert given - {"none"} <= {str(cause) for cause in Cause}
