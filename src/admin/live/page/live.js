// The live page. It shows what comes by GET /events and sends what buttons ask for.
//
// Nothing that comes is ever made markup of: it goes into text nodes, attributes from a closed set, and numbers of an SVG.
"use strict";

// ── Small things ──────────────────────────────────────────────────────────────────────────────────────

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const HISTORY_MS = 300_000;

/** An element with classes, and with text or elements in it. */
function el(name, classes, ...inside) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  made.append(...inside.filter((one) => one !== null && one !== undefined).map((one) => (one instanceof Node ? one : String(one))));
  return made;
}

function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Writes only what has changed, so that selections and readers are left in peace. */
function say(node, text) {
  text = String(text);
  if (node.textContent !== text) node.textContent = text;
}

/** Makes the children of a node those of the items, by their keys: what stays is not touched, and keeps its focus. */
function keyed(parent, items, keyOf, make, update) {
  const known = (parent.known ??= new Map());
  const wanted = new Map(items.map((item) => [keyOf(item), item]));
  for (const [key, child] of known) if (!wanted.has(key)) (child.remove(), known.delete(key));
  // A sentence in place of items goes.
  if (wanted.size && !known.size) parent.replaceChildren();
  let place = parent.firstChild;
  for (const [key, item] of wanted) {
    let child = known.get(key);
    if (!child) known.set(key, (child = make(item)));
    if (child === place) place = place.nextSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
}

// ── Numbers and times ─────────────────────────────────────────────────────────────────────────────────

const NONE = "–";
const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const count = (n) => (n < 100_000 ? grouped.format(n) : n < 1e6 ? `${(n / 1e3).toFixed(0)} k` : n < 1e9 ? `${(n / 1e6).toFixed(1)} M` : `${(n / 1e9).toFixed(1)} G`);
const rate = (n) => (n === null ? NONE : n === 0 ? "0" : n < 10 ? n.toFixed(1) : count(n));

/** Shares are never rounded to all or nothing unless they are that. */
function percent(share) {
  if (share === null || share === undefined) return NONE;
  const hundredths = share * 100;
  if (hundredths === 0 || hundredths === 100) return `${hundredths} %`;
  if (hundredths < 0.1) return "< 0.1 %";
  if (hundredths > 99.9) return "> 99.9 %";
  return `${hundredths.toFixed(1)} %`;
}

/** The smallest bucket ends at 1 ms and the largest bound is 30 s: what lies beyond is not known closer. */
function latency(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 1) return "< 1 ms";
  if (ms >= 30_000) return "> 30 s";
  return ms < 9.95 ? `${ms.toFixed(1)} ms` : ms < 999.5 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(ms < 9950 ? 2 : 1)} s`;
}

/** The same of a mean, which no range bounds. */
const exactly = (ms) => (ms !== null && ms < 1 ? `${ms.toFixed(2)} ms` : latency(ms));

/** What is needed to compare, as `tollgate status` says it. */
const digits = (n) => String(n < 100 ? Number(n.toPrecision(3)) : Math.round(n));

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) ((n /= 1024), (unit += 1));
  return `${unit === 0 || n >= 100 ? n.toFixed(0) : n.toFixed(1)} ${units[unit]}`;
}

/** In the two largest units, as `tollgate status` says it. */
function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const [d, h, m] = [Math.floor(s / 86_400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${s % 60} s` : `${s} s`;
}

const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");
const moment = (text) => (text ? text.replace("T", " ").replace(/\.\d+Z$/, " UTC") : NONE);

// ── States: a mark, a word and a colour ───────────────────────────────────────────────────────────────

const STATES = {
  healthy: "good", degraded: "warn", unhealthy: "bad",
  usable: "good", failing: "warn", ejected: "bad", drained: "aside",
  ready: "good", starting: "warn", "backing-off": "bad", stopping: "aside",
  closed: "good", open: "bad", "half-open": "warn",
};

function stateNode() {
  const mark = el("span", "mark");
  mark.setAttribute("aria-hidden", "true");
  return el("span", "state", mark, el("span", "word"), el("span", "more"));
}

function showState(node, word, more = "") {
  node.dataset.state = STATES[word] ?? "unknown";
  say(node.children[1], word);
  if (node.children[2]) say(node.children[2], more);
}

// ── Tables ────────────────────────────────────────────────────────────────────────────────────────────

/**
 * A table by its columns: { title, n (a number), show(cell, item), sort(item), whole (all the width of a phone) }.
 * The first column is the heading of its line.
 */
class Table {
  constructor(caption, columns, { keyOf, sortBy = null, classOf = () => "" }) {
    Object.assign(this, { columns, keyOf, classOf, sortBy, descending: true, items: [] });
    this.head = el("tr");
    for (const [index, column] of columns.entries()) this.head.append(this.heading(column, index));
    this.body = el("tbody");
    const title = el("caption", "unseen", caption);
    this.table = el("table", sortBy === null ? "cards" : "cards sortable", title, el("thead", "", this.head), this.body);
    this.node = el("div", "scroll", this.table);
    // Roles that a phone's layout would take away.
    this.table.setAttribute("role", "table");
    this.body.setAttribute("role", "rowgroup");
    this.head.parentNode.setAttribute("role", "rowgroup");
    this.head.setAttribute("role", "row");
  }

  heading(column, index) {
    const th = el("th", column.n ? "n" : "");
    th.scope = "col";
    th.setAttribute("role", "columnheader");
    if (!column.title) return (th.append(el("span", "unseen", "order")), th);
    if (!column.sort) return (th.append(column.title), th);
    const button = el("button", "sort", column.title);
    button.type = "button";
    button.addEventListener("click", () => {
      this.descending = this.sortBy === index ? !this.descending : column.n === true;
      this.sortBy = index;
      this.show(this.items);
    });
    th.append(button);
    return th;
  }

