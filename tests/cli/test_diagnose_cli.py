"""`aiops diagnose` on files: the public contract of its report, and odd or wrong input, never with a traceback."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from aiops.cli.main import main

START, STEP = 1_800_000_000.0, 10.0
TOPOLOGY = """
entities:
  - {id: frontend, type: service}
  - {id: disk-1, type: volume}
edges:
  - {from: frontend, to: disk-1}
metrics:
  - {match: "*latency*", side: external, worse: up}
"""
SLI = ("--sli", "frontend:latency_seconds")


def level(usual: float, faulty: float, seed: int, n: int = 120) -> np.ndarray:
    values = np.r_[np.full(n - 12, usual), np.full(12, faulty)]
    return values * (1 + 0.02 * np.random.default_rng(seed).standard_normal(n))


SLOW_DISK = {
    ("frontend", "latency_seconds"): level(0.2, 0.9, 1),
    ("disk-1", "disk_read_latency_seconds"): level(0.002, 0.08, 2),
    ("disk-1", "disk_queue_requests"): level(2.0, 60.0, 3),
}


def written(folder: Path, rows: dict[tuple[str, str], np.ndarray]) -> str:
    path = folder / "metrics.csv"
    lines = [f"{START + STEP * i},{e},{m},{v}" for (e, m), values in rows.items() for i, v in enumerate(values)]
    path.write_text("time,entity,metric,value\n" + "\n".join(lines) + "\n")
    return str(path)


def topology(folder: Path, text: str = TOPOLOGY) -> tuple[str, str]:
    path = folder / "topology.yaml"
    path.write_text(text)
    return "--topology", str(path)


def status(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["aiops", "diagnose", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_report_has_what_the_contract_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report.json"
    assert status(monkeypatch, written(tmp_path, SLOW_DISK), *topology(tmp_path), *SLI, "--out", str(out)) == 0
    report = json.loads(out.read_text())
    assert {"at", "sli", "onset", "verdict", "confidence", "causes"} <= report.keys()
    first = report["causes"][0]
    assert (first["entity"], report["verdict"]) == ("disk-1", "io_stall")
    assert first["chain"] == ["frontend", "disk-1"]
    assert 0 < report["confidence"] <= 1
    parts = {"entity", "metric", "verdict", "score", "chain", "evidence_for", "evidence_against", "counterfactual", "remedies"}
    assert parts <= first.keys()
    assert first["remedies"][0]["action"] == "reserve_bandwidth"
    assert {cause["entity"] for cause in report["causes"]} == {"frontend", "disk-1"}
    assert abs(report["onset"] - (START + 1080)) <= 2 * STEP


def test_the_table_says_in_plain_words_what_and_what_would_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(monkeypatch, written(tmp_path, SLOW_DISK), *topology(tmp_path), *SLI) == 0
    shown = capsys.readouterr().out
    assert "io_stall" in shown and "disk-1" in shown and "would help" in shown


def test_the_picture_is_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "incident.png"
    assert status(monkeypatch, written(tmp_path, SLOW_DISK), *topology(tmp_path), *SLI, "--plot", str(plot)) == 0
    assert plot.read_bytes().startswith(b"\x89PNG") and len(plot.read_bytes()) > 10_000


ODD = {
    "constant metrics": {("frontend", "latency_seconds"): np.full(60, 0.2), ("disk-1", "disk_queue"): np.zeros(60)},
    "one sample only": {("frontend", "latency_seconds"): np.array([0.2])},
    "a metric with no value": {
        ("frontend", "latency_seconds"): level(0.2, 0.9, 1),
        ("disk-1", "disk_queue"): np.full(120, np.nan),
    },
}
CYCLE = "edges:\n  - {from: frontend, to: disk-1}\n  - {from: disk-1, to: frontend}\n  - {from: frontend, to: ghost}\n"


@pytest.mark.parametrize("rows", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    "text", [TOPOLOGY, CYCLE, None], ids=["topology", "cycle and an entity without metrics", "no topology"]
)
def test_odd_data_gets_an_answer_with_low_confidence(
    rows: dict, text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.json"
    graph = topology(tmp_path, text) if text else ()
    assert status(monkeypatch, written(tmp_path, rows), *graph, *SLI, "--out", str(out)) == 0
    report = json.loads(out.read_text())
    if "one" in str(tmp_path) or len(next(iter(rows.values()))) < 100:
        assert (report["verdict"], report["confidence"] <= 0.1) == ("unknown", True)
    names = {cause["entity"] for cause in report["causes"]}
    assert {entity for (entity, _), values in rows.items() if np.isfinite(values).any()} <= names
    assert ("ghost" in names) is (text == CYCLE)


WRONG = [
    ("no value at all", "time,entity,metric,value\n1,a,m,\n", (), "at least one finite value"),
    ("a row without a name", "time,entity,metric,value\n1,a,m,1\n2,,m,1\n", (), "row 2: entity: expected a name"),
    ("no rows", "time,entity,metric,value\n", (), "at least one"),
    ("a column is missing", "time,entity,value\n1,a,2\n", (), "metric"),
    ("no number", "time,entity,metric,value\n1,a,m,much\n", (), "much"),
    ("an SLI that is not there", None, ("--sli", "frontend:nothing"), "ENTITY:METRIC"),
    ("an SLI without a metric", None, ("--sli", "frontend"), "ENTITY:METRIC"),
    ("before the data", None, ("--at", "2001-01-01"), "where the data are"),
    ("long after the data", None, ("--at", "2101-01-01"), "where the data are"),
    ("no time", None, ("--at", "yesterday"), "--at"),
    ("a picture of another kind", None, ("--plot", "cause.gif"), ".png"),
]


@pytest.mark.parametrize(("why", "text", "words", "named"), WRONG, ids=[row[0] for row in WRONG])
def test_wrong_input_is_one_clear_line_and_no_output(
    why: str,
    text: str | None,
    words: tuple[str, ...],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, SLOW_DISK)
    if text is not None:
        Path(path).write_text(text)
    assert status(monkeypatch, path, *topology(tmp_path), *words, "--out", "report.json") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.csv", "topology.yaml"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nodes: []", "nodes"),
        ("entities: 3", "entities"),
        ("entities: [{type: host}]", "entities[0].id"),
        ("edges: [{from: a}]", "edges[0].to"),
        ("metrics: [{match: x, worse: sideways}]", "metrics[0].worse"),
        ("entities: [", "topology.yaml"),
    ],
)
def test_a_wrong_topology_is_one_line_that_names_the_key(
    text: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(monkeypatch, written(tmp_path, SLOW_DISK), *topology(tmp_path, text)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
