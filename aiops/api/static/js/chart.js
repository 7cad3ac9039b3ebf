// One chart: history, forecast band, median, capacity and a line at now. uPlot draws; the table beside it speaks.

import uPlot from "/static/vendor/uPlot.esm.js";
import { hour, now, number } from "./format.js";
import { t } from "./i18n.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function nowLine(plot) {
  const x = plot.valToPos(now(), "x", true);
  const { left, top, width, height } = plot.bbox;
  if (x < left || x > left + width) return;
  plot.ctx.save();
  plot.ctx.strokeStyle = colour("--muted");
  plot.ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  plot.ctx.beginPath();
  plot.ctx.moveTo(x, top);
  plot.ctx.lineTo(x, top + height);
  plot.ctx.stroke();
  plot.ctx.fillStyle = colour("--muted");
  plot.ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  plot.ctx.textAlign = "left";
  plot.ctx.fillText(t("now"), x + 5 * devicePixelRatio, top + 11 * devicePixelRatio);
  plot.ctx.restore();
}

function options(width) {
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const accent = colour("--accent");
  const none = { show: false };
  return {
    width, height: 190, legend: none, padding: [8, 8, 0, 0], cursor: { y: false, points: { size: 6 } },
    scales: { x: { time: true }, y: { range: (_, low, high) => [Math.min(0, low), (high || 1) * 1.12] } },
    axes: [
      { ...axis, values: (_, ticks) => ticks.map(hour), space: 70, size: 26 },
      { ...axis, values: (_, ticks) => ticks.map((tick) => number(tick)), size: 52 },
    ],
    series: [
      {},
      { stroke: colour("--text"), width: 1.5, points: none },
      { stroke: "transparent", points: none },
      { stroke: "transparent", points: none },
      { stroke: accent, width: 2, dash: [6, 4], points: none },
      { stroke: colour("--warn"), width: 1.5, dash: [2, 3], points: none },
    ],
    bands: [{ series: [2, 3], fill: colour("--band") }],
    hooks: { draw: [nowLine] },
  };
}

const row = (forecast, q) => {
  const index = forecast.quantiles.findIndex((one) => Math.abs(one - q) < 1e-6);
  return index < 0 ? null : forecast.values[index];
};

/** Values of a forecast at its low, middle and high quantile; null where it has none of that. */
export function quantiles(forecast) {
  return { low: row(forecast, 0.05), middle: row(forecast, 0.5), high: row(forecast, 0.95) };
}

/** Columns on one time axis: [x, history, high, low, median, capacity]; gaps are null, never zero. */
export function columns(history, forecast, capacity) {
  const { low, middle, high } = forecast ? quantiles(forecast) : {};
  const points = new Map();
  const put = (time, index, value) => {
    if (value === null || value === undefined) return;
    if (!points.has(time)) points.set(time, [null, null, null, null]);
    points.get(time)[index] = value;
  };
  history?.times.forEach((time, i) => put(time, 0, history.values[i]));
  forecast?.times.forEach((time, i) => {
    put(time, 1, high?.[i]);
    put(time, 2, low?.[i]);
    put(time, 3, middle?.[i]);
  });
  const times = [...points.keys()].sort((a, b) => a - b);
  const rows = times.map((time) => points.get(time));
  return [times, ...[0, 1, 2, 3].map((i) => rows.map((values) => values[i])), times.map(() => capacity)];
}

/** A chart inside `container`; `update` takes columns, `restyle` follows a new theme. */
export class Chart {
  constructor(container) {
    this.container = container;
    this.data = null;
    this.plot = null;
    new ResizeObserver(() => this.plot?.setSize({ width: this.container.clientWidth, height: 190 })).observe(container);
  }

  update(data) {
    this.data = data;
    if (this.plot) this.plot.setData(data);
    else if (data[0].length && this.container.clientWidth) this.plot = new uPlot(options(this.container.clientWidth), data, this.container);
  }

  restyle() {
    this.plot?.destroy();
    this.plot = null;
    if (this.data) this.update(this.data);
  }
}
