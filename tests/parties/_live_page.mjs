// Looks at the live page with a real browser, while requests come in. Prints a line for each check.

import { execFileSync } from "node:child_process";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import net from "node:net";
import path from "node:path";
import { parseArgs } from "node:util";

const names = ["modules", "admin", "edge", "victim", "victim-pid", "token", "config", "tollgate", "shots", "page-from"];
const { values: given } = parseArgs({ options: Object.fromEntries(names.map((name) => [name, { type: "string" }])) });
const require = createRequire(path.join(given.modules, "index.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const PROBE_MS = 2000;
const EVENT_MS = 1000;
/** For the browser to draw, on a machine that has other work. */
const SLACK_MS = 1500;

let failures = 0;

function check(name, holds, detail = "") {
  if (!holds) failures += 1;
  console.log(holds ? `ok    ${name}` : `FAIL  ${name}: ${detail}`);
}

async function attempt(name, work) {
  try {
    await work();
  } catch (error) {
    check(name, false, String(error.message).split("\n").slice(0, 3).join(" "));
  }
}

// ── Load ──────────────────────────────────────────────────────────────────────────────────────────────

const agent = new http.Agent({ keepAlive: true, maxSockets: 12 });
let stopped = false;

/** One request, and its body thrown away. */
function get(target) {
  return new Promise((resolve) => {
    const request = http.get(given.edge + target, { agent }, (response) => response.resume().on("end", resolve));
    request.on("error", resolve);
  });
}

/** A mixture that every part of the page shows something of. */
function target(number) {
  if (number % 97 === 0) return "/status/500";
  if (number % 53 === 0) return "/status/404";
  if (number % 31 === 0) return "/partner/orders";
  if (number % 23 === 0) return "/limited";
  if (number % 11 === 0) return `/slow?ms=${20 + (number % 7) * 15}`;
  if (number % 3 === 0) return "/";
  return `/bytes/${1000 + (number % 40)}`;
}

async function load() {
  let number = 0;
  const one = async () => {
    while (!stopped) {
      number += 1;
      await get(target(number));
      // The rate goes up and down, as days do.
      await new Promise((next) => setTimeout(next, 20 + 15 * Math.sin(number / 300)));
    }
  };
  await Promise.all(Array.from({ length: 8 }, one));
}

/** Bytes as they are, which no client of HTTP would send. */
function raw(bytes) {
  return new Promise((resolve) => {
    const { hostname, port } = new URL(given.edge);
    const socket = net.connect(Number(port), hostname, () => socket.end(bytes));
    socket.on("close", resolve).on("error", resolve).resume();
  });
}

// ── The browser ───────────────────────────────────────────────────────────────────────────────────────

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"],
});

const said = [];

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light", ...options });
  if (given["page-from"]) {
    const markup = await fetch(`${given.admin}/`);
    const fields = Object.fromEntries(markup.headers);
    for (const [url, file] of [["/", "live.html"], ["/live.css", "live.css"], ["/live.js", "live.js"]]) {
      const type = { html: "text/html", css: "text/css", js: "text/javascript" }[file.split(".")[1]];
      const headers = { ...fields, "content-type": `${type}; charset=utf-8` };
      const body = readFileSync(path.join(given["page-from"], file), "utf8");
      await context.route(given.admin + url, (route) => route.fulfill({ headers, body }));
    }
  }
  const page = await context.newPage();
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && said.push(message.text()));
  page.on("pageerror", (error) => said.push(error.message));
  page.on("request", (request) => request.url().startsWith(given.admin) || request.url().startsWith("data:") || said.push(`asked ${request.url()}`));
  page.setDefaultTimeout(15_000);
  await page.goto(`${given.admin}/`);
  await page.waitForFunction(() => document.querySelector("#link").dataset.link === "live");
  return page;
}

const text = (page, selector) => page.locator(selector).first().innerText();
const rowOf = (page, address) => page.locator("#upstreams tbody tr", { hasText: address });
const shot = (page, name, options = {}) => (given.shots ? page.screenshot({ path: path.join(given.shots, `${name}.png`), ...options }) : null);

function save(config) {
  writeFileSync(`${given.config}.new`, config);
  renameSync(`${given.config}.new`, given.config);
}

