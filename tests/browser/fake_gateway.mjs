// A gateway for tests of the live page: serves the page and the admin API with data that moves, without a connection
// to anything. `node fake_gateway.mjs --endpoints 1000 --sockets 50000 --port 9901` serves it to a person.

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { pathToFileURL } from "node:url";
import { State, YAML, page, present } from "./fake_state.mjs";
import { documentOfPage } from "./document.mjs";

export const TOKEN = "open-sesame";

class Refusal extends Error {
  constructor(status, error, detail) {
    super(error);
    this.body = { error, status, ...(detail ? { detail } : {}) };
  }
}

export class FakeGateway {
  /** `interval` is the time between two updates, in seconds. */
  constructor({ token = null, interval = 1, drainWindow = 30, ...sizes } = {}) {
    Object.assign(this, { token, interval, drainWindow, sizes, state: new State(sizes), streams: new Set(), taps: new Set(), requests: [], refuseReload: false, key: "key-of-this-browser" });
    this.server = createServer((request, response) => this.#serve(request, response));
    this.timer = setInterval(() => this.tick(), interval * 1000);
  }

  async listen(port = 0) {
    await new Promise((done) => this.server.listen(port, "127.0.0.1", done));
    this.port = this.server.address().port;
    this.url = `http://127.0.0.1:${this.port}`;
    return this;
  }

  /** Ends all connections and listens no more, as a process that was killed. */
  async vanish() {
    const closed = new Promise((done) => this.server.close(done));
    this.server.closeAllConnections();
    this.streams.clear();
    this.taps.clear();
    await closed;
  }

  /** Comes back on the same port as another process. */
  async restart() {
    this.state = new State(this.sizes);
    this.state.started = Math.floor(Date.now() / 1000);
    this.state.pid += 1;
    this.server = createServer((request, response) => this.#serve(request, response));
    await this.listen(this.port);
  }

  async end() {
    clearInterval(this.timer);
    await this.vanish();
  }

  tick() {
    const lines = this.state.tick(this.interval);
    for (const stream of this.streams) stream.update(lines);
  }

  /** A message on a WebSocket, for its taps. */
  say(socket, message) {
    for (const tap of this.taps) if (tap.matches(socket)) tap.send("message", { socket, at: Date.now(), truncated: false, compressed: false, ...message });
  }

  #serve(request, response) {
    const url = new URL(request.url, "http://gateway");
    this.requests.push({ method: request.method, path: url.pathname, search: url.search, headers: request.headers });
    let body = "";
    request.on("data", (chunk) => { body += chunk; });
    request.on("end", () => {
      try {
        this.#respond(request, response, url, body);
      } catch (refusal) {
        if (!(refusal instanceof Refusal)) throw refusal;
        json(response, refusal.body.status, refusal.body);
      }
    });
  }

  #signedIn(request) {
    if (this.token === null || request.headers.authorization === `Bearer ${this.token}`) return true;
    return request.headers["x-moongate-key"] === this.key && (request.headers.cookie ?? "").includes(`moongate_session_${this.port}=signed`);
  }