  show(items) {
    this.items = items;
    const by = this.sortBy === null ? null : this.columns[this.sortBy].sort;
    if (by) {
      const sign = this.descending ? -1 : 1;
      items = [...items].sort((one, other) => sign * compared(by(one), by(other)) || compared(this.keyOf(one), this.keyOf(other)));
      for (const [index, th] of [...this.head.children].entries()) {
        if (index === this.sortBy) th.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
        else th.removeAttribute("aria-sort");
      }
    }
    keyed(this.body, items, this.keyOf, () => this.line(), (line, item) => this.fill(line, item));
  }

  line() {
    const line = el("tr");
    line.setAttribute("role", "row");
    for (const [index, column] of this.columns.entries()) {
      const cell = el(index === 0 ? "th" : "td", [column.n && "n", column.whole && "whole", column.class].filter(Boolean).join(" "));
      cell.setAttribute("role", index === 0 ? "rowheader" : "cell");
      if (index === 0) cell.scope = "row";
      else if (column.title) cell.dataset.label = column.title;
      line.append(cell);
    }
    return line;
  }

  fill(line, item) {
    line.className = this.classOf(item);
    for (const [index, column] of this.columns.entries()) {
      const cell = line.children[index];
      const shown = column.show(item, cell);
      if (shown !== undefined) say(cell, shown ?? "");
      if (column.heat) {
        const heat = column.heat(item);
        cell.classList.toggle("hot", heat === "hot");
        cell.classList.toggle("warm", heat === "warm");
      }
      if (column.whole) cell.classList.toggle("none", cell.textContent === "");
    }
  }
}

function compared(one, other) {
  if (one === other) return 0;
  // What there is none of comes last, whichever way.
  if (one === null || one === undefined) return -1;
  if (other === null || other === undefined) return 1;
  return one < other ? -1 : 1;
}

/** Puts a table, or a sentence if there is nothing to show. */
function tableOr(place, table, items, sentence) {
  const node = items.length ? table.node : (table.none ??= el("p", "empty", sentence));
  if (place.firstChild !== node) place.replaceChildren(node);
  if (items.length) table.show(items);
}

/** A sentence in place of what there is none of. */
function sentence(place, text) {
  place.known?.clear();
  if (place.textContent !== text) place.replaceChildren(el("p", "empty", text));
}

/** Terms and what they are, in one list. */
function list(place, pairs) {
  keyed(place, pairs.flatMap(([term, value]) => [{ key: `t:${term}`, term }, { key: `v:${term}`, value }]), (one) => one.key,
    (one) => el("term" in one ? "dt" : "dd"), (node, one) => say(node, "term" in one ? one.term : one.value));
}

/** The same as figures in a row. */
function stats(place, pairs) {
  keyed(place, pairs, ([term]) => term, ([term]) => el("div", "", el("dt", "", term), el("dd")),
    (node, [, value]) => say(node.lastChild, value));
}

// ── Charts ────────────────────────────────────────────────────────────────────────────────────────────

const known = (samples, of) => samples.map((sample) => sample[of]).filter((value) => value !== null);
const largest = (values) => (values.length ? Math.max(...values) : null);
const smallest = (values) => (values.length ? Math.min(...values) : null);
const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value) / values.length : null);

const CHARTS = [
  { title: "Requests", ink: "accent", unit: "/s", peak: "at most", of: largest, lines: [{ of: "rate", name: "requests a second" }], show: rate, floor: 10 },
  { title: "Latency", ink: "accent", unit: "p50", show: latency, floor: 5, lines: [
    { of: "p50_ms", name: "p50" }, { of: "p95_ms", name: "p95", style: "b" }, { of: "p99_ms", name: "p99", style: "c" }] },
  { title: "Errors (5xx)", ink: "bad", unit: "of all", peak: "at most", of: largest, lines: [{ of: "error_ratio", name: "share of 5xx" }], show: percent, floor: 0.01, ceiling: 1 },
  { title: "Cache hits", ink: "good", unit: "of lookups", peak: "at least", of: smallest, lines: [{ of: "hit_ratio", name: "share of hits" }], show: percent, floor: 1, ceiling: 1 },
  { title: "Connections", ink: "aside", unit: "open", show: count, floor: 10, lines: [
    { of: "connections", name: "open" }, { of: "busy", name: "in use", style: "b" }] },
];

/** 1, 2 or 5 times a power of ten, so that the scale seldom changes. */
function niceAbove(value, floor, ceiling = Infinity) {
  let top = floor;
  while (top < value && top < ceiling) {
    const lead = Number(top.toExponential(0)[0]);
    top *= lead === 2 ? 2.5 : 2;
  }
  return Math.min(top, ceiling);
}

class Chart {
  constructor(kind) {
    this.kind = kind;
    this.now = el("span", "big");
    this.unit = el("small", "", kind.unit);
    this.value = document.createTextNode(NONE);
    this.now.append(this.value, this.unit);
    this.sides = kind.lines.slice(1).map((line) => {
      const value = el("b");
      return { line, value, node: el("span", "side", el("span", `key ${line.style}`), `${line.name} `, value) };
    });
    this.peak = el("b");
    const sides = this.sides.length ? this.sides.map((side) => side.node) : [el("span", "side", `${kind.peak} `, this.peak)];
    this.svg = svg("svg", { viewBox: "0 0 300 100", preserveAspectRatio: "none", role: "img" });
    for (const y of [0.5, 50, 99.5]) this.svg.append(svg("line", { class: "grid", x1: 0, x2: 300, y1: y, y2: y }));
    this.area = svg("path", { class: "area" });
    this.curves = kind.lines.map((line) => svg("path", { class: `curve ${line.style ?? ""}` }));
    this.at = svg("line", { class: "at", y1: 0, y2: 100, visibility: "hidden" });
    this.svg.append(this.area, ...this.curves.toReversed(), this.at);
    this.top = el("span", "top-label");
    this.plot = el("div", "plot", this.svg, this.top);
    this.left = el("span", "", "5 min ago");
    this.right = el("span", "", "now");
    this.node = el("div", "chart", el("h3", "", kind.title), this.now, el("div", "sides", ...sides),
      this.plot, el("div", "axis", this.left, this.right));
    this.node.dataset.ink = kind.ink;
    this.plot.addEventListener("pointermove", (event) => {
      const box = this.plot.getBoundingClientRect();
      pointAt((event.clientX - box.left) / box.width);
    });
    this.plot.addEventListener("pointerleave", () => pointAt(null));
  }

