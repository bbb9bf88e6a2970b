// The view Overview: rates with histories of ten minutes, errors by reason, ping round trip, and the process.

const perSecond = (format) => (value) => `${format(value)}/s`;

// Values are of the event `overview`, series of the histories.
const TILES = [
  {
    title: "Requests", format: perSecond(formatRate), series: [{ key: "requests", name: "requests" }],
    values: (o) => [o.requests], note: (o) => `${formatCount(o.requests_in_flight)} in flight`,
  },
  {
    title: "Handshakes", format: perSecond(formatRate), series: [{ key: "handshakes", name: "handshakes" }],
    values: (o) => [o.handshakes], note: () => "WebSockets opened",
  },
  {
    title: "Open WebSockets", format: formatCount, series: [{ key: "websockets", name: "WebSockets" }],
    values: (o) => [o.websockets],
  },
  {
    title: "Errors", format: perSecond(formatRate), series: [{ key: "errors", name: "errors" }], tone: "bad",
    values: (o) => [o.errors.reduce((sum, { rate }) => sum + rate, 0)],
    note: (o) => `${formatCount(o.errors.reduce((sum, { total }) => sum + total, 0))} since the start`,
  },
  {
    title: "Messages", format: perSecond(formatRate),
    series: [{ key: "messages_to_client", name: "to clients" }, { key: "messages_to_backend", name: "to backends" }],
    values: (o) => [o.messages.to_client, o.messages.to_backend],
  },
  {
    title: "Bytes", format: perSecond(formatBytes), binary: true,
    series: [{ key: "bytes_to_client", name: "to clients" }, { key: "bytes_to_backend", name: "to backends" }],
    values: (o) => [o.bytes.to_client, o.bytes.to_backend],
  },
  {
    title: "Ping round trip", format: formatLatency,
    series: [{ key: "rtt_p50", name: "p50" }, { key: "rtt_p99", name: "p99" }],
    values: (o) => [o.rtt?.p50, o.rtt?.p99],
  },
];

const PROCESS_FACTS = [
  ["State", (p) => p.draining ? "draining" : "ready"],
  ["Uptime", (p) => formatDuration(p.uptime)],
  ["CPU", (p) => isNumber(p.cpu) ? `${formatPercent(p.cpu)} of a core` : DASH],
  ["Memory", (p) => formatBytes(p.memory)],
  ["Descriptors", (p) => isNumber(p.max_descriptors) ? `${formatCount(p.descriptors)} of ${formatCount(p.max_descriptors)}` : formatCount(p.descriptors)],
  ["Threads", (p) => formatCount(p.threads)],
  ["Generation", (p) => formatCount(p.generation)],
];

/** A number, or two, above its history. */
function createTile({ title, format, series, values, note, tone, binary }) {
  const id = `tile-${title.toLowerCase().replaceAll(" ", "-")}`;
  const chart = new HistoryChart(title, series, format, binary ? 1024 : 1000);
  const numbers = series.map(() => element("span", { class: "value" }, DASH));
  const list = series.length === 1
    ? element("p", { class: "numbers" }, numbers[0])
    : element("dl", { class: "numbers" }, ...series.map(({ name }, index) =>
      element("div", {}, element("dt", {}, element("span", { class: `swatch swatch-${index}`, "aria-hidden": "true" }), name), element("dd", {}, numbers[index]))));
  const foot = element("p", { class: "tile-note" });
  const node = element("section", { class: `tile${tone ? ` tone-${tone}` : ""}`, "aria-labelledby": id }, element("h2", { id }, title), list);
  if (note) list.append(foot);
  node.append(chart.node);
  return {
    node,
    showNow(overview) {
      values(overview).forEach((value, index) => setText(numbers[index], format(value)));
      if (note) setText(foot, note(overview));
    },
    showHistory({ points, end, interval }) {
      chart.update(series.map(({ key }) => points[key] ?? []), end, interval);
    },
  };
}

