"""Does the first cause named deserve it? AC@1, AC@3, Avg@5 beside published scorers and chance, at three detector lags.

    python bench/rootcause.py [--cases DIR ...] [--quick] [--json OUT]

`DIR` holds cases (metrics.csv.gz, topology.yaml, truth.json) as the fault simulator writes them; without one, a few simulated
cases are made first (`python -m aiops.sim.faults`). Scorers, all on the same files in the same run: N-sigma, median/IQR
(BARO's), MAD with internal and external metrics pooled (PRISM's idea), and the residual of a regression on the declared
causes (CIRCA's idea). The product's settings are frozen over all sets. Simulated cases are judged on what was known 10 s
after the fault became visible; the others on what their files hold. Also prints confidence against hit rate, false alarms
before the fault, and the time of one diagnosis.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import campaign
import numpy as np

from aiops.cli.diagnose import read_panel
from aiops.diagnose.analysis import analyse
from aiops.diagnose.graph import Graph, link
from aiops.diagnose.meaning import meaning
from aiops.diagnose.panel import Panel
from aiops.diagnose.report import Report
from aiops.diagnose.topology import parse_topology
from aiops.metrics import Bad, Side
from aiops.model import Cause
from aiops.settings import load_yaml
from aiops.sim.faults.cases import TWO
from aiops.sim.faults.kinds import KINDS
from aiops.sim.faults.score import ABSTAINED

AFTER_VISIBLE_S = 5.0
"""A simulated case's `at` is 5 s after the fault is visible; 5 s more is the 10 s in which a decision is due."""
QUICK_CASES = 40


@dataclass(frozen=True, slots=True)
class Case:
    """One case: data, graph, truth."""

    name: str
    panel: Panel
    graph: Graph
    truth: dict[str, Any]

    def seen(self, lag: float) -> Panel:
        """What the diagnosis may look at."""
        return self.panel.until(self.truth["at"] + lag + AFTER_VISIBLE_S) if "visible" in self.truth else self.panel

    def answerable(self, lag: float) -> bool:
        """True where somebody is to blame, and the recording is not over when the question is asked."""
        return (
            self.truth["kind"] not in ("normal", "none") and self.panel.times[-1] >= self.truth["at"] + lag - self.panel.step_s
        )


def read_cases(folder: Path, most: int | None) -> list[Case]:
    """Cases of a folder, spread evenly where only some are wanted."""
    found = sorted(path.parent for path in folder.glob("*/truth.json"))
    chosen = (
        found if most is None or len(found) <= most else [found[i] for i in np.linspace(0, len(found) - 1, most).astype(int)]
    )
    return [
        Case(
            at.name,
            read_panel(at / "metrics.csv.gz"),
            parse_topology(load_yaml(at / "topology.yaml"), at.name),
            json.loads((at / "truth.json").read_text()),
        )
        for at in chosen
    ]


# -- the published scorers, a few lines each ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Halves:
    """Rows with a bad direction, turned so that up is bad: before and after the noticing; entity and side of each."""

    entities: list[str]
    sides: list[Side]
    metrics: list[str]
    before: np.ndarray
    after: np.ndarray


def halves(case: Case, lag: float) -> Halves:
    """What a scorer that trusts the detector's time compares."""
    panel, at = case.seen(lag), case.truth["at"] + lag
    told = [meaning(name, case.graph.tags) for name in panel.metrics]
    measured = {edge.id for edge in case.graph.edges}
    rows = [i for i, m in enumerate(told) if m.worse is not Bad.NONE and panel.entities[i] not in measured]
    sign = np.array([-1.0 if told[i].worse is Bad.DOWN else 1.0 for i in rows])[:, None]
    late = panel.times >= at if (panel.times >= at).any() else panel.times >= panel.times[-1]
    values = panel.values[rows] * sign
    names = [panel.entities[i] for i in rows]
    return Halves(names, [told[i].side for i in rows], [panel.metrics[i] for i in rows], values[:, ~late], values[:, late])


def best_first(entities: Sequence[str], scores: np.ndarray) -> list[str]:
    """Entities by their best row."""
    best: dict[str, float] = {}
    for entity, score in zip(entities, scores, strict=True):
        if np.isfinite(score):
            best[entity] = max(best.get(entity, -np.inf), float(score))
    return [entity for entity, _ in sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))]


