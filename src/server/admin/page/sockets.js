// The view Sockets: open WebSockets, filtered, sorted and paged by the gateway; close and tap.

const SOCKET_SORTS = new Set(["id", "client", "route", "upstream", "endpoint", "path", "age", "idle", "messages", "bytes", "rtt", "protocol", "subprotocol", "generation"]);
/** Whether a row is a WebSocket, and not another upgraded connection. */
const isWebSocket = ({ protocol }) => protocol === undefined || protocol === "websocket";
const SOCKETS_ON_A_PAGE = isNarrow() ? 25 : 50;

function createSockets() {
  let data = null, filter = "", paused = false, force = false;
  const tap = createTap();

  const wanted = () => query({ filter, sort: table.sort, page: pager.page, per_page: pager.size });

  /** Shows other rows: by the stream, or once if the table is paused. */
  async function reopen() {
    force = true;
    const parameters = query({ filter, sort: table.sort === "-age" ? "" : table.sort, page: pager.page > 1 ? pager.page : "", per_page: pager.size === SOCKETS_ON_A_PAGE ? "" : pager.size });
    history.replaceState(null, "", parameters === "" ? "#sockets" : `#sockets?${parameters}`);
    setText(byId("sockets-error"), "");
    if (!paused) return openStream();
    try {
      data = await requestJson("GET", `/api/v1/sockets?${wanted()}`);
      requestRender();
    } catch (error) {
      showError(error);
    }
  }

  function showError(error) {
    setText(byId("sockets-error"), explainError(error));
  }

  function twoLines(first, second) {
    return (cell) => {
      const [a, b] = [element("span", { class: "pair mono" }), element("span", { class: "sub" })];
      cell.append(a, b);
      return (row) => {
        setText(a, first(row));
        setText(b, second(row));
      };
    };
  }

  function actionsCell(cell, { id }) {
    const tapButton = element("button", { type: "button", class: "small" }, "Tap", hiddenText(` WebSocket ${id}`));
    const close = element("button", { type: "button", class: "small" }, "Close", hiddenText(` WebSocket ${id}`));
    let shown = null;
    tapButton.addEventListener("click", () => tap.open(id));
    close.addEventListener("click", () => confirmAction({
      title: isWebSocket(shown) ? `Close WebSocket ${id}?` : `Close connection ${id}?`,
      text: `From ${shown.client} to ${shown.endpoint}, route ${shown.route}, open for ${formatDuration(shown.age)}. ${isWebSocket(shown) ? "The client gets a Close frame, and its response closes the backend's side." : `The protocol is ${shown.protocol}. Both sides are closed.`}`,
      action: "Close",
      closeFrame: isWebSocket(shown),
      act: async (frame) => {
        await request("POST", `/api/v1/sockets/${id}/close?${query(frame ?? {})}`);
        notify(frame === undefined ? `Connection ${id} is closed.` : `WebSocket ${id} is closed with ${frame.code}.`);
      },
    }));
    cell.append(element("span", { class: "buttons" }, tapButton, close));
    return (row) => {
      shown = row;
      tapButton.disabled = !isWebSocket(row);
    };
  }

  const table = new DataTable(byId("sockets"), [
    { key: "id", label: "ID", number: true, header: true, sort: "down", build: textCell(({ id }) => String(id)) },
    { key: "client", label: "Client", sort: "up", build: (cell) => {
      cell.classList.add("mono");
      return ({ client }) => setText(cell, client);
    } },
    { key: "route", label: "Route", sort: "up", build: textCell(({ route }) => route) },
    { key: "endpoint", label: "Endpoint", note: "upstream", sort: "up", build: twoLines(({ endpoint }) => endpoint, ({ upstream }) => upstream) },
    { key: "path", label: "Path", note: "host", sort: "up", build: twoLines(({ path }) => path, ({ host }) => host ?? "") },
    { key: "age", label: "Age", number: true, sort: "down", build: textCell(({ age }) => formatDuration(age)) },
    { key: "idle", label: "Idle", number: true, sort: "down", build: textCell(({ idle }) => formatDuration(idle)) },
    { key: "messages", label: "Messages", note: "to backend and to client", number: true, sort: "down", build: pairCell(["→"], ["←"], ({ messages }) => formatCount(messages.to_backend), ({ messages }) => formatCount(messages.to_client)) },
    { key: "bytes", label: "Bytes", note: "to backend and to client", number: true, sort: "down", build: pairCell(["→"], ["←"], ({ bytes }) => formatBytes(bytes.to_backend), ({ bytes }) => formatBytes(bytes.to_client)) },
    { key: "rtt", label: "Round trip", number: true, sort: "down", build: pairCell(["", "client"], ["", "backend"], ({ rtt }) => formatLatency(rtt.client), ({ rtt }) => formatLatency(rtt.backend)) },
    { key: "subprotocol", label: "Subprotocol", note: "or protocol", sort: "up", build: textCell((row) => isWebSocket(row) ? row.subprotocol ?? DASH : row.protocol) },
    { key: "generation", label: "Gen.", note: "generation", number: true, sort: "down", build: textCell(({ generation }) => String(generation)) },
    { key: "action", label: "Actions", hideLabel: true, build: actionsCell },
  ], { sort: "-age", onSort: restart, sortControl: byId("sockets-sort") });
  const pager = new Pager(byId("sockets-pager"), "WebSockets", { sizes: [25, 50, 100, 200], size: SOCKETS_ON_A_PAGE, onChange: reopen });

  function restart() {
    pager.page = 1;
    reopen();
  }

  byId("sockets-form").addEventListener("submit", (event) => {
    event.preventDefault();
    filter = byId("sockets-filter").value.trim();
    restart();
  });
  // The button of the field that clears it.
  byId("sockets-filter").addEventListener("search", () => {
    if (byId("sockets-filter").value !== "" || filter === "") return;
    filter = "";
    restart();
  });
  byId("sockets-pause").addEventListener("click", () => {
    paused = !paused;
    setAttribute(byId("sockets-pause"), "aria-pressed", paused);
    openStream();
  });
  byId("sockets-tap").addEventListener("click", () => tap.open());

  return {
    title: "Sockets",
    path: () => {
      // A paused table needs no stream of rows; `hello` and the state of the connection remain.
      if (paused) return "/api/v1/live?sections=reloads";
      return `/api/v1/live?sections=sockets&${wanted()}`;
    },
    enter(parameters) {
      filter = parameters.get("filter") ?? "";
      byId("sockets-filter").value = filter;
      const sort = parameters.get("sort") ?? "-age";
      table.setSortQuietly(SOCKET_SORTS.has(sort.replace(/^-/, "")) ? sort : "-age");
      pager.page = Math.max(1, Math.floor(Number(parameters.get("page"))) || 1);
      pager.setSize(Number(parameters.get("per_page")) || SOCKETS_ON_A_PAGE);
      setText(byId("sockets-error"), "");
      force = true;
    },
    leave: () => tap.stop(),
    events: {
      sockets(next) {
        data = next;
      },
      hello: () => tap.refresh(),
    },
    refused: showError,
    render() {
      tap.render();
      if (data === null) return;
      const { total, upgraded, matched, page, pages, rows } = data;
      const kept = table.show(rows.map((row) => ({ key: row.id, item: row })), force);
      if (!kept) pager.show(matched, page, Math.max(1, pages));
      force = false;
      const open = plural(total, upgraded > 0 ? "open connection" : "open WebSocket");
      const count = matched === total ? open : `${formatCount(matched)} of ${open}`;
      setText(byId("sockets-count"), `${count}${paused ? ", paused" : kept ? ", order held" : ""}`);
      setHidden(byId("sockets-empty"), matched > 0);
    },
  };
}
