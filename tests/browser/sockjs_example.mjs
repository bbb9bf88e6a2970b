// The example of examples/sockjs: both backends behind the gateway, and its page in a browser.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Child } from "./child.mjs";
import { eventually } from "./eventually.mjs";
import { Gateway, ROOT } from "./gateway.mjs";

const EXAMPLE = join(ROOT, "examples/sockjs");
const PAGE = "/acts_competition/";
// The documented window is longer than a test should take.
const WINDOW = ["drain_window: 30s", "drain_window: 2s"];

class Backend {
  constructor(name) {
    this.name = name;
    this.process = new Child(name, process.execPath, [join(EXAMPLE, "server.mjs"), name, "0"]);
  }

  async ready() {
    [, this.address] = await this.process.match(/listens on http:\/\/([^/]+)\//);
  }
}

/** The two backends, and the gateway with the configuration of the example. */
export class Cluster {
  static async start() {
    const cluster = new Cluster();
    cluster.backends = { blue: new Backend("blue"), green: new Backend("green") };
    for (const backend of Object.values(cluster.backends)) await backend.ready();
    cluster.yaml = cluster.#yaml();
    cluster.gateway = await Gateway.start(cluster.yaml);
    return cluster;
  }

  #yaml() {
    const { blue, green } = this.backends;
    const replacements = [
      ["127.0.0.1:8080", "127.0.0.1:0"],
      ["127.0.0.1:9901", "127.0.0.1:0"],
      ["127.0.0.1:8081", blue.address],
      ["127.0.0.1:8082", green.address],
      WINDOW,
    ];
    return replacements.reduce((text, [from, to]) => {
      if (!text.includes(from)) throw new Error(`moongate.yaml has no ${from}`);
      return text.replace(from, to);
    }, readFileSync(join(EXAMPLE, "moongate.yaml"), "utf8"));
  }

  drain(backend) {
    const { address } = this.backends[backend];
    return this.gateway.call("POST", `/api/v1/upstreams/competition/endpoints/${address}/drain`);
  }

  async end() {
    await this.gateway.end();
    for (const { process } of Object.values(this.backends)) await process.end("SIGKILL");
  }
}

/** A visitor with cookies of its own. */
export class Visitor {
  /** The URLs that the page loaded. */
  requests = [];
  errors = [];

  /**
   * `transport` is a value of the page's parameter of that name. `websocket: false` removes `window.WebSocket`
   * before any script of the page.
   */
  static async open(browser, cluster, { transport, websocket = true } = {}) {
    const visitor = new Visitor();
    visitor.context = await browser.newContext();
    if (!websocket) await visitor.context.addInitScript(() => delete window.WebSocket);
    const page = (visitor.page = await visitor.context.newPage());
    page.on("request", (request) => visitor.requests.push(request.url()));
    page.on("websocket", (socket) => visitor.requests.push(socket.url()));
    page.on("pageerror", (error) => visitor.errors.push(error.message));
    const query = transport ? `?transport=${transport}` : "";
    await page.goto(`${cluster.gateway.web}${PAGE}${query}`, { waitUntil: "load" });
    await visitor.until("a session is open", ({ state }) => state === "open");
    return visitor;
  }

  /** The values that the page shows. */
  async facts() {
    const texts = await this.page.$$eval(".fact dd", (values) => values.map(({ id, textContent }) => [id, textContent]));
    return Object.fromEntries(texts);
  }

  /** Waits for facts, and returns them. */
  until(what, predicate) {
    return eventually(what, async () => {
      const facts = await this.facts();
      if (!predicate(facts)) throw new Error(JSON.stringify(facts));
      return facts;
    });
  }

  /** Types a message and waits for its echo. Returns the backend, the session and the session's count of messages. */
  async say(text) {
    await this.page.fill("#text", text);
    await this.page.press("#text", "Enter");
    const lines = this.page.locator("#log li", { hasText: ` ${text} (` });
    await lines.first().waitFor();
    const [, backend, count, session] = /^(\S+)  .* \(message (\d+) of (\S+)\)$/.exec(await lines.first().textContent());
    return { backend, session, count: Number(count), echoes: await lines.count() };
  }

  log() {
    return this.page.$$eval("#log li", (lines) => lines.map((line) => line.textContent));
  }

  close() {
    return this.context.close();
  }
}