def n_sigma(case: Case, h: Halves) -> list[str]:
    """Largest deviation in standard deviations."""
    spread, mean = np.nanstd(h.before, 1, keepdims=True), np.nanmean(h.before, 1, keepdims=True)
    return best_first(h.entities, np.nanmax((h.after - mean) / np.where(spread > 0, spread, 1.0), 1))


def median_iqr(case: Case, h: Halves) -> list[str]:
    """Largest deviation from the median in interquartile ranges: BARO's scorer."""
    low, middle, high = np.nanpercentile(h.before, [25, 50, 75], axis=1)[:, :, None]
    return best_first(h.entities, np.nanmax((h.after - middle) / np.where(high > low, high - low, 1.0), 1))


def mad_pooled(case: Case, h: Halves) -> list[str]:
    """MAD deviations, best internal plus best external row of an entity: PRISM's idea."""
    z = np.nanmax(mad_z(h.before, h.after), 1)
    sums: dict[str, dict[Side, float]] = {}
    for entity, side, score in zip(h.entities, h.sides, z, strict=True):
        if np.isfinite(score):
            held = sums.setdefault(entity, {})
            held[side] = max(held.get(side, 0.0), float(score))
    return [entity for entity, parts in sorted(sums.items(), key=lambda pair: (-sum(pair[1].values()), pair[0]))]


def regression(case: Case, h: Halves) -> list[str]:
    """Deviation of each row's residual given the same metric of its declared causes, by least squares: CIRCA's idea."""
    index = {key: i for i, key in enumerate(zip(h.entities, h.metrics, strict=True))}
    scores = np.full(len(h.entities), np.nan)
    for (entity, metric), i in index.items():
        parents = [index[c, metric] for c in case.graph.causes.get(entity, ()) if (c, metric) in index]
        x, y = np.nan_to_num(h.before[parents].T), h.before[i]
        known = np.isfinite(y)
        if known.sum() < 5:
            continue
        design = np.column_stack([x[known], np.ones(known.sum())])
        weights = np.linalg.lstsq(design, y[known], rcond=None)[0]
        late = np.column_stack([np.nan_to_num(h.after[parents].T), np.ones(h.after.shape[1])])
        scores[i] = np.nanmax(mad_z((y[known] - design @ weights)[None], (h.after[i] - late @ weights)[None]))
    return best_first(h.entities, scores)


