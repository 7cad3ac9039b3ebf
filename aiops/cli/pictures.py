"""Pictures of forecasts: history, band, median and truth of the newest origin, as PNG or as one self-contained HTML file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from aiops.errors import UserError
from aiops.files import write_atomic
from aiops.model import Floats, Forecast, Series

MAX_PANELS = 12
HISTORY_HORIZONS = 12
MOST = 1e300
"""An axis over greater values has a length that is no number."""


def check_picture(path: Path | None) -> None:
    """UserError for a picture of a kind that cannot be drawn, before any work is done."""
    if path is not None and path.suffix not in (".png", ".html"):
        raise UserError(f"--plot: expected a .png or .html file, found {path}")


def draw(path: Path, series: Sequence[Series], made: Sequence[Forecast]) -> None:
    """Draw up to a dozen series with their newest forecasts; the largest series first."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["text.parse_math"] = False  # a name may hold $
    from matplotlib import pyplot

    newest = {f.target: f for f in sorted(made, key=lambda f: f.made_at)}
    shown = [s for s in sorted(series, key=lambda s: -float(np.nansum(np.abs(_drawable(s.values))))) if str(s.key) in newest][
        :MAX_PANELS
    ]
    columns = 1 if len(shown) < 3 else 2
    lines = -(-max(1, len(shown)) // columns)
    figure, axes = pyplot.subplots(lines, columns, figsize=(6.5 * columns, 2.6 * lines), squeeze=False, layout="constrained")
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    for axis, one in zip(axes.flat, shown, strict=False):
        _panel(axis, one, newest[str(one.key)])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    write_atomic(path, buffer.getvalue() if path.suffix == ".png" else _page(buffer.getvalue(), shown, newest))


def _panel(axis: Any, series: Series, forecast: Forecast) -> None:
    span = float(forecast.times[-1] - forecast.made_at)
    near = (series.times >= forecast.made_at - HISTORY_HORIZONS * span) & (series.times <= forecast.times[-1])
    times, values = series.times[near], _drawable(series.values[near])
    past = times <= forecast.made_at
    low, high = _drawable(forecast.values[0]), _drawable(forecast.values[-1])
    axis.fill_between(_dates(forecast.times), low, high, color="#8fb8de", alpha=0.6, linewidth=0, label=_band_name(forecast))
    axis.plot(_dates(times[past]), values[past], color="#333333", linewidth=1, label="history")
    axis.plot(_dates(times[~past]), values[~past], color="#c0392b", linewidth=1.2, marker=".", markersize=4, label="truth")
    axis.plot(_dates(forecast.times), _drawable(forecast.at_quantile(0.5)), color="#1f5f99", linewidth=1.2, label="median")
    axis.axvline(_dates(np.array([forecast.made_at]))[0], color="#999999", linewidth=0.8, linestyle=":")
    axis.set_title(f"{series.key}   {forecast.model}"[:90], fontsize=8, loc="left")
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=6, loc="upper left", frameon=False)


def _band_name(forecast: Forecast) -> str:
    return f"{forecast.quantiles[0]:g} to {forecast.quantiles[-1]:g}"


def _drawable(values: Floats) -> Floats:
    return np.clip(values, -MOST, MOST)


def _dates(times: Any) -> list[datetime]:
    return [datetime.fromtimestamp(float(t), UTC) for t in times]


def _page(png: bytes, shown: Sequence[Series], newest: dict[str, Forecast]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(str(s.key))}</td><td>{html.escape(newest[str(s.key)].model)}</td>"
        f"<td>{newest[str(s.key)].at_quantile(0.9)[-1]:.6g}</td></tr>"
        for s in shown
    )
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>aiops forecast</title>"
        "<style>body{font:14px sans-serif;margin:2em}img{max-width:100%}td{padding:.2em 1em .2em 0}</style>"
        f"<h1>Forecasts</h1><img alt='history, band and truth' src='data:image/png;base64,{base64.b64encode(png).decode()}'>"
        f"<table><tr><th>series<th>model<th>0.9 quantile at the end</tr>{rows}</table></html>"
    )
