"""A diagnosis as one picture: the cause graph on the left, the evidence series on the right. Draws, decides nothing."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aiops.diagnose.analysis import Analysis
from aiops.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SERIES = 5
"""Evidence series drawn: what fits on one page."""
ENTITIES = 14
WIDE = 5
"""Boxes side by side that do not overlap."""
_HOT, _WARM, _COLD, _LINE = "#c0392b", "#e67e22", "#d5d8dc", "#2c3e50"


def draw(analysis: Analysis, path: Path) -> None:
    """Write the picture, beside and then renamed. UserError where the name is no .png or .svg or the place is not writable."""
    if path.suffix not in (".png", ".svg"):
        raise UserError(f"--plot {path}: expected a name that ends in .png or .svg")
    import io

    import matplotlib as mpl

    from aiops.files import write_atomic

    mpl.use("Agg")
    mpl.rcParams["text.parse_math"] = False  # a name may hold $
    from matplotlib import pyplot as plt

    rows = evidence_rows(analysis)
    figure = plt.figure(figsize=(14, 2.0 + 1.9 * max(3, len(rows))), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1, 1.15))
    graph, side = halves
    _draw_graph(analysis, graph.subplots(1, 1))
    axes = np.atleast_1d(side.subplots(max(1, len(rows)), 1, sharex=True))
    for row, axis in zip(rows, axes, strict=False):
        _draw_series(analysis, row, axis)
    axes[-1].set_xlabel("seconds from the noticing")
    report = analysis.report
    figure.suptitle(
        f"{report.verdict.value}: {report.causes[0].entity if report.causes else '-'}  ({report.confidence:.0%} sure)"
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:], dpi=110)
    plt.close(figure)
    write_atomic(path, buffer.getvalue())


def evidence_rows(analysis: Analysis) -> list[int]:
    """Rows to draw: the SLI, then what the first causes cite, without repeats."""
    facts = analysis.facts
    names = {facts.series(i): i for i in range(len(facts.rich.panel.entities))}
    cited = [fact.series for cause in analysis.report.causes[:4] for fact in cause.evidence_for if fact.series]
    rows = dict.fromkeys(
        names[name] for name in ([analysis.report.sli] if analysis.report.sli else []) + cited if name in names
    )
    return list(rows)[:SERIES]


def _draw_series(analysis: Analysis, row: int, axis: Axes) -> None:
    facts, report = analysis.facts, analysis.report
    times = facts.rich.panel.times - report.at
    usual, scale = float(facts.shifts.usual[row]), float(facts.shifts.scale[row])
    axis.plot(times, facts.rich.panel.values[row], color=_LINE, linewidth=1.1)
    if np.isfinite(usual) and np.isfinite(scale):
        axis.axhspan(usual - 3 * scale, usual + 3 * scale, color="#27ae60", alpha=0.15, label="usual ± 3 scales")
    if report.onset is not None:
        axis.axvline(report.onset - report.at, color=_HOT, linewidth=1.2, label="onset")
    axis.axvline(0.0, color="#7f8c8d", linestyle="--", linewidth=1.0, label="noticed")
    axis.set_title(facts.series(row), fontsize=9, loc="left")
    axis.tick_params(labelsize=8)
    if row == evidence_rows(analysis)[0]:
        axis.legend(fontsize=8, loc="upper left")


def _draw_graph(analysis: Analysis, axis: Axes) -> None:
    """Chain and suspects as boxes, the SLI on top, causes below what they show in."""
    shown = _shown(analysis)
    places = _places(analysis, shown)
    scores = {cause.entity: cause.score for cause in analysis.report.causes}
    top = max([scores.get(name, 0.0) for name in shown] or [1.0]) or 1.0
    chain = analysis.report.causes[0].chain if analysis.report.causes else ()
    hot = set(itertools.pairwise(chain))
    for effect in shown:
        for cause in analysis.facts.graph.causes.get(effect, ()):
            if cause in places:
                on = (effect, cause) in hot
                style: dict[str, Any] = {
                    "arrowstyle": "-|>",
                    "color": _HOT if on else "#95a5a6",
                    "linewidth": 2.2 if on else 0.8,
                }
                axis.annotate("", xy=places[effect], xytext=places[cause], arrowprops={**style, "shrinkA": 16, "shrinkB": 16})
    for name, (x, y) in places.items():
        share = scores.get(name, 0.0) / top
        colour = _HOT if name in chain[-1:] else _WARM if share > 0.6 else _COLD
        label = f"{name[-28:]}\n{scores.get(name, 0.0):.1f}"
        box = {"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": "none", "alpha": 0.9}
        axis.text(x, y, label, ha="center", va="center", fontsize=8, bbox=box, color="white" if colour == _HOT else "black")
    axis.set_xlim(-0.05, 1.05)
    axis.set_ylim(-0.08, 1.08)
    axis.axis("off")
    axis.set_title("what depends on what (arrows run from cause to effect), with scores", fontsize=9)


def _shown(analysis: Analysis) -> list[str]:
    chains = [entity for cause in analysis.report.causes[:3] for entity in cause.chain]
    return list(dict.fromkeys(chains + [cause.entity for cause in analysis.report.causes]))[:ENTITIES]


def _places(analysis: Analysis, shown: list[str]) -> dict[str, tuple[float, float]]:
    """Layers by distance from the SLI's entity; unconnected entities at the bottom."""
    root = analysis.facts.entity(analysis.facts.sli) if analysis.facts.sli is not None else (shown[0] if shown else "")
    depth = {name: len(analysis.facts.graph.chain(name, root)) - 1 if name != root else 0 for name in shown}
    deepest = max(depth.values(), default=0) + 1
    depth = {name: d if d or name == root else deepest for name, d in depth.items()}
    layers: dict[int, list[str]] = {}
    chained = analysis.report.causes[0].chain if analysis.report.causes else ()
    for name in shown:
        if len(layers.setdefault(depth[name], [])) < WIDE or name in chained:
            layers[depth[name]].append(name)
    places = {}
    for layer, (_, names) in enumerate(sorted(layers.items())):
        for i, name in enumerate(names):
            y = 1.0 - layer / max(1, len(layers) - 1) + 0.05 * (i % 2)
            places[name] = ((i + 0.5) / len(names), y)
    return places
