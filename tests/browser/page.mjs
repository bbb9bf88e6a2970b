// Claims about the live page in Chromium. Without MOONGATE_URL they are about the fake gateway; with it, those that
// hold for every gateway are about that one. MOONGATE_TOKEN is its token.

import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { eventually, launch, text, violationsOfAxe, visit } from "./browser.mjs";
import { documentOfPage, scriptNames } from "./document.mjs";
import { FakeGateway, TOKEN } from "./fake_gateway.mjs";

const VIEWS = ["overview", "upstreams", "sockets", "reloads", "configuration", "log"];
const real = process.env.MOONGATE_URL ?? null;
let browser = null;

before(async () => { browser = await launch(); });
after(() => browser.close());

let visited = [];

/** Checks a claim; no page of it may throw, violate its CSP or leave its origin. */
async function run(check, gateway) {
  visited = [];
  await check(gateway);
  for (const page of visited) {
    assert.deepEqual(page.faults, []);
    assert.deepEqual(await page.violations(), []);
    await page.context().close();
  }
}

/** A claim that needs the orders of the fake gateway. */
const claim = (name, options, check) => test(name, { skip: real !== null && "needs the fake gateway" }, async () => {
  const gateway = await new FakeGateway({ interval: 0.2, ...options }).listen();
  try {
    await run(check, gateway);
  } finally {
    await gateway.end();
  }
});

/** A claim about every gateway. */
const general = (name, check) => real ? test(name, () => run(check, { url: real })) : claim(name, { sockets: 20 }, check);

async function enter(gateway, view, options) {
  const page = await visit(browser, `${gateway.url}/#${view}`, options);
  visited.push(page);
  return page;
}

async function open(gateway, view, options) {
  const page = await enter(gateway, view, options);
  const token = process.env.MOONGATE_TOKEN;
  if (real && token) {
    await page.fill("#token", token);
    await page.click("#sign-in-form button");
  }
  await live(page);
  return page;
}

const live = (page) => eventually("the stream is live", async () => await text(page, "#connection-text") === "Live");
const rowsOf = (page, table) => page.locator(`#${table} > tbody > tr:not(.group, .details)`);
const number = (words) => Number(/^[\d,]+/.exec(words)[0].replaceAll(",", ""));

general("every view opens without an error, a violation of the CSP or a request to another origin", async (gateway) => {
  const page = await open(gateway, "overview");
  for (const view of VIEWS) {
    await page.click(`nav a[href="#${view}"]`);
    await page.waitForSelector(`#view-${view}:not([hidden])`);
    await live(page);
    assert.equal(await page.locator(".view:not([hidden])").count(), 1, view);
    assert.equal(await page.getAttribute("nav a[aria-current]", "href"), `#${view}`);
  }
});

for (const colorScheme of ["light", "dark"]) {
  general(`no view has an accessibility violation in ${colorScheme}`, async (gateway) => {
    const page = await open(gateway, "overview", { colorScheme });
    for (const view of VIEWS) {
      await page.click(`nav a[href="#${view}"]`);
      await live(page);
      for (const summary of await page.locator(`#view-${view} summary`).all()) if (await summary.isVisible()) await summary.click();
      if (view === "sockets") await page.click("#sockets-tap");
      if (view === "configuration") {
        await page.fill("#explain-url", "http://chat.example/ws");
        await page.click("#explain button");
        await page.waitForSelector("#explained:not([hidden]), #explain-error:not(:empty)");
      }
      assert.deepEqual(await violationsOfAxe(page), [], view);
    }
    });
}

general("no view is wider than a screen of 320 pixels", async (gateway) => {
  const page = await open(gateway, "overview", { viewport: { width: 320, height: 640 } });
  for (const view of VIEWS) {
    await page.click(`nav a[href="#${view}"]`);
    await live(page);
    for (const summary of await page.locator(`#view-${view} summary`).all()) if (await summary.isVisible()) await summary.click();
    if (view === "sockets") await page.click("#sockets-tap");
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320, view);
  }
});

