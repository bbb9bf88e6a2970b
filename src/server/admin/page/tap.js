// The tap: messages of one WebSocket, of a route, or of what a CEL filter matches, as they pass the gateway.
//
// A tap goes on while the tab is hidden: the gateway bounds it in time, and an operator types in another window.

const TAP_ROWS = 500;

const TAP_PLACEHOLDERS = { socket: "17", route: "chat", filter: "request.client_ip == \"192.0.2.7\"" };
const ENDS = {
  duration: "its time is over",
  off: "a reload has turned taps off",
  signed_out: "the session or the token is no longer valid",
  address_closed: "the gateway no longer serves this address",
};
const DIRECTIONS = { to_backend: ["→", "to backend"], to_client: ["←", "to client"] };

function createTap() {
  let abort = null, started = null, paused = false;
  // Rows that wait for the next frame, the oldest first.
  let waiting = [];
  const body = byId("tap-messages").tBodies[0];
  const scroll = byId("tap-scroll");

  function showState() {
    const parts = [];
    if (abort) parts.push(started ? `${plural(started.sockets, "WebSocket")} tapped until ${formatClock(started.until)}` : "Starting");
    else if (started) parts.push("Stopped");
    if (paused) parts.push("paused");
    setText(byId("tap-state"), parts.join(", "));
    byId("tap-stop").disabled = abort === null;
    setText(byId("tap-start"), abort === null ? "Start" : "Restart");
  }

  function rowOf({ name, data }) {
    const [sign, words] = DIRECTIONS[data.direction] ?? ["", ""];
    const content = element("td", { class: "content", role: "cell" });
    const row = element("tr", { class: `tap-${name}`, role: "row" },
      element("td", { class: "nowrap", role: "cell" }, formatClockMilliseconds(data.at)), element("td", { class: "number", role: "cell" }, String(data.socket ?? data.id ?? "")),
      element("td", { class: "nowrap", role: "cell" }, sign === "" ? "" : element("span", { class: "sign", "aria-hidden": "true" }, `${sign} `), words),
      element("td", { role: "cell" }, name === "message" ? data.opcode : name), element("td", { class: "number nowrap", role: "cell" }, isNumber(data.size) ? formatBytes(data.size) : ""), content);
    if (name === "open") content.append(`${data.client} to ${data.endpoint}, ${data.path}`);
    if (name === "close") content.append(`by ${data.by}, ${data.code === null ? "no code" : `${data.code} ${closeCodeName(data.code)}`}${data.reason ? `: ${data.reason}` : ""}`);
    if (name === "dropped") content.append(`${plural(data.count, "message")} not shown: more than this tap shows or can hold`);
    if (name === "message") {
      if (data.compressed) content.append(element("span", { class: "badge tone-note" }, "compressed"), " ");
      if (isNumber(data.code)) content.append(`${data.code} ${closeCodeName(data.code)} ${data.reason ?? ""} `);
      if (data.text !== undefined) content.append(element("span", { class: "mono" }, data.text));
      else if (data.hex !== undefined) content.append(element("span", { class: "mono hex" }, data.hex.replace(/(..)(?=.)/g, "$1 ")));
      if (data.truncated) content.append(element("span", { class: "sub-inline" }, " … cut"));
    }
    return row;
  }

  function take(name, data) {
    if (name === "start") {
      started = data;
      showState();
      return;
    }
    if (name === "end") {
      stop();
      setText(byId("tap-state"), `Ended: ${ENDS[data.reason] ?? data.reason}`);
      return;
    }
    waiting.push({ name, data: name === "dropped" ? { ...data, at: Date.now() } : data });
    if (waiting.length > TAP_ROWS) waiting.splice(0, waiting.length - TAP_ROWS);
    requestRender();
  }

  function stop() {
    abort?.abort();
    abort = null;
    showState();
  }

  async function start() {
    stop();
    const mine = abort = new AbortController();
    started = null;
    setText(byId("tap-error"), "");
    showState();
    const path = `/api/v1/tap?${query({
      [byId("tap-by").value]: byId("tap-value").value.trim(), duration: byId("tap-duration").value,
      rate: byId("tap-rate").value, bytes: byId("tap-bytes").value,
    })}`;
    try {
      const response = await request("GET", path, { signal: mine.signal });
      await readEvents(response, (name, data) => {
        if (abort === mine) take(name, data);
      });
    } catch (error) {
      if (abort !== mine) return;
      if (error.token === "tap_off") setTapOff(true);
      else setText(byId("tap-error"), error instanceof ApiError ? explainError(error) : "The connection to the gateway was lost.");
    }
    if (abort === mine) stop();
  }

  function setTapOff(off) {
    setHidden(byId("tap-off"), !off);
    setHidden(byId("tap-form"), off);
    setHidden(scroll, off);
  }

  function showBy() {
    const by = byId("tap-by").value;
    setText(byId("tap-value-label"), { socket: "ID", route: "Route", filter: "Filter" }[by]);
    byId("tap-value").placeholder = TAP_PLACEHOLDERS[by];
  }

  byId("tap-by").addEventListener("change", () => {
    byId("tap-value").value = "";
    showBy();
  });
  byId("tap-form").addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  byId("tap-stop").addEventListener("click", stop);
  byId("tap-clear").addEventListener("click", () => {
    waiting = [];
    body.replaceChildren();
  });
  byId("tap-pause").addEventListener("click", () => {
    paused = !paused;
    setAttribute(byId("tap-pause"), "aria-pressed", paused);
    showState();
    requestRender();
  });
  byId("tap-hide").addEventListener("click", () => {
    stop();
    byId("tap").hidden = true;
    byId("sockets-tap").focus();
  });

  return {
    /** Opens the panel; with an ID, taps that WebSocket at once. */
    open(id = null) {
      byId("tap").hidden = false;
      setTapOff(!tapIsOn());
      showBy();
      byId("h-tap").focus();
      byId("tap").scrollIntoView({ block: "nearest" });
      if (id === null) return;
      byId("tap-by").value = "socket";
      byId("tap-value").value = String(id);
      showBy();
      if (tapIsOn()) start();
    },
    stop,
    refresh() {
      if (!byId("tap").hidden) setTapOff(!tapIsOn());
    },
    render() {
      if (waiting.length === 0 || paused) return;
      // The newest stay in sight, unless somebody has scrolled up to read.
      const follows = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 40;
      body.append(...waiting.map(rowOf));
      waiting = [];
      while (body.childElementCount > TAP_ROWS) body.firstElementChild.remove();
      if (follows) scroll.scrollTop = scroll.scrollHeight;
    },
  };
}
