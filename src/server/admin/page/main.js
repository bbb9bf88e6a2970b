// The page as a whole: views by location hash, the live stream and its state, one rendering a frame.

let views = {};
let view = null;
let stream = null;
// The `hello` of the gateway that this page talks to.
let gateway = null;
let frame = 0;
let lostTimer = 0;

const tapIsOn = () => gateway?.tap === true;

/** Renders the current view in the next frame; a hidden tab has no frames. */
function requestRender() {
  if (frame !== 0) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    view?.render();
  });
}

// ---- views

function readHash() {
  const [name, parameters] = location.hash.slice(1).split("?", 2);
  return [Object.hasOwn(views, name) ? name : "overview", new URLSearchParams(parameters ?? "")];
}

/** Shows the view of the location hash. `byUser` moves the focus to its heading. */
function showView(byUser) {
  if (document.body.dataset.signedIn !== "yes") return;
  const [name, parameters] = readHash();
  if (view !== views[name]) leaveView();
  view = views[name];
  document.title = `${view.title} · Moongate`;
  for (const link of byId("views").querySelectorAll("a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  byId(`view-${name}`).hidden = false;
  view.enter?.(parameters);
  openStream();
  requestRender();
  if (byUser) {
    byId(`h-${name}`).focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function leaveView() {
  view?.leave?.();
  view = null;
  stream.close();
  for (const name of Object.keys(views)) byId(`view-${name}`).hidden = true;
}

/** Opens the stream of the current view anew, as after a change of its parameters. */
function openStream() {
  if (view === null || document.hidden) return;
  stream.open(view.path());
}

// ---- what the stream says

function setGeneration(generation) {
  if (gateway === null || gateway.generation === generation) return;
  gateway.generation = generation;
  showBuild();
}

function showBuild() {
  setText(byId("build"), `${gateway.version} · generation ${gateway.generation}`);
}

function takeHello(hello) {
  const before = gateway;
  gateway = hello;
  showBuild();
  view?.opened?.();
  if (before === null) return;
  if (before.version !== hello.version) {
    setText(byId("restarted-text"), `The gateway is now version ${hello.version}. This page is of ${before.version}.`);
    setHidden(byId("restarted-reload"), false);
    setHidden(byId("restarted"), false);
  } else if (before.started !== hello.started || before.pid !== hello.pid) {
    setText(byId("restarted-text"), `The gateway was restarted at ${formatTime(hello.started * 1000)}. Its counts began anew.`);
    setHidden(byId("restarted"), false);
  } else {
    return;
  }
  for (const each of Object.values(views)) each.restarted?.();
}

function takeEvent(name, data) {
  if (name === "hello") takeHello(data);
  view?.events[name]?.(data);
  requestRender();
}

const CONNECTION = { idle: "Paused", connecting: "Connecting", live: "Live", lost: "Lost", refused: "Stopped" };

function showState(state, until = 0) {
  byId("connection").dataset.state = state;
  setText(byId("connection-text"), CONNECTION[state]);
  const lost = state === "lost";
  clearInterval(lostTimer);
  // A first connection that is still being made leaves an earlier banner as it is.
  if (state !== "connecting") setHidden(byId("lost"), !lost);
  setText(byId("lost-text"), lost ? "The connection to the gateway is lost. What is shown may be old." : "");
  if (!lost) return;
  // The countdown is not read aloud.
  const count = () => setText(byId("lost-wait"), `Next attempt in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s.`);
  count();
  lostTimer = setInterval(count, 1000);
}

function start() {
  stream = new LiveStream({
    onEvent: takeEvent,
    onState: showState,
    onRefused(error) {
      if (view?.refused) view.refused(error);
      else notify(explainError(error), "bad");
    },
  });
  views = {
    overview: createOverview(), upstreams: createUpstreams(), sockets: createSockets(),
    reloads: createReloads(), configuration: createConfiguration(), log: createLog(),
  };
  startThemeSwitch();
  startDialogs();
  startSession();
  byId("lost-retry").addEventListener("click", () => stream.retry());
  byId("restarted-dismiss").addEventListener("click", () => setHidden(byId("restarted"), true));
  byId("restarted-reload").addEventListener("click", () => location.reload());
  // The link is no view, so it must not change the hash.
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("content").focus();
  });
  addEventListener("hashchange", () => showView(true));
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stream.close();
    else openStream();
  });
  checkSession();
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