  /** `pointed`: the sample under the pointer, if there is one. */
  draw(samples, until, pointed) {
    const { kind } = this;
    const shown = pointed ?? samples.at(-1);
    const main = shown ? shown[kind.lines[0].of] : null;
    say(this.value, main === null ? NONE : kind.show(main));
    for (const { line, value } of this.sides) say(value, shown ? kind.show(shown[line.of]) : NONE);
    const values = samples.flatMap((sample) => kind.lines.map((line) => sample[line.of] ?? 0));
    if (kind.peak) say(this.peak, samples.length ? kind.show(kind.of(known(samples, kind.lines[0].of))) : NONE);
    const top = niceAbove(Math.max(...values, 0), kind.floor, kind.ceiling);
    say(this.top, kind.show(top));
    const x = (sample) => (1 - (until - sample.at) / HISTORY_MS) * 300;
    const y = (value) => 99 - (Math.min(value, top) / top) * 98;
    kind.lines.forEach((line, index) => this.curves[index].setAttribute("d", path(samples, line.of, x, y)));
    this.area.setAttribute("d", path(samples, kind.lines[0].of, x, y, true));
    this.at.setAttribute("visibility", pointed ? "visible" : "hidden");
    if (pointed) for (const end of ["x1", "x2"]) this.at.setAttribute(end, x(pointed).toFixed(1));
    say(this.right, pointed ? clock(pointed.at) : "now");
    this.svg.setAttribute("aria-label", this.words(samples));
  }

  /** What the curve shows, for who does not see it. */
  words(samples) {
    const { kind } = this;
    const parts = kind.lines.map((line) => {
      const values = known(samples, line.of);
      if (!values.length) return `${line.name}: nothing yet`;
      const show = (value) => kind.show(value);
      return `${line.name}: now ${show(samples.at(-1)[line.of])}, from ${show(Math.min(...values))} to ${show(Math.max(...values))}`;
    });
    return `${kind.title} over the last five minutes. ${parts.join("; ")}.`;
  }
}