def mad_z(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Deviations in MADs, at least 5 % of the median."""
    middle = np.nanmedian(before, 1, keepdims=True)
    scale = 1.4826 * np.nanmedian(np.abs(before - middle), 1, keepdims=True)
    return (after - middle) / np.maximum(np.maximum(scale, 0.05 * np.abs(middle)), 1e-9)


SCORERS: dict[str, Callable[[Case, Halves], list[str]]] = {
    "n_sigma": n_sigma, "median_iqr": median_iqr, "mad_pooled": mad_pooled, "regression": regression,
}  # fmt: skip


# -- scoring -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One answer: who ranked, where the truth came, and what the product said."""

    scorer: str
    lag: float
    kind: str
    place: float
    chance: float
    report: Report | None = None
    typed: bool | None = None


def score(case: Case, lag: float) -> Iterator[Line]:
    """Lines of all scorers and of the product on one case."""
    truth = case.truth
    wanted = {truth["entity"], *truth.get("entities", ()), *truth.get("any_of", ())}
    compared = halves(case, lag)
    chance = 1.0 / truth["candidates"]
    for name, scorer in SCORERS.items():
        yield Line(name, lag, truth["kind"], _place(scorer(case, compared), wanted), chance)
    report = analyse(case.seen(lag), case.graph, truth["at"] + lag, truth["sli"])
    said = report.verdict.value
    right = {truth.get("verdict"), *truth.get("also", ()), *truth.get("verdicts", ())}
    place = _place([cause.entity for cause in report.causes], wanted)
    yield Line("aiops", lag, truth["kind"], place, chance, report, said in right if "verdict" in truth else None)


def _place(ranked: list[str], wanted: set[str]) -> float:
    return min((ranked.index(name) + 1.0 for name in wanted if name in ranked), default=np.inf)


def table(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """One row per lag and scorer, over cases that have a culprit."""
    rows = []
    for lag in sorted({line.lag for line in lines}):
        for name in (*SCORERS, "aiops"):
            group = [line for line in lines if line.lag == lag and line.scorer == name]
            places = np.array([line.place for line in group])
            hits = {k: float((places <= k).mean()) for k in range(1, 6)}
            chance = float(np.mean([line.chance for line in group]))
            row = {"lag": lag, "scorer": name, "n": len(group), "ac1": hits[1], "ac3": hits[3]}
            rows.append({**row, "avg5": float(np.mean(list(hits.values()))), "chance": chance})
    return rows


def quiet_moments(case: Case, number: int, of: int) -> Iterator[float]:
    """Times before the fault at which a detector might have asked for nothing.

    Just before it where the onset is known; with an SLI of a long recording also at other hours, since such cases may share
    their normal period; without an SLI at six moments of the half hour before.
    """
    truth, first, step = case.truth, float(case.panel.times[0]), case.panel.step_s
    if truth["sli"] is None:
        yield from (truth["at"] - (1.0 + columns) * step for columns in (2, 5, 10, 15, 20, 25))
        return
    start = truth["onset"] - 3.0 if "onset" in truth else truth["at"] - 1515.0
    for at in start - 3600.0 * (number + of * np.arange(3)):
        late = at - first > 50 * step
        yield at if late else start
        if not late or at == start:
            return


def false_alarms(cases: Sequence[Case]) -> tuple[int, int]:
    """Normal windows in which somebody was blamed, and all of them."""
    said = [
        analyse(case.panel.until(at), case.graph, at, case.truth["sli"]).verdict.value
        for i, case in enumerate(cases)
        for at in quiet_moments(case, i, len(cases))
    ]
    return sum(verdict not in ABSTAINED for verdict in said), len(said)


def speed(rows: int) -> tuple[float, float]:
    """Best wall and CPU seconds of five diagnoses of an hour at 10 s, ten metrics per entity."""
    kinds = ("cpu_usage_ratio", "memory_used_bytes", "latency_seconds", "error_rate", "requests_per_s")
    kinds += ("node_disk_io_now", "gpu_temperature_celsius", "queue_depth", "job_compute_seconds", "gpu_power_watts")
    values = np.random.default_rng(0).standard_normal((rows, 360)) + 10
    values[[2, 5], -20:] += 9
    names = tuple(f"e{i // 10}" for i in range(rows))
    metrics = tuple(kinds[i % 10] for i in range(rows))
    panel = Panel(times=10.0 * np.arange(360), step_s=10.0, entities=names, metrics=metrics, values=values)
    graph = Graph(types=dict.fromkeys(names, "service"), causes=link((f"e{i}", f"e{i // 2}") for i in range(rows // 10)))
    took = []
    for _ in range(5):
        wall, cpu = time.perf_counter(), time.process_time()
        analyse(panel, graph, 3500.0, "e0:latency_seconds")
        took.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(wall for wall, _ in took), min(cpu for _, cpu in took)


def figures(name: str, cases: Sequence[Case], lags: Sequence[float], told: list[tuple[float, bool]]) -> list[dict[str, Any]]:
    """Print one set's tables and return its figures; its confidences and hits are added to `told`."""
    lines = [line for lag in lags for case in cases if case.answerable(lag) for line in score(case, lag)]
    rows = table(lines)
    print(f"\n{name}: {len(cases)} cases\n  lag scorer        n  AC@1  AC@3 Avg@5 chance")
    for row in rows:
        shown = " ".join(f"{row[key]:5.3f}" for key in ("ac1", "ac3", "avg5", "chance"))
        print(f"{row['lag']:5.0f} {row['scorer']:11s}{row['n']:4d} {shown}")
    ours = [line for line in lines if line.scorer == "aiops"]
    for kind in sorted({line.kind for line in ours}):
        group = [line for line in ours if line.kind == kind]
        typed = [line.typed for line in group if line.typed is not None]
        said = f"  verdict right {np.mean(typed):.3f}" if typed else ""
        print(f"      {kind:28s} n {len(group):3d}  AC@1 {np.mean([line.place == 1 for line in group]):.3f}{said}")
    pairs = [(line.report.confidence, line.place == 1) for line in ours if line.report]
    gap = campaign.print_reliability(pairs)
    told += pairs
    silent = sum(line.report is not None and line.report.verdict is Cause.UNKNOWN for line in ours)
    print(f"      abstained: {silent} of {len(ours)}")
    named, total = false_alarms(cases)
    print(f"      false alarms: {named} of {total} normal windows")
    out = []
    for lag in sorted({line.lag for line in ours}):
        base = {row["scorer"]: row["ac1"] for row in rows if row["lag"] == lag and row["scorer"] != "aiops"}
        value = next(row["ac1"] for row in rows if row["lag"] == lag and row["scorer"] == "aiops")
        base["chance"] = rows[0]["chance"]
        goal = {"petshop": 0.75, "nezha": 0.62}.get(name.split("-")[0], 0.95)
        out.append(figure(f"{name}: AC@1, told {lag:.0f} s late", value, "ratio", goal, "higher", base))
    typed = [line.typed for line in ours if line.typed is not None]
    if typed:
        out.append(figure(f"{name}: verdict right", float(np.mean(typed)), "ratio", 0.93, "higher", {}))
    if np.isfinite(gap):
        out.append(figure(f"{name}: largest gap of confidence and hit rate in a tenth", gap, "ratio", 0.1, "lower", {}))
    if total:
        out.append(figure(f"{name}: false alarms", named / total, "ratio", 0.05, "lower", {}))
    return out


def figure(name: str, value: float, unit: str, goal: float, better: str, baseline: dict[str, float]) -> dict[str, Any]:
    """One line of the JSON."""
    return {"figure": name, "value": value, "unit": unit, "goal": goal, "better": better, "baseline": baseline}


def simulated(into: Path, quick: bool) -> Path:
    """A few simulated cases, made by the simulator's own command line."""
    cases = "1" if quick else "5"
    subprocess.run([sys.executable, "-m", "aiops.sim.faults", str(into), "--cases", cases, "--step", "10"], check=True)
    return into


def main() -> None:
    """Score every set, then the clock."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, nargs="*", default=[])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--campaign", type=int, default=0, metavar="N", help="N simulated cases of every kind, nothing else")
    parser.add_argument("--kinds", default=",".join([*KINDS, TWO]))
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--answers", type=Path, nargs="+", default=[Path("campaign.jsonl")], help="written to the first")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    np.seterr(all="ignore")
    import warnings

    warnings.filterwarnings("ignore", category=RuntimeWarning)
    results: list[dict[str, Any]] = []
    if args.campaign:
        campaign.run(args.kinds.split(","), range(args.seed, args.seed + args.campaign), args.answers[0])
        results = campaign.report([one for path in args.answers for one in campaign.load(path)])
        return finish(results, args.json)
    told: list[tuple[float, bool]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for folder in args.cases or [simulated(Path(scratch) / "simulated", args.quick)]:
            cases = read_cases(folder, QUICK_CASES if args.quick else None)
            if cases:
                results += figures(folder.name, cases, (0.0, 60.0) if args.quick else (0.0, 60.0, 120.0), told)
            else:
                print(f"{folder}: skipped, no cases there")
    if len(args.cases) > 1:
        print("\nall sets together: confidence said and hit rate")
        gap = campaign.print_reliability(told)
        results.append(
            figure("all sets together: largest gap of confidence and hit rate in a tenth", gap, "ratio", 0.1, "lower", {})
        )
    for rows, goal in ((300, 0.05), (10_000, 1.0)):
        wall, cpu = speed(rows)
        print(f"\none diagnosis of {rows} metrics: {wall:.3f} s wall, {cpu:.3f} s CPU (goal {goal} s)")
        results.append(figure(f"one diagnosis, {rows} metrics, CPU", cpu, "s", goal, "lower", {"wall": wall}))
    return finish(results, args.json)


def finish(results: Sequence[dict[str, Any]], into: Path | None) -> None:
    """Say of every figure whether it met its goal, and write the JSON."""
    for one in results:
        missed = one["value"] < one["goal"] if one["better"] == "higher" else one["value"] > one["goal"]
        print(f"{'MISSED' if missed else 'met   '} {one['figure']}: {one['value']:.3f} (goal {one['goal']})")
    if into:
        into.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
