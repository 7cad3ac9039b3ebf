"""Declared edges are tested against the data, and an unsupported one is said to be so."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from worlds import NOW, job_graph, job_rows, noise, panel, shifted

from aiops.diagnose.analysis import analyse
from aiops.diagnose.edges import strongest
from aiops.diagnose.graph import Graph, link
from aiops.diagnose.report import Report

CHAIN = Graph(types=dict.fromkeys("abc", "service"), causes=link([("a", "b"), ("b", "c")]))


def chained(between: float) -> Report:
    """`c` got slow and `a` shows it; `b` between them moves with them or not."""
    to = {"a": 0.8, "b": between, "c": 0.8}
    rows = {(e, "latency_seconds"): shifted(0.2, to[e], 14, seed=i) for i, e in enumerate("abc")}
    rows["c", "cpu_usage"] = shifted(0.3, 0.95, 14, seed=4)
    return analyse(panel(rows), CHAIN, NOW, "a:latency_seconds")


@pytest.mark.parametrize(("between", "flagged", "why"), [(0.8, 0, "it passes the trouble on"), (0.2, 2, "it never moved")])
def test_an_edge_whose_ends_do_not_move_together_is_evidence_against_the_chain(between: float, flagged: int, why: str) -> None:
    first = chained(between).causes[0]
    assert first.chain == ("a", "b", "c")
    told = [fact.text for fact in first.evidence_against if "not supported" in fact.text]
    assert len(told) == flagged, why


@pytest.mark.parametrize(("last", "measured"), [(14, False), (5, True)])
def test_an_edge_that_cannot_be_tested_is_not_accused(last: int, measured: bool) -> None:
    rows = job_rows(ranks=2, last=last, compute_1=0.4, comm_0=0.4)
    graph = (
        job_graph(2)
        if measured
        else Graph(types=job_graph(2).types | {"x": "stage"}, causes=link([("job", "x"), ("x", "rank-1")]))
    )
    report = analyse(panel(rows), graph, NOW, "job:job_step_duration_seconds")
    assert not any("not supported" in fact.text for cause in report.causes for fact in cause.evidence_against)


def test_an_effect_may_follow_its_cause_a_little_later_but_not_before_it() -> None:
    x = np.random.default_rng(3).standard_normal(60)
    later, earlier = np.roll(x, 2), np.roll(x, -2)
    assert strongest(later[None], x[None])[0] > 0.9
    assert strongest(earlier[None], x[None])[0] < 0.6


@pytest.mark.parametrize("row", [np.ones(60), np.full(60, np.nan), np.r_[np.full(50, np.nan), np.ones(10)]])
def test_constant_and_missing_rows_are_no_witnesses(row: np.ndarray) -> None:
    found = strongest(row[None], noise(1.0, 60)[None])
    assert found is None or found[0] == 0.0


def test_a_chain_runs_where_the_evidence_is_and_else_the_shortest_way() -> None:
    pairs = [("job", "gpu"), ("gpu", "host"), ("host", "tenant"), ("gpu", "loader"), ("loader", "volume"), ("volume", "tenant")]
    graph = Graph(causes=link([*pairs, ("tenant", "job")]))  # a cycle is legal
    assert graph.chain("tenant", "job") == ("tenant", "host", "gpu", "job")
    assert graph.chain("tenant", "job", {"loader", "volume", "tenant"}) == ("tenant", "volume", "loader", "gpu", "job")
    assert graph.chain("elsewhere", "job") == ("elsewhere",)