function createOverview() {
  let now = null, history = null, historyChanged = false;
  const tiles = TILES.map(createTile);
  byId("tiles").append(...tiles.map(({ node }) => node));

  const facts = PROCESS_FACTS.map(([name, text]) => {
    const value = element("dd", {}, DASH);
    byId("process").append(element("dt", {}, name), value);
    return (process) => setText(value, text(process));
  });

  const errors = new DataTable(byId("errors"), [
    { key: "reason", label: "Reason", header: true, build: (cell) => {
      const code = element("code");
      cell.append(code);
      return ({ reason }) => setText(code, reason);
    } },
    { key: "rate", label: "Errors/s", number: true, build: textCell(({ rate }) => formatRate(rate)) },
    { key: "total", label: "Since the start", number: true, build: textCell(({ total }) => formatCount(total)) },
    { key: "history", label: "Last 10 minutes", build: (cell) => {
      const chart = new SmallChart();
      cell.append(chart.node);
      return ({ reason, history }) => chart.update(`Errors ${reason}`, history, perSecond(formatRate));
    } },
    { key: "share", label: "Share", build: (cell) => {
      const [fill, text] = [element("span", { class: "bar-fill" }), element("span", { class: "bar-text" })];
      cell.append(element("span", { class: "bar bad", "aria-hidden": "true" }, fill), text);
      return ({ share }) => {
        setBar(fill, share);
        setText(text, formatPercent(share));
      };
    } },
  ]);

  // The table of the history has a column for each series.
  const columns = TILES.flatMap(({ title, series, format }) => series.map(({ key, name }) =>
    ({ key, format, label: series.length > 1 ? `${title} ${name}` : title })));
  byId("history").tHead.append(element("tr", {}, ...["Time", ...columns.map(({ label }) => label)].map((label, index) =>
    element("th", index === 0 ? { scope: "col" } : { scope: "col", class: "number" }, label))));
  byId("history-details").addEventListener("toggle", () => {
    historyChanged = true;
    requestRender();
  });

  function showHistoryTable() {
    const { points, end, interval } = history;
    const count = Math.max(0, ...columns.map(({ key }) => points[key]?.length ?? 0));
    const each = Math.max(1, Math.round(60 / interval));
    const rows = [];
    for (let last = count; last > 0; last -= each) {
      const cells = columns.map(({ key, format }) => {
        const part = (points[key] ?? []).slice(Math.max(0, last - each), last).filter(isNumber);
        const mean = part.reduce((sum, value) => sum + value, 0) / part.length;
        return element("td", { class: "number" }, part.length > 0 ? format(mean) : DASH);
      });
      rows.push(element("tr", {}, element("th", { scope: "row" }, formatClock(end - (count - last) * interval * 1000)), ...cells));
    }
    byId("history").tBodies[0].replaceChildren(...rows);
  }

  return {
    title: "Overview",
    path: () => "/api/v1/live?sections=overview",
    events: {
      history(data) {
        history = data;
        historyChanged = true;
      },
      point({ end, points, errors }) {
        if (history === null) return;
        history.end = end;
        // A reason without errors is in no point, and a new one has no list.
        const length = Math.min(history.points.errors.length, HISTORY_POINTS - 1);
        for (const reason of Object.keys({ ...history.errors, ...errors })) {
          const list = history.errors[reason] ?? Array(length).fill(0);
          history.errors[reason] = [...list, errors[reason] ?? 0].slice(-HISTORY_POINTS);
        }
        for (const [key, value] of Object.entries(points)) {
          const list = history.points[key] ??= [];
          list.push(value);
          if (list.length > HISTORY_POINTS) list.shift();
        }
        historyChanged = true;
      },
      overview(data) {
        now = data;
        setGeneration(data.process.generation);
      },
    },
    render() {
      if (now !== null) {
        for (const tile of tiles) tile.showNow(now);
        for (const fact of facts) fact(now.process);
        const sum = now.errors.reduce((total, error) => total + error.total, 0);
        const known = now.errors.filter(({ total }) => total > 0).sort((a, b) => b.total - a.total);
        errors.show(known.map((error) => ({ key: error.reason, item: { ...error, share: error.total / sum, history: history?.errors[error.reason] ?? [] } })));
        setHidden(byId("errors"), known.length === 0);
        setHidden(byId("errors-empty"), known.length > 0);
      }
      if (history !== null && historyChanged) {
        for (const tile of tiles) tile.showHistory(history);
        if (byId("history-details").open) showHistoryTable();
        historyChanged = false;
      }
    },
  };
}
