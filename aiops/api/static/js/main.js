// Read everything, draw what changed, again whenever the server says that something is new, and every five seconds.

import { get, listen, tryGet } from "./api.js";
import { banner, totals, verdict } from "./banner.js";
import { decisions } from "./decisions.js";
import { askKill, askToken, unauthenticated } from "./dialogs.js";
import { forget, h, swap } from "./dom.js";
import { fleet, METRICS, readings, utilisation } from "./fleet.js";
import { findings, unseen } from "./findings.js";
import { learn, now, tick } from "./format.js";
import { byNode, COUNTERS, GAUGES, hosts } from "./hosts.js";
import { language, preferred, t, use } from "./i18n.js";
import { restyle, services } from "./services.js";
import * as tables from "./tables.js";

const EVERY_MS = 5000;
const NONE = { items: [], total: 0 };
const body = (id) => document.querySelector(`#${id} .body`);
const metrics = (names) => names.map((name) => `metric=${name}`).join("&");
let halted = false;
let reading = null;

/** One reading of everything; what is not there yet is empty. */
async function read() {
  const state = await get("status");
  learn(state.now);
  const [cluster, nodes, jobs, rows, latest, found, decided, foreseen, incidents, counters] = await Promise.all([
    tryGet("cluster"), tryGet("nodes?limit=200", NONE), tryGet("jobs?limit=50", NONE), tryGet("services", NONE),
    tryGet(`series/latest?${metrics([...METRICS, ...GAUGES])}`, NONE), tryGet("findings", { ...NONE, diagnosed_at: null }), tryGet("decisions?limit=12", NONE),
    tryGet("forecasts?limit=50&points=true", NONE), tryGet("incidents?limit=10", NONE),
    Promise.all(COUNTERS.map((name) => tryGet(`series/data?metric=${name}&window=2m`, { series: [] }))),
  ]);
  const loads = new Map(await Promise.all(rows.items.slice(0, 24).map(async (row) => [row.load_target, await load(row.service.load)])));
  return { state, cluster, nodes, jobs, rows, latest, found, decided, foreseen, incidents, counters: counters.flatMap((one) => one.series), loads };
}

async function load({ metric, labels }) {
  const match = labels.map(([name, value]) => `&match=${encodeURIComponent(`${name}=${value}`)}`).join("");
  const { series } = await tryGet(`series/data?metric=${metric}${match}&window=2h&step=20s`, { series: [] });
  return series[0] ?? null;
}

function draw(seen) {
  const part = (id, data, build) => swap(body(id), [language(), data], build);
  const blind = unseen(seen.found, seen.state.periods, now());
  const [tone, sentence] = verdict(seen.state, blind ? null : seen.found.items, now());
  const head = document.getElementById("banner");
  head.className = `banner ${tone}`;
  swap(head, [language(), seen.state.status, seen.state.orders, seen.state.modes, sentence], () => banner(seen.state, tone, sentence));
  const byGpu = readings(seen.latest.items);
  const forecast = new Map(seen.foreseen.items.map((one) => [one.target, one]));
  swap(document.getElementById("totals"), [language(), seen.cluster?.counts, byGpu, seen.found.items.length], () => totals(seen.cluster, utilisation(byGpu), seen.rows.items, seen.found.items));
  services(body("services"), seen.rows.items, seen.loads, forecast);
  part("fleet", [seen.nodes.items, byGpu], () => fleet(seen.nodes.items, byGpu, seen.nodes.total));
  part("jobs", seen.jobs, () => tables.jobs(seen.jobs.items, seen.jobs.total));
  part("findings", [seen.found.items, blind, seen.found.diagnosed_at === null], () => findings(seen.found, blind));
  part("decisions", seen.decided.items, () => decisions(seen.decided.items));
  part("incidents", seen.incidents.items, () => tables.incidents(seen.incidents.items));
  const byHost = byNode(seen.latest.items.filter((one) => GAUGES.includes(one.metric)), seen.counters);
  part("hosts", byHost, () => hosts(byHost));
  part("forecasts", seen.foreseen.items.map(({ age_seconds, ...rest }) => rest), () => tables.forecasts(seen.foreseen.items, seen.foreseen.total));
  part("collectors", seen.state.collectors, () => tables.collectors(seen.state.collectors));
  fixed(seen.state);
  tick();
}

function fixed(state) {
  halted = state.status.halted;
  const kill = document.getElementById("kill");
  kill.hidden = false;
  kill.textContent = t(halted ? "unkill" : "kill");
  document.getElementById("cluster").textContent = `${state.cluster} · ${state.backend}`;
  document.getElementById("version").textContent = `aiops ${state.version}`;
  document.title = `${halted ? "⏻ " : ""}${state.cluster} · aiops`;
}

/** Read and draw once; readings never overlap. */
function refresh() {
  reading ??= read().then(draw, failed).finally(() => { reading = null; });
  return reading;
}

function failed(error) {
  if (unauthenticated(error)) return askToken(refresh, Boolean(sessionStorage.getItem("aiops.token")));
  const head = document.getElementById("banner");
  head.className = "banner bad";
  forget(head);
  head.replaceChildren(h("p", {}, t("offline")), h("p", { class: "small" }, error.message));
  return null;
}

/** Follow the server's events for as long as the page is open; the timer covers for a stream that is down. */
async function follow() {
  for (;;) {
    try {
      await listen(refresh);
    } catch {
      // the timer reads on; the stream is tried again below
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  restyle();
}

async function start() {
  const asked = new URLSearchParams(location.search).get("theme") ?? localStorage.getItem("aiops.theme");
  theme(asked ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  const chooser = document.getElementById("language");
  await use(preferred());
  chooser.value = language();
  chooser.addEventListener("change", async () => {
    localStorage.setItem("aiops.language", chooser.value);
    await use(chooser.value);
    await refresh();
    restyle();
  });
  document.getElementById("theme").addEventListener("click", () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("aiops.theme", next);
    theme(next);
  });
  document.getElementById("kill").addEventListener("click", () => askKill(!halted, refresh));
  await refresh();
  setInterval(() => document.hidden || refresh(), EVERY_MS);
  setInterval(tick, 1000);
  follow();
}

start();
