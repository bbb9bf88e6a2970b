// Drains in progress: for each a bar that empties, its planned and its actual curve, and the time left.

const DRAIN_CARDS = 12;
const DRAIN_POINTS = 600;

/** The WebSockets of draining endpoints over time, as this page saw them. */
class DrainCurves {
  #curves = new Map();

  clear() {
    this.#curves.clear();
  }

  forget(key) {
    this.#curves.delete(key);
  }

  /**
   * Adds a point for a row that drains, and returns its drain. The gateway forgets a drain when the last WebSocket is
   * closed; here it lasts until the endpoint takes clients again, so that an operator sees that it is done.
   */
  record(key, { drain: current, draining, websockets }) {
    let curve = this.#curves.get(key);
    const drain = current ?? (draining && curve ? { ...curve.drain, done: true } : null);
    if (!drain) {
      this.forget(key);
      return null;
    }
    if (!curve || curve.drain.started !== drain.started) {
      curve = { seen: [] };
      this.#curves.set(key, curve);
    }
    curve.drain = drain;
    // By the clock of the gateway, not of this browser: the window and the time left are the gateway's.
    const at = drain.started + Math.max(0, drain.window - drain.left) * 1000;
    const last = curve.seen.at(-1);
    if (last && last[0] === at) last[1] = websockets;
    else curve.seen.push([at, websockets]);
    if (curve.seen.length > DRAIN_POINTS) curve.seen = curve.seen.filter((_, index) => index % 2 === 1);
    return drain;
  }

  seen(key) {
    return this.#curves.get(key)?.seen ?? [];
  }
}

function drainProgress({ drain, websockets }) {
  if (!drain.done && drain.left > 0) return `${formatDuration(Math.ceil(drain.left))} to go`;
  return websockets > 0 ? "window over" : "drained";
}

function createDrainCard(row, curves) {
  const title = element("h3", {}, element("span", { class: "mono" }, row.endpoint), element("span", { class: "of" }, ` ${row.upstream}`));
  const fill = element("span", { class: "bar-fill" });
  const bar = element("div", { class: "bar large", role: "progressbar", "aria-label": `WebSockets left at ${row.endpoint}`, "aria-valuemin": 0 }, fill);
  const [count, left] = [element("p", { class: "drain-count" }), element("p", { class: "drain-left" })];
  const chart = new DrainChart();
  const action = element("button", { type: "button" }, "Undrain", hiddenText(` ${row.endpoint}`));
  let shown = row;
  action.addEventListener("click", () => confirmUndrain(shown));
  const legend = element("p", { class: "legend", "aria-hidden": "true" },
    element("span", { class: "swatch swatch-0" }), "open ", element("span", { class: "swatch swatch-planned" }), "planned");
  const node = element("li", { class: "drain panel" },
    element("div", { class: "panel-head" }, title, action), bar, element("div", { class: "drain-numbers" }, count, left), chart.node, legend);
  return {
    node,
    update(next) {
      shown = next;
      const { drain, websockets } = next;
      setBar(fill, websockets / Math.max(1, drain.websockets_at_start));
      setAttribute(bar, "aria-valuemax", Math.max(drain.websockets_at_start, websockets));
      setAttribute(bar, "aria-valuenow", websockets);
      setText(count, `${formatCount(websockets)} of ${formatCount(drain.websockets_at_start)} left`);
      setText(left, drainProgress(next));
      setHidden(action, next.draining !== "operator");
      chart.update(drain, curves.seen(endpointKey(next)));
    },
  };
}

/** The cards above the table of endpoints. */
function createDrains(curves) {
  const cards = new Map();
  return {
    render(rows) {
      // The newest first, and by name where several began together.
      const draining = rows.filter(({ drain }) => drain)
        .sort((a, b) => b.drain.started - a.drain.started || endpointKey(a).localeCompare(endpointKey(b)));
      const shown = draining.slice(0, DRAIN_CARDS);
      const keys = new Set(shown.map(endpointKey));
      for (const key of cards.keys()) if (!keys.has(key)) cards.delete(key);
      reconcile(byId("drain-cards"), shown.map((row) => {
        const key = endpointKey(row);
        if (!cards.has(key)) cards.set(key, createDrainCard(row, curves));
        cards.get(key).update(row);
        return cards.get(key).node;
      }));
      setHidden(byId("drains"), draining.length === 0);
      const more = draining.length - shown.length;
      setHidden(byId("drains-more"), more <= 0);
      setText(byId("drains-more"), more > 0 ? `${formatCount(more)} more in the table of endpoints.` : "");
    },
  };
}
