// The view Upstreams: drains in progress, the flow, and a row for each endpoint.

const endpointKey = ({ upstream, endpoint }) => `${upstream}\n${endpoint}`;

/** The states of an endpoint as badges, the worst first: [tone, text]. */
function endpointStates({ health, ejected, state, draining, slow_start: slowStart, tier, max_connections: limit, active }) {
  const states = [];
  if (health === "unhealthy") states.push(["bad", "unhealthy"]);
  if (ejected) states.push(["bad", "ejected"]);
  if (draining) states.push(["warn", { marked: "draining: configuration", operator: "draining: operator", removed: "draining: removed", absent: "draining: not announced", announced: "draining: announced" }[draining] ?? "draining"]);
  if (state === "absent") states.push(["note", "not announced"]);
  if (isNumber(limit) && active >= limit) states.push(["warn", "full"]);
  if (tier > 0) states.push(["note", "backup"]);
  if (isNumber(slowStart)) states.push(["note", `slow start ${formatPercent(slowStart)}`]);
  if (health === "healthy" && !ejected) states.push(["good", "healthy"]);
  if (health === "unknown") states.push(["note", "not checked"]);
  return states;
}

const SEVERITY = { bad: 3, warn: 2, note: 1, good: 0 };
const severity = (row) => Math.max(...endpointStates(row).map(([tone]) => SEVERITY[tone]), 0);
const sum = (pair) => pair.to_backend + pair.to_client;
const closesOf = (row) => row.closed.reduce((total, { count }) => total + count, 0);

// What a column sorts by.
const ENDPOINT_ORDER = {
  endpoint: (row) => row.endpoint, state: severity, websockets: (row) => row.websockets, active: (row) => row.active,
  opens: (row) => row.opens + row.closes, messages: (row) => sum(row.messages), bytes: (row) => sum(row.bytes),
  rtt: (row) => Math.max(row.rtt.client ?? -1, row.rtt.backend ?? -1), latency: (row) => row.latency ?? -1, closed: closesOf,
};

const natural = new Intl.Collator("en", { numeric: true });

function compareEndpoints(sort) {
  const value = ENDPOINT_ORDER[sort.replace(/^-/, "")];
  const sign = sort.startsWith("-") ? -1 : 1;
  return (a, b) => {
    const [x, y] = [value(a), value(b)];
    const order = typeof x === "string" ? natural.compare(x, y) : x - y;
    return sign * order || natural.compare(a.endpoint, b.endpoint) || natural.compare(a.upstream, b.upstream);
  };
}

const SHOWN = {
  all: () => true,
  problems: (row) => row.health === "unhealthy" || row.ejected,
  draining: (row) => row.draining !== null,
  busy: (row) => row.websockets > 0,
};

