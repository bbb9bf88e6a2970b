// The flow from routes to upstreams: a drawing whose lines are as wide as their rate, and the same as a table.

const FLOW_LINKS = 30;
const FLOW_WIDEST = 18;
const FLOW_GAP = 16;
const FLOW_ROW = 20;

const FLOW_UNITS = {
  requests: perSecond(formatRate), messages: perSecond(formatRate), bytes: perSecond(formatBytes), websockets: formatCount,
};

/** The nodes of one side: name, sum, and the place of each line at the node. */
function layOut(links, side) {
  const nodes = new Map();
  for (const link of links) {
    const name = link.row[side];
    const node = nodes.get(name) ?? { name, value: 0, width: 0, links: [] };
    node.value += link.value;
    node.width += link.width;
    node.links.push(link);
    nodes.set(name, node);
  }
  let y = 4;
  for (const node of nodes.values()) {
    node.height = Math.max(FLOW_ROW, node.width);
    node.middle = y + node.height / 2;
    let from = node.middle - node.width / 2;
    for (const link of node.links) {
      link[`${side}Y`] = from + link.width / 2;
      from += link.width;
    }
    y += node.height + FLOW_GAP;
  }
  return { nodes: [...nodes.values()], height: y - FLOW_GAP + 4 };
}

function createFlow() {
  const rows = new Map();
  const lines = new Map();
  const labels = new Map();
  const bars = new Map();
  let changed = true;
  const svg = svgElement("svg", { class: "flow-svg", role: "img" });
  byId("flow-chart").append(svg);
  const touch = () => {
    changed = true;
    requestRender();
  };
  new ResizeObserver(touch).observe(byId("flow-chart"));
  for (const [id, event] of [["flow-by", "change"], ["flow", "toggle"], ["flow-table-details", "toggle"]]) byId(id).addEventListener(event, touch);

  const table = new DataTable(byId("flow-table"), [
    { key: "route", label: "Route", header: true, build: textCell(({ route }) => nameOf("route", route)) },
    { key: "upstream", label: "Upstream", build: textCell(({ upstream }) => nameOf("upstream", upstream)) },
    { key: "requests", label: "Requests/s", number: true, build: textCell(({ requests }) => formatRate(requests)) },
    { key: "websockets", label: "WebSockets", number: true, build: textCell(({ websockets }) => formatCount(websockets)) },
    { key: "messages", label: "Messages/s", number: true, build: textCell(({ messages }) => formatRate(messages)) },
    { key: "bytes", label: "Bytes/s", number: true, build: textCell(({ bytes }) => formatBytes(bytes)) },
  ]);

  function label(key, x, y, anchor, name, value) {
    let text = labels.get(key);
    if (!text) {
      text = { node: svgElement("text"), name: svgElement("tspan", { class: "flow-name" }), value: svgElement("tspan", { class: "flow-value" }) };
      text.node.append(text.name, text.value);
      labels.set(key, text);
    }
    for (const [attribute, number] of [["x", x], ["y", (y + 4).toFixed(1)], ["text-anchor", anchor]]) setAttribute(text.node, attribute, number);
    setText(text.name, `${name} `);
    setText(text.value, value);
    return text.node;
  }

  /** The bar at the end of the lines of a node. */
  function bar(key, x, y, height) {
    let node = bars.get(key);
    if (!node) bars.set(key, node = svgElement("rect", { class: "flow-node", width: 4, rx: 1 }));
    for (const [attribute, number] of [["x", x], ["y", (y - height / 2 - 1).toFixed(1)], ["height", (height + 2).toFixed(1)]]) setAttribute(node, attribute, number);
    return node;
  }

  /** What the metrics call `-`: a request that had no route, or whose route has no upstream. */
  function nameOf(side, name) {
    return name === "-" ? `no ${side}` : name;
  }

  /** A name that fits into `width`, at seven pixels a character. */
  function shorten(name, width) {
    const most = Math.max(4, Math.floor(width / 7));
    return name.length > most ? `${name.slice(0, most - 1)}…` : name;
  }

  function draw() {
    const by = byId("flow-by").value;
    const format = FLOW_UNITS[by];
    const width = Math.max(240, byId("flow-chart").clientWidth);
    const all = [...rows.values()];
    const shown = [...all].sort((a, b) => b[by] - a[by]).slice(0, FLOW_LINKS);
    // By name, so that nodes keep their places while rates change.
    shown.sort((a, b) => a.route.localeCompare(b.route) || a.upstream.localeCompare(b.upstream));
    const most = Math.max(...shown.map((row) => row[by]), Number.MIN_VALUE);
    const links = shown.map((row) => ({ row, value: row[by], width: 1 + (FLOW_WIDEST - 1) * row[by] / most }));
    const [left, right] = [layOut(links, "route"), layOut(links, "upstream")];
    const height = Math.max(left.height, right.height);
    // The shorter side is centred.
    const [down, down2] = [(height - left.height) / 2, (height - right.height) / 2];
    const side = Math.min(260, width * 0.36);
    const [from, to] = [side, width - side];
    setAttribute(svg, "viewBox", `0 0 ${width} ${Math.ceil(height)}`);
    setAttribute(svg, "height", Math.ceil(height));
    setAttribute(svg, "aria-label", `Flow by ${byId("flow-by").selectedOptions[0].text}: ${plural(left.nodes.length, "route")} to ${plural(right.nodes.length, "upstream")}. The table below has the numbers.`);
    const nodes = links.map(({ row, value, width: wide, routeY, upstreamY }) => {
      const key = `${row.route}\n${row.upstream}`;
      let path = lines.get(key);
      if (!path) {
        path = svgElement("path", { class: "flow-line" });
        path.append(svgElement("title"));
        lines.set(key, path);
      }
      const [y1, y2, bend] = [routeY + down, upstreamY + down2, (to - from) / 2];
      setAttribute(path, "d", `M${from} ${y1.toFixed(1)}C${from + bend} ${y1.toFixed(1)} ${to - bend} ${y2.toFixed(1)} ${to} ${y2.toFixed(1)}`);
      setAttribute(path, "stroke-width", wide.toFixed(1));
      setText(path.firstChild, `${nameOf("route", row.route)} to ${nameOf("upstream", row.upstream)}: ${format(value)}`);
      return path;
    });
    const room = side - 78;
    for (const [x, shift, part] of [[from - 4, down, left], [to, down2, right]]) {
      for (const node of part.nodes) nodes.push(bar(`${x < width / 2 ? "route" : "upstream"}\n${node.name}`, x, node.middle + shift, node.width));
    }
    for (const { name, value, middle } of left.nodes) nodes.push(label(`route\n${name}`, side - 12, middle + down, "end", shorten(nameOf("route", name), room), format(value)));
    for (const { name, value, middle } of right.nodes) nodes.push(label(`upstream\n${name}`, to + 12, middle + down2, "start", shorten(nameOf("upstream", name), room), format(value)));
    reconcile(svg, nodes);
    const hidden = all.length - shown.length;
    setText(byId("flow-note"), hidden > 0 ? `The ${FLOW_LINKS} widest lines; ${formatCount(hidden)} more in the table` : "");
  }

  return {
    take({ reset, rows: next, gone = [] }) {
      if (reset) rows.clear();
      for (const row of next) rows.set(`${row.route}\n${row.upstream}`, row);
      for (const [route, upstream] of gone) {
        rows.delete(`${route}\n${upstream}`);
        lines.delete(`${route}\n${upstream}`);
      }
      if (reset) {
        lines.clear();
        labels.clear();
        bars.clear();
      }
      changed = true;
    },
    render() {
      if (!changed || !byId("flow").open) return;
      changed = false;
      setHidden(byId("flow-empty"), rows.size > 0);
      setHidden(svg, rows.size === 0);
      if (rows.size > 0) draw();
      if (byId("flow-table-details").open) {
        const by = byId("flow-by").value;
        table.show([...rows.values()].sort((a, b) => b[by] - a[by]).map((row) => ({ key: `${row.route}\n${row.upstream}`, item: row })));
      }
    },
  };
}
