// The data of the fake gateway: upstreams, endpoints, WebSockets, reloads and log lines that move plausibly.
//
// Numbers come from a seeded generator, so that runs are alike.

export const GENERATIONS = [5, 7];
const REASONS = ["connect_refused", "response_timeout", "no_healthy_endpoint", "rate_limited", "body_too_large"];
const PATHS = ["/ws?room=1", "/ws?room=lobby", "/socket", "/graphql", "/mqtt", "/notify/stream?topics=orders,payments"];
const SUBPROTOCOLS = [null, null, "graphql-ws", "mqtt", "chat.v2"];

export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export class State {
  constructor({ endpoints = 9, sockets = 400, tap = true } = {}) {
    const random = this.random = generator(14);
    this.tap = tap;
    this.started = Math.floor(Date.now() / 1000) - 90_061;
    this.pid = 4711;
    this.generation = 7;
    this.ticks = 0;
    this.errors = new Map(REASONS.map((reason, index) => [reason, { reason, total: index === 4 ? 0 : Math.floor(400 / (index + 1)), rate: 0 }]));
    this.rows = new Map();
    const names = endpoints <= 9 ? ["chat", "api", "notifications"] : Array.from({ length: Math.max(3, Math.ceil(endpoints / 40)) }, (_, index) => `service-${String(index + 1).padStart(2, "0")}`);
    for (let index = 0; index < endpoints; index += 1) {
      const upstream = names[Math.floor(index * names.length / endpoints)];
      const row = {
        upstream, endpoint: `10.0.${Math.floor(index / 200)}.${1 + index % 200}:8081`, weight: index % 7 === 3 ? 2 : 1, health: "healthy",
        probe: { ok: true, reason: "", at: Date.now() - 2000 }, ejected: false, draining: null, active: 0, websockets: 0, opens: 0, closes: 0,
        messages: { to_backend: 0, to_client: 0 }, bytes: { to_backend: 0, to_client: 0 }, rtt: { client: 0.012, backend: 0.0004 },
        latency: 0.004, closed: [{ code: "1000", by: "client", count: 40 + index % 9 }, { code: "1001", by: "client", count: 12 }, { code: "1012", by: "gateway", count: index % 3 }].filter(({ count }) => count > 0),
        slow_start: null, drain: null, tier: 0, max_connections: null,
      };
      if (index % 9 === 4) Object.assign(row, { health: "unhealthy", probe: { ok: false, reason: "connection refused", at: Date.now() - 1000 } });
      if (index % 9 === 8) Object.assign(row, { slow_start: 0.4 });
      if (index % 9 === 3) Object.assign(row, { tier: 1, max_connections: 50 });
      if (index % 30 === 7) Object.assign(row, { draining: "marked" });
      this.rows.set(this.key(upstream, row.endpoint), row);
    }
    this.sockets = new Map();
    this.nextSocket = 1;
    const usable = [...this.rows.values()].filter(({ health }) => health !== "unhealthy");
    for (let index = 0; index < sockets; index += 1) this.#open(usable[index % usable.length], random() * 7200);
    this.entries = [
      { number: 1, at: (this.started) * 1000, cause: "start", ok: true, generation: 5, took: 0.021, warnings: null, report: null, diff: null },
      { number: 2, at: Date.now() - 3_600_000, cause: "signal", ok: false, generation: null, took: 0.004, warnings: null, report: REPORT, diff: null },
      { number: 3, at: Date.now() - 1_800_000, cause: "api", ok: true, generation: 7, took: 0.018, warnings: "warning: route `old` never matches\n  --> conf/moongate.yaml:31:5\n", report: null, diff: DIFF },
    ].reverse();
    this.lines = { access: [], process: [] };
    for (let index = 0; index < 40; index += 1) this.#log();
    this.tick(1);
    this.history = this.#pastTenMinutes(this.overview());
  }

  key(upstream, endpoint) {
    return `${upstream}\n${endpoint}`;
  }

  #pastTenMinutes({ handshakes, messages, bytes, websockets }) {
    const wave = (base, spread = base * 0.15) => Array.from({ length: 120 }, (_, index) => Math.max(0, base + spread * Math.sin(index / 9) + spread * 0.4 * (this.random() - 0.5)));
    const points = {
      requests: wave(1200), handshakes: wave(handshakes), messages_to_backend: wave(messages.to_backend), messages_to_client: wave(messages.to_client),
      bytes_to_backend: wave(bytes.to_backend), bytes_to_client: wave(bytes.to_client), websockets: wave(websockets, websockets * 0.08).map(Math.round), errors: wave(0.6, 0.8), rtt_p50: wave(0.0021, 0.0004), rtt_p99: wave(0.014, 0.005),
    };
    return { interval: 5, end: Date.now(), points, errors: { connect_refused: wave(0.4, 0.5), no_route: wave(0.2, 0.3) } };
  }

  #open(row, age) {
    const { random } = this;
    const id = this.nextSocket++;
    this.sockets.set(id, {
      id, client: `192.0.2.${1 + Math.floor(random() * 250)}`, route: row.upstream, upstream: row.upstream, endpoint: row.endpoint, host: `${row.upstream}.example`,
      path: PATHS[Math.floor(random() * PATHS.length)], opened: Date.now() - age * 1000, last: Date.now() - random() * 60_000,
      messages: { to_backend: Math.floor(age * random()), to_client: Math.floor(age * 4 * random()) },
      bytes: { to_backend: Math.floor(age * 90 * random()), to_client: Math.floor(age * 4000 * random()) },
      rtt: { client: random() < 0.1 ? null : 0.004 + random() * 0.05, backend: 0.0003 + random() * 0.001 },
      subprotocol: SUBPROTOCOLS[Math.floor(random() * SUBPROTOCOLS.length)], generation: random() < 0.05 ? GENERATIONS[0] : this.generation,
    });
    row.websockets += 1;
  }

  close(id) {
    const socket = this.sockets.get(id);
    if (!socket) return null;
    this.sockets.delete(id);
    this.rows.get(this.key(socket.upstream, socket.endpoint)).websockets -= 1;
    return socket;
  }

  socket(id) {
    const socket = this.sockets.get(id);
    return socket && present(socket);
  }

  #log() {
    const { random } = this;
    const status = random() < 0.04 ? 502 : 200;
    const time = new Date().toISOString();
    const line = { time, client: `192.0.2.${1 + Math.floor(random() * 250)}`, method: "GET", host: "api.example", path: `/v1/items/${Math.floor(random() * 1000)}`, protocol: "HTTP/1.1", status,
      duration_ms: Math.round(random() * 9000) / 1000, route: "api", upstream: "api", endpoint: "10.0.0.4:8081", ...(status === 502 ? { error: "connect_refused" } : {}) };
    if (random() < 0.3) Object.assign(line, { event: "close", status: 101, path: "/ws?room=1", code: 1001, by: "client", reason: "close", lifetime_ms: 314_159 });
    this.lines.access.push(JSON.stringify(line));
    const fresh = { access: [this.lines.access.at(-1)], process: [] };
    if (random() < 0.2) {
      const process = `${time} ${random() < 0.2 ? "WARN" : "INFO"}  moongate::upstream: endpoint became ${random() < 0.5 ? "healthy" : "unhealthy"} upstream=chat endpoint=10.0.0.2:8081`;
      this.lines.process.push(process);
      fresh.process.push(process);
    }
    for (const list of Object.values(this.lines)) list.splice(0, Math.max(0, list.length - 500));
    return fresh;
  }

  /** Moves everything by `seconds`; returns new log lines. */
  tick(seconds) {
    const { random } = this;
    this.ticks += 1;
    const now = Date.now();
    for (const row of this.rows.values()) {
      const up = row.health !== "unhealthy";
      row.opens = up && !row.draining ? Math.round(random() * 40) / 10 : 0;
      row.closes = up ? Math.round(random() * 20) / 10 : 0;
      const load = row.websockets + (up ? 20 : 0);
      row.messages = { to_backend: load * (0.4 + random() * 0.2), to_client: load * (1.5 + random()) };
      row.bytes = { to_backend: row.messages.to_backend * 80, to_client: row.messages.to_client * 900 };
      row.rtt = up ? { client: 0.01 + random() * 0.01, backend: 0.0003 + random() * 0.0003 } : { client: null, backend: null };
      row.latency = up ? 0.003 + random() * 0.004 : null;
      row.active = row.websockets + Math.floor(random() * 12);
      if (row.probe) row.probe = { ...row.probe, at: now - Math.floor(random() * 3000) };
      if (isFinite(row.slow_start) && row.slow_start !== null) row.slow_start = row.slow_start >= 0.99 ? 0.4 : row.slow_start + 0.01;
      if (row.drain) this.#drain(row, now);
    }
    for (const error of this.errors.values()) {
      error.rate = error.total > 0 ? Math.round(random() * 5) / 10 : 0;
      error.total += Math.round(error.rate);
    }
    let touched = 0;
    for (const socket of this.sockets.values()) {
      if (random() < 0.3) {
        socket.last = now;
        socket.messages.to_client += 1;
        socket.bytes.to_client += 900;
      }
      if (++touched > 2000) break;
    }
    if (this.history && this.ticks % Math.max(1, Math.round(5 / seconds)) === 0) this.#point(now);
    return this.#log();
  }

  #drain(row, now) {
    const { drain } = row;
    if (row.websockets === 0) {
      row.drain = null;
      return;
    }
    drain.left = Math.max(0, drain.window - (now - drain.started) / 1000);
    const goal = Math.floor(drain.websockets_at_start * drain.left / drain.window * (drain.left > 0 ? 0.95 + 0.1 * this.random() : 0));
    if (row.websockets <= goal) return;
    for (const socket of this.sockets.values()) {
      if (row.websockets <= goal) break;
      if (socket.endpoint === row.endpoint && socket.upstream === row.upstream) this.close(socket.id);
    }
  }

  #point(now) {
    const overview = this.overview();
    this.last = { end: now, points: {
      requests: overview.requests, handshakes: overview.handshakes, messages_to_backend: overview.messages.to_backend, messages_to_client: overview.messages.to_client,
      bytes_to_backend: overview.bytes.to_backend, bytes_to_client: overview.bytes.to_client, websockets: overview.websockets, errors: overview.errors.reduce((sum, { rate }) => sum + rate, 0),
      rtt_p50: overview.rtt?.p50 ?? null, rtt_p99: overview.rtt?.p99 ?? null,
    }, errors: Object.fromEntries(overview.errors.filter(({ rate }) => rate > 0).map(({ reason, rate }) => [reason, rate])) };
    this.history.end = now;
    for (const reason of Object.keys({ ...this.history.errors, ...this.last.errors })) {
      const list = this.history.errors[reason] ?? Array(Math.min(this.history.points.errors.length, 119)).fill(0);
      this.history.errors[reason] = [...list, this.last.errors[reason] ?? 0].slice(-120);
    }
    for (const [key, value] of Object.entries(this.last.points)) this.history.points[key] = [...this.history.points[key], value].slice(-120);
  }

  overview() {
    const { random } = this;
    const sum = { messages: { to_backend: 0, to_client: 0 }, bytes: { to_backend: 0, to_client: 0 }, opens: 0 };
    for (const row of this.rows.values()) {
      sum.opens += row.opens;
      for (const direction of ["to_backend", "to_client"]) {
        sum.messages[direction] += row.messages[direction];
        sum.bytes[direction] += row.bytes[direction];
      }
    }
    return {
      at: Date.now(), requests: 1200 + 60 * random(), handshakes: sum.opens, messages: sum.messages, bytes: sum.bytes, websockets: this.sockets.size, requests_in_flight: 20 + Math.floor(random() * 20),
      errors: [...this.errors.values()].filter(({ total }) => total > 0), rtt: { p50: 0.0018 + random() * 0.0005, p99: 0.01 + random() * 0.008 },
      process: { uptime: Date.now() / 1000 - this.started, memory: 84e6 + this.sockets.size * 9000, descriptors: 60 + this.sockets.size * 2, max_descriptors: 1048576, threads: 6, cpu: 0.11 + random() * 0.05, generation: this.generation, draining: false },
    };
  }

  flows() {
    const all = new Map();
    for (const row of this.rows.values()) {
      const names = row.upstream === "chat" ? [["chat", 0.7], ["chat-beta", 0.3]] : row.upstream === "api" ? [["api", 0.9], ["chat", 0.1]] : [[row.upstream, 1]];
      for (const [route, share] of names) {
        const key = this.key(route, row.upstream);
        const flow = all.get(key) ?? { route, upstream: row.upstream, requests: 0, websockets: 0, messages: 0, bytes: 0 };
        flow.requests += share * (row.opens * 9 + 12);
        flow.websockets += Math.round(share * row.websockets);
        flow.messages += share * (row.messages.to_backend + row.messages.to_client);
        flow.bytes += share * (row.bytes.to_backend + row.bytes.to_client);
        all.set(key, flow);
      }
    }
    return [...all.values(), { route: "-", upstream: "-", requests: 0.4, websockets: 0, messages: 0, bytes: 0 }];
  }

  generations() {
    const counts = {};
    for (const { generation } of this.sockets.values()) counts[generation] = (counts[generation] ?? 0) + 1;
    return counts;
  }

  order(upstream, endpoint, drains, window) {
    const row = this.rows.get(this.key(upstream, endpoint));
    if (!row) return false;
    if (drains) Object.assign(row, { draining: "operator", drain: { started: Date.now(), window, left: window, websockets_at_start: row.websockets } });
    else Object.assign(row, { draining: null, drain: null });
    return true;
  }

  reload(refused) {
    const number = this.entries[0].number + 1;
    const entry = { number, at: Date.now(), cause: "api", ok: !refused, generation: refused ? null : this.generation + 1, took: 0.012, warnings: null, report: refused ? REPORT : null, diff: refused ? null : DIFF };
    if (!refused) this.generation += 1;
    this.entries = [entry, ...this.entries].slice(0, 50);
    return entry;
  }
}

