// Two catalogues of plain sentences. A missing key shows itself, so that a test and a reader both notice.

export const LANGUAGES = ["en", "zh-CN"];
let words = {};
let chosen = "en";

/** The language asked for in the address, chosen earlier, or preferred by the browser. */
export function preferred() {
  const asked = [new URLSearchParams(location.search).get("lang"), localStorage.getItem("aiops.language"), ...navigator.languages];
  for (const tag of asked) {
    if (LANGUAGES.includes(tag)) return tag;
    if (tag?.toLowerCase().startsWith("zh")) return "zh-CN";
    if (tag?.toLowerCase().startsWith("en")) return "en";
  }
  return "en";
}

/** Load a catalogue and apply it to the page's fixed texts. */
export async function use(language) {
  words = await (await fetch(`/static/i18n/${language}.json`)).json();
  chosen = language;
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", t(node.dataset.tLabel));
}

/** Text of a key with `{name}` filled in. */
export function t(key, values = {}) {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** Text of an enum's word (`deny.cooldown`), or the word itself where the catalogue has none. */
export function word(group, value) {
  return words[`${group}.${value}`] ?? String(value ?? "").replaceAll("_", " ");
}

/** The language in use, for Intl. */
export function language() {
  return chosen;
}
