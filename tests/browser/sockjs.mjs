// The example of examples/sockjs in Chromium: WebSocket, SockJS without WebSocket, a reload and a drain.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { Cluster, Visitor } from "./sockjs_example.mjs";

// What the page uses without WebSockets by itself, then the transports that it can be told to use.
const FALLBACKS = [
  { transport: undefined, shown: "xhr-streaming" },
  { transport: "xhr-polling", shown: "xhr-polling" },
  { transport: "eventsource", shown: "eventsource" },
];

// New clients are balanced by load, so a few of them reach both backends.
const MOST_VISITORS = 8;

const OWN = { own: true };

let browser;
// For the claims that leave the routes and the backends as they are.
let shared;
let cluster;
let opened = [];

before(async () => {
  browser = await launch();
  shared = await Cluster.start();
});
after(async () => {
  await browser.close();
  await shared.end();
});

/** Runs a claim with new visitors; `own` gives it a cluster of its own. */
function claim(name, body, { own = false } = {}) {
  test(name, async () => {
    cluster = own ? await Cluster.start() : shared;
    opened = [];
    try {
      await body();
      for (const visitor of opened) assert.deepEqual(visitor.errors, []);
    } catch (error) {
      for (const visitor of opened) console.log(await visitor.log().catch(String));
      console.log(cluster.gateway.log);
      throw error;
    } finally {
      for (const visitor of opened) await visitor.close();
      if (own) await cluster.end();
    }
  });
}

async function open(options) {
  const visitor = await Visitor.open(browser, cluster, options);
  opened.push(visitor);
  return visitor;
}

/** Opens visitors until each backend has at least one. Returns them. */
async function openOnBoth(options) {
  const visitors = [];
  const backends = new Set();
  while (backends.size < 2 && visitors.length < MOST_VISITORS) {
    const visitor = await open(options);
    visitors.push(visitor);
    backends.add((await visitor.facts()).backend);
  }
  assert.deepEqual([...backends].sort(), ["blue", "green"]);
  return visitors;
}

/** Opens visitors until one is served by that backend. Returns it. */
async function openOn(backend, options) {
  for (let number = 0; number < MOST_VISITORS; number += 1) {
    const visitor = await open(options);
    if ((await visitor.facts()).backend === backend) return visitor;
  }
  return assert.fail(`no visitor reaches ${backend}`);
}

/** Sends messages; each must reach the same session of the same backend, in order and without a reconnect. */
async function staysInItsSession(visitor, messages) {
  const before = await visitor.facts();
  const { count: first } = await visitor.say("first");
  for (let number = 1; number <= messages; number += 1) {
    const echo = await visitor.say(`text ${number}`);
    const { backend, session } = before;
    assert.deepEqual(echo, { backend, session, count: first + number, echoes: 1 });
  }
  assert.deepEqual(await visitor.facts(), before);
}

claim("with WebSocket, each page has one WebSocket to one of both backends", async () => {
  for (const visitor of await openOnBoth()) {
    assert.equal((await visitor.facts()).transport, "websocket");
    await staysInItsSession(visitor, 5);
    const sockets = visitor.requests.filter((url) => url.startsWith("ws:"));
    assert.equal(sockets.length, 1);
    assert.ok(!visitor.requests.some((url) => url.includes("/sockjs/")), visitor.requests);
  }
});

for (const { transport, shown } of FALLBACKS) {
  claim(`without WebSocket, SockJS by ${shown} works on both backends, and each session stays`, async () => {
    for (const visitor of await openOnBoth({ transport, websocket: false })) {
      assert.equal((await visitor.facts()).transport, shown);
      await staysInItsSession(visitor, 5);
      const backend = (await visitor.facts()).backend;
      const cookies = await visitor.context.cookies();
      assert.equal(cookies.length, 1, "the gateway's cookie");
      // The whole page comes from the backend of the session.
      await visitor.page.reload();
      const again = await visitor.until("a new session", ({ state }) => state === "open");
      assert.equal(again.backend, backend);
    }
  });
}

claim("the page loads nothing from another origin", async () => {
  const { host } = new URL(cluster.gateway.web);
  for (const websocket of [true, false]) {
    const visitor = await open({ websocket });
    const others = visitor.requests.filter((url) => new URL(url).host !== host && !url.startsWith("data:"));
    assert.deepEqual(others, []);
    assert.ok(visitor.requests.some((url) => url.endsWith("/sockjs.min.js")));
  }
});

claim("a reload closes neither the WebSocket nor a SockJS session", async () => {
  const visitors = [await open()];
  for (const { transport } of FALLBACKS) visitors.push(await open({ transport, websocket: false }));
  const before = await Promise.all(visitors.map((visitor) => visitor.facts()));
  for (const visitor of visitors) await visitor.say("before");

  // The policy of the route changes, and its plugins.
  const changes = [
    ["websocket: { ", "websocket: { ping_interval: 20s, "],
    ["plugins: [origin_check", "plugins: [origin_check, { kind: headers, response: { set: { X-Routes: changed } } }"],
  ];
  for (const [from] of changes) assert.ok(cluster.yaml.includes(from), from);
  await cluster.gateway.reload(changes.reduce((yaml, [from, to]) => yaml.replace(from, to), cluster.yaml));
  const response = await fetch(`${cluster.gateway.web}/acts_competition/whoami`);
  assert.equal(response.headers.get("x-routes"), "changed");

  for (const [index, visitor] of visitors.entries()) {
    const { backend, session } = before[index];
    assert.deepEqual(await visitor.say("after"), { backend, session, count: 2, echoes: 1 });
    assert.deepEqual(await visitor.facts(), before[index]);
  }
}, OWN);

claim("a drain moves WebSocket and SockJS sessions to the other backend", async () => {
  const visitors = [await openOn("blue")];
  for (const { transport } of FALLBACKS) visitors.push(await openOn("blue", { transport, websocket: false }));
  for (const visitor of visitors) await visitor.say("before");

  await cluster.drain("blue");
  await Promise.all(
    visitors.map(async (visitor) => {
      const moved = await visitor.until("a session at green", (facts) => facts.backend === "green" && facts.state === "open");
      assert.equal(moved.reconnects, "1");
      assert.deepEqual(await visitor.say("after"), { backend: "green", session: moved.session, count: 1, echoes: 1 });
    }),
  );
  const log = await visitors[0].log();
  assert.ok(log.some((line) => line.startsWith("closed with 1012")), log);

  // The drained backend has no session of these pages any more, so its end disturbs none of them.
  assert.equal(await cluster.backends.blue.process.end("SIGTERM"), 0);
  for (const visitor of visitors) await staysInItsSession(visitor, 2);
}, OWN);

claim("a backend that ends without a drain sends its sessions to the other one", async () => {
  const visitors = [await openOn("blue")];
  for (const { transport } of FALLBACKS) visitors.push(await openOn("blue", { transport, websocket: false }));
  assert.equal(await cluster.backends.blue.process.end("SIGTERM"), 0);
  for (const visitor of visitors) {
    await visitor.until("a session at green", (facts) => facts.backend === "green" && facts.state === "open");
    const { backend, echoes } = await visitor.say("after");
    assert.deepEqual({ backend, echoes }, { backend: "green", echoes: 1 });
  }
}, OWN);
