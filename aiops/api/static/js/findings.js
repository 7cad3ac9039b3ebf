// What is wrong or will be, with its evidence for and against. A guess is shown as a guess.

import { chip, empty, h } from "./dom.js";
import { ago, duration, number, percent } from "./format.js";
import { t, word } from "./i18n.js";

/** Cards of findings, most urgent first as the server sorts them; a diagnosis that is missing or old is no all-clear. */
export function findings({ items, diagnosed_at: at }, old) {
  if (at === null) return empty(t("findings.never"));
  const age = old ? h("p", { class: "small warn-text" }, t("findings.old"), " ", ago(at)) : null;
  return items.length ? [age, items.map(card)] : age ?? empty(t("findings.empty"));
}

/** Whether nobody has looked within three periods, so that an empty list says nothing. */
export const unseen = ({ diagnosed_at: at }, periods, serverNow) => at === null || serverNow - at > Math.max(120, 3 * periods.diagnose);

function card(finding) {
  const early = finding.horizon_s !== null;
  const tone = finding.cause === "unknown" ? "unknown" : early ? "early" : "";
  const facts = finding.evidence_for.slice(0, 3);
  return h("article", { class: `card finding ${tone}`, "aria-label": finding.subject },
    h("div", { class: "row" },
      h("h3", {}, word("cause", finding.cause)),
      h("span", {}, early ? [chip(t("in", { time: duration(finding.horizon_s) }), "accent"), " "] : null,
        chip(t("confidence", { p: percent(finding.confidence) }), finding.confidence >= 0.8 ? "warn" : ""))),
    h("p", { class: "small muted" }, finding.subject, finding.since === null ? null : [" · ", t("began"), " ", ago(finding.since)]),
    h("p", {}, finding.summary || t("finding.none")),
    facts.length ? h("ul", { class: "small" }, facts.map(fact)) : null,
    finding.neighbour ? h("p", { class: "small" }, t("neighbour", { name: finding.neighbour })) : null,
    more(finding));
}

const fact = (evidence) => h("li", {}, evidence.text,
  typeof evidence.value === "number" && typeof evidence.baseline === "number" && !/\d/.test(evidence.text)
    ? h("span", { class: "muted" }, ` (${number(evidence.value)}, ${t("before")} ${number(evidence.baseline)})`) : null);

function more(finding) {
  const against = finding.evidence_against;
  const without = Object.entries(finding.counterfactual);
  if (!against.length && !without.length && finding.chain.length < 2) return null;
  return h("details", { "data-key": finding.id }, h("summary", {}, t("more.detail")),
    finding.chain.length > 1 ? h("p", { class: "small mono" }, finding.chain.join(" → ")) : null,
    against.length ? [h("p", { class: "small strong" }, t("against")), h("ul", { class: "small" }, against.map(fact))] : null,
    without.length ? h("p", { class: "small" }, t("without"), " ", without.map(([name, value]) => `${name} = ${number(value)}`).join(", ")) : null);
}
