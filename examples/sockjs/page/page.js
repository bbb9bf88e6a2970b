// A WebSocket if the browser has one, else SockJS. `?transport=NAME` selects a transport.
"use strict";

// ms. A page waits longer after each failure; half of the time is random, so that many pages spread.
const FIRST_WAIT = 200;
const LONGEST_WAIT = 5000;
// ms. A SockJS session without requests would not notice that its backend drains.
const BEAT = 5000;
// ms. SockJS derives a shorter time from the first round trip, too short for a busy machine.
const TRANSPORT_TIMEOUT = 5000;
const LOG_LINES = 200;
// WebSocket.OPEN and SockJS.OPEN; a browser without WebSockets has only the latter.
const OPEN = 1;

const element = (id) => document.getElementById(id);
const base = location.pathname.replace(/[^/]*$/, "");
const forced = new URLSearchParams(location.search).get("transport");

let connection;
let wait = FIRST_WAIT;
let timer;
let reconnects = 0;
let nextId = 1;
// Messages without an echo, by number. They are sent again after a reconnect.
const unacknowledged = new Map();

function connect() {
  clearTimeout(timer);
  show("state", "connecting");
  const mine = (connection = open());
  let welcomed = false;
  mine.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "welcome") {
      welcomed = true;
      wait = FIRST_WAIT;
      welcome(message);
    } else if (message.type === "echo") {
      echo(message);
    }
  };
  mine.onclose = (event) => {
    if (mine !== connection) return;
    closed(event, welcomed);
  };
}

function open() {
  const isSockjs = forced ? forced !== "websocket" : !("WebSocket" in window);
  if (isSockjs) {
    const options = { timeout: TRANSPORT_TIMEOUT };
    if (forced) options.transports = [forced];
    return new SockJS(`${base}sockjs`, null, options);
  }
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return new WebSocket(`${scheme}//${location.host}${base}ws`);
}

function welcome({ backend, session, transport }) {
  show("state", "open");
  show("backend", backend);
  element("backend").dataset.backend = backend;
  show("transport", transport);
  show("session", session);
  log(`session ${session} by ${transport}`, backend);
  for (const [id, text] of unacknowledged) send(id, text);
}

function echo({ id, text, backend, session, count }) {
  // A message that was sent again may have two echoes.
  if (!unacknowledged.delete(id)) return;
  show("unacknowledged", unacknowledged.size);
  log(`${text} (message ${count} of ${session})`, backend);
}

function closed({ code, reason }, welcomed) {
  show("state", "closed");
  log(`closed with ${code}${reason ? `: ${reason}` : ""}`);
  if (welcomed) show("reconnects", ++reconnects);
  timer = setTimeout(connect, wait * (0.5 + Math.random() / 2));
  wait = Math.min(wait * 2, LONGEST_WAIT);
}

function send(id, text) {
  if (connection.readyState === OPEN) connection.send(JSON.stringify({ type: "message", id, text }));
}

function beat() {
  const isSockjs = connection instanceof SockJS;
  if (isSockjs && connection.readyState === OPEN) connection.send(JSON.stringify({ type: "beat" }));
}

function show(id, value) {
  element(id).textContent = value;
}

function log(text, backend) {
  const line = document.createElement("li");
  line.textContent = backend ? `${backend}  ${text}` : text;
  if (backend) line.dataset.backend = backend;
  else line.className = "event";
  element("log").append(line);
  while (element("log").childElementCount > LOG_LINES) element("log").firstElementChild.remove();
  element("log").scrollTop = element("log").scrollHeight;
}

element("form").onsubmit = (event) => {
  event.preventDefault();
  const text = element("text").value;
  if (!text) return;
  const id = nextId++;
  unacknowledged.set(id, text);
  show("unacknowledged", unacknowledged.size);
  send(id, text);
  element("text").value = "";
};
element("reconnect").onclick = () => (connection.readyState === OPEN ? connection.close() : connect());
for (const link of document.querySelectorAll("nav a")) {
  if (link.search === location.search) link.setAttribute("aria-current", "page");
}

setInterval(beat, BEAT);
connect();
