// Claims about the live page of the real gateway in Chromium: what it shows follows what clients and operators do.

import { after, afterEach, before, test } from "node:test";
import assert from "node:assert/strict";
import { launch, text, visit } from "./browser.mjs";
import { EchoBackend } from "./echo_backend.mjs";
import { eventually } from "./eventually.mjs";
import { Gateway } from "./gateway.mjs";

const TOKEN = "open-sesame";
let browser = null;
let backends = [];
let gateway = null;

const yaml = (more = "") => `
admin: { address: "127.0.0.1:0", token: ${TOKEN}, tap: true }
listeners: [{ name: web, address: "127.0.0.1:0" }]
upstreams:
  chat: { endpoints: ["${backends[0].address}", "${backends[1].address}"], balance: least_connections }
routes:
  - { name: chat, path: /chat, upstream: chat, websocket: { drain_window: 3s } }
${more}`;

before(async () => {
  browser = await launch();
  backends = await Promise.all([EchoBackend.start(), EchoBackend.start()]);
  gateway = await Gateway.start(yaml(), TOKEN);
});

after(async () => {
  await gateway?.end();
  for (const backend of backends) backend.end();
  await browser?.close();
});

// What a failed claim left open would be counted by the next one.
afterEach(async () => {
  for (const context of browser.contexts()) await context.close();
  await eventually("no WebSocket is open", async () => (await gateway.status()).websockets === 0);
});

/** Opens a view of the page, signed in. */
async function open(view) {
  const page = await visit(browser, `${gateway.admin}/#${view}`);
  await page.fill("#token", TOKEN);
  await page.click("#sign-in-form button");
  await eventually("the stream is live", async () => await text(page, "#connection-text") === "Live");
  return page;
}

/** A page of another origin, which has WebSockets of the gateway. */
async function client() {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`http://${backends[0].address}/`);
  const open = (count) => page.evaluate(async ([url, count]) => {
    globalThis.sockets ??= [];
    globalThis.closes ??= [];
    const opened = Array.from({ length: count }, () => new Promise((done, failed) => {
      const socket = new WebSocket(url);
      socket.onopen = () => done(socket);
      socket.onerror = failed;
      socket.onclose = ({ code, reason }) => globalThis.closes.push(`${code} ${reason}`);
    }));
    globalThis.sockets.push(...await Promise.all(opened));
  }, [`${gateway.web.replace("http", "ws")}/chat`, count]);
  const closes = () => page.evaluate(() => globalThis.closes);
  const say = (words) => page.evaluate((words) => globalThis.sockets.findLast(({ readyState }) => readyState === 1).send(words), words);
  return { page, open, closes, say, leave: () => context.close() };
}

/** No fault, and the end of a page. */
async function leave(page) {
  assert.deepEqual(page.faults, []);
  assert.deepEqual(await page.violations(), []);
  await page.context().close();
}

const rows = (page, table) => page.locator(`#${table} > tbody > tr:not(.group, .details)`);

/** The open WebSockets of an endpoint. The page updates a row while it is in sight. */
async function websockets(page, address) {
  const cell = rows(page, "endpoints").filter({ hasText: address }).locator("td.column-websockets");
  await cell.scrollIntoViewIfNeeded();
  // The count comes before words for screen readers.
  return Number.parseInt(await cell.innerText(), 10);
}

test("counts move when WebSockets open and close", async () => {
  const page = await open("overview");
  const clients = await client();
  const tile = page.locator("section.tile", { hasText: "Open WebSockets" }).locator(".value");
  await eventually("none is open", async () => await tile.innerText() === "0");
  await clients.open(4);
  await eventually("four are open", async () => await tile.innerText() === "4");
  await page.click('nav a[href="#upstreams"]');
  for (const { address } of backends) await eventually("two at each endpoint", async () => await websockets(page, address) === 2);
  await clients.leave();
  await eventually("none is left", async () => await websockets(page, backends[0].address) === 0);
  await leave(page);
});

test("a drain empties its bar, and the clients get 1012", async () => {
  const page = await open("upstreams");
  const clients = await client();
  await clients.open(8);
  const { address } = backends[1];
  await eventually("four at the endpoint", async () => await websockets(page, address) === 4);
  await rows(page, "endpoints").filter({ hasText: address }).getByRole("button", { name: `Drain ${address}` }).click();
  await page.click("#confirm-act");
  const bar = page.locator(".drain [role=progressbar]");
  await eventually("the drain is shown", async () => await bar.getAttribute("aria-valuemax") === "4");
  await eventually("the bar is empty", async () => await bar.getAttribute("aria-valuenow") === "0");
  await eventually("it is done", async () => await text(page, ".drain .drain-left") === "drained");
  await eventually("the endpoint is empty", async () => await websockets(page, address) === 0);
  assert.equal((await clients.closes()).filter((close) => close.startsWith("1012 ")).length, 4);
  await rows(page, "endpoints").filter({ hasText: address }).getByRole("button", { name: /Undrain/ }).click();
  await page.click("#confirm-act");
  await eventually("it is open again", async () => (await gateway.status()).upstreams.chat.endpoints.every(({ draining }) => draining === null));
  await clients.leave();
  await leave(page);
});