  #respond(request, response, url, body) {
    const { state } = this;
    const call = `${request.method} ${url.pathname}`;
    if (call === "GET /") {
      const { html, policy } = documentOfPage();
      response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy, "Cache-Control": "no-store" }).end(html);
      return;
    }
    if (request.method !== "GET" && !["same-origin", undefined].includes(request.headers["sec-fetch-site"])) throw new Refusal(403, "cross_site");
    if (url.pathname === "/api/v1/session") return this.#session(request, response, body);
    if (!this.#signedIn(request)) throw new Refusal(401, "unauthorized");
    const endpoint = /^\/api\/v1\/upstreams\/([^/]+)\/endpoints\/([^/]+)\/(drain|undrain)$/.exec(url.pathname);
    if (endpoint) {
      const [upstream, address] = endpoint.slice(1, 3).map(decodeURIComponent);
      if (!state.order(upstream, address, endpoint[3] === "drain" && request.method === "POST", this.drainWindow)) throw new Refusal(404, "unknown_endpoint");
      return json(response, 200, { ok: true });
    }
    const close = /^\/api\/v1\/sockets\/(\d+)\/close$/.exec(url.pathname);
    if (close && request.method === "POST") return this.#close(response, Number(close[1]), url.searchParams);
    const calls = {
      "GET /api/v1/live": () => this.#live(request, response, url.searchParams),
      "GET /api/v1/sockets": () => json(response, 200, sockets(state, url.searchParams)),
      "GET /api/v1/config": () => response.writeHead(200, { "Content-Type": "text/yaml" }).end(YAML),
      "GET /api/v1/explain": () => explain(response, url.searchParams),
      "GET /api/v1/tap": () => this.#tap(request, response, url.searchParams),
      "POST /api/v1/reload": () => {
        const entry = state.reload(this.refuseReload);
        for (const stream of this.streams) stream.reloaded();
        if (entry.ok) json(response, 200, { ok: true, generation: entry.generation, file: "conf/moongate.yaml" });
        else json(response, 422, { ok: false, report: entry.report });
      },
    };
    if (!calls[call]) throw new Refusal(404, "not_found");
    calls[call]();
  }

  #session(request, response, body) {
    if (request.method === "GET") return json(response, 200, { required: this.token !== null, signed_in: this.#signedIn(request) });
    if (request.method === "DELETE") return json(response, 200, { ok: true });
    if (JSON.parse(body).token !== this.token) throw new Refusal(401, "unauthorized");
    response.setHeader("Set-Cookie", `moongate_session_${this.port}=signed; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200`);
    json(response, 200, { key: this.key });
  }

  #close(response, id, parameters) {
    const code = Number(parameters.get("code") ?? 1012);
    if (!((code >= 1000 && code <= 1013 && ![1004, 1005, 1006].includes(code)) || (code >= 3000 && code < 5000))) throw new Refusal(422, "bad_code", `${code} is not a code of a Close frame`);
    if (!this.state.close(id)) throw new Refusal(404, "unknown_socket");
    this.closed = { id, code, reason: parameters.get("reason") };
    json(response, 200, { ok: true });
  }

  #live(request, response, parameters) {
    const sections = new Set(parameters.get("sections").split(","));
    if (sections.has("sockets")) sockets(this.state, parameters);
    const send = stream(response);
    const { state } = this;
    const log = (lines) => {
      const wanted = parameters.get("log") ?? "both", filter = parameters.get("filter") ?? "";
      for (const source of ["access", "process"]) {
        const matched = (lines[source] ?? []).filter((line) => line.includes(filter));
        if ((wanted === "both" || wanted === source) && matched.length > 0) send("log", { source, lines: matched, missed: false });
      }
    };
    let reset = true;
    let sent = null;
    const self = {
      update(lines) {
        if (sections.has("overview")) {
          send("overview", state.overview());
          if (state.last && state.last !== sent) send("point", sent = state.last);
        }
        if (sections.has("upstreams")) {
          send("upstreams", { reset, rows: [...state.rows.values()], gone: [] });
          send("flows", { reset, rows: state.flows(), gone: [] });
        }
        if (sections.has("sockets")) send("sockets", sockets(state, parameters));
        if (sections.has("reloads")) send("generations", state.generations());
        if (sections.has("log")) log(lines);
        reset = false;
      },
      reloaded() {
        if (sections.has("reloads")) send("reloads", { entries: state.entries });
      },
    };
    send("hello", { version: "0.1.0", generation: state.generation, started: state.started, tap: state.tap, interval: this.interval, pid: state.pid });
    if (sections.has("overview")) send("history", state.history);
    self.reloaded();
    self.update(state.lines);
    this.streams.add(self);
    request.socket.on("close", () => this.streams.delete(self));
    response.on("close", () => this.streams.delete(self));
  }

  #tap(request, response, parameters) {
    if (!this.state.tap) throw new Refusal(403, "tap_off");
    const [id, route, filter] = ["socket", "route", "filter"].map((name) => parameters.get(name));
    if (filter?.includes("==") === false) throw new Refusal(422, "bad_filter", "the filter is not a boolean expression");
    const tapped = [...this.state.sockets.values()].filter((socket) => id !== null ? socket.id === Number(id) : route === null || socket.route === route);
    if (tapped.length === 0) throw new Refusal(404, "unknown_socket");
    const send = stream(response);
    const until = Date.now() + 60_000;
    send("start", { sockets: tapped.length, until });
    for (const socket of tapped.slice(0, 3)) send("open", { ...present(socket), at: Date.now() });
    const self = { send, matches: (socket) => tapped.some((each) => each.id === socket) };
    this.taps.add(self);
    const chatter = setInterval(() => {
      const { id: socket } = tapped[Math.floor(Math.random() * tapped.length)];
      const text = JSON.stringify({ type: "message", room: 1, text: "hello", n: Math.floor(Math.random() * 1000) });
      send("message", Math.random() < 0.8
        ? { socket, at: Date.now(), direction: Math.random() < 0.3 ? "to_backend" : "to_client", opcode: "text", size: text.length, text, truncated: false, compressed: false }
        : { socket, at: Date.now(), direction: "to_client", opcode: "binary", size: 4096, hex: "0a1b2c3d4e5f".repeat(6), truncated: true, compressed: true });
    }, this.interval * 400);
    response.on("close", () => {
      clearInterval(chatter);
      this.taps.delete(self);
    });
  }
}

function sockets(state, parameters) {
  const result = page(state, parameters);
  if (typeof result === "string") throw new Refusal(422, "bad_filter", result);
  return result;
}

function explain(response, parameters) {
  const url = new URL(parameters.get("url"));
  if (url.hostname === "bad") throw new Refusal(422, "bad_url", "the host is not valid");
  const route = { "chat.example": "chat", "api.example": "api" }[url.hostname] ?? null;
  json(response, 200, {
    route, upstream: route, because: route ? ["exact host", url.pathname.startsWith("/ws") ? "path /ws, a prefix of whole segments" : "any path"] : [],
    others: [{ route: "beta", reason: "header x-beta: absent" }, { route: route === "api" ? "chat" : "api", reason: `host ${url.hostname} is not api.example` }],
    elsewhere: 2, text: `${parameters.get("method")} ${url}\n  route ${route}\n`,
  });
}

function stream(response) {
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
  return (name, data) => response.write(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
}

function json(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json" }).end(`${JSON.stringify(body)}\n`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const { values } = parseArgs({ options: { endpoints: { type: "string" }, sockets: { type: "string" }, port: { type: "string" }, token: { type: "string" }, "no-tap": { type: "boolean" } } });
  const gateway = new FakeGateway({ endpoints: Number(values.endpoints ?? 9), sockets: Number(values.sockets ?? 400), token: values.token ?? null, tap: !values["no-tap"] });
  await gateway.listen(Number(values.port ?? 9901));
  console.log(gateway.url);
}