general("the theme follows the system until it is switched, and the switch is kept", async (gateway) => {
  const page = await open(gateway, "overview", { colorScheme: "dark" });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  await page.click("#theme");
  const light = await ground();
  assert.notEqual(light, dark);
  await page.reload();
  await live(page);
  assert.equal(await ground(), light);
  assert.equal(await text(page, "#theme"), "Theme: light");
});

general("the keyboard reaches the views, and the focus follows", async (gateway) => {
  const page = await open(gateway, "overview");
  await page.reload();
  await live(page);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "content");
  await page.focus('nav a[href="#log"]');
  await page.keyboard.press("Enter");
  await page.waitForSelector("#view-log:not([hidden])");
  assert.equal(await page.evaluate(() => document.activeElement.id), "h-log");
});

test("the sources turn no data into markup or code", () => {
  const { html, script, style } = documentOfPage();
  assert.doesNotMatch(script, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|<\/script|<!--|https?:\/\/(?!www\.w3\.org|\$|chat\.example)/);
  assert.doesNotMatch(style, /@import|url\(/);
  const markup = html.replace(script, "").replace(style, "");
  assert.doesNotMatch(markup, / style=| on[a-z]+=|<link(?! rel="icon" href="data:)|src=/);
  for (const name of scriptNames()) assert.doesNotMatch(readFileSync(new URL(`../../src/server/admin/page/${name}`, import.meta.url), "utf8"), /^"use strict"/m);
});

claim("a token opens the page, and a wrong one does not", { token: TOKEN }, async (gateway) => {
  const page = await enter(gateway, "upstreams");
  await page.waitForSelector("#token");
  await page.fill("#token", "wrong");
  await page.keyboard.press("Enter");
  await eventually("the token is refused", async () => (await text(page, "#sign-in-error")).includes("wrong"));
  assert.deepEqual(await violationsOfAxe(page), []);
  await page.fill("#token", TOKEN);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#view-upstreams:not([hidden])");
  await live(page);
  await page.reload();
  await live(page);
  assert.ok(gateway.requests.filter(({ path }) => path === "/api/v1/live").every(({ headers }) => headers["x-moongate-key"]));
  await page.click("#sign-out");
  await page.waitForSelector("#view-sign-in:not([hidden])");
  assert.equal(await page.evaluate(() => localStorage.getItem("moongate.key")), null);
  await eventually("the stream has ended", () => gateway.streams.size === 0);
});

claim("a session that ends asks for the token again", { token: TOKEN }, async (gateway) => {
  const page = await enter(gateway, "overview");
  await page.fill("#token", TOKEN);
  await page.keyboard.press("Enter");
  await live(page);
  gateway.key = "of another session";
  await page.click('nav a[href="#sockets"]');
  await page.waitForSelector("#view-sign-in:not([hidden])");
  assert.equal(await page.locator(".view:not([hidden])").count(), 1);
});

claim("the numbers of the overview move, and each history is told in words", {}, async (gateway) => {
  const page = await open(gateway, "overview");
  const tile = page.locator("section.tile", { hasText: "Requests" });
  await eventually("a number", async () => /^[\d,]+\/s$/.test(await tile.locator(".value").innerText()));
  const first = await tile.locator(".value").innerText();
  await eventually("another number", async () => await tile.locator(".value").innerText() !== first);
  for (const chart of await page.locator("#tiles svg").all()) assert.match(await chart.getAttribute("aria-label"), /last ten minutes: .*lowest .*, highest .*, latest/);
  const label = await tile.locator("svg").getAttribute("aria-label");
  await eventually("a point is added", async () => await tile.locator("svg").getAttribute("aria-label") !== label);
  await page.click("#history-details > summary");
  await eventually("a row a minute", async () => await page.locator("#history tbody tr").count() === 10);
  await eventually("reasons of errors", async () => (await text(page, "#errors")).includes("connect_refused"));
  const reason = rowsOf(page, "errors").filter({ hasText: "connect_refused" }).locator("svg");
  const told = await reason.getAttribute("aria-label");
  assert.match(told, /^Errors connect_refused, last ten minutes: highest .*, latest /);
  await eventually("a point of the reason is added", async () => await reason.getAttribute("aria-label") !== told);
});

claim("a drain is confirmed, empties its bar, and is ended", { drainWindow: 4 }, async (gateway) => {
  const page = await open(gateway, "upstreams");
  const row = rowsOf(page, "endpoints").filter({ hasText: "10.0.0.2:8081" });
  await row.getByRole("button", { name: "Drain 10.0.0.2:8081" }).click();
  assert.match(await text(page, "#confirm"), /Drain 10\.0\.0\.2:8081\?[^]*1012/);
  assert.equal(await page.evaluate(() => document.activeElement.id), "confirm-cancel");
  assert.deepEqual(await violationsOfAxe(page), []);
  await page.keyboard.press("Escape");
  assert.equal(gateway.requests.filter(({ method }) => method === "POST").length, 0);
  await row.getByRole("button", { name: "Drain 10.0.0.2:8081" }).click();
  await page.click("#confirm-act");
  await eventually("the result is told", async () => (await text(page, "#toast-text")).includes("10.0.0.2:8081 of chat drains"));
  const orders = gateway.requests.filter(({ method }) => method === "POST").map(({ path }) => path);
  assert.deepEqual(orders, ["/api/v1/upstreams/chat/endpoints/10.0.0.2%3A8081/drain"]);
  const bar = page.locator(".drain [role=progressbar]");
  await eventually("the bar empties", async () => Number(await bar.getAttribute("aria-valuenow")) < Number(await bar.getAttribute("aria-valuemax")) / 2);
  assert.match(await page.locator(".drain .drain-left").innerText(), /to go/);
  assert.match(await page.locator(".drain svg").getAttribute("aria-label"), /drain window of 4 s: 50 at the start, \d+ now/);
  await eventually("it is done", async () => await page.locator(".drain .drain-left").innerText() === "drained");
  const before = gateway.state.ticks;
  await eventually("the gateway has forgotten the drain", () => gateway.state.rows.get("chat\n10.0.0.2:8081").drain === null && gateway.state.ticks > before + 2);
  assert.equal(await page.locator(".drain .drain-left").innerText(), "drained");
  assert.equal(await bar.getAttribute("aria-valuenow"), "0");
  await page.locator(".drain").getByRole("button", { name: /Undrain/ }).click();
  await page.click("#confirm-act");
  await eventually("the card is gone", async () => await page.locator(".drain").count() === 0);
  assert.equal(gateway.state.rows.get("chat\n10.0.0.2:8081").draining, null);
});

claim("an order that fails says so in its dialog", {}, async (gateway) => {
  const page = await open(gateway, "upstreams");
  await rowsOf(page, "endpoints").first().getByRole("button", { name: /^Drain/ }).click();
  gateway.state.rows.clear();
  await page.click("#confirm-act");
  await eventually("the error", async () => (await text(page, "#confirm-error")).includes("does not exist"));
});

claim("endpoints are filtered, sorted, opened, and paged", { endpoints: 120, sockets: 500 }, async (gateway) => {
  const page = await open(gateway, "upstreams");
  await eventually("a page of endpoints", async () => await rowsOf(page, "endpoints").count() === 50);
  assert.match(await text(page, "#endpoints-count"), /^120 endpoints/);
  await page.click("#endpoints-pager >> text=Next");
  await eventually("the second page", async () => (await text(page, "#endpoints-pager .where")) === "51–100 of 120");
  await page.uncheck("#endpoints-group");
  await page.locator("#endpoints thead").getByRole("button", { name: "WebSockets", exact: true }).click();
  assert.equal(await page.locator("#endpoints th.column-websockets").getAttribute("aria-sort"), "descending");
  await eventually("sorted", async () => {
    const counts = (await page.locator("#endpoints td.column-websockets a").allInnerTexts()).map(number);
    return counts.length === 50 && counts.every((count, index) => index === 0 || counts[index - 1] >= count);
  });
  await page.fill("#endpoints-filter", "unhealthy refused");
  await eventually("filtered", async () => await rowsOf(page, "endpoints").count() === 13);
  await rowsOf(page, "endpoints").first().locator(".disclose").click();
  await page.waitForSelector("#endpoints .details");
  assert.match(await text(page, "#endpoints .details"), /failed: connection refused[^]*1000 normal closure/);
});

claim("a backup and an endpoint at its limit say so", {}, async (gateway) => {
  const page = await open(gateway, "upstreams");
  Object.assign([...gateway.state.rows.values()][0], { max_connections: 1, websockets: 1 });
  await page.fill("#endpoints-filter", "full");
  await eventually("the full one", async () => await rowsOf(page, "endpoints").count() >= 1);
  await page.fill("#endpoints-filter", "backup");
  await eventually("the backup", async () => await rowsOf(page, "endpoints").count() === 1);
  await rowsOf(page, "endpoints").first().locator(".disclose").click();
  await page.waitForSelector("#endpoints .details");
  assert.match(await text(page, "#endpoints .details"), /Most active\s+50/);
});

claim("a row out of sight is up to date when it comes into sight", { endpoints: 120, sockets: 500 }, async (gateway) => {
  const page = await open(gateway, "upstreams");
  await eventually("a page of endpoints", async () => await rowsOf(page, "endpoints").count() === 50);
  const cell = rowsOf(page, "endpoints").last().locator("td.column-active");
  const name = await rowsOf(page, "endpoints").last().locator(".disclose .mono").innerText();
  const row = [...gateway.state.rows.values()].find(({ endpoint }) => endpoint === name);
  row.websockets = 40_000;
  const before = gateway.state.ticks;
  await eventually("three updates", () => gateway.state.ticks > before + 3);
  assert.ok(number(await cell.innerText()) < 40_000, "out of sight");
  await cell.scrollIntoViewIfNeeded();
  await eventually("in sight", async () => number(await cell.innerText()) >= 40_000);
});

claim("the flow shows routes and upstreams, and the same as a table", {}, async (gateway) => {
  const page = await open(gateway, "upstreams");
  await eventually("lines", async () => await page.locator(".flow-line").count() === 6);
  assert.match(await page.locator(".flow-svg").getAttribute("aria-label"), /requests\/s: 5 routes to 4 upstreams/);
  const widths = () => page.locator(".flow-line").evaluateAll((lines) => lines.map((line) => Number(line.getAttribute("stroke-width"))));
  assert.ok(new Set(await widths()).size > 1);
  await page.click("#flow-table-details > summary");
  await eventually("rows", async () => await page.locator("#flow-table tbody tr").count() === 6);
  assert.match(await text(page, "#flow-table"), /no route\s+no upstream/);
});

claim("sockets are filtered, sorted and paged by the gateway", { sockets: 400 }, async (gateway) => {
  const page = await open(gateway, "sockets");
  await eventually("a page of sockets", async () => await rowsOf(page, "sockets").count() === 50);
  await page.fill("#sockets-filter", "route:chat bytes>1000");
  await page.keyboard.press("Enter");
  await eventually("only chat", async () => (await page.locator("#sockets td.column-route").allInnerTexts()).every((route) => route === "chat"));
  await page.locator("#sockets thead").getByRole("button", { name: "Bytes" }).click();
  await eventually("the order reaches the gateway", () => gateway.requests.at(-1).search.includes("sort=-bytes"));
  await page.click("#sockets-pager >> text=Next");
  await eventually("the page reaches the gateway", () => gateway.requests.at(-1).search.includes("page=2"));
  assert.match(await page.evaluate(() => location.hash), /filter=route%3Achat\+bytes%3E1000.*sort=-bytes.*page=2/);
  // The address leads back to the same rows.
  await page.reload();
  await eventually("the same rows", async () => (await text(page, "#sockets-pager .where")).startsWith("51–100"));
  assert.equal(await page.inputValue("#sockets-filter"), "route:chat bytes>1000");
  assert.equal(await page.locator("#sockets th.column-bytes").getAttribute("aria-sort"), "descending");
  await eventually("one stream", () => gateway.streams.size === 1);
});

claim("a paused table keeps its rows, and shows another page when asked", {}, async (gateway) => {
  const page = await open(gateway, "sockets?sort=idle");
  await eventually("rows", async () => await rowsOf(page, "sockets").count() === 50);
  await page.click("#sockets-pause");
  await eventually("no rows are streamed", () => gateway.requests.at(-1).search === "?sections=reloads");
  const ids = async () => (await page.locator("#sockets th.column-id").allInnerTexts()).join();
  const held = await ids();
  const before = gateway.state.ticks;
  await eventually("five updates", () => gateway.state.ticks > before + 5);
  assert.equal(await ids(), held);
  await page.click("#sockets-pager >> text=Next");
  await eventually("the second page", async () => (await text(page, "#sockets-pager .where")).startsWith("51–100"));
  assert.notEqual(await ids(), held);
});

claim("a wrong filter of sockets is explained, and a right one goes on", {}, async (gateway) => {
  const page = await open(gateway, "sockets");
  await page.fill("#sockets-filter", "colour:red");
  await page.keyboard.press("Enter");
  await eventually("the error", async () => (await text(page, "#sockets-error")).includes("unknown field `colour`"));
  const calls = gateway.requests.length;
  await page.fill("#sockets-filter", "route:api");
  await page.keyboard.press("Enter");
  await live(page);
  assert.equal(await text(page, "#sockets-error"), "");
  assert.equal(gateway.requests.length, calls + 1, "a refused stream is not tried again");
});

claim("a WebSocket is closed with a code and a reason", {}, async (gateway) => {
  const page = await open(gateway, "sockets?filter=id:7");
  await rowsOf(page, "sockets").first().getByRole("button", { name: "Close WebSocket 7" }).click();
  await page.fill("#close-code", "1005");
  await page.click("#confirm-act");
  await eventually("the code is refused", async () => (await text(page, "#confirm-error")).includes("1005 is not a code"));
  await page.fill("#close-code", "4001");
  await page.fill("#close-reason", "signed out & gone");
  await page.click("#confirm-act");
  await eventually("the result is told", async () => (await text(page, "#toast-text")) === "WebSocket 7 is closed with 4001.");
  assert.deepEqual(gateway.closed, { id: 7, code: 4001, reason: "signed out & gone" });
  await eventually("the row is gone", async () => await page.locator("#sockets-empty").isVisible());
});

claim("rows hold still under the pointer, and move again after it", { sockets: 200 }, async (gateway) => {
  const page = await open(gateway, "sockets?sort=idle");
  await eventually("rows", async () => await rowsOf(page, "sockets").count() === 50);
  const ids = () => page.locator("#sockets th.column-id").allInnerTexts();
  // Rows move until the pointer is there, so no row can be aimed at.
  const { x, y, width } = await page.locator("#sockets tbody").boundingBox();
  await page.mouse.move(x + width / 2, y + 120);
  await eventually("the order is held", async () => (await text(page, "#sockets-count")).includes("order held"));
  const held = await ids();
  const before = gateway.state.ticks;
  await eventually("five updates", () => gateway.state.ticks > before + 5);
  assert.deepEqual(await ids(), held);
  await page.mouse.move(5, 5);
  await eventually("the rows moved", async () => (await ids()).join() !== held.join());
});

claim("a tap shows a message as text, and not as markup", {}, async (gateway) => {
  const page = await open(gateway, "sockets?filter=id:3");
  await rowsOf(page, "sockets").first().getByRole("button", { name: "Tap WebSocket 3" }).click();
  await eventually("the tap is open", async () => (await text(page, "#tap-state")).includes("1 WebSocket tapped"));
  const shown = "typed <img src=x onerror=alert(1)> message";
  gateway.say(3, { direction: "to_backend", opcode: "text", size: shown.length, text: shown });
  gateway.say(3, { direction: "to_client", opcode: "binary", size: 3, hex: "00ff41" });
  const row = page.locator("#tap-messages tbody tr", { hasText: shown });
  await eventually("the message", async () => await row.count() === 1);
  assert.match(await row.innerText(), /3\s+→ to backend\s+text\s+42 B/);
  assert.equal(await page.locator("#tap-messages img").count(), 0);
  await eventually("bytes as hex", async () => await page.locator("#tap-messages", { hasText: "00 ff 41" }).count() === 1);
  await page.click("#tap-pause");
  const count = await page.locator("#tap-messages tbody tr").count();
  gateway.say(3, { direction: "to_client", opcode: "text", size: 5, text: "later" });
  await page.click("#tap-pause");
  await eventually("what came in the pause", async () => await page.locator("#tap-messages tbody tr").count() > count);
  await page.click("#tap-stop");
  await eventually("the tap has ended", () => gateway.taps.size === 0);
  await page.click("#tap-clear");
  assert.equal(await page.locator("#tap-messages tbody tr").count(), 0);
});

claim("a page says that tap is off and how to turn it on", { tap: false }, async (gateway) => {
  const page = await open(gateway, "sockets");
  await eventually("rows", async () => await rowsOf(page, "sockets").count() > 0);
  await rowsOf(page, "sockets").first().getByRole("button", { name: /^Tap/ }).click();
  assert.match(await text(page, "#tap-off"), /Tap is off[^]*tap: true/);
  assert.ok(!gateway.requests.some(({ path }) => path === "/api/v1/tap"));
});

claim("a refused reload shows its report, and an applied one its difference", {}, async (gateway) => {
  const page = await open(gateway, "reloads");
  gateway.refuseReload = true;
  await page.click("#reload");
  await eventually("the refusal is told", async () => (await text(page, "#toast-text")).includes("refused"));
  const first = page.locator("#reload-list > li").first();
  await eventually("the report", async () => (await first.innerText()).includes("unknown setting `retrys`"));
  assert.match(await first.innerText(), /<b>not markup<\/b>/);
  assert.equal(await first.locator("b").count(), 0);
  gateway.refuseReload = false;
  await page.click("#reload");
  await eventually("the next generation", async () => (await first.innerText()).includes("Generation 8"));
  await first.locator("summary").click();
  assert.match(await first.locator("ins").innerText(), /^\+ {6}- 10\.0\.0\.2:8081/);
  assert.match(await first.locator("del").innerText(), /^- {6}- 10\.0\.0\.9:8081/);
  await eventually("sockets of older generations", async () => (await page.locator("#generations tbody tr").count()) === 3);
  assert.match(await text(page, "#build"), /generation 8/);
});

claim("the configuration is shown, and the route of a URL explained", {}, async (gateway) => {
  const page = await open(gateway, "configuration");
  await eventually("the YAML", async () => (await text(page, "#effective")).includes("balance: least_connections"));
  const reads = () => gateway.requests.filter(({ path }) => path === "/api/v1/config").length;
  assert.equal(reads(), 1);
  gateway.state.reload(false);
  for (const stream of gateway.streams) stream.reloaded();
  await eventually("the next generation is read", () => reads() === 2);
  await page.fill("#explain-url", "chat.example/ws");
  await page.click("#explain >> text=Header, listener and client");
  await page.fill("#explain-headers", "x-beta: 1\nx-other: a&b");
  await page.click("#explain button");
  await eventually("the route", async () => (await text(page, "#explained-route")) === "Route chat to upstream chat");
  const { search } = gateway.requests.findLast(({ path }) => path === "/api/v1/explain");
  const sent = new URLSearchParams(search);
  assert.equal(sent.get("url"), "http://chat.example/ws");
  assert.deepEqual(sent.getAll("header"), ["x-beta: 1", "x-other: a&b"]);
  assert.match(await text(page, "#explained-others"), /beta\s+header x-beta: absent/);
  await page.fill("#explain-url", "http://bad/");
  await page.click("#explain button");
  await eventually("the error", async () => (await text(page, "#explain-error")).includes("the host is not valid"));
});

claim("the log follows, pauses when somebody scrolls up, and is filtered by the gateway", { interval: 0.05 }, async (gateway) => {
  const page = await open(gateway, "log");
  await eventually("more lines than fit", () => page.evaluate(() => {
    const box = document.getElementById("log-lines");
    return box.scrollHeight > box.clientHeight + 200;
  }));
  await page.locator("#log-lines").hover();
  await page.mouse.wheel(0, -300);
  await eventually("paused", async () => await page.getAttribute("#log-follow", "aria-pressed") === "false");
  const lines = await page.locator("#log-lines > div").count();
  await eventually("lines wait", async () => /\d+ new/.test(await text(page, "#log-count")));
  assert.equal(await page.locator("#log-lines > div").count(), lines);
  await page.click("#log-follow");
  await eventually("they are shown", async () => await page.locator("#log-lines > div").count() > lines);
  await page.fill("#log-filter", "WARN");
  await page.keyboard.press("Enter");
  await page.selectOption("#log-source", "process");
  await eventually("the filter reaches the gateway", () => /log=process&filter=WARN/.test(gateway.requests.at(-1).search));
});

claim("a lost connection is told, retried, and a restart of the gateway noticed", {}, async (gateway) => {
  const page = await open(gateway, "overview");
  await gateway.vanish();
  await page.waitForSelector("#lost:not([hidden])");
  assert.match(await text(page, "#lost"), /connection to the gateway is lost[^]*Next attempt in \d+ s/);
  assert.deepEqual(await violationsOfAxe(page), []);
  await gateway.restart();
  await page.click("#lost-retry");
  await live(page);
  await page.waitForSelector("#lost", { state: "hidden" });
  assert.match(await text(page, "#restarted"), /The gateway was restarted at/);
  await page.click("#restarted-dismiss");
  await page.waitForSelector("#restarted", { state: "hidden" });
});

claim("a lost connection comes back by itself", {}, async (gateway) => {
  const page = await open(gateway, "upstreams");
  await gateway.vanish();
  await page.waitForSelector("#lost:not([hidden])");
  await gateway.restart();
  await live(page);
  assert.equal(await page.isVisible("#lost"), false);
});

claim("a hidden tab has no stream, and a visible one has one again", {}, async (gateway) => {
  const page = await open(gateway, "overview");
  const hide = (hidden) => page.evaluate((value) => {
    Object.defineProperty(document, "hidden", { value, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await hide(true);
  await eventually("no stream", () => gateway.streams.size === 0);
  assert.equal(await text(page, "#connection-text"), "Paused");
  await hide(false);
  await live(page);
  assert.equal(gateway.streams.size, 1);
});

claim("a page with 1,000 endpoints and 50,000 WebSockets stays small and quick", { endpoints: 1000, sockets: 50_000, interval: 0.5 }, async (gateway) => {
  const page = await open(gateway, "upstreams");
  const session = await page.context().newCDPSession(page);
  // The time that the thread ran, not what other processes took of it.
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const measure = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    return { ticks: gateway.state.ticks, ...Object.fromEntries(metrics.map(({ name, value }) => [name, value])) };
  };
  for (const [view, table] of [["upstreams", "endpoints"], ["sockets", "sockets"]]) {
    await page.click(`nav a[href="#${view}"]`);
    await eventually("rows", async () => await rowsOf(page, table).count() === 50);
    await page.locator(`#${table}`).evaluate((node) => node.scrollIntoView());
    const before = await measure();
    await eventually("ten ticks", () => gateway.state.ticks >= before.ticks + 10);
    const now = await measure();
    const each = (name) => (now[name] - before[name]) * 1000 / (now.ticks - before.ticks);
    const [script, style, layout] = ["ScriptDuration", "RecalcStyleDuration", "LayoutDuration"].map(each);
    console.log(`${view}: ${script.toFixed(1)} ms script, ${style.toFixed(1)} ms style, ${layout.toFixed(1)} ms layout a tick; ${await page.evaluate(() => document.querySelectorAll("*").length)} elements`);
    // A tick has at least 500 ms, and a frame 16.7 ms.
    assert.ok(script < 16, `${script} ms of script a tick`);
    assert.ok(style + layout < 30, `${style + layout} ms of style and layout a tick`);
    assert.ok(await page.evaluate(() => document.querySelectorAll("*").length) < 6000);
  }
});
