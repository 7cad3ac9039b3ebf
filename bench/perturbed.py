"""How much does a diagnosis lose on data that nobody prepared? The cases of `rootcause.py`, each spoilt in one way.

    bench/perturbed.py --cases DIR ... [--quick] [--json OUT]

Names that nobody knows, no topology, edges turned round, other units and orders, every second reading, half the history, an
earlier fault in it, lost points and lost metrics. Prints AC@1 / AC@3 per set beside the unspoilt cases and chance; the
settings are the product's. What is lost by all sets alike is a weakness; a single case is luck.
"""

from __future__ import annotations

import argparse
import json
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rootcause import Case, read_cases

from aiops.diagnose.analysis import analyse
from aiops.diagnose.graph import Graph, link
from aiops.diagnose.meaning import Tag, meaning

LAGS = (0.0, 60.0)
LOST = 0.1
"""Share of points, and of metrics, that are lost."""
EARLIER = (0.5, 0.7)
"""Where in the history an earlier fault lies that looked just like this one: a fifth of it."""


def dice(case: Case) -> np.random.Generator:
    """Numbers of the case's own, so that cases of one set are spoilt differently, and every run alike."""
    return np.random.default_rng(zlib.crc32(case.name.encode()))


def renamed(case: Case, told: bool) -> Case:
    """Metrics called by numbers; `told`: the topology still says their side and bad direction."""
    names = {metric: f"m{zlib.crc32(metric.encode()):08x}" for metric in sorted(set(case.panel.metrics))}
    known = {metric: meaning(metric, case.graph.tags) for metric in names}
    tags = tuple(Tag(names[metric], one.side, one.worse) for metric, one in known.items()) if told else ()
    entity, _, metric = (case.truth["sli"] or "").partition(":")
    sli = f"{entity}:{names[metric]}" if metric else None
    panel = replace(case.panel, metrics=tuple(names[metric] for metric in case.panel.metrics))
    return replace(case, panel=panel, graph=replace(case.graph, tags=tags), truth=case.truth | {"sli": sli})


def turned_round(case: Case) -> Case:
    """Every edge declared the wrong way."""
    pairs = [(cause, effect) for effect, causes in case.graph.causes.items() for cause in causes]
    return replace(case, graph=replace(case.graph, causes=link(pairs)))


def shuffled(case: Case) -> Case:
    """Rows in another order."""
    return replace(case, panel=case.panel.take(dice(case).permutation(len(case.panel.metrics))))


def points_lost(case: Case) -> Case:
    """Readings missing here and there."""
    values = case.panel.values
    return replace(case, panel=replace(case.panel, values=np.where(dice(case).random(values.shape) < LOST, np.nan, values)))


def metrics_lost(case: Case) -> Case:
    """Whole series missing, the SLI's not."""
    names = zip(case.panel.entities, case.panel.metrics, strict=True)
    own = np.array([f"{entity}:{metric}" == case.truth["sli"] for entity, metric in names])
    return replace(case, panel=case.panel.take(np.flatnonzero((dice(case).random(len(own)) >= LOST) | own)))


def coarser(case: Case) -> Case:
    """Means over two steps."""
    panel = case.panel
    odd = panel.values.shape[1] % 2
    values = np.nanmean(panel.values[:, odd:].reshape(len(panel.values), -1, 2), axis=2)
    return replace(case, panel=replace(panel, times=panel.times[odd + 1 :: 2], step_s=2 * panel.step_s, values=values))


def half_the_history(case: Case) -> Case:
    """The first half of what came before is not there."""
    start = int(np.searchsorted(case.panel.times, case.truth["at"])) // 2
    return replace(case, panel=replace(case.panel, times=case.panel.times[start:], values=case.panel.values[:, start:]))


def earlier_fault(case: Case) -> Case:
    """The same fault once before, for a fifth of the history."""
    panel, values = case.panel, case.panel.values.copy()
    at = int(np.searchsorted(panel.times, case.truth["at"]))
    first, last = (int(share * at) for share in EARLIER)
    late = values[:, at : at + 4]
    values[:, first:last] = np.tile(late, (1, -(-(last - first) // max(late.shape[1], 1))))[:, : last - first]
    return replace(case, panel=replace(panel, values=values))


SPOILT: Mapping[str, Callable[[Case], Case]] = {
    "as it is": lambda case: case,
    "rows in another order": shuffled,
    "values in another unit (x 1000)": lambda case: replace(case, panel=replace(case.panel, values=1000.0 * case.panel.values)),
    "no tags": lambda case: replace(case, graph=replace(case.graph, tags=())),
    "unknown names, tagged": lambda case: renamed(case, True),
    "unknown names, no tags": lambda case: renamed(case, False),
    "no edges": lambda case: replace(case, graph=Graph(types=case.graph.types, tags=case.graph.tags)),
    "no topology": lambda case: replace(case, graph=Graph()),
    "edges turned round": turned_round,
    "1 point in 10 lost": points_lost,
    "1 metric in 10 lost": metrics_lost,
    "means over two steps": coarser,
    "half the history": half_the_history,
    "the same fault once before": earlier_fault,
}


def place(case: Case, lag: float) -> float:
    """Where the right entity came, told `lag` seconds late."""
    report = analyse(case.seen(lag), case.graph, case.truth["at"] + lag, case.truth["sli"])
    wanted = {case.truth["entity"], *case.truth.get("entities", ()), *case.truth.get("any_of", ())}
    return next((i for i, cause in enumerate(report.causes, 1) if cause.entity in wanted), np.inf)


def rows(name: str, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """One figure per way of spoiling: AC@1 over both lags, beside that of the cases as they are."""
    chance = float(np.mean([1.0 / case.truth["candidates"] for case in cases]))
    asked = [(case, lag) for case in cases for lag in LAGS if case.answerable(lag)]
    print(f"\n{name}: {len(cases)} cases, {len(asked)} questions, chance {chance:.2f}\n  {'':34s} AC@1  AC@3")
    found, base = [], np.nan
    for title, spoil in SPOILT.items():
        places = np.array([place(spoil(case), lag) for case, lag in asked])
        first, third = float((places <= 1).mean()), float((places <= 3).mean())
        base = first if title == "as it is" else base
        print(f"  {title:34s} {first:5.2f} {third:5.2f}")
        row = {"figure": f"{name}: AC@1, {title}", "value": first, "unit": "ratio", "goal": round(base - 0.2, 3)}
        found.append({**row, "better": "higher", "baseline": {"as it is": base, "chance": chance}})
    return found


def main() -> None:
    """Spoil every set in every way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, nargs="+", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    np.seterr(all="ignore")
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    sets = {folder.name: read_cases(folder, 8 if args.quick else None) for folder in args.cases}
    results = [row for name, cases in sets.items() if cases for row in rows(name, cases)]
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