test("a tap shows a message that is typed elsewhere, and an operator closes its WebSocket", async () => {
  const page = await open("sockets");
  const clients = await client();
  await clients.open(1);
  await eventually("its row", async () => await rows(page, "sockets").count() === 1);
  await rows(page, "sockets").first().getByRole("button", { name: /^Tap WebSocket/ }).click();
  await eventually("the tap is open", async () => (await text(page, "#tap-state")).includes("1 WebSocket tapped"));
  await clients.say("typed by a person");
  const message = page.locator("#tap-messages tbody tr", { hasText: "typed by a person" });
  await eventually("the message and its echo", async () => await message.count() === 2);
  assert.match(await message.first().innerText(), /to backend\s+text\s+17 B/);
  await rows(page, "sockets").first().getByRole("button", { name: /^Close WebSocket/ }).click();
  await page.fill("#close-code", "4001");
  await page.fill("#close-reason", "by hand");
  await page.click("#confirm-act");
  await eventually("the client is told", async () => (await clients.closes())[0] === "4001 by hand");
  await clients.leave();
  await leave(page);
});

test("a refused reload shows its report, and an applied one its difference", async () => {
  const page = await open("reloads");
  gateway.write(yaml("  - { name: wrong, upstraem: chat }"));
  await page.click("#reload");
  const first = page.locator("#reload-list > li").first();
  await eventually("the report", async () => (await first.innerText()).includes("did you mean `upstream`?"));
  gateway.write(yaml("  - { name: more, path: /more, upstream: chat }"));
  await page.click("#reload");
  await eventually("the next generation", async () => (await first.innerText()).includes("Generation 2"));
  await first.locator("summary").click();
  assert.ok((await first.locator("ins").allInnerTexts()).join("\n").includes("name: more"));
  await page.click('nav a[href="#configuration"]');
  await eventually("the configuration", async () => (await text(page, "#effective")).includes("name: more"));
  assert.ok(!(await text(page, "#effective")).includes(TOKEN));
  await leave(page);
});

test("a URL is explained, and the log shows its request", async () => {
  const page = await open("configuration");
  await page.fill("#explain-url", `${gateway.web}/chat/room`);
  await page.click("#explain button");
  await eventually("the route", async () => await text(page, "#explained-route") === "Route chat to upstream chat");
  await page.click('nav a[href="#log"]');
  await page.selectOption("#log-source", "access");
  await fetch(`${gateway.web}/chat/seen-in-the-log`);
  await eventually("its line", async () => /200 GET .*\/chat\/seen-in-the-log/.test(await text(page, "#log-lines")));
  await leave(page);
});

test("a wrong filter of sockets is explained", async () => {
  const page = await open("sockets");
  await page.fill("#sockets-filter", "colour:red");
  await page.keyboard.press("Enter");
  await eventually("the error", async () => (await text(page, "#sockets-error")).includes("unknown field `colour`"));
  await leave(page);
});

test("another site can neither drain nor read, also in a browser that is signed in", async () => {
  const page = await open("upstreams");
  const foreign = await page.context().newPage();
  await foreign.goto(`http://${backends[0].address}/`);
  const drain = `${gateway.admin}/api/v1/upstreams/chat/endpoints/${encodeURIComponent(backends[0].address)}/drain`;
  const outcomes = await foreign.evaluate(async ([drain, status]) => {
    const result = (promise) => promise.then(({ status, type }) => `${type} ${status}`, () => "failed");
    return [
      await result(fetch(drain, { method: "POST", credentials: "include", mode: "no-cors" })),
      await result(fetch(drain, { method: "POST", credentials: "include", headers: { "x-moongate-key": "x" } })),
      await result(fetch(status, { credentials: "include" })),
    ];
  }, [drain, `${gateway.admin}/api/v1/status`]);
  assert.deepEqual(outcomes, ["opaque 0", "failed", "failed"], "nothing is readable");
  // A form needs neither CORS nor a script of the page.
  await foreign.evaluate((action) => {
    const form = Object.assign(document.createElement("form"), { action, method: "post" });
    document.body.append(form);
    form.submit();
  }, drain);
  await foreign.waitForURL(drain);
  assert.match(await foreign.innerText("body"), /unauthorized|cross_site/);
  const endpoints = (await gateway.status()).upstreams.chat.endpoints;
  assert.ok(endpoints.every(({ draining }) => draining === null), JSON.stringify(endpoints));
  await leave(page);
});

// Without a token nothing but the site of the request protects the call.
test("another site cannot drain at an admin address without a token", async () => {
  const open = await Gateway.start(yaml().replace(/token.*tap: true/, ""));
  try {
    const path = `/api/v1/upstreams/chat/endpoints/${encodeURIComponent(backends[0].address)}/drain`;
    // The same host at another port, and another host.
    for (const site of [backends[0].address, backends[0].address.replace("127.0.0.1", "localhost")]) {
      const foreign = await (await browser.newContext()).newPage();
      await foreign.goto(`http://${site}/`);
      const response = foreign.waitForResponse((each) => each.url().endsWith("/drain"));
      await foreign.evaluate((url) => fetch(url, { method: "POST", mode: "no-cors" }), open.admin + path);
      assert.equal((await response).status(), 403, site);
    }
    const { endpoints } = (await open.status()).upstreams.chat;
    assert.ok(endpoints.every(({ draining }) => draining === null), JSON.stringify(endpoints));
  } finally {
    await open.end();
  }
});