function matchesWords(row, words) {
  if (words.length === 0) return true;
  const text = [row.upstream, row.endpoint, ...endpointStates(row).map(([, state]) => state), row.probe && !row.probe.ok ? row.probe.reason : ""].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

const socketsLink = (filter) => `#sockets?${query({ filter })}`;

function badgeList(cell) {
  const list = element("span", { class: "badges" });
  cell.append(list);
  let shown = "";
  return (states) => {
    const key = states.join("\n");
    if (key === shown) return;
    shown = key;
    list.replaceChildren(...states.map(([tone, text]) => element("span", { class: `badge tone-${tone}` }, text)));
  };
}

function stateCell(cell) {
  const badges = badgeList(cell);
  const reason = element("span", { class: "sub" });
  cell.append(reason);
  return (row) => {
    badges(endpointStates(row));
    setText(reason, row.probe && !row.probe.ok ? row.probe.reason : "");
  };
}

/** The number of WebSockets with its bar: of the largest endpoint, or of the start of a drain. */
function websocketsCell(largest) {
  return (cell, { upstream, endpoint }) => {
    const link = element("a", { href: socketsLink(`endpoint:${endpoint} upstream:${upstream}`) });
    const number = element("span");
    link.append(number, hiddenText(` WebSockets of ${endpoint}`));
    const fill = element("span", { class: "bar-fill" });
    const bar = element("span", { class: "bar", "aria-hidden": "true" }, fill);
    cell.append(link, bar);
    return (row) => {
      setText(number, formatCount(row.websockets));
      setBar(fill, row.websockets / Math.max(1, row.drain ? row.drain.websockets_at_start : largest()));
      bar.classList.toggle("draining", row.draining !== null);
    };
  };
}

function closedCell(cell) {
  const [first, second] = [element("span", { class: "pair" }), element("span", { class: "pair" })];
  cell.append(first, second);
  const text = ({ code, by, count }) => `${code} ${by} ${formatCount(count)}`;
  return ({ closed }) => {
    const [most, next, ...more] = [...closed].sort((a, b) => b.count - a.count);
    setText(first, most ? text(most) : DASH);
    setText(second, next ? `${text(next)}${more.length > 0 ? `, +${more.length}` : ""}` : "");
  };
}

function drainCell(cell, { endpoint }) {
  const [verb, button] = [element("span"), element("button", { type: "button", class: "small" })];
  button.append(verb, hiddenText(` ${endpoint}`));
  const none = element("span", { class: "sub" });
  cell.append(button, none);
  let shown = null;
  button.addEventListener("click", () => (shown.draining === "operator" ? confirmUndrain : confirmDrain)(shown));
  return (row) => {
    shown = row;
    const fixed = ["marked", "removed", "absent"].includes(row.draining);
    setText(verb, row.draining === "operator" ? "Undrain" : "Drain");
    setHidden(button, fixed);
    setText(none, row.draining === "marked" ? "drain: true" : ["removed", "absent"].includes(row.draining) ? "removed" : "");
  };
}

function createUpstreams() {
  const rows = new Map();
  const curves = new DrainCurves();
  const [flow, drains] = [createFlow(), createDrains(curves)];
  const open = new Set();
  let largest = 1, force = false, reset = true;

  function changed() {
    force = true;
    requestRender();
  }

  function endpointCell(cell, row) {
    const key = endpointKey(row);
    const [button, name] = [element("button", { type: "button", class: "disclose", "aria-expanded": "false" }), element("span", { class: "sub" })];
    button.append(element("span", { class: "arrow", "aria-hidden": "true" }), element("span", { class: "mono" }, row.endpoint));
    button.addEventListener("click", () => {
      if (!open.delete(key)) open.add(key);
      changed();
    });
    cell.append(button, name);
    return ({ upstream, weight }) => {
      setAttribute(button, "aria-expanded", open.has(key));
      const words = [];
      if (!byId("endpoints-group").checked) words.push(upstream);
      if (weight !== 1) words.push(`weight ${weight}`);
      setText(name, words.join(" · "));
    };
  }

  const table = new DataTable(byId("endpoints"), [
    { key: "endpoint", label: "Endpoint", header: true, sort: "up", build: endpointCell },
    { key: "state", label: "State", sort: "down", build: stateCell },
    { key: "websockets", label: "WebSockets", number: true, sort: "down", build: websocketsCell(() => largest) },
    { key: "active", label: "Active", note: "requests and WebSockets", number: true, sort: "down", build: textCell(({ active }) => formatCount(active)) },
    { key: "opens", label: "Opens, closes", number: true, sort: "down", build: pairCell(["+"], ["−"], ({ opens }) => formatRate(opens), ({ closes }) => formatRate(closes)) },
    { key: "messages", label: "Messages/s", note: "to backend and to client", number: true, sort: "down", build: pairCell(["→"], ["←"], ({ messages }) => formatRate(messages.to_backend), ({ messages }) => formatRate(messages.to_client)) },
    { key: "bytes", label: "Bytes/s", note: "to backend and to client", number: true, sort: "down", build: pairCell(["→"], ["←"], ({ bytes }) => formatBytes(bytes.to_backend), ({ bytes }) => formatBytes(bytes.to_client)) },
    { key: "rtt", label: "Round trip", number: true, sort: "down", build: pairCell(["", "client"], ["", "backend"], ({ rtt }) => formatLatency(rtt.client), ({ rtt }) => formatLatency(rtt.backend)) },
    { key: "latency", label: "Latency", number: true, sort: "down", build: textCell(({ latency }) => formatLatency(latency)) },
    { key: "closed", label: "Closes", note: "code, by, count", sort: "down", build: closedCell },
    { key: "action", label: "Action", hideLabel: true, build: drainCell },
  ], { sort: "endpoint", onSort: changed, sortControl: byId("endpoints-sort"), builders: { group: buildGroup, details: buildDetails } });
  const pager = new Pager(byId("endpoints-pager"), "Endpoints", { sizes: [25, 50, 100, 200], size: isNarrow() ? 25 : 50, onChange: changed });

  /** A row for an upstream, with the sums of its endpoints. */
  function buildGroup({ name }) {
    const [note, websockets, active, opens, messages, bytes] = ["span", "td", "td", "td", "td", "td"].map((tag) => element(tag));
    const cells = [websockets, active, opens, messages, bytes];
    ["WebSockets", "Active", "Opens, closes", "Messages/s", "Bytes/s"].forEach((label, index) => {
      cells[index].className = "number";
      setAttribute(cells[index], "role", "cell");
      setAttribute(cells[index], "data-label", label);
    });
    note.className = "sub";
    const head = element("th", { scope: "row", role: "rowheader", colspan: 2 }, element("span", { class: "group-name" }, name), note);
    const node = element("tr", { class: "group", role: "row" }, head, ...cells, element("td", { role: "cell", colspan: 4, class: "filler" }));
    return {
      node,
      update({ endpoints, healthy, total }) {
        setText(note, `${plural(endpoints, "endpoint")}, ${formatCount(healthy)} healthy`);
        setText(websockets, formatCount(total.websockets));
        setText(active, formatCount(total.active));
        setText(opens, `+${formatRate(total.opens)} −${formatRate(total.closes)}`);
        setText(messages, formatRate(total.messages));
        setText(bytes, formatBytes(total.bytes));
      },
    };
  }

  /** The row below an endpoint: its last probe, and all closes by code and side. */
  function buildDetails() {
    const facts = element("dl", { class: "facts" });
    const values = ["Weight", "Most active", "Last probe", "Slow start", "Draining", "Origin"].map((name) => {
      const value = element("dd");
      facts.append(element("dt", {}, name), value);
      return value;
    });
    const closes = element("table", { class: "plain" }, element("caption", {}, "WebSockets closed"));
    const inner = new DataTable(closes, [
      { key: "code", label: "Code", header: true, build: textCell(({ code }) => `${code} ${closeCodeName(code)}`) },
      { key: "by", label: "Closed by", build: textCell(({ by }) => by) },
      { key: "count", label: "Count", number: true, build: textCell(({ count }) => formatCount(count)) },
    ]);
    const node = element("tr", { class: "details", role: "row" },
      element("td", { colspan: table.columns.length, role: "cell" }, element("div", { class: "details-body" }, facts, closes)));
    return {
      node,
      update(row) {
        const { probe, drain } = row;
        setText(values[0], formatCount(row.weight));
        setText(values[1], isNumber(row.max_connections) ? formatCount(row.max_connections) : "no limit");
        setText(values[2], probe ? (probe.ok ? "passed" : `failed: ${probe.reason}, ${formatTime(probe.at)}`) : "none");
        setText(values[3], isNumber(row.slow_start) ? formatPercent(row.slow_start) : "no");
        setText(values[4], drain ? `since ${formatTime(drain.started)}, window ${formatDuration(drain.window)}, ${drainProgress(row)}` : row.draining ?? "no");
        setText(values[5], row.origin ?? "removed");
        inner.show([...row.closed].sort((a, b) => b.count - a.count).map((close) => ({ key: `${close.code} ${close.by}`, item: close })), true);
      },
    };
  }

  /** The sums of each upstream, over all of its endpoints. */
  function groups() {
    const all = new Map();
    for (const row of rows.values()) {
      let group = all.get(row.upstream);
      if (!group) all.set(row.upstream, group = { name: row.upstream, endpoints: 0, healthy: 0, total: { websockets: 0, active: 0, opens: 0, closes: 0, messages: 0, bytes: 0 } });
      group.endpoints += 1;
      if (row.health === "healthy" && !row.ejected) group.healthy += 1;
      for (const key of ["websockets", "active", "opens", "closes"]) group.total[key] += row[key];
      group.total.messages += sum(row.messages);
      group.total.bytes += sum(row.bytes);
    }
    return all;
  }

  function showEndpoints() {
    const words = byId("endpoints-filter").value.toLowerCase().split(/\s+/).filter((word) => word !== "");
    const keep = SHOWN[byId("endpoints-show").value];
    const grouped = byId("endpoints-group").checked;
    const all = [...rows.values()];
    largest = all.reduce((most, { websockets }) => Math.max(most, websockets), 1);
    const matched = all.filter((row) => keep(row) && matchesWords(row, words));
    const compare = compareEndpoints(table.sort);
    matched.sort(grouped ? (a, b) => natural.compare(a.upstream, b.upstream) || compare(a, b) : compare);
    const pages = Math.max(1, Math.ceil(matched.length / pager.size));
    const page = Math.min(pager.page, pages);
    const sums = grouped ? groups() : null;
    const lines = [];
    let upstream = null;
    for (const row of matched.slice((page - 1) * pager.size, page * pager.size)) {
      if (grouped && row.upstream !== upstream) {
        upstream = row.upstream;
        lines.push({ key: `group\n${upstream}`, kind: "group", item: sums.get(upstream) });
      }
      const key = endpointKey(row);
      lines.push({ key, item: row });
      if (open.has(key)) lines.push({ key: `details\n${key}`, kind: "details", item: row });
    }
    const kept = table.show(lines, force);
    force = false;
    if (!kept) pager.show(matched.length, page, pages);
    setText(byId("endpoints-count"), matched.length === all.length ? plural(all.length, "endpoint") : `${formatCount(matched.length)} of ${plural(all.length, "endpoint")}`);
    setHidden(byId("endpoints-empty"), matched.length > 0 || reset);
  }

  byId("endpoints-form").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["endpoints-filter", "endpoints-show", "endpoints-group"]) {
    byId(id).addEventListener("input", () => {
      pager.page = 1;
      changed();
    });
  }

  return {
    title: "Upstreams",
    path: () => "/api/v1/live?sections=upstreams",
    events: {
      upstreams(data) {
        if (data.reset) rows.clear();
        for (const row of data.rows) {
          row.drain = curves.record(endpointKey(row), row);
          rows.set(endpointKey(row), row);
        }
        for (const [upstream, endpoint] of data.gone ?? []) {
          rows.delete(endpointKey({ upstream, endpoint }));
          curves.forget(endpointKey({ upstream, endpoint }));
        }
        reset = false;
      },
      flows: (data) => flow.take(data),
    },
    restarted: () => curves.clear(),
    render() {
      drains.render([...rows.values()]);
      flow.render();
      showEndpoints();
    },
  };
}