async function serious(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 120)).join(" | ")}`);
}

const loading = load();
const page = await open();

await attempt("numbers move under load", async () => {
  await page.waitForFunction(() => parseFloat(document.querySelector(".chart .big").textContent) > 20);
  const path = () => page.locator(".chart .curve").first().getAttribute("d");
  const requests = async () => Number((await rowOf(page, ":").first().locator("[data-label=requests]").innerText()).replaceAll(",", ""));
  const [before, drawn] = [await requests(), await path()];
  await page.waitForTimeout(2500);
  const after = await requests();
  check("numbers move under load", after > before && (await path()) !== drawn, `${before} ${after}`);
  check("routes are shown by traffic", /^\/bytes|^\//.test(await text(page, "#routes tbody tr th")), await text(page, "#routes"));
  check("the cache hits", parseFloat(await text(page, "#cache dd")) > 20, await text(page, "#cache"));
  check("who is limited is shown", (await text(page, "#limits")).includes("127.0.0."), await text(page, "#limits"));
});

await attempt("checks", async () => {
  const checks = await page.locator("#checks li").evaluateAll((nodes) => nodes.map((node) => [node.querySelector(".word").textContent, node.innerText, node.title]));
  const unread = checks.filter(([, shown]) => !/(^|· )[\d.]+ ms/m.test(shown)).map(([name]) => name);
  check("each check shows what it took, without pointing at it", checks.length === 11 && unread.length === 0 && checks.every(([, , title]) => !title), checks.join(" | "));
  const measured = Object.fromEntries(checks.map(([name, shown]) => [name, shown]));
  check("with its value and its limits", /\d percent, degraded from 70, unhealthy from 90/.test(measured.connections) && /degraded from 90/.test(measured.disk), checks.join(" | "));
});

await attempt("a page that comes later shows what was", async () => {
  const later = await open();
  const points = (await later.locator(".chart .curve").first().getAttribute("d")).split("L").length;
  check("a page that comes later shows what was", points > 3, points);
  await later.context().close();
});

await attempt("sorting", async () => {
  await page.getByRole("button", { name: "p95", exact: true }).click();
  const sorted = await page.locator("#routes th[aria-sort]").innerText();
  const first = await text(page, "#routes tbody tr th");
  check("routes are sorted by latency", sorted.startsWith("p95") && ["/slow", "/partner"].includes(first), `${sorted} ${first}`);
  await page.getByRole("button", { name: "requests/s" }).click();
});

await attempt("hostile names", async () => {
  const hostile = "/<img src=x onerror=alert(1)>";
  await raw("GET /<img%20src=x%20onerror=alert(1)> HTTP/1.1\r\nHost: <script>alert(1)</script>\r\nConnection: close\r\n\r\n");
  await raw("GET /\"><script>alert(1)</script> HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
  const purge = page.locator("#purge");
  await purge.locator("#purge-kind").selectOption("prefix");
  await purge.locator("#purge-value").fill(hostile);
  await purge.getByRole("button").click();
  await page.locator("#ask-token-value").fill(given.token);
  await page.locator("#ask-token button[type=submit]").click();
  await page.locator(".notice.bad").waitFor();
  check("a hostile path shows as text", (await text(page, ".notice.bad")).includes(hostile), await text(page, ".notice.bad"));
  await purge.locator("#purge-kind").selectOption("tag");
  await purge.locator("#purge-value").fill(hostile.replaceAll(" ", "-"));
  await purge.locator("#purge-host").fill("<b>host</b>");
  await purge.getByRole("button").click();
  await page.locator(".notice.bad", { hasText: "<b>host</b>" }).waitFor();
  const markup = await page.locator("main img, main b:not([class]) b, main script, .notices img, .notices b, .notices script").count();
  check("a hostile host too, and no markup is made of either", markup === 0, markup);
  await purge.locator("#purge-host").fill("");
  while (await page.locator(".notice button").count()) await page.locator(".notice button").first().click();
});

await attempt("purge", async () => {
  await page.locator("#purge-kind").selectOption("prefix");
  await page.locator("#purge-value").fill("/bytes");
  await page.locator("#purge button").click();
  await page.locator("#confirm-act").click();
  await page.locator(".notice", { hasText: "Purged" }).waitFor();
  check("a purge is asked, confirmed and told", /Purged: \d+ response/.test(await text(page, ".notices")), await text(page, ".notices"));
});

await attempt("explain", async () => {
  const form = page.locator("#explain-form");
  await form.locator("#explain-url").fill(`${given.edge}/x/../bytes/77?q=1`);
  await form.locator("#explain-fields").fill("Accept-Encoding: br\nX-Request-ID: <i>odd</i>");
  await form.getByRole("button").click();
  await page.locator("#explained-outcome", { hasText: "app answers" }).waitFor();
  const explained = await text(page, "#explained-list");
  for (const part of ["which came as /x/../bytes/77", "→ /bytes at", "127.0.0.1 (trusted)", "miss: nothing is stored for this key (RFC 9111 §4)", "+ x-forwarded-for: 127.0.0.1", "± x-request-id: <i>odd</i> →", "in flight"]) {
    check(`explain says: ${part}`, explained.includes(part), explained);
  }
  check("no markup is made of what is asked", (await page.locator("#explain b, #explain i").count()) === 0);
  await form.locator("#explain-method").fill("TRACE");
  await form.getByRole("button").click();
  await page.locator("#explained-outcome[data-state=bad]").waitFor();
  check("a refusal is told with its reason", (await text(page, "#explained-outcome")).includes("method-not-allowed"), await text(page, "#explained-outcome"));
  check("and what it does not reach is left out", !(await text(page, "#explain")).includes("sent as"), await text(page, "#explain"));
  await form.locator("#explain-url").fill("ftp://<b>/");
  await form.getByRole("button").click();
  await page.locator(".notice.bad", { hasText: "Not explained" }).waitFor();
  await page.locator(".notice.bad button").first().click();
  await form.locator("#explain-method").fill("GET");
  await form.locator("#explain-url").fill(`${given.edge}/slow`);
  await form.getByRole("button").click();
  await page.locator("#explained-outcome[data-state=good]").waitFor();
});

const usable = () => page.locator("#upstreams .upstream", { hasText: "app" }).first().locator("tbody tr");

await attempt("drain", async () => {
  const address = (await usable().first().locator("th").innerText()).split(" ")[0];
  const row = rowOf(page, address);
  const started = Date.now();
  // By keyboard alone.
  await row.getByRole("button").focus();
  await page.keyboard.press("Enter");
  await page.locator("#confirm").waitFor();
  for (let n = 0; n < 4 && !(await page.locator("#confirm-act").evaluate((node) => node === document.activeElement)); n += 1) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await row.locator(".state", { hasText: "drained" }).waitFor();
  check("drain is shown soon", Date.now() - started < 5000, Date.now() - started);
  const requests = async () => (await row.locator("[data-label=requests]").innerText()).replaceAll(",", "");
  await page.waitForFunction(([at]) => [...document.querySelectorAll("#upstreams tbody tr")].find((row) => row.textContent.includes(at))?.querySelector("[data-label='in flight']").textContent === "0", [address]);
  const before = await requests();
  await page.waitForTimeout(2 * EVENT_MS);
  check("drain empties an endpoint", (await requests()) === before, `${before} ${await requests()}`);
  await shot(page, "drained");
  await row.getByRole("button", { name: "Undrain" }).click();
  await row.locator(".state", { hasText: "usable" }).waitFor();
});

await attempt("a wrong token", async () => {
  const other = await open();
  await other.getByRole("button", { name: "Unlock" }).first().click();
  await other.locator("#ask-token-value").fill("wrong");
  await other.locator("#ask-token button[type=submit]").click();
  await other.locator("#upstreams tbody tr button").first().click();
  await other.locator("#confirm-act").click();
  await other.locator(".notice.bad").waitFor();
  check("a wrong token is told", (await text(other, ".notice.bad")).includes("token is missing or wrong"), await text(other, ".notice.bad"));
  await other.context().close();
});

// Shown in screenshots as well: a refused file, and an upstream that nobody answers for.
if (given.shots) await page.waitForTimeout(Number(process.env.SHOTS_AFTER_MS ?? 20_000));
await page.locator("#purge-value").fill("");
await page.evaluate(() => (document.activeElement?.blur(), scrollTo(0, 0)));
await shot(page, "light");
await shot(page, "light-whole", { fullPage: true });
await page.emulateMedia({ colorScheme: "dark" });
await shot(page, "dark");
await shot(page, "dark-whole", { fullPage: true });
check("nothing serious in the dark", (await serious(page)).length === 0, (await serious(page)).join("; "));
await page.emulateMedia({ colorScheme: "light" });
check("nothing serious in the light", (await serious(page)).length === 0, (await serious(page)).join("; "));

await attempt("the switch of colours", async () => {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.locator("#theme").selectOption("dark");
  const dark = await ground();
  await page.locator("#theme").selectOption("");
  check("the switch of colours", light !== dark && (await ground()) === light, `${light} ${dark}`);
});

await attempt("a bad file", async () => {
  const good = readFileSync(given.config, "utf8");
  save(good.replace('[[route]]\npath = "/slow"', '[[route]]\npath = "/slow"\nredirekt = "<b>bold</b>"'));
  await page.locator("#refused").waitFor();
  const shown = await page.locator("#refused-text").textContent();
  let checked = "";
  try {
    execFileSync(given.tollgate, ["check", "-c", given.config], { stdio: "pipe" });
  } catch (error) {
    checked = error.stderr.toString();
  }
  check("a bad file shows what check says, underlined", shown.includes("^^^^") && checked.includes(shown.trim()), `${shown}\n--- check\n${checked}`);
  check("markup in it is text", shown.includes("<b>bold</b>") && (await page.locator("#refused b").count()) === 0, shown);
  await page.evaluate(() => scrollTo(0, 0));
  await shot(page, "refused");
  save(good);
  await page.locator("#refused").waitFor({ state: "hidden" });
});

await attempt("a phone", async () => {
  const phone = await open({ viewport: { width: 320, height: 640 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2, colorScheme: "dark", reducedMotion: "reduce" });
  await phone.locator("#routes tbody tr").first().waitFor();
  await phone.waitForTimeout(EVENT_MS);
  const [wide, seen] = await phone.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  check("320 px need no sideways scrolling", wide <= seen && seen === 320, `${wide} ${seen}`);
  const outside = await phone.evaluate(() => [...document.querySelectorAll("main *")]
    .filter((node) => !node.closest("pre, .unseen, svg, .figures, table.cards:not(.sortable) thead") && node.getBoundingClientRect().right > innerWidth + 1)
    .map((node) => `${node.tagName}.${node.className}`).slice(0, 5));
  check("and nothing is cut off", outside.length === 0, outside.join(" "));
  check("nothing serious on a phone", (await serious(phone)).length === 0, (await serious(phone)).join("; "));
  const moving = await phone.evaluate(() => document.getAnimations().length);
  check("nothing moves for who wants no motion", moving === 0, moving);
  await shot(phone, "phone");
  await phone.setViewportSize({ width: 320, height: 2600 });
  await shot(phone, "phone-long");
  await phone.context().close();
});

await attempt("a killed replica", async () => {
  const killed = Date.now();
  process.kill(Number(given["victim-pid"]), "SIGKILL");
  const row = rowOf(page, given.victim);
  await page.waitForFunction(([at]) => [...document.querySelectorAll("#upstreams tr.out")].some((row) => row.textContent.includes(at)), [given.victim]);
  const took = Date.now() - killed;
  check("a killed replica turns red within a probe", took < PROBE_MS + EVENT_MS + SLACK_MS, `${took} ms`);
  check("with a word beside the colour", /ejected|unhealthy/.test(await row.locator(".state").innerText()), await row.innerText());
  check("and why", (await row.locator(".why").innerText()).length > 5, await row.innerText());
  await page.evaluate(() => scrollTo(0, 0));
  await shot(page, "killed");
});

await attempt("the proxy is lost", async () => {
  const { pid } = await (await fetch(`${given.admin}/status`)).json();
  process.kill(pid, "SIGSTOP");
  try {
    await page.locator("#link[data-link=lost]").waitFor();
    check("a lost connection is told", (await text(page, "#link")).includes("connection lost, retrying"), await text(page, "#link"));
    await shot(page, "lost");
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await page.locator("#link[data-link=live]").waitFor();
  check("and comes back", true);
});

const own = said.filter((line) => !/Failed to load resource|net::ERR|403 \(Forbidden\)/.test(line));
check("the browser has nothing to complain of", own.length === 0, own.slice(0, 4).join(" | "));
stopped = true;
await loading;
agent.destroy();
await browser.close();
process.exit(failures ? 1 : 0);
