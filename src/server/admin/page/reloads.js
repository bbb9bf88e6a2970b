// The view Reloads: each reload with its result, report, warnings and difference, and the WebSockets of each generation.

const CAUSES = { start: "start", signal: "SIGHUP", api: "admin API", certificates: "certificates" };

/** A unified diff; a line tells its kind by its sign, its element and its colour. */
function diffBlock(diff) {
  const lines = diff.replace(/\n$/, "").split("\n").map((line) => {
    const name = line.startsWith("+") && !line.startsWith("+++") ? "ins" : line.startsWith("-") && !line.startsWith("---") ? "del" : "span";
    const kind = name === "span" && line.startsWith("@@") ? "hunk" : "";
    return element(name, kind ? { class: kind } : {}, `${line}\n`);
  });
  return element("pre", { class: "diff", tabindex: 0, "aria-label": "Difference of the configuration" }, ...lines);
}

function textPart(title, text) {
  return [element("h3", {}, title), element("pre", { class: "report", tabindex: 0, "aria-label": title }, text)];
}

function reloadEntry(entry) {
  const { number, at, cause, ok, generation, took, warnings, report, diff } = entry;
  const summary = element("summary", {},
    element("span", { class: `badge tone-${ok ? warnings ? "warn" : "good" : "bad"}` }, ok ? warnings ? "applied with warnings" : "applied" : "refused"),
    element("strong", {}, ok ? `Generation ${generation}` : "The previous configuration stays in use"),
    element("span", { class: "sub-inline" }, `#${number} · ${formatTime(at)} · ${CAUSES[cause] ?? cause} · took ${formatLatency(took)}`));
  const parts = [];
  if (report) parts.push(...textPart("Report", report));
  if (warnings) parts.push(...textPart("Warnings", warnings));
  if (diff) parts.push(element("h3", {}, "Difference"), diffBlock(diff));
  if (parts.length === 0) parts.push(element("p", { class: "empty" }, cause === "start" ? "The configuration that the process started with." : "Without a difference."));
  const details = element("details", { class: "panel" }, summary, ...parts);
  // A refused reload is read first.
  details.open = !ok;
  return element("li", {}, details);
}

function createReloads() {
  let entries = [], generations = {}, current = 0;
  const shown = new Map();

  const table = new DataTable(byId("generations"), [
    { key: "generation", label: "Generation", header: true, build: (cell) => {
      const [link, badge] = [element("a"), element("span", { class: "badge tone-note" }, "current")];
      cell.append(link, " ", badge);
      return ({ generation }) => {
        setText(link, generation);
        setAttribute(link, "href", socketsLink(`generation:${generation}`));
        setHidden(badge, Number(generation) !== current);
      };
    } },
    { key: "websockets", label: "WebSockets", number: true, build: textCell(({ websockets }) => formatCount(websockets)) },
    { key: "share", label: "Share", build: (cell) => {
      const fill = element("span", { class: "bar-fill" });
      cell.append(element("span", { class: "bar", "aria-hidden": "true" }, fill), element("span", { class: "bar-text" }));
      return ({ share }) => {
        setBar(fill, share);
        setText(cell.lastChild, formatPercent(share));
      };
    } },
  ]);

  byId("reload").addEventListener("click", async () => {
    const button = byId("reload");
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    try {
      const { generation, report } = await requestJson("POST", "/api/v1/reload");
      notify(`Generation ${generation} is in use${report ? ", with warnings" : ""}.`, report ? "warn" : "good");
    } catch (error) {
      if (error.status === 422) notify("The reload was refused. The previous configuration stays in use; the report is below.", "bad");
      else notify(`The reload failed: ${explainError(error)}`, "bad");
    } finally {
      button.removeAttribute("aria-disabled");
    }
  });

  return {
    title: "Reloads",
    path: () => "/api/v1/live?sections=reloads",
    events: {
      reloads(data) {
        entries = data.entries;
        const newest = entries.find(({ ok }) => ok);
        if (newest) setGeneration(current = newest.generation);
      },
      generations(data) {
        generations = data;
      },
    },
    restarted: () => shown.clear(),
    render() {
      // An entry never changes, so it is built once and keeps what the reader opened.
      for (const entry of entries) if (!shown.has(entry.number)) shown.set(entry.number, reloadEntry(entry));
      const numbers = new Set(entries.map(({ number }) => number));
      for (const number of shown.keys()) if (!numbers.has(number)) shown.delete(number);
      reconcile(byId("reload-list"), entries.map(({ number }) => shown.get(number)));
      setHidden(byId("reloads-empty"), entries.length > 0);
      const counts = current > 0 ? { [current]: 0, ...generations } : generations;
      const open = Object.entries(counts).filter(([generation, count]) => count > 0 || Number(generation) === current).sort(([a], [b]) => b - a);
      const all = open.reduce((total, [, count]) => total + count, 0);
      table.show(open.map(([generation, websockets]) => ({ key: generation, item: { generation, websockets, share: websockets / all } })), true);
      setHidden(byId("generations"), open.length === 0);
      setHidden(byId("generations-empty"), open.length > 0);
    },
  };
}
