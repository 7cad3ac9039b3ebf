"""Data that nobody prepared: unknown names, other units and orders, no topology, hardly any history."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from worlds import NOW, noise, panel, shifted

from aiops.diagnose.analysis import analyse
from aiops.diagnose.graph import Graph, link
from aiops.diagnose.meaning import Role, Tag, meaning
from aiops.diagnose.shift import robust
from aiops.metrics import Bad, Side
from aiops.model import Cause

CHAIN = Graph(types=dict.fromkeys("abcd", "service"), causes=link([("a", "b"), ("b", "c"), ("a", "d")]))
Rows = dict[tuple[str, str], np.ndarray]


def fault_at_c(metric: str = "latency_average", **more: float) -> Rows:
    usual, to = {"a": 0.30, "b": 0.20, "c": 0.10, "d": 0.10}, {"a": 0.8, "b": 0.7, "c": 0.6, **more}
    return {(e, metric): shifted(v, to.get(e, v), 12, seed=i) for i, (e, v) in enumerate(usual.items())}


def ranking(rows: Rows, graph: Graph = CHAIN, sli: str | None = "a:latency_average") -> list[str]:
    return [cause.entity for cause in analyse(panel(rows), graph, NOW, sli).causes]


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(8)), st.sampled_from([1e-6, 1e-3, 1e3, 1e6]))
def test_neither_the_order_of_rows_nor_their_unit_matters(order: list[int], unit: float) -> None:
    rows = fault_at_c() | {(e, "cpu_usage"): noise(0.3, seed=9 + i) for i, e in enumerate("abcd")}
    keys = list(rows)
    assert ranking({keys[i]: unit * rows[keys[i]] for i in order})[0] == ranking(rows)[0] == "c"


def test_an_average_is_compared_with_averages_and_not_with_tails() -> None:
    rows = fault_at_c()
    rows["d", "latency_average"] = shifted(0.1, 0.13, 12, seed=20)
    rows["d", "latency_p99"] = shifted(0.4, 4.0, 12, seed=21)
    assert ranking(rows)[0] == "c", "d's tail moved by seconds, its average by 30 ms: that is not what slows a by half a second"


def test_another_metric_of_the_kind_stands_in_where_the_sli_s_own_is_not_measured() -> None:
    rows = {key: row for key, row in fault_at_c().items() if key[0] != "c"}
    rows["c", "latency_p50"] = shifted(0.1, 0.6, 12, seed=22)
    assert ranking(rows)[0] == "c"


@pytest.mark.parametrize(
    "graph", [Graph(), Graph(types=dict.fromkeys("abc", "service"))], ids=["no topology", "no edges in it"]
)
def test_an_edge_that_only_its_id_declares_is_measured_at_both_ends(graph: Graph) -> None:
    rows: Rows = {(e, "cpu_usage"): noise(0.3, seed=i) for i, e in enumerate("abc")}
    for i, (edge, late) in enumerate({"a->b": 0.08, "c->b": 0.08, "a->c": 0.03}.items()):
        rows[edge, "caller_latency_p50"] = shifted(0.03, late, 12, seed=60 + i)
        rows[edge, "callee_latency_p50"] = noise(0.025, seed=70 + i)
    report = analyse(panel(rows), graph, NOW)
    assert (report.causes[0].entity, report.verdict) == ("b", Cause.NET_CONTENTION)
    assert {cause.entity for cause in report.causes} == set("abc"), "edges are not entities"


def test_an_arrow_in_a_name_is_no_edge_where_its_ends_are_unknown() -> None:
    rows = fault_at_c() | {("x->y", "latency_average"): noise(0.1, seed=30)}
    assert "x->y" in ranking(rows, Graph())


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ({"a": 0.21, "c": 0.01}, "an SLI that got worse by falling: so does its cause"),
        ({"a": 0.9, "c": 0.6}, "one that got worse by rising"),
    ],
)
def test_the_bad_direction_of_an_sli_that_nobody_knows_is_where_it_went(to: dict[str, float], why: str) -> None:
    usual = {"a": 0.30, "b": 0.20, "c": 0.10, "d": 0.10}
    rows = {(e, "zorp"): shifted(v, to.get(e, v), 12, seed=i, ratio=0.05) for i, (e, v) in enumerate(usual.items())}
    graph = Graph(types=dict.fromkeys("abcd", "service"), causes=link([("a", "c"), ("a", "d"), ("a", "b")]))
    assert ranking(rows, graph, "a:zorp")[0] == "c", why


@pytest.mark.parametrize(
    ("tag", "role", "why"),
    [
        (
            Tag("zorp", Side.EXTERNAL, Bad.NONE),
            Role.LOAD,
            "what users see of it and is neither good nor bad is how much they ask",
        ),
        (Tag("zorp", Side.INTERNAL, Bad.NONE), Role.OTHER, "a state"),
        (Tag("zorp", Side.EXTERNAL, Bad.UP), Role.OTHER, "something that hurts"),
    ],
)
def test_a_tag_may_tell_the_load_by_another_name(tag: Tag, role: Role, why: str) -> None:
    assert meaning("zorp", (tag,)).role is role, why


def test_a_tag_does_not_make_a_load_of_what_is_known() -> None:
    assert meaning("NetworkReceiveBytes", (Tag("Network*", Side.EXTERNAL, Bad.NONE),)).role is Role.NET_RATE


@pytest.mark.parametrize(("points", "most"), [(5, 0.03), (10, 0.006), (30, 0.002)])
def test_a_few_points_of_history_call_little_unusual(points: int, most: float) -> None:
    values = np.random.default_rng(1).standard_normal((4000, points + 1)) + 10.0
    usual, scale = robust(values[:, :points])
    assert (np.abs(values[:, points] - usual) > 4.0 * scale).mean() <= most


@pytest.mark.parametrize(
    ("n", "least", "most", "why"),
    [
        (120, 0.9, 1.0, "a clear fault in twenty minutes of history"),
        (12, 0.3, 0.85, "the same in two minutes: six points are hardly a past"),
        (2, 0.0, 0.5, "one point before and one after"),
    ],
)
def test_confidence_falls_with_the_history(n: int, least: float, most: float, why: str) -> None:
    last = min(6, n // 2)
    usual, to = {"a": 0.30, "b": 0.20, "c": 0.10}, {"a": 0.8, "b": 0.7, "c": 0.6}
    rows = {(e, "latency_average"): shifted(v, to[e], last, n=n, seed=i) for i, (e, v) in enumerate(usual.items())}
    assert least <= analyse(panel(rows), CHAIN, NOW, "a:latency_average").confidence <= most, why


@pytest.mark.parametrize("n", [1, 100])
def test_where_nothing_was_seen_nobody_is_suspected_with_confidence(n: int) -> None:
    rows = {("a", "latency_seconds"): np.ones(n), ("b", "cpu_usage"): np.zeros(n)}
    assert analyse(panel(rows), Graph(), NOW).confidence <= 0.1
