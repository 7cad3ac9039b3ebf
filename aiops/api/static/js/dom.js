// Elements from data. Text is always text: nothing that came from a cluster is ever parsed as HTML.

/** Element with attributes (`on` is a map of listeners) and children; null children are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** A filled share of the element's area as SVG: CSP allows no style attributes. */
export function fill(ratio) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 1 1");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const height = Math.min(1, Math.max(0, ratio));
  for (const [name, value] of [["x", 0], ["y", 1 - height], ["width", 1], ["height", height]]) rect.setAttribute(name, value);
  svg.append(rect);
  return svg;
}

const drawn = new WeakMap();

/** Replace a container's content only where its data changed; focus and open details survive. */
export function swap(container, data, build) {
  const signature = JSON.stringify(data);
  if (drawn.get(container) === signature) return;
  drawn.set(container, signature);
  const focused = container.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const opened = new Set([...container.querySelectorAll("details[open]")].map((details) => details.dataset.key));
  container.replaceChildren(...[build()].flat(Infinity).filter(Boolean));
  for (const details of container.querySelectorAll("details")) details.open = opened.has(details.dataset.key);
  if (focused) [...container.querySelectorAll("[data-key]")].find((node) => node.dataset.key === focused)?.focus();
}

/** Forget what was drawn, so that a change of language draws everything again. */
export function forget(container) {
  drawn.delete(container);
}

/** Table from column headings ({text, n}) and rows of cells. */
export function table(caption, columns, rows) {
  const heading = columns.map(({ text, n }) => h("th", { scope: "col", class: n ? "n" : null }, text));
  const body = rows.map((cells) => h("tr", {}, cells.map((cell, i) => h("td", { class: columns[i].n ? "n" : null }, cell))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, heading)), h("tbody", {}, body)));
}

/** A small label with a tone: ok, warn, bad, accent or none. */
export function chip(text, tone = "") {
  return h("span", { class: `chip ${tone}` }, text);
}

/** What to show where there is nothing, and what to do about it. */
export function empty(text) {
  return h("p", { class: "empty" }, text);
}
