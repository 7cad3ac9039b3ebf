// What was decided and why; one click shows evidence, the age of the inputs, the alternatives, and what came of it.

import { get } from "./api.js";
import { chip, empty, h } from "./dom.js";
import { ago, duration, moment } from "./format.js";
import { t, word } from "./i18n.js";

const STATES = { confirmed: "ok", failed: "bad", rolled_back: "bad", expired: "warn", needs_human: "bad", intent: "accent", sent: "accent" };

/** What the action does, in a few words. */
export function phrase(action) {
  const { kind, ...rest } = action;
  const change = "was" in rest ? ` ${rest.was ?? t("na")} → ${rest.replicas ?? rest.nodes ?? rest.watts ?? rest.value ?? rest.share ?? rest.bytes_per_s ?? t("na")}` : "";
  return `${word("action", kind)}${change}`;
}

function standing({ admission, entry }) {
  if (admission.denied) return chip(word("deny", admission.denied), ["observe_only", "advise_only", "within_tolerance"].includes(admission.denied) ? "" : "warn");
  return chip(word("entry", entry?.state ?? "intent"), STATES[entry?.state] ?? "accent");
}

/** The list; a row opens the drawer. */
export function decisions(items) {
  if (!items.length) return empty(t("decisions.empty"));
  return h("ul", { class: "card list" }, items.map((item) => h("li", {},
    h("button", { class: "decision", type: "button", "data-key": item.admission.id, on: { click: () => open(item.admission.id) } },
      h("span", { class: "row" }, h("span", { class: "strong" }, phrase(item.admission.decision.action)), standing(item)),
      h("span", { class: "row small muted" }, h("span", {}, `${item.target} · ${item.admission.decision.policy}`), ago(item.admission.at)),
      h("span", { class: "small" }, item.admission.decision.reason)))));
}

/** Show one decision in the drawer. */
export async function open(id) {
  const drawer = document.getElementById("drawer");
  const found = await get(`decisions/${encodeURIComponent(id)}`);
  drawer.replaceChildren(...detail(found, () => drawer.close()));
  drawer.showModal();
}

const list = (title, items) => (items.length ? [h("h3", {}, title), h("ul", {}, items.map((item) => h("li", {}, `• ${item}`)))] : []);
const pair = (name, value) => (value === null || value === undefined || value === "" ? [] : [h("dt", {}, t(name)), h("dd", {}, value)]);

function detail(found, close) {
  const { admission, entry, inputs, target } = found;
  const { decision } = admission;
  return [
    h("div", { class: "row" }, h("h2", { id: "drawer-title" }, phrase(decision.action)), h("button", { type: "button", on: { click: close } }, t("close"))),
    h("p", {}, standing(found), " ", h("span", { class: "muted" }, target)),
    h("p", {}, decision.reason),
    h("dl", {},
      pair("decided", moment(admission.at)),
      pair("policy", decision.policy),
      pair("mode", word("mode", admission.mode)),
      admission.denied ? pair("refused.why", `${word("deny", admission.denied)}${admission.detail ? `: ${admission.detail}` : ""}`) : [],
      pair("inputs", decision.inputs_at === null ? null : t("inputs.age", { time: moment(decision.inputs_at), age: duration(admission.at - decision.inputs_at) })),
      pair("expect", decision.expect && t("expect.within", { what: decision.expect, time: duration(decision.within_s) })),
      pair("answered", entry?.receipt && `${entry.receipt.outcome}${entry.receipt.detail ? `: ${entry.receipt.detail}` : ""}`),
      pair("verdict", entry?.verdict && `${word("effect", entry.verdict.effect)}: ${entry.verdict.detail}`)),
    list(t("evidence"), decision.evidence),
    list(t("rejected"), decision.rejected),
    h("h3", {}, t("saw")),
    h("p", { class: "small" }, t("saw.detail", { nodes: inputs.nodes, jobs: inputs.jobs, services: inputs.services, forecasts: inputs.forecasts.length, findings: inputs.findings.length })),
    h("p", { class: "small muted" }, t("explain"), " ", h("span", { class: "mono" }, `aiops explain ${admission.id}`)),
    h("details", {}, h("summary", {}, t("raw")), h("pre", { class: "mono" }, JSON.stringify({ admission, entry }, null, 2))),
  ].flat(Infinity);
}
