// The first sentence an operator reads: is it well, what may it do, who leads, how old is the picture.

import { chip, h } from "./dom.js";
import { ago, number, percent } from "./format.js";
import { t, word } from "./i18n.js";

/** Tone and sentence of the whole: the worst that holds wins. `findings` null: no diagnosis to go by. */
export function verdict(state, findings, serverNow) {
  const { status, periods } = state;
  const age = status.last_cycle_at === null ? Infinity : serverNow - status.last_cycle_at;
  if (status.halted) return ["bad", t("state.halted")];
  if (!status.ready) return ["warn", t("state.not_ready", { reason: status.reason })];
  if (age > Math.max(60, 3 * periods.tick)) return ["warn", t("state.stalled")];
  if (!status.leader) return ["warn", t("state.standby")];
  if (findings === null) return ["warn", t("state.unseen")];
  return findings.length ? ["warn", t("state.attention", { n: findings.length })] : ["ok", t("state.well")];
}

/** The banner's children. */
export function banner(state, tone, sentence) {
  const tones = { act: "accent", advise: "ok", observe: "" };
  const modes = Object.entries(state.modes).map(([name, mode]) => chip(`${name}: ${word("mode", mode)}`, tones[mode]));
  const orders = state.orders.filter((order) => !["kill", "unkill"].includes(order.kind));
  const may = Object.values(state.modes);
  const furthest = ["act", "advise"].find((one) => may.includes(one)) ?? "observe";
  return [
    h("p", { class: tone === "ok" ? null : `${tone}-text` }, sentence),
    state.status.halted ? null : h("p", { class: "muted" }, t(`may.${furthest}`)),
    h("span", {}, modes.flatMap((one) => [one, " "])),
    h("div", { class: "facts small" },
      h("span", {}, t("last_cycle"), " ", ago(state.status.last_cycle_at)),
      h("span", {}, t(state.status.leader ? "leads" : "follows")),
      orders.length ? h("span", { title: orders.map((o) => `${o.kind} ${o.target} (${o.by}) ${o.note}`).join("\n") }, t("orders", { n: orders.length })) : null),
  ];
}

/** Six figures: GPUs, their use, nodes, jobs, services, warnings. */
export function totals(cluster, utilisation, services, findings) {
  const box = (name, value, detail) => h("div", {}, h("dt", {}, t(name)), h("dd", {}, value, " ", h("small", {}, detail)));
  const counts = cluster?.counts;
  const nodes = counts ? Object.values(counts.nodes).reduce((a, b) => a + b, 0) : null;
  const early = findings.filter((finding) => finding.horizon_s !== null).length;
  const short = services.filter(({ service }) => service.ready < service.replicas).length;
  return [
    box("fleet", number(counts?.gpus), counts ? t("gpus.detail", { healthy: counts.gpus_healthy, used: counts.gpus_in_jobs }) : ""),
    box("utilisation", percent(utilisation), t("utilisation.detail")),
    box("nodes", number(nodes), counts ? t("nodes.detail", { ready: counts.nodes.ready ?? 0 }) : ""),
    box("jobs", number(counts?.jobs.running ?? (counts ? 0 : null)), counts ? t("jobs.detail", { queued: counts.jobs.queued ?? 0 }) : ""),
    box("services", number(counts?.services), short ? t("services.short", { n: short }) : services.length ? t("services.fine") : t("services.none")),
    box("findings", number(findings.length), t("findings.detail", { n: early })),
  ];
}
