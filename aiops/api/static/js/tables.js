// The plain tables: forecasts, jobs, collectors, incidents.

import { chip, empty, h, table } from "./dom.js";
import { ago, duration, number, percent } from "./format.js";
import { t, word } from "./i18n.js";

const heads = (...keys) => keys.map((key) => (key.startsWith("#") ? { text: t(key.slice(1)), n: true } : { text: t(key) }));

/** Newest forecast per target: model, skill, coverage, age, and whether it may be acted upon. */
export function forecasts(items, total) {
  if (!items.length) return empty(t("forecasts.empty"));
  const rows = items.map((one) => [
    h("span", { class: "mono" }, one.target), one.model,
    number(one.skill), percent(one.coverage), ago(one.made_at),
    one.refused ? chip(word("refused", one.refused), "warn") : chip(t("usable"), "ok"),
  ]);
  const more = total > items.length ? h("p", { class: "muted small" }, t("more", { shown: items.length, total })) : null;
  return [table(t("forecasts"), heads("target", "model", "#skill", "#coverage", "age", "standing"), rows), more];
}

const JOBS = { running: "ok", queued: "", held: "warn", failed: "bad", stopping: "warn", suspended: "warn" };

/** Jobs, running first. */
export function jobs(items, total) {
  if (!items.length) return empty(t("jobs.empty"));
  const rows = items.map((job) => [
    h("span", {}, h("span", { class: "strong" }, job.name || job.id), " ", h("span", { class: "muted small" }, job.id)),
    chip(word("job", job.state), JOBS[job.state] ?? ""), number(job.gpus), job.queue, job.nodes.length ? h("span", { class: "nowrap" }, job.nodes[0], job.nodes.length > 1 ? ` +${job.nodes.length - 1}` : "") : "—",
    job.checkpoint ? ago(job.checkpoint.at) : h("span", { class: "muted" }, t("checkpoint.none")),
    ago(job.started_at ?? job.submitted_at),
  ]);
  const more = total > items.length ? h("p", { class: "muted small" }, t("more", { shown: items.length, total })) : null;
  return [table(t("jobs"), heads("job", "state", "#fleet", "queue", "nodes", "checkpoint", "begun"), rows), more];
}

/** Collectors with their last success; a broken one first. */
export function collectors(items) {
  if (!items.length) return empty(t("collectors.empty"));
  const sorted = [...items].sort((a, b) => Number(a.ok) - Number(b.ok) || a.name.localeCompare(b.name));
  const rows = sorted.map((one) => [
    one.name, chip(one.ok ? t("fine") : t("failing"), one.ok ? "ok" : "warn"), ago(one.last_success_at),
    one.seconds === null ? t("na") : one.seconds < 1 ? `${Math.round(one.seconds * 1000)} ms` : duration(one.seconds), one.error,
  ]);
  return table(t("collectors"), heads("name", "state", "last_success", "#took", "error"), rows);
}

/** Incidents, open ones first. */
export function incidents(items) {
  if (!items.length) return empty(t("incidents.empty"));
  return h("ul", { class: "card list" }, items.map((one) => h("li", { class: "decision" },
    h("span", { class: "row" }, h("span", { class: "strong" }, word("cause", one.cause)), chip(t(one.open ? "open" : "resolved"), one.open ? "warn" : "ok")),
    h("span", { class: "row small muted" }, h("span", {}, one.subject), ago(one.opened_at)),
    h("span", { class: "small" }, one.summary))));
}
