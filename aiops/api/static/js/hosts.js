// Host metrics: one row per node, so that a full disk or a starved CPU is seen beside the others.

import { empty, h, table } from "./dom.js";
import { bytes, number, percent } from "./format.js";
import { t } from "./i18n.js";

export const GAUGES = ["node_load1", "node_cpu_count", "node_memory_MemTotal_bytes", "node_memory_MemAvailable_bytes", "node_filesystem_size_bytes", "node_filesystem_avail_bytes"];
export const COUNTERS = ["node_network_receive_bytes_total", "node_network_transmit_bytes_total", "node_disk_read_bytes_total", "node_disk_written_bytes_total", "node_pressure_cpu_waiting_seconds_total", "node_pressure_io_waiting_seconds_total", "node_pressure_memory_waiting_seconds_total"];
const VIRTUAL = /^(lo|veth|docker|br-|cni|flannel|loop|ram|zram|dm-)/;

/** Per-second rate of a counter's points; null where there are too few or it started again. */
export function rate(series) {
  const last = series.values.length - 1;
  const passed = series.times[last] - series.times[0];
  const grown = series.values[last] - series.values[0];
  return last < 1 || !(passed > 0) || !(grown >= 0) ? null : grown / passed;
}

/** {node: {metric: value}}: gauges newest, counters as rates summed over real devices, the fullest file system. */
export function byNode(latest, counters) {
  const found = {};
  const at = (labels) => (found[labels.node ?? labels.instance ?? "—"] ??= { fullest: null });
  const free = {};
  for (const { metric, labels, value } of latest) {
    if (!metric.startsWith("node_filesystem")) at(labels)[metric] = value;
    else (free[`${labels.node}\n${labels.mountpoint}`] ??= { labels })[metric] = value;
  }
  for (const { labels, node_filesystem_size_bytes: size, node_filesystem_avail_bytes: avail } of Object.values(free)) {
    const used = size > 0 && avail >= 0 ? 1 - avail / size : null;
    const node = at(labels);
    if (used !== null && (node.fullest === null || used > node.fullest.used)) node.fullest = { used, mount: labels.mountpoint };
  }
  for (const series of counters) {
    if (VIRTUAL.test(series.labels.device ?? "")) continue;
    const speed = rate(series);
    const node = at(series.labels);
    if (speed !== null) node[series.metric] = (node[series.metric] ?? 0) + speed;
  }
  return found;
}

const meter = (ratio) => (Number.isFinite(ratio)
  ? h("meter", { class: "meter", value: Math.min(1, ratio), min: 0, max: 1, low: 0.8, high: 0.92, optimum: 0, "aria-label": percent(ratio) }) : null);

/** The table of hosts. */
export function hosts(nodes) {
  const names = Object.keys(nodes).sort();
  if (!names.length) return empty(t("hosts.empty"));
  const headings = [["node"], ["load"], ["memory"], ["disk.full"], ["network", 1], ["disk.io", 1], ["pressure", 1]].map(([key, n]) => ({ text: t(key), n }));
  const rows = names.map((name) => cells(name, nodes[name]));
  return table(t("hosts"), headings, rows);
}

function cells(name, one) {
  const cpu = one.node_load1 / one.node_cpu_count;
  const memory = 1 - one.node_memory_MemAvailable_bytes / one.node_memory_MemTotal_bytes;
  const pair = (a, b, marks) => `${marks[0]} ${bytes(one[a], true)}  ${marks[1]} ${bytes(one[b], true)}`;
  const pressure = ["cpu", "io", "memory"].map((kind) => `${kind} ${percent(one[`node_pressure_${kind}_waiting_seconds_total`])}`);
  return [
    h("span", { class: "strong" }, name),
    h("span", {}, meter(cpu), number(cpu), " ", h("span", { class: "muted small" }, `load ${number(one.node_load1)}`)),
    h("span", {}, meter(memory), percent(memory)),
    h("span", {}, meter(one.fullest?.used), percent(one.fullest?.used), " ", h("span", { class: "muted small" }, one.fullest?.mount ?? "")),
    pair("node_network_receive_bytes_total", "node_network_transmit_bytes_total", ["↓", "↑"]),
    pair("node_disk_read_bytes_total", "node_disk_written_bytes_total", ["R", "W"]),
    pressure.join(" · "),
  ];
}