/** A line through the samples, with gaps where there is no value or no sample. */
function path(samples, of, x, y, isArea = false) {
  let d = "";
  let run = [];
  const close = () => {
    if (!run.length) return;
    const points = run.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`);
    if (isArea) d += `M${run[0][0].toFixed(1)},99L${points.join("L")}L${run.at(-1)[0].toFixed(1)},99Z`;
    // A point alone is a short line.
    else d += run.length === 1 ? `M${points[0]}h1` : `M${points.join("L")}`;
    run = [];
  };
  let before = null;
  for (const sample of samples) {
    const value = sample[of];
    // Without a page there is a sample every five seconds.
    if (before !== null && sample.at - before > 7000) close();
    before = sample.at;
    if (value === null) close();
    else run.push([x(sample), y(value)]);
  }
  close();
  return d;
}

const charts = CHARTS.map((kind) => new Chart(kind));
let samples = [];
let pointedAt = null;

function pointAt(share) {
  pointedAt = share;
  drawCharts();
}

function drawCharts() {
  const until = samples.at(-1)?.at ?? Date.now();
  samples = samples.filter((sample) => sample.at > until - HISTORY_MS);
  let pointed = null;
  if (pointedAt !== null && samples.length) {
    const at = until - HISTORY_MS * (1 - pointedAt);
    pointed = samples.reduce((near, one) => (Math.abs(one.at - at) < Math.abs(near.at - at) ? one : near));
  }
  for (const chart of charts) chart.draw(samples, until, pointed);
}

/** The same for who would rather read: a line for every thirty seconds, the latest first. */
function showFigures() {
  if (!document.querySelector(".figures").open) return;
  const groups = new Map();
  for (const sample of samples) {
    const until = Math.ceil(sample.at / 30_000) * 30_000;
    groups.set(until, [...(groups.get(until) ?? []), sample]);
  }
  const of = (work) => (group, name) => work(known(group, name));
  const [meanOf, worstOf] = [of(mean), of(largest)];
  const lines = [...groups].toReversed().map(([until, group]) => ({ until, cells: [
    rate(meanOf(group, "rate")), latency(worstOf(group, "p50_ms")), latency(worstOf(group, "p95_ms")), latency(worstOf(group, "p99_ms")),
    percent(meanOf(group, "error_ratio")), percent(meanOf(group, "hit_ratio")), count(Math.round(meanOf(group, "connections") ?? 0))] }));
  keyed($("figures"), lines, (line) => line.until,
    (line) => { const th = el("th", "", clock(line.until)); th.scope = "row"; return el("tr", "", th, ...line.cells.map(() => el("td", "n"))); },
    (node, line) => line.cells.forEach((text, index) => say(node.children[index + 1], text)));
}

// ── Upstreams ─────────────────────────────────────────────────────────────────────────────────────────

/** Requests and failures of endpoints some events ago, for their rates. */
const earlier = new Map();
const EARLIER_MAX = 6;

function remember(upstreams, at) {
  const seen = new Set();
  for (const upstream of upstreams) {
    for (const endpoint of upstream.endpoints) {
      const key = `${upstream.name} ${endpoint.address}`;
      seen.add(key);
      const points = earlier.get(key) ?? [];
      if (points.length && points.at(-1).requests > endpoint.requests) points.length = 0;
      points.push({ at, requests: endpoint.requests, failures: endpoint.failures, attempts: endpoint.attempts, took_s: endpoint.attempts_s });
      if (points.length > EARLIER_MAX) points.shift();
      earlier.set(key, points);
      const [first, last] = [points[0], points.at(-1)];
      const seconds = (last.at - first.at) / 1000;
      endpoint.upstream = upstream.name;
      endpoint.rate = seconds > 0 ? (last.requests - first.requests) / seconds : null;
      endpoint.failing = last.failures > first.failures;
      const attempts = last.attempts - first.attempts;
      endpoint.latency_ms = attempts > 0 ? ((last.took_s - first.took_s) / attempts) * 1000 : null;
    }
  }
  for (const key of earlier.keys()) if (!seen.has(key)) earlier.delete(key);
}

const endpointTable = (name) => new Table(`Endpoints of ${name}`, [
  { title: "endpoint", class: "mono", show: (e) => (e.address.startsWith(`${e.name}:`) || e.name === e.address.replace(/:\d+$/, "") ? e.address : `${e.address} (${e.name})`) },
  { title: "state", show: (e, cell) => {
    if (!cell.firstChild) cell.append(stateNode());
    showState(cell.firstChild, e.state, e.out_for_s === null ? "" : `${Math.ceil(e.out_for_s)} s left`);
  } },
  { title: "in flight", n: true, show: (e) => count(e.in_flight) },
  { title: "requests/s", n: true, show: (e) => rate(e.rate) },
  { title: "latency", n: true, show: (e) => exactly(e.latency_ms) },
  { title: "requests", n: true, show: (e) => count(e.requests) },
  { title: "failures", n: true, show: (e) => count(e.failures), heat: (e) => (e.failing ? "hot" : "") },
  { title: "last error", class: "why", whole: true, show: (e) => e.last_error ?? "" },
  { title: "", whole: true, class: "n", show: (e, cell) => {
    if (!cell.firstChild) {
      const button = el("button", "small");
      button.type = "button";
      button.addEventListener("click", () => drain(button.endpoint));
      cell.append(button);
    }
    const button = cell.firstChild;
    button.endpoint = e;
    say(button, e.drained ? "Undrain" : "Drain");
    button.setAttribute("aria-label", `${e.drained ? "Undrain" : "Drain"} ${e.address} of ${e.upstream}`);
    lockable(button);
  } },
], { keyOf: (e) => `${e.address} ${e.name}`, classOf: (e) => (e.drained ? "drained" : ["ejected", "unhealthy"].includes(e.state) ? "out" : "") });

function showUpstreams(upstreams) {
  const all = upstreams.flatMap((upstream) => upstream.endpoints);
  say($("upstreams-note"), all.length ? `${upstreams.reduce((sum, u) => sum + u.usable, 0)} of ${all.length} endpoints usable` : "");
  const place = $("upstreams");
  if (!upstreams.length) return sentence(place, "No upstream is configured.");
  keyed(place, upstreams, (u) => u.name, (u) => {
    const node = el("div", "upstream");
    node.facts = el("span", "quiet");
    node.breaker = stateNode();
    node.table = endpointTable(u.name);
    node.none = el("p", "empty", "It has no endpoints: its name has no address yet, or no replica is ready.");
    node.append(el("div", "title", el("h3", "mono", u.name), node.breaker, node.facts), node.table.node, node.none);
    return node;
  }, (node, u) => {
    node.breaker.hidden = u.breaker === null;
    if (u.breaker) showState(node.breaker, u.breaker.state, u.breaker.open_for_s === null ? "breaker" : `breaker, ${Math.ceil(u.breaker.open_for_s)} s left`);
    const { queue } = u;
    const facts = [`${u.usable} of ${u.endpoints.length} usable`];
    if (queue.requests_max !== null || queue.endpoint_requests_max !== null) facts.push(`${count(queue.waiting)} waiting`);
    if (u.breaker?.refused) facts.push(`${count(u.breaker.refused)} refused by the breaker`);
    if (queue.full + queue.timed_out) facts.push(`${count(queue.full + queue.timed_out)} turned away`);
    say(node.facts, facts.join(" · "));
    node.table.node.hidden = !u.endpoints.length;
    node.none.hidden = u.endpoints.length > 0;
    node.table.show(u.endpoints);
  });
}

async function drain(endpoint) {
  const { upstream, address, drained } = endpoint;
  const path = `/upstreams/${upstream}/${drained ? "undrain" : "drain"}`;
  if (!drained) {
    const others = lastUpstreams.find((u) => u.name === upstream)?.endpoints.filter((e) => e.address !== address && e.state === "usable").length ?? 0;
    const left = others ? `${others} usable ${others === 1 ? "endpoint is" : "endpoints are"} left.` : "No usable endpoint is left then: requests will fail.";
    const text = `${address} of ${upstream} gets no new requests and finishes the ${count(endpoint.in_flight)} that it has. ${left}`;
    if (!(await confirmed("Drain this endpoint?", text, "Drain"))) return;
  }
  const result = await order(path, { address });
  if (result) notice(`${address} of ${upstream} is ${drained ? "taken back" : "drained"}.`);
}

// ── Routes ────────────────────────────────────────────────────────────────────────────────────────────

const routeTable = new Table("Routes", [
  { title: "route", class: "mono", show: (r) => (r.route === "none" ? "none (no route matched)" : r.route), sort: (r) => r.route },
  { title: "requests/s", n: true, show: (r) => rate(r.rate), sort: (r) => r.rate },
  { title: "requests", n: true, show: (r) => count(r.requests), sort: (r) => r.requests },
  { title: "p50", n: true, show: (r) => latency(r.p50_ms), sort: (r) => r.p50_ms },
  { title: "p95", n: true, show: (r) => latency(r.p95_ms), sort: (r) => r.p95_ms },
  { title: "p99", n: true, show: (r) => latency(r.p99_ms), sort: (r) => r.p99_ms },
  { title: "4xx", n: true, show: (r) => percent(r.client_error_ratio), sort: (r) => r.client_error_ratio },
  { title: "5xx", n: true, show: (r) => percent(r.server_error_ratio), sort: (r) => r.server_error_ratio,
    heat: (r) => (r.server_error_ratio > 0.05 ? "hot" : r.server_error_ratio > 0.01 ? "warm" : "") },
], { keyOf: (r) => r.route, sortBy: 1 });

function showRoutes(routes) {
  const { total, window_s, shown } = routes;
  const some = shown.length < total ? `${shown.length} of ${count(total)}: the busiest, slowest and those with errors` : `${total} counted`;
  say($("routes-note"), `${some} · the last ${Math.round(window_s) || 1} s`);
  tableOr($("routes"), routeTable, shown, "No route has been asked yet.");
}

// ── Cache ─────────────────────────────────────────────────────────────────────────────────────────────

const cacheTable = new Table("What the cache did, by route", [
  { title: "route", class: "mono", show: (r) => r.route },
  { title: "stored", n: true, show: (r) => count(r.entries) },
  { title: "bytes", n: true, show: (r) => bytes(r.bytes) },
  { title: "hits", n: true, show: (r) => percent(r.hit_ratio) },
  { title: "evicted", n: true, show: (r) => count(r.evictions) },
  { title: "purged", n: true, show: (r) => count(r.purged) },
], { keyOf: (r) => r.route });

const cacheParts = { stats: el("dl", "stats"), meter: el("meter"), routes: el("div") };

function showCache(cache) {
  $("purge").hidden = !cache.enabled;
  const place = $("cache");
  if (!cache.enabled) return sentence(place, "The cache is off.");
  if (place.firstChild !== cacheParts.stats) {
    cacheParts.meter.setAttribute("aria-label", "Memory of the cache in use");
    place.replaceChildren(cacheParts.stats, cacheParts.meter, cacheParts.routes);
  }
  const [hits, misses] = cache.routes.reduce(([h, m], r) => [h + r.hits, m + r.misses], [0, 0]);
  stats(cacheParts.stats, [
    ["of lookups were hits", percent(hits + misses ? hits / (hits + misses) : null)],
    ["responses stored", count(cache.entries)],
    [`of ${bytes(cache.stored_bytes_max)}`, bytes(cache.stored_bytes)],
    ["being fetched", bytes(cache.fetching_bytes)],
    ["purges in force", count(cache.purges_in_force)],
  ]);
  Object.assign(cacheParts.meter, { max: cache.stored_bytes_max || 1, high: cache.stored_bytes_max || 1, value: cache.stored_bytes });
  tableOr(cacheParts.routes, cacheTable, cache.routes, "No route keeps responses: give one a `cache`.");
}

const PURGES = {
  url: ["path or URL", "/a?b=c"], prefix: ["beginning of paths", "/assets/"], pattern: ["path with *", "/users/*"], tag: ["tag, * for any text", "user:7"], all: ["everything", ""],
};

function choosePurge() {
  const kind = $("purge-kind").value;
  const [what, example] = PURGES[kind];
  say($("purge-what"), what);
  $("purge-value").placeholder = example;
  $("purge-value").disabled = kind === "all";
  $("purge-value").required = kind !== "all";
}

async function purge(event) {
  event.preventDefault();
  const kind = $("purge-kind").value;
  const body = { [kind]: kind === "all" ? true : $("purge-value").value };
  if ($("purge-host").value) body.host = $("purge-host").value;
  if ($("purge-soft").checked) body.soft = true;
  // What it would meet is asked first.
  const would = await order("/cache/purge", { ...body, dry_run: true });
  if (!would) return;
  const met = `${count(would.matched)} ${would.matched === 1 ? "response" : "responses"}`;
  const does = body.soft ? "becomes stale and is asked for again when it is wanted" : "leaves the cache and is asked for again";
  const text = `${met}: ${would.names.join(", ")}${would.host ? ` of ${would.host}` : ""}. What is met ${does}.`;
  if (!(await confirmed("Purge this?", text, "Purge"))) return;
  const done = await order("/cache/purge", body);
  if (done) notice(`Purged: ${count(done.matched)} ${done.matched === 1 ? "response" : "responses"} ${body.soft ? "are stale now" : "are gone"}.`);
}

// ── Explain ───────────────────────────────────────────────────────────────────────────────────────────

const ago = (seconds) => (seconds < 0 ? `stale for ${-seconds} s` : `fresh for ${seconds} s`);
const ofRfc = (rfc) => (rfc ? ` (${rfc})` : "");
const unknown = (value) => value ?? "unknown";

/** Each section of an explanation as lines; those that a request did not reach are not there. */
const EXPLAINED = {
  target: ({ target: t }) => t && `host ${t.host}${t.port ? `:${t.port}` : ""}, path ${t.path}${t.path === t.path_came ? "" : `, which came as ${t.path_came}`}`,
  client: ({ client: c }) => c && `${c.address}: ${c.why}\n${c.chain.map((hop) => `${hop.said ?? hop.address} (${hop.trusted ? "trusted" : "not trusted"})`).join(" ← ")}`,
  route: ({ routes }) => routes.map((one) => `${one.verdict === "chosen" ? "→" : "·"} ${one.name} at ${one.place}: ${one.why}`).join("\n"),
  access: ({ access: a }) => a?.why,
  limits: ({ in_flight, rate_limits }) => [
    ...in_flight.map((one) => `${one.limit}: ${unknown(one.open)} of ${one.max} in flight`),
    ...rate_limits.map((one) => `${one.name}: ${one.exempt ? "the client is exempt" : one.state ? `${one.state.remaining} of ${one.state.capacity} left${one.state.refuses ? ": refuses" : ""}` : "unknown"}`),
  ].join("\n"),
  body: ({ body: b }) => b && `${b.announced === null ? "comes in chunks" : `${b.announced} bytes`}, at most ${b.max}`,
  cache: ({ cache: c }) => c && [
    `${c.verdict}: ${c.why}${ofRfc(c.rfc)}`, c.key && `key ${c.key.url}`, c.age_s !== null && `age ${c.age_s} s, ${ago(c.fresh_for_s)}`,
    ...(c.variants ?? []).map((one) => `stored: ${one.status}, ${unknown(one.bytes)} bytes, ${ago(one.fresh_for_s)}${one.vary.length ? `, by ${one.vary.join(", ")}` : ""}${one.matches ? "" : ", for another request"}`),
  ].filter(Boolean).join("\n"),
  coding: ({ coding: c }) => c && `${c.coding ?? `none: ${c.not_coded}`}${c.needs && c.coding ? `, if the response is one of ${c.needs.types.join(" ")} and of ${c.needs.min_size} bytes or more` : ""}`,
  request: ({ request: r }) => r && [
    `sent as ${r.target}`, ...r.added.map(([name, value]) => `+ ${name}: ${value}`),
    ...r.changed.map((one) => `± ${one.name}: ${one.from} → ${one.to}`), ...r.removed.map((name) => `− ${name}`),
  ].join("\n"),
  upstream: ({ upstream: u }) => u && [
    `${u.name}, by ${u.balance}${u.by_chance ? ", one order of many" : ""}${u.breaker ? `, breaker ${u.breaker.state}` : ""}`,
    ...u.endpoints.map((one) => `${one.place ?? "–"} ${one.address}: ${unknown(one.state)}, weight ${one.weight}, ${unknown(one.in_flight)} in flight${one.full ? ", full" : ""}`),
  ].join("\n"),
  response: ({ response: r }) => r && [...r.set.map(([name, value]) => `set ${name}: ${value}`), ...r.removed.map((name) => `− ${name}`)].join("\n"),
};

async function explain(event) {
  event.preventDefault();
  const lines = $("explain-fields").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const odd = lines.find((line) => !line.includes(":"));
  if (odd) return notice(`${odd} has no colon, as in accept: text/html.`, true);
  const fields = lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]);
  const question = { method: $("explain-method").value, url: $("explain-url").value, fields };
  if ($("explain-client").value) question.client = $("explain-client").value;
  try {
    // Who may read may ask. With the token the values are told that the file sends to origins.
    const authorization = token ? { Authorization: `Bearer ${token}` } : {};
    const headers = { ...authorization, "Content-Type": "application/json" };
    const response = await fetch("/explain", { method: "POST", headers, body: JSON.stringify(question), cache: "no-store" });
    const said = await response.json().catch(() => ({}));
    if (response.ok) return showExplained(said);
    notice(`Not explained: ${said.error ?? response.status}${said.expected ? `. Expected: ${said.expected}` : ""}.`, true);
  } catch (error) {
    notice(`The proxy was not reached: ${error.message}.`, true);
  }
}

function showExplained(explained) {
  const { by, status, reason, location, why } = explained.outcome;
  const outcome = $("explained-outcome");
  outcome.hidden = false;
  outcome.dataset.state = by === "refusal" ? "bad" : "good";
  say(outcome.querySelector(".word"), `${status ? `${status}: ` : ""}${why}${reason ? ` (${reason})` : ""}${location ? `, to ${location}` : ""}`);
  list($("explained-list"), Object.entries(EXPLAINED).map(([term, text]) => [term, text(explained)]).filter(([, text]) => text));
}

// ── Rate limits ───────────────────────────────────────────────────────────────────────────────────────

const limitTable = (name) => new Table(`Who has used most of ${name}`, [
  { title: "who", class: "mono", show: (c) => c.who },
  { title: "used", n: true, show: (c) => count(c.used) },
  { title: "left", n: true, show: (c) => count(c.remaining), heat: (c) => (c.remaining === 0 ? "hot" : "") },
  { title: "refused", n: true, show: (c) => count(c.refused) },
  { title: "more in", n: true, show: (c) => (c.more_after_s ? `${Math.ceil(c.more_after_s)} s` : NONE) },
  { title: "", whole: true, class: "n", show: (c, cell) => {
    if (!cell.firstChild) {
      const button = el("button", "small", "Reset");
      button.type = "button";
      button.addEventListener("click", () => resetLimits(button.who));
      cell.append(button);
    }
    const button = cell.firstChild;
    button.who = c.who;
    button.hidden = !/^[0-9a-f.:]+(\/64)?$/.test(c.who);
    button.setAttribute("aria-label", `Reset ${c.who}`);
    lockable(button);
  } },
], { keyOf: (c) => c.who });

function showLimits(limits) {
  const place = $("limits");
  const limited = limits.reduce((sum, limit) => sum + limit.limited_now, 0);
  say($("limits-note"), limits.length ? `${count(limited)} limited now · looked at every 5 s` : "");
  if (!limits.length) return sentence(place, "No rate limit is configured.");
  keyed(place, limits, (limit) => limit.name, (limit) => {
    const node = el("div", "limit");
    node.facts = el("span", "quiet");
    node.table = limitTable(limit.name);
    node.none = el("p", "empty", "Nobody is counted now.");
    node.append(el("div", "head", el("h3", "mono", limit.name), node.facts), node.table.node, node.none);
    return node;
  }, (node, limit) => {
    const rule = `${count(limit.requests)} in ${limit.window_s} s by ${limit.key}${limit.dry_run ? ", a dry run" : ""}`;
    const refused = limit.dry_run ? `${count(limit.dry_run_limited)} would be refused` : `${count(limit.limited)} refused`;
    say(node.facts, `${rule} · ${count(limit.keys)} counted · ${count(limit.allowed)} passed · ${refused}`);
    node.table.node.hidden = !limit.most_used.length;
    node.none.hidden = limit.most_used.length > 0;
    node.table.show(limit.most_used);
  });
}

async function resetLimits(who) {
  const address = who.replace(/\/64$/, "");
  if (await order("/limits/reset", { address })) notice(`${who} has its quota back.`);
}

// ── The rest ──────────────────────────────────────────────────────────────────────────────────────────

const listenerTable = new Table("Listeners", [
  { title: "configured", class: "mono", show: (l) => l.configured },
  { title: "bound", class: "mono", show: (l) => l.bound ?? "not open" },
  { title: "TLS", show: (l) => (l.tls ? "yes" : "no") },
], { keyOf: (l) => l.configured });

const recoveryTable = new Table("What the proxy does by itself", [
  { title: "action", show: (r) => r.action.replaceAll("_", " ") },
  { title: "state", show: (r) => (r.active ? "acts" : r.enabled ? "ready" : "off"), heat: (r) => (r.active ? "warm" : "") },
  { title: "times", n: true, show: (r) => count(r.times) },
], { keyOf: (r) => r.action });

const certificateTable = new Table("Certificates", [
  { title: "hosts", class: "mono", show: (c) => c.hosts.join(", ") },
  { title: "ends", show: (c) => moment(c.not_after) },
  { title: "left", n: true, show: (c) => (c.days === null ? "for ever" : c.days < 0 ? "has ended" : c.days < 1 ? "under a day" : `${Math.floor(c.days)} d`),
    heat: (c) => (c.days === null ? "" : c.days < 7 ? "hot" : c.days < 14 ? "warm" : "") },
], { keyOf: (c) => `${c.hosts.join(" ")} ${c.not_after}` });

const replicaTable = new Table("Replicas", [
  { title: "replica", show: (r) => `${r.upstream} ${r.replica}` },
  { title: "state", show: (r, cell) => {
    if (!cell.firstChild) cell.append(stateNode());
    showState(cell.firstChild, r.state);
  } },
  { title: "address", class: "mono", show: (r) => r.address ?? NONE },
  { title: "pid", n: true, show: (r) => r.pid ?? NONE },
  { title: "up", n: true, show: (r) => (r.uptime_s === null ? NONE : duration(r.uptime_s)) },
  { title: "restarts", n: true, show: (r) => count(r.restarts), heat: (r) => (r.restarts ? "warm" : "") },
], { keyOf: (r) => `${r.upstream} ${r.replica} ${r.pid ?? r.state}` });

const workerTable = new Table("Workers", [
  { title: "worker", show: (w) => w.number },
  { title: "connections", n: true, show: (w) => count(w.connections) },
  { title: "in use", n: true, show: (w) => count(w.busy) },
  { title: "accepted", n: true, show: (w) => count(w.accepted) },
  { title: "requests", n: true, show: (w) => count(w.requests) },
], { keyOf: (w) => w.number });

function showRefused(config) {
  const text = config.last_diagnostics ?? config.last_error;
  const panel = $("refused");
  if (text) {
    say($("refused-text"), text.trimEnd());
    say($("refused-when"), `Read at ${moment(config.last_reload_at)}. Generation ${config.generation} of ${config.file} is in force.`);
  }
  panel.hidden = !text;
}

function showChecks(checks) {
  keyed($("checks"), checks, (check) => check.name,
    () => el("li", "", stateNode(), el("span", "detail", el("b"), " ", el("span")), el("span", "measure")),
    (node, check) => {
      const state = STATES[check.status] ?? "unknown";
      node.dataset.state = state;
      showState(node.firstChild, check.status);
      say(node.firstChild.children[1], check.name.replaceAll("_", " "));
      const detail = node.children[1];
      say(detail.firstChild, check.status);
      say(detail.lastChild, check.detail ?? "");
      say(node.lastChild, measure(check));
    });
}

/** What was measured, from where on it is worse, and what it took to find out. */
function measure({ value, unit, limit, duration_ms, age_s }) {
  const parts = [`${digits(duration_ms)} ms`];
  if (age_s !== undefined) parts.push(`${Math.round(age_s)} s ago`);
  if (limit) {
    const { degraded, unhealthy, worse } = limit;
    const bounds = [["degraded", unhealthy === degraded ? null : degraded], ["unhealthy", unhealthy]];
    const said = bounds.filter(([, bound]) => bound !== null).map(([word, bound]) => `${word} ${worse} ${digits(bound)}`);
    parts.unshift([`${digits(value)} ${unit}`, ...said].join(", "));
  }
  return parts.join(" · ");
}

let lastUpstreams = [];

function showStatus(status) {
  const { config, connections } = status;
  showState($("overall"), status.status);
  document.title = status.status === "healthy" ? "Tollgate" : `${status.status} · Tollgate`;
  drawIcon(STATES[status.status]);
  say($("version"), status.version);
  say($("uptime"), duration(status.uptime_s));
  say($("generation"), `generation ${config.generation}`);
  say($("pid"), status.pid);
  showRefused(config);
  showChecks(status.checks);
  const at = Date.parse(status.timestamp);
  lastUpstreams = status.upstreams;
  remember(status.upstreams, at);
  showUpstreams(status.upstreams);
  showCache(status.cache);
  list($("config"), [
    ["file", config.file],
    ["in force", `generation ${config.generation}, loaded ${moment(config.loaded_at)}`],
    ["last reload", config.last_reload_at ? `${moment(config.last_reload_at)}, ${config.last_error ? "refused" : "taken over"}` : "none since the start"],
    ["connections", `${count(connections.open)} of at most ${count(connections.max)}`],
  ]);
  tableOr($("listeners"), listenerTable, status.listeners, "None.");
  tableOr($("recovery"), recoveryTable, status.recovery, "Nothing.");
  const certificates = status.certificates.map((c) => ({ ...c, days: c.not_after ? (Date.parse(c.not_after) - at) / 86_400_000 : null }));
  tableOr($("certificates"), certificateTable, certificates, "No certificate is in use.");
  tableOr($("replicas"), replicaTable, status.replicas, "The proxy runs no replicas itself.");
  tableOr($("workers"), workerTable, status.workers.map((worker, index) => ({ ...worker, number: index + 1 })), "None.");
}

/** The mark of the tab, in the shape of the state. */
function drawIcon(state) {
  if (drawIcon.state === state) return;
  drawIcon.state = state;
  const canvas = el("canvas");
  canvas.width = canvas.height = 32;
  const pen = canvas.getContext("2d");
  pen.fillStyle = { good: "#2f9e63", warn: "#d9911b", bad: "#d0342c" }[state] ?? "#808894";
  pen.beginPath();
  if (state === "warn") (pen.moveTo(16, 3), pen.lineTo(30, 29), pen.lineTo(2, 29));
  else if (state === "bad") pen.rect(4, 4, 24, 24);
  else pen.arc(16, 16, 13, 0, 7);
  pen.fill();
  $("icon").href = canvas.toDataURL("image/png");
}

// ── Orders: what changes something ────────────────────────────────────────────────────────────────────

let control = "token";
let token = sessionStorage.getItem("tollgate-token");
const lockables = new Set();

/** A button that works only where control over TCP is configured. */
function lockable(button) {
  lockables.add(button);
  button.disabled = control !== "token";
  button.title = button.disabled ? SOCKET_ONLY : "";
}

const SOCKET_ONLY = "Control is for the socket alone here. With a token in [admin] control this page can do it; tollgate upstreams, cache and limits can do it now.";

function showControl(now) {
  control = now;
  for (const button of lockables) (button.isConnected ? lockable(button) : lockables.delete(button));
  const button = $("token");
  say(button, control !== "token" ? "Read only" : token ? "Lock" : "Unlock");
  button.disabled = control !== "token";
  button.title = control !== "token" ? SOCKET_ONLY : token ? "Forget the control token" : "Give the control token, for buttons that change something";
}

function setToken(value, keep) {
  token = value;
  if (value && keep) sessionStorage.setItem("tollgate-token", value);
  else sessionStorage.removeItem("tollgate-token");
  showControl(control);
}

/** Shows a dialog; true if it was sent. */
function answered(dialog) {
  return new Promise((resolve) => {
    const form = dialog.querySelector("form");
    let sent = false;
    form.onsubmit = (event) => (event.preventDefault(), (sent = true), dialog.close());
    dialog.querySelector(".cancel").onclick = () => dialog.close();
    dialog.onclose = () => resolve(sent);
    dialog.showModal();
  });
}

async function askToken() {
  const value = $("ask-token-value");
  value.value = "";
  if (!(await answered($("ask-token")))) return false;
  setToken(value.value, $("ask-token-keep").checked);
  value.value = "";
  return true;
}

function confirmed(title, text, act) {
  say($("confirm-title"), title);
  say($("confirm-text"), text);
  say($("confirm-act"), act);
  return answered($("confirm"));
}

/** What the proxy answered; null if it refused, which is shown. */
async function order(path, body) {
  if (!token && !(await askToken())) return null;
  try {
    const response = await fetch(path, {
      method: "POST",
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      body: JSON.stringify(body),
      cache: "no-store",
    });
    const said = await response.json().catch(() => ({}));
    if (response.ok) return said;
    if (response.status === 403 && /token/.test(said.error ?? "")) setToken(null);
    notice(`Refused: ${said.error ?? response.status}${said.expected ? `. Expected: ${said.expected}` : ""}.`, true);
  } catch (error) {
    notice(`The proxy was not reached: ${error.message}.`, true);
  }
  return null;
}

function notice(text, isBad = false) {
  const close = el("button", "small", "Close");
  close.type = "button";
  const node = el("div", isBad ? "notice bad" : "notice", el("span", "", text), close);
  close.addEventListener("click", () => node.remove());
  const place = $("notices");
  place.append(node);
  while (place.children.length > 3) place.firstChild.remove();
  if (!isBad) setTimeout(() => node.remove(), 8000);
}

// ── Events ────────────────────────────────────────────────────────────────────────────────────────────

const RETRY_MS = [1000, 1000, 2000, 3000, 5000];
/** The proxy says something each second. */
const SILENCE_MS = 5000;
/** A page that nobody sees gives its connection back: a browser has few of them. */
const UNSEEN_MS = 60_000;

let source = null;
let tries = 0;
let heard = null;
let retry = null;

function showLink(state, words) {
  $("link").dataset.link = document.body.dataset.link = state;
  say($("link").lastChild, words);
}

function connect() {
  clearTimeout(retry);
  source?.close();
  source = new EventSource("events");
  source.addEventListener("samples", hear((data) => { samples = data; }));
  source.addEventListener("limits", hear(showLimits));
  source.addEventListener("state", hear((data) => {
    if (data.sample && data.sample.at !== samples.at(-1)?.at) samples.push(data.sample);
    showControl(data.control);
    showStatus(data.status);
    showRoutes(data.routes);
    drawCharts();
    showFigures();
  }));
  source.addEventListener("error", lose);
  watch();
}

function hear(show) {
  return (event) => {
    tries = 0;
    watch();
    showLink("live", "live");
    show(JSON.parse(event.data));
  };
}

function watch() {
  clearTimeout(heard);
  heard = setTimeout(lose, SILENCE_MS);
}

function lose() {
  clearTimeout(heard);
  clearTimeout(retry);
  source?.close();
  source = null;
  if (document.hidden && lose.unseen) return;
  showLink("lost", "connection lost, retrying");
  retry = setTimeout(connect, RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(lose.timer);
  if (document.hidden) {
    lose.timer = setTimeout(() => { lose.unseen = true; lose(); }, UNSEEN_MS);
  } else {
    lose.unseen = false;
    if (!source) connect();
  }
});

// ── Colours ───────────────────────────────────────────────────────────────────────────────────────────

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

const theme = $("theme");
theme.value = localStorage.getItem("tollgate-theme") ?? "";
setTheme(theme.value);
theme.addEventListener("change", () => {
  localStorage.setItem("tollgate-theme", theme.value);
  setTheme(theme.value);
});

// ── Begin ─────────────────────────────────────────────────────────────────────────────────────────────

$("charts").append(...charts.map((chart) => chart.node));
$("token").addEventListener("click", () => (token ? setToken(null) : askToken()));
$("purge-kind").addEventListener("change", choosePurge);
$("purge").addEventListener("submit", purge);
$("explain-form").addEventListener("submit", explain);
lockable($("purge").querySelector("button"));
document.querySelector(".figures").addEventListener("toggle", showFigures);
choosePurge();
drawCharts();
connect();
