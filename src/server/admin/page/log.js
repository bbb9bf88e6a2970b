// The view Log: the last lines of the access and the process log, filtered by the gateway, following or not.

const LOG_LINES = 1000;

/** The parts of a JSON line of the access log: [class, text]; null for a line of another shape. */
function accessParts(line) {
  let fields;
  try {
    fields = JSON.parse(line);
  } catch {
    return null;
  }
  if (fields === null || typeof fields !== "object") return null;
  const time = Date.parse(fields.time);
  const socket = fields.event !== undefined;
  const outcome = socket ? `${fields.event}${fields.code !== undefined ? ` ${fields.code}` : ""}` : String(fields.status ?? "");
  const bad = fields.status >= 500 || fields.error !== undefined;
  const parts = [["log-time", formatClockMilliseconds(time)], [bad ? "log-bad" : socket ? "log-event" : "log-status", outcome]];
  if (fields.method) parts.push(["log-method", fields.method]);
  parts.push(["log-path", `${fields.host ?? ""}${fields.path ?? ""}`]);
  if (fields.endpoint) parts.push(["log-soft", `→ ${fields.route ?? ""} ${fields.endpoint}`]);
  const milliseconds = fields.lifetime_ms ?? fields.duration_ms;
  if (isNumber(milliseconds)) parts.push(["log-soft", milliseconds < 1000 ? formatLatency(milliseconds / 1000) : formatDuration(milliseconds / 1000)]);
  if (fields.client) parts.push(["log-soft", fields.client]);
  const why = [fields.error, fields.reason, fields.by && `by ${fields.by}`, fields.error_detail].filter(Boolean).join(", ");
  if (why) parts.push([bad ? "log-bad" : "log-soft", why]);
  return parts;
}

const LEVEL = /\b(ERROR|WARN|INFO|DEBUG|TRACE)\b/;

function processParts(line) {
  const level = LEVEL.exec(line);
  if (!level) return [["", line]];
  const tone = { ERROR: "log-bad", WARN: "log-warn" }[level[1]] ?? "log-soft";
  return [["", line.slice(0, level.index)], [tone, level[1]], ["", line.slice(level.index + level[1].length)]];
}

function createLog() {
  // Lines in memory, and those of them that wait for the next frame.
  let lines = [], waiting = [], filter = "", follow = true, missed = false, rebuild = false, placed = 0;
  const box = byId("log-lines");

  function lineNode({ source, line }) {
    const parts = byId("log-raw").checked ? null : source === "access" ? accessParts(line) : processParts(line);
    const node = element("div", { class: `log-line log-${source === "access" ? "access" : "process"}` });
    if (parts === null) node.append(line);
    else node.append(...parts.flatMap(([kind, text]) => [kind ? element("span", { class: kind }, text) : text, source === "access" ? " " : ""]));
    return node;
  }

  function setFollow(next) {
    follow = next;
    setAttribute(byId("log-follow"), "aria-pressed", follow);
    if (follow) placed = box.scrollTop = box.scrollHeight;
    requestRender();
  }

  function clear() {
    lines = [];
    waiting = [];
    missed = false;
    rebuild = true;
    requestRender();
  }

  // Reading further up pauses the lines, and reaching the end resumes them. Scrolling of this page itself ends at
  // `placed`, so only a person scrolls above it.
  box.addEventListener("scroll", () => {
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
    if (follow && !atEnd && box.scrollTop < placed - 8) setFollow(false);
    else if (!follow && atEnd && waiting.length > 0) setFollow(true);
  });
  byId("log-form").addEventListener("submit", (event) => {
    event.preventDefault();
    filter = byId("log-filter").value;
    openStream();
  });
  byId("log-filter").addEventListener("search", () => {
    if (byId("log-filter").value !== "" || filter === "") return;
    filter = "";
    openStream();
  });
  byId("log-source").addEventListener("change", () => openStream());
  byId("log-follow").addEventListener("click", () => setFollow(!follow));
  byId("log-clear").addEventListener("click", clear);
  byId("log-raw").addEventListener("change", () => {
    rebuild = true;
    requestRender();
  });

  return {
    title: "Log",
    path: () => `/api/v1/live?${query({ sections: "log", log: byId("log-source").value, filter })}`,
    // The stream begins with the last lines again.
    opened: clear,
    events: {
      log({ source, lines: next, missed: hasGap = false }) {
        missed ||= hasGap;
        for (const line of next) waiting.push({ source, line });
        if (waiting.length > LOG_LINES) waiting.splice(0, waiting.length - LOG_LINES);
      },
    },
    render() {
      if (rebuild) box.replaceChildren(...lines.map(lineNode));
      rebuild = false;
      if (follow && waiting.length > 0) {
        lines = lines.concat(waiting).slice(-LOG_LINES);
        box.append(...waiting.map(lineNode));
        waiting = [];
        while (box.childElementCount > LOG_LINES) box.firstElementChild.remove();
        box.scrollTop = box.scrollHeight;
        placed = box.scrollTop;
      }
      const parts = [plural(lines.length, "line")];
      if (waiting.length > 0) parts.push(`${formatCount(waiting.length)} new`);
      if (missed) parts.push("some are no longer kept");
      setText(byId("log-count"), parts.join(", "));
    },
  };
}
