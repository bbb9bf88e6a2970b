// A backend with a page, a WebSocket and its SockJS fallback: `node server.mjs NAME PORT`. HOST is 127.0.0.1.
//
// A session is a counter in the memory of this process. Requests of a session that reach another process
// therefore fail, as in most applications with SockJS.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import sockjs from "sockjs";
import { WebSocketServer } from "ws";

const [name = "blue", port = "8081"] = process.argv.slice(2);
const host = process.env.HOST ?? "127.0.0.1";

// The path of the application. The gateway forwards it unchanged.
const BASE = "/acts_competition";

// The largest message of a WebSocket.
const MAX_MESSAGE = 64 * 1024;

// Scripts, styles and connections only from the page's own origin.
const CONTENT_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:";

const sockjsClient = createRequire(import.meta.url).resolve("sockjs-client/dist/sockjs.min.js");
const page = (file) => readFileSync(new URL(`page/${file}`, import.meta.url));

// Path and response.
const FILES = {
  [`${BASE}/`]: { type: "text/html; charset=utf-8", body: page("index.html") },
  [`${BASE}/page.js`]: { type: "text/javascript; charset=utf-8", body: page("page.js") },
  [`${BASE}/page.css`]: { type: "text/css; charset=utf-8", body: page("page.css") },
  [`${BASE}/sockjs.min.js`]: { type: "text/javascript; charset=utf-8", body: readFileSync(sockjsClient) },
  [`${BASE}/whoami`]: { type: "text/plain; charset=utf-8", body: `${name}\n` },
  "/health": { type: "text/plain; charset=utf-8", body: "ok\n" },
};

// Open sessions of both kinds: functions that close one with a code and a reason.
const sessions = new Set();
let opened = 0;

// Begins a session. `send` writes text to the client; returns the handler of the client's messages.
function beginSession(transport, send) {
  const session = `${name}-${++opened}`;
  let count = 0;
  send(JSON.stringify({ type: "welcome", backend: name, session, transport }));
  return (data) => {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (message?.type === "message") {
      const { id, text } = message;
      send(JSON.stringify({ type: "echo", id, text, backend: name, session, count: ++count }));
    }
    // A beat needs no response: the request itself shows whether the backend still has the session.
  };
}

function respond(request, response) {
  const file = FILES[request.url.split("?")[0]];
  response.setHeader("X-Backend", name);
  response.setHeader("X-Content-Type-Options", "nosniff");
  response.setHeader("Content-Security-Policy", CONTENT_POLICY);
  response.setHeader("Cache-Control", "no-cache");
  if (!file) {
    response.writeHead(404, { "Content-Type": "text/plain; charset=utf-8" });
    response.end("not found\n");
    return;
  }
  response.writeHead(200, { "Content-Type": file.type, "Content-Length": Buffer.byteLength(file.body) });
  response.end(request.method === "HEAD" ? undefined : file.body);
}

const fallback = sockjs.createServer({
  prefix: `${BASE}/sockjs`,
  // Without this setting, the pages of iframe transports load the client from another site.
  sockjs_url: `${BASE}/sockjs.min.js`,
  log: (severity, line) => {
    if (severity === "error") console.error(line);
  },
});
fallback.on("connection", (connection) => {
  const receive = beginSession(connection.protocol, (text) => connection.write(text));
  const close = (code, reason) => connection.close(code, reason);
  sessions.add(close);
  connection.on("data", receive);
  connection.on("close", () => sessions.delete(close));
});

const websockets = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE });
websockets.on("headers", (headers) => headers.push(`X-Backend: ${name}`));
websockets.on("connection", (socket) => {
  const receive = beginSession("websocket", (text) => socket.send(text));
  const close = (code, reason) => socket.close(code, reason);
  sessions.add(close);
  socket.on("message", (data) => receive(String(data)));
  socket.on("close", () => sessions.delete(close));
  // The close event follows.
  socket.on("error", () => {});
});

const server = createServer(respond);
server.on("upgrade", (request, socket, head) => {
  if (request.url.split("?")[0] === `${BASE}/ws`) {
    websockets.handleUpgrade(request, socket, head, (ws) => websockets.emit("connection", ws, request));
  } else if (!request.url.startsWith(`${BASE}/sockjs/`)) {
    socket.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  }
});
// Handles the requests and upgrades below its prefix, and passes the others to the handlers above.
fallback.installHandlers(server);

server.listen(Number(port), host, () => {
  const { port: actual } = server.address();
  console.log(`${name} listens on http://${host}:${actual}${BASE}/`);
});

// Clients of a backend that ends get Close 1012 to reconnect: 1012 is Service Restart.
function end() {
  console.log(`${name} ends with ${sessions.size} sessions`);
  for (const close of sessions) close(1012, "the backend restarts");
  server.close(() => process.exit(0));
  // A kept connection becomes idle after its last response; a client that does not reply must not delay the end.
  setInterval(() => server.closeIdleConnections(), 100);
  setTimeout(() => process.exit(0), 5000);
}
process.once("SIGINT", end);
process.once("SIGTERM", end);
