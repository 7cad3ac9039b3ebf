// Numbers and times for people. What is missing is "N/A", never zero.

import { h } from "./dom.js";
import { language, t } from "./i18n.js";

let skew = 0;

/** Learn the server's clock, so that ages are right on a machine whose own clock is not. */
export function learn(serverNow) {
  skew = serverNow - Date.now() / 1000;
}

/** Server time, Unix seconds. */
export function now() {
  return Date.now() / 1000 + skew;
}

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** A number with three significant digits, or N/A. */
export function number(value, unit = "") {
  if (!known(value)) return t("na");
  const options = Math.abs(value) >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 };
  return new Intl.NumberFormat(language(), options).format(value) + (unit && ` ${unit}`);
}

/** A ratio in per cent, or N/A. */
export function percent(value) {
  return known(value) ? new Intl.NumberFormat(language(), { style: "percent", maximumFractionDigits: 0 }).format(value) : t("na");
}

/** Bytes (per second, with `rate`) in decimal units, or N/A. */
export function bytes(value, rate = false) {
  if (!known(value)) return t("na");
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  const power = Math.min(5, Math.max(0, Math.floor(Math.log10(Math.abs(value) || 1) / 3)));
  return number(value / 1000 ** power, units[power] + (rate ? "/s" : ""));
}

/** Seconds as a short duration: 42 s, 7 min, 3 h, 2 d. */
export function duration(seconds) {
  if (!known(seconds)) return t("na");
  const size = Math.abs(seconds);
  const [unit, divisor] = size < 90 ? ["s", 1] : size < 5400 ? ["min", 60] : size < 172800 ? ["h", 3600] : ["d", 86400];
  return t(`unit.${unit}`, { n: new Intl.NumberFormat(language(), { maximumFractionDigits: 0 }).format(size / divisor) });
}

/** A time element whose text says how long ago, kept current by `tick`. */
export function ago(at) {
  if (!known(at)) return h("span", {}, t("na"));
  const node = h("time", { datetime: new Date(at * 1000).toISOString(), "data-at": at, title: moment(at) });
  node.textContent = since(at);
  return node;
}

/** Bring every relative time on the page up to date. */
export function tick() {
  for (const node of document.querySelectorAll("time[data-at]")) node.textContent = since(Number(node.dataset.at));
}

function since(at) {
  const age = now() - at;
  return age < -1 ? t("ahead", { time: duration(age) }) : t("ago", { time: duration(Math.max(0, age)) });
}

/** Local date and time. */
export function moment(at) {
  return known(at) ? new Intl.DateTimeFormat(language(), { dateStyle: "short", timeStyle: "medium" }).format(new Date(at * 1000)) : t("na");
}

/** Local time of day. */
export function hour(at) {
  return new Intl.DateTimeFormat(language(), { hour: "2-digit", minute: "2-digit", hour12: false }).format(new Date(at * 1000));
}