export function present({ opened, last, ...socket }) {
  const now = Date.now();
  return { ...socket, age: (now - opened) / 1000, idle: Math.max(0, (now - last) / 1000) };
}

const both = (pair) => pair.to_backend + pair.to_client;
const ORDERS = {
  id: ({ id }) => id, client: ({ client }) => client, route: ({ route }) => route, upstream: ({ upstream }) => upstream, endpoint: ({ endpoint }) => endpoint, path: ({ path }) => path,
  age: ({ opened }) => -opened, idle: ({ last }) => -last, messages: ({ messages }) => both(messages), bytes: ({ bytes }) => both(bytes), rtt: ({ rtt }) => rtt.client ?? -1,
  subprotocol: ({ subprotocol }) => subprotocol ?? "", generation: ({ generation }) => generation,
};

/** The object of `/api/v1/sockets`, or a text that says what is wrong with the filter. */
export function page(state, parameters) {
  const words = (parameters.get("filter") ?? "").split(" ").filter((word) => word !== "");
  const tests = [];
  for (const word of words) {
    const [, field, sign, value] = /^(\w+)([:<>])(.+)$/.exec(word) ?? [];
    if (field === undefined) tests.push((socket) => ["client", "route", "upstream", "endpoint", "host", "path"].some((name) => String(socket[name]).includes(word)));
    else if (sign === ":" && ["id", "generation"].includes(field)) tests.push((socket) => String(socket[field]) === value);
    else if (sign === ":" && field in ORDERS) tests.push((socket) => String(socket[field] ?? "").toLowerCase().includes(value.toLowerCase()));
    else if (sign !== ":" && ["age", "messages", "bytes"].includes(field)) tests.push((socket) => (field === "age" ? (Date.now() - socket.opened) / 1000 : both(socket[field])) > parseFloat(value) === (sign === ">"));
    else return `unknown field \`${field}\`; fields are client, route, upstream, endpoint, host, path, subprotocol, generation, id, age, idle, messages, bytes and rtt`;
  }
  const matched = [...state.sockets.values()].filter((socket) => tests.every((test) => test(socket)));
  const sort = parameters.get("sort") ?? "-age";
  const [value, sign] = [ORDERS[sort.replace("-", "")], sort.startsWith("-") ? -1 : 1];
  matched.sort((a, b) => sign * (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) || a.id - b.id);
  const perPage = Number(parameters.get("per_page") ?? 50);
  const pages = Math.max(1, Math.ceil(matched.length / perPage));
  const number = Math.min(pages, Number(parameters.get("page") ?? 1));
  return { total: state.sockets.size, matched: matched.length, page: number, pages, rows: matched.slice((number - 1) * perPage, number * perPage).map(present) };
}

export const REPORT = "error: unknown setting `retrys` at routes[2]; did you mean `retries`?\n  --> conf/moongate.yaml:27:5\n   |\n27 |     retrys: 3\n   |     ^^^^^^ <b>not markup</b>\n\nThe configuration has 1 error.\n";

export const DIFF = "--- generation 5\n+++ generation 7\n@@ -4,7 +4,7 @@\n upstreams:\n   chat:\n     endpoints:\n-      - 10.0.0.9:8081\n+      - 10.0.0.2:8081\n     balance: least_connections\n";

export const YAML = `# generation 7, secrets masked
admin:
  address: 127.0.0.1:9901
  token: '***'
  tap: true
listeners:
  - name: web
    address: 0.0.0.0:80
upstreams:
  chat:
    endpoints:
      - 10.0.0.1:8081
      - { address: 10.0.0.2:8081, weight: 2 }
    balance: least_connections
    health_check: { kind: websocket, path: /ws, interval: 5s }
  api:
    endpoints: [10.0.0.4:8081]
routes:
  - name: chat
    host: chat.example
    path: /ws
    upstream: chat
    websocket: { idle_timeout: 1h, drain_window: 30s }
  - name: api
    host: api.example
    upstream: api
`;
