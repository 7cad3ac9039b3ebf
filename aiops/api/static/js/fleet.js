// Pools, nodes and their GPUs: one tile per GPU, filled by how busy it is. Missing is N/A; lost says so.

import { chip, empty, fill, h } from "./dom.js";
import { number, percent } from "./format.js";
import { t, word } from "./i18n.js";

const HOT = 85; // degrees: most data-centre cards slow down between 83 and 90
const TONES = { ready: "ok", cordoned: "warn", draining: "warn", down: "bad", off: "" };
export const METRICS = ["gpu_up", "gpu_engine_active_ratio", "gpu_utilization_ratio", "gpu_temperature_celsius", "gpu_power_watts", "gpu_memory_used_bytes", "gpu_memory_total_bytes"];

/** Newest readings by GPU uuid: {uuid: {metric: value}}. */
export function readings(items) {
  const found = {};
  for (const { metric, labels, value } of items) {
    if (!labels.uuid || (labels.sensor && labels.sensor !== "gpu")) continue;
    (found[labels.uuid] ??= {})[metric] = value;
  }
  return found;
}

/** Mean utilisation over the GPUs that say so, or null. */
export function utilisation(byGpu) {
  const known = Object.values(byGpu).map(busy).filter((value) => typeof value === "number");
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
}

const busy = (gpu) => gpu?.gpu_utilization_ratio ?? gpu?.gpu_engine_active_ratio ?? null;

/** Cards of all nodes, by pool. */
export function fleet(nodes, byGpu, total) {
  if (!nodes.length) return empty(t("fleet.empty"));
  const pools = Map.groupBy ? Map.groupBy(nodes, (node) => node.pool) : grouped(nodes);
  const cards = [...pools].map(([pool, members]) => [
    pools.size > 1 ? h("h3", { class: "muted" }, t("pool", { pool })) : null,
    members.map((node) => card(node, byGpu)),
  ]);
  return [cards, nodes.length < total ? h("p", { class: "muted small" }, t("more", { shown: nodes.length, total })) : null];
}

function grouped(nodes) {
  const pools = new Map();
  for (const node of nodes) pools.set(node.pool, [...(pools.get(node.pool) ?? []), node]);
  return pools;
}

function card(node, byGpu) {
  const model = node.gpus[0]?.model;
  return h("article", { class: "card", "aria-label": node.name },
    h("div", { class: "row" },
      h("h3", {}, node.name, " ", h("span", { class: "muted small" }, [node.pool, model].filter(Boolean).join(" · "))),
      h("span", {}, node.protected ? [chip(t("protected")), " "] : null, chip(word("node", node.state), TONES[node.state] ?? ""))),
    node.reason ? h("p", { class: "small warn-text" }, node.reason) : null,
    node.gpus.length ? h("ul", { class: "gpus" }, node.gpus.map((gpu) => tile(gpu, byGpu[gpu.uuid]))) : h("p", { class: "small muted" }, t("gpus.none")));
}

function tile(gpu, reading) {
  const lost = reading?.gpu_up === 0 || !gpu.healthy;
  const use = lost ? null : busy(reading);
  const celsius = reading?.gpu_temperature_celsius ?? null;
  const memory = reading?.gpu_memory_used_bytes / reading?.gpu_memory_total_bytes;
  const title = `GPU ${gpu.index} ${gpu.mig_profile} ${gpu.uuid}\n${t("memory")}: ${percent(memory)}`;
  return h("li", { class: `gpu ${lost ? "lost" : celsius !== null && celsius >= HOT ? "hot" : ""}`, title },
    use === null ? null : fill(use),
    h("span", { class: "i", "aria-label": `GPU ${gpu.index}` }, String(gpu.index)),
    h("div", { class: "u" }, lost ? t("gpu.lost") : percent(use)),
    lost || !reading ? null : [h("div", { class: "d" }, celsius === null ? t("na") : `${Math.round(celsius)} °C`), h("div", { class: "d" }, watts(reading))]);
}

function watts(reading) {
  const power = reading.gpu_power_watts ?? null;
  return power === null ? t("na") : number(Math.round(power), "W");
}
