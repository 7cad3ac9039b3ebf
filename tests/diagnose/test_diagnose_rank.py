"""Ranking of services: roots before victims, both ends of an edge, loads, and odd input."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from worlds import NOW, noise, panel, shifted

from aiops.diagnose.analysis import analyse
from aiops.diagnose.graph import Edge, Graph, link
from aiops.diagnose.meaning import Role, Tag, meaning
from aiops.diagnose.panel import Panel, from_points, rate
from aiops.errors import UserError
from aiops.metrics import Bad, Side
from aiops.model import Cause

CHAIN = Graph(types=dict.fromkeys("abcd", "service"), causes=link([("a", "b"), ("b", "c"), ("a", "d")]))


def latencies(last: int = 12, **to: float) -> dict[tuple[str, str], np.ndarray]:
    usual = {"a": 0.30, "b": 0.20, "c": 0.10, "d": 0.10}
    return {(e, "latency_seconds"): shifted(v, to.get(e, v), last, seed=i) for i, (e, v) in enumerate(usual.items())}


def first(rows: dict, graph: Graph = CHAIN, sli: str | None = "a:latency_seconds", at: float = NOW) -> str:
    return analyse(panel(rows), graph, at, sli).causes[0].entity


def test_the_root_outranks_its_victims_though_they_are_as_slow() -> None:
    assert first(latencies(a=0.8, b=0.7, c=0.6)) == "c"


def test_what_a_cause_does_not_explain_is_a_services_own() -> None:
    assert first(latencies(a=0.8, b=0.7)) == "b"


def test_a_failing_side_branch_cannot_explain_more_than_it_carries() -> None:
    rows = latencies(a=0.8, c=0.6, d=0.6)
    rows |= {(e, "requests_per_s"): noise(load, seed=50) for e, load in {"a": 100.0, "c": 100.0, "d": 1.0}.items()}
    assert first(rows) == "c", "c carries all of the traffic, d one request in a hundred"


def test_what_was_already_bad_before_is_not_the_cause_of_a_change() -> None:
    rows = latencies(a=0.8, c=0.6)
    rows["d", "latency_seconds"] = shifted(0.1, 2.0, 40, seed=9)
    assert first(rows) == "c"


def test_a_delay_between_two_healthy_services_is_found_by_both_ends_of_the_edge() -> None:
    edges = [Edge(id=f"{x}->{y}", effect=x, cause=y) for x, y in (("a", "b"), ("c", "b"), ("a", "d"), ("c", "d"))]
    graph = Graph(types=dict.fromkeys("abcd", "service"), causes=link((e.effect, e.cause) for e in edges), edges=tuple(edges))
    rows = {(e, "cpu_usage"): noise(0.3, seed=i) for i, e in enumerate("abcd")}
    for i, edge in enumerate(edges):
        late = 0.08 if edge.cause == "b" else 0.03
        rows[edge.id, "caller_latency_p50"] = shifted(0.03, late, 12, seed=60 + i)
        rows[edge.id, "callee_latency_p50"] = noise(0.025, seed=70 + i)
    report = analyse(panel(rows), graph, NOW)
    assert (report.causes[0].entity, report.verdict) == ("b", Cause.NET_CONTENTION)
    assert {c.entity for c in report.causes} == set("abcd"), "edges are not entities"


def test_more_requests_are_a_load_change_and_not_a_fault() -> None:
    rows = {**latencies(a=0.6), ("a", "requests_per_s"): shifted(100, 180, 12, seed=51)}
    assert analyse(panel(rows), CHAIN, NOW, "a:latency_seconds").verdict is Cause.LOAD_CHANGE


def test_a_service_that_stopped_answering_is_suspected_for_its_silence() -> None:
    rows = latencies(a=0.8) | {("d", "cpu_usage"): noise(0.2, seed=5)}
    for key in (("d", "latency_seconds"), ("d", "cpu_usage")):
        rows[key][-12:] = np.nan
    assert "d" in [c.entity for c in analyse(panel(rows), CHAIN, NOW, "a:latency_seconds").causes[:2]]


def test_without_a_graph_confidence_is_lower_and_a_note_says_so() -> None:
    rows = latencies(c=0.6)
    with_graph = analyse(panel(rows), CHAIN, NOW, "c:latency_seconds")
    without = analyse(panel(rows), Graph(), NOW, "c:latency_seconds")
    assert without.causes[0].entity == with_graph.causes[0].entity == "c"
    assert without.confidence < with_graph.confidence
    assert any("topology" in note for note in without.notes)


ODD = {
    "constant": {("a", "latency_seconds"): np.ones(60), ("b", "cpu"): np.zeros(60)},
    "one sample": {("a", "latency_seconds"): np.ones(1)},
    "two samples": {("a", "latency_seconds"): np.array([1.0, 9.0]), ("b", "cpu"): np.array([np.nan, 1.0])},
    "nearly nothing": {("a", "latency_seconds"): np.r_[np.full(59, np.nan), 1.0]},
    "huge and tiny": {("a", "latency_seconds"): np.r_[np.full(50, 1e-300), np.full(10, 1e300)]},
}
CYCLE = Graph(types={"a": "service", "ghost": "volume"}, causes=link([("a", "b"), ("b", "a"), ("a", "ghost"), ("a", "a")]))


@pytest.mark.parametrize("rows", ODD.values(), ids=ODD)
@pytest.mark.parametrize("graph", [CYCLE, Graph()], ids=["cycle", "no graph"])
@pytest.mark.parametrize("sli", ["a:latency_seconds", None])
def test_odd_input_gets_an_answer_with_every_entity(rows: dict, graph: Graph, sli: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = analyse(panel(rows), graph, NOW, sli)
    assert {c.entity for c in report.causes} == {e for e, _ in rows} | set(graph.types)
    assert 0 <= report.confidence <= 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.one_of(st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, -np.inf])), min_size=8, max_size=8),
        min_size=1,
        max_size=4,
    )
)
def test_any_numbers_give_finite_scores_in_order(values: list[list[float]]) -> None:
    names = [("a", "latency_seconds"), ("b", "cpu_usage"), ("c", "mystery"), ("d", "gpu_temperature_celsius")]
    rows = {name: np.array(row) for name, row in zip(names, values, strict=False)}
    scores = [c.score for c in analyse(panel(rows), CHAIN, NOW).causes]
    assert np.isfinite(scores).all()
    assert scores == sorted(scores, reverse=True)


SOUND = panel(latencies())


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(replace(SOUND, times=np.empty(0), values=np.empty((4, 0))), id="no time"),
        pytest.param(replace(SOUND, times=SOUND.times[::-1]), id="times that descend"),
        pytest.param(replace(SOUND, times=np.full(120, NOW)), id="the same time over and over"),
        pytest.param(replace(SOUND, times=np.r_[SOUND.times[:-1], np.nan]), id="a time that is no number"),
        pytest.param(replace(SOUND, step_s=0.0), id="a step of nothing"),
    ],
)
def test_a_panel_without_times_in_order_is_one_clear_line(broken: Panel) -> None:
    with pytest.raises(UserError, match="expected"):
        analyse(broken, CHAIN, NOW)


@pytest.mark.parametrize(("at", "sli"), [(NOW - 1e6, None), (NOW + 1e6, None), (NOW, "a:nothing"), (NOW, "nonsense")])
def test_a_time_outside_the_data_or_an_unknown_sli_is_one_clear_line(at: float, sli: str | None) -> None:
    with pytest.raises(UserError, match="expected") as caught:
        analyse(panel(latencies()), CHAIN, at, sli)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "role", "side", "worse"),
    [
        ("node_pressure_io_waiting_seconds_total", Role.IO_PRESSURE, Side.INTERNAL, Bad.UP),
        ("job_data_wait_seconds_total", Role.DATA_WAIT, Side.EXTERNAL, Bad.UP),
        ('gpu_throttle_active{reason="sw_thermal"}', Role.THERMAL, Side.INTERNAL, Bad.UP),
        ('gpu_throttle_active{reason="gpu_idle"}', Role.OTHER, Side.INTERNAL, Bad.UP),
        ("PodServerLatencyP99(s)", Role.LATENCY, Side.EXTERNAL, Bad.UP),
        ("PodSuccessRate(%)", Role.AVAILABILITY, Side.EXTERNAL, Bad.DOWN),
        ("CpuUsageRate(%)", Role.CPU_BUSY, Side.INTERNAL, Bad.UP),
        ("MemoryUsage(Mi)", Role.MEM_USED, Side.INTERNAL, Bad.UP),
        ("requests_Sum", Role.LOAD, Side.EXTERNAL, Bad.NONE),
        ("error", Role.ERRORS, Side.EXTERNAL, Bad.UP),
        ("service_request_seconds", Role.LATENCY, Side.EXTERNAL, Bad.UP),
        ("mrt", Role.LATENCY, Side.EXTERNAL, Bad.UP),
        ("http_server_requests_seconds_max", Role.LATENCY, Side.EXTERNAL, Bad.UP),
        ("latency-90", Role.LATENCY, Side.EXTERNAL, Bad.UP),
        ("p99", Role.LATENCY, Side.EXTERNAL, Bad.UP),
        ("rtt_ms", Role.NET_LATENCY, Side.EXTERNAL, Bad.UP),
        ("oracle_tps", Role.LOAD, Side.EXTERNAL, Bad.NONE),
        ("count", Role.LOAD, Side.EXTERNAL, Bad.NONE),
        ("sr", Role.AVAILABILITY, Side.EXTERNAL, Bad.DOWN),
        ("disk-io", Role.DISK_BUSY, Side.INTERNAL, Bad.UP),
        ("system.cpu.util", Role.CPU_BUSY, Side.INTERNAL, Bad.UP),
        ("disk.free", Role.OTHER, Side.INTERNAL, Bad.DOWN),
        ("redis_hit_rate", Role.OTHER, Side.INTERNAL, Bad.DOWN),
        ("jvm_gc_pause_seconds_sum", Role.OTHER, Side.INTERNAL, Bad.UP),
        ("DCGM_FI_DEV_POWER_USAGE", Role.GPU_POWER, Side.INTERNAL, Bad.NONE),
        ("DCGM_FI_DEV_FB_USED", Role.OTHER, Side.INTERNAL, Bad.NONE),
        ("pod_restart_count", Role.OTHER, Side.INTERNAL, Bad.UP),
    ],
)
def test_names_tell_what_a_metric_means(metric: str, role: Role, side: Side, worse: Bad) -> None:
    told = meaning(metric)
    assert (told.role, told.side, told.worse) == (role, side, worse)


def test_a_tag_outranks_the_table() -> None:
    told = meaning("latency_p99", (Tag("latency_*", Side.INTERNAL, Bad.DOWN),))
    assert (told.role, told.side, told.worse) == (Role.LATENCY, Side.INTERNAL, Bad.DOWN)
    assert not meaning("frobnication").known


def test_counters_become_rates_at_the_moments_of_reading_and_a_restart_is_missing() -> None:
    stamps = np.array([0.0, 11.0, 20.0, 30.0, 41.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0, 110.0])
    counts = 2 * stamps
    counts[6:] -= counts[6]
    speed = rate(counts, stamps)
    assert np.isnan(speed[[0, 6]]).all()
    assert np.allclose(np.delete(speed, [0, 6]), 2.0)


def test_points_in_any_order_become_a_grid_and_the_later_row_wins() -> None:
    times, values = np.array([20.0, 0.0, 10.1, 20.0, 500.0]), np.array([3.0, 1.0, 2.0, 4.0, 9.0])
    made = from_points(np.array(["a"] * 5, object), np.array(["m"] * 5, object), times, values)
    assert made.values.tolist() == [[1.0, 2.0, 4.0, 9.0]], "one column per cell that has a point: a hole costs nothing"
    with pytest.raises(ValueError, match="finite"):
        from_points(np.array(["a"], object), np.array(["m"], object), np.array([1.0]), np.array([np.nan]))


@pytest.mark.parametrize(
    ("to", "cause", "without", "why"),
    [
        ({"a": 0.8, "b": 0.7, "c": 0.6}, "c", 0.3, "all of the half second comes from c"),
        ({"a": 0.8, "b": 0.6}, "b", 0.4, "b adds four tenths of five"),
    ],
)
def test_a_cause_says_what_the_sli_would_be_without_it(to: dict[str, float], cause: str, without: float, why: str) -> None:
    best = analyse(panel(latencies(**to)), CHAIN, NOW, "a:latency_seconds").causes[0]
    assert best.entity == cause
    assert best.counterfactual["sli_now"] == pytest.approx(to["a"], abs=0.02), why
    assert best.counterfactual["sli"] == pytest.approx(without, abs=0.05), why


def test_without_the_same_metric_there_is_no_telling_what_the_sli_would_be() -> None:
    rows = latencies(a=0.36) | {("c", "cpu_usage"): shifted(0.2, 0.95, 12, seed=40)}
    del rows["c", "latency_seconds"]
    best = analyse(panel(rows), CHAIN, NOW, "a:latency_seconds").causes[0]
    assert (best.entity, best.counterfactual) == ("c", {})


def test_a_note_says_so_where_the_edges_lead_away_from_the_sli() -> None:
    turned = Graph(types=CHAIN.types, causes=link([("b", "a"), ("c", "b"), ("d", "a")]))
    notes = analyse(panel(latencies(a=0.8, b=0.7, c=0.6)), turned, NOW, "a:latency_seconds").notes
    assert any("from the effect to the cause" in note for note in notes)
    assert not any("from the effect" in note for note in analyse(panel(latencies()), CHAIN, NOW, "a:latency_seconds").notes)
