// Services: replicas ready and wanted, load against capacity, and the forecast with its band.

import { Chart, columns, quantiles } from "./chart.js";
import { chip, empty, h, swap, table } from "./dom.js";
import { ago, hour, now, number } from "./format.js";
import { t, word } from "./i18n.js";

const charts = new Map();

/** Draw all service cards into `body`; charts are kept across updates. */
export function services(body, rows, loads, forecasts) {
  if (!rows.length) return swap(body, "none", () => empty(t("services.empty")));
  for (const name of charts.keys()) if (!rows.some((row) => row.service.name === name)) remove(name);
  if (!body.querySelector("article")) swap(body, Math.random(), () => []);
  for (const row of rows) {
    const card = charts.get(row.service.name) ?? add(body, row.service.name);
    update(card, row, loads.get(row.load_target), forecasts.get(row.load_target));
  }
}

/** Redraw every chart in the theme's colours. */
export function restyle() {
  for (const { chart } of charts.values()) chart.restyle();
}

function add(body, name) {
  const [head, plot, foot] = [h("div"), h("div", { class: "plot", "aria-hidden": "true" }), h("div")];
  const root = h("article", { class: "card", "aria-label": name }, head, plot, foot);
  body.append(root);
  const card = { root, head, foot, chart: new Chart(plot) };
  charts.set(name, card);
  return card;
}

function remove(name) {
  charts.get(name).root.remove();
  charts.delete(name);
}

function update(card, { service }, history, forecast) {
  const capacity = service.ready * service.target;
  card.chart.update(columns(history, forecast, capacity));
  const latest = history?.values.at(-1) ?? null;
  swap(card.head, [service, latest, document.documentElement.lang], () => head(service, latest, capacity));
  swap(card.foot, [service.name, forecast, document.documentElement.lang], () => foot(service, forecast));
}

function head(service, latest, capacity) {
  const short = service.ready < service.replicas;
  return [
    h("div", { class: "row" },
      h("h3", {}, service.name, " ", h("span", { class: "muted small" }, service.pool)),
      h("span", {}, chip(t("replicas", { ready: service.ready, wanted: service.replicas }), short ? "warn" : "ok"), " ",
        chip(t("bounds", { min: service.min_replicas, max: service.max_replicas })))),
    h("p", { class: "small muted" }, t("load.now", { load: number(latest), capacity: number(capacity) }), service.reason ? ` · ${service.reason}` : ""),
  ];
}

function foot(service, forecast) {
  const legend = h("p", { class: "legend" }, h("span", {}, t("history")), h("span", { class: "p50" }, t("median")),
    h("span", { class: "band" }, t("band")), h("span", { class: "capacity" }, t("capacity")));
  if (!forecast) return [legend, h("p", { class: "small muted" }, t("forecast.none"))];
  const { low, middle, high } = quantiles(forecast);
  const ahead = forecast.times.findIndex((time) => time >= now() + 900);
  if (ahead < 0) return [legend, h("p", { class: "small warn-text" }, t("forecast.old"), " ", ago(forecast.made_at))];
  const values = { time: hour(forecast.times[ahead]), middle: number(middle?.[ahead]), low: number(low?.[ahead]), high: number(high?.[ahead]) };
  const rows = forecast.times.map((time, i) => [hour(time), number(low?.[i]), number(middle?.[i]), number(high?.[i])]);
  const headings = [{ text: t("time") }, { text: "P5", n: true }, { text: "P50", n: true }, { text: "P95", n: true }];
  return [
    legend,
    h("p", { class: "small" }, t("forecast.says", values), " ",
      forecast.refused ? chip(t("refused", { reason: word("refused", forecast.refused) }), "warn") : chip(forecast.model)),
    h("details", { "data-key": `table-${service.name}` }, h("summary", {}, t("as_table")), table(t("forecasts"), headings, rows)),
  ];
}
