// Calls of the admin API and the session of this browser. Cookies are not isolated by port, so each call also sends a
// key that only pages of this origin can read.

/** A response that is not a success. */
class ApiError extends Error {
  constructor(status, body) {
    super(body?.detail || body?.error || `status ${status}`);
    this.status = status;
    this.token = body?.error ?? "";
    this.body = body ?? {};
  }
}

/** What a person should read about a failed call. */
function explainError(error) {
  if (!(error instanceof ApiError)) return "The gateway does not respond.";
  return { unauthorized: "This needs the token: sign in, or set admin.token in the configuration.", cross_site: "The gateway refused this as a request of another site.",
    unknown_socket: "This WebSocket is already closed.", unknown_endpoint: "This endpoint does not exist any more.",
  }[error.token] ?? error.message;
}

/** Sends a request; returns its response if that is a success. */
async function request(method, path, { signal, json } = {}) {
  const headers = {};
  const key = stored("key");
  if (key !== null) headers["X-Moongate-Key"] = key;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, signal, cache: "no-store", body: json && JSON.stringify(json) });
  if (response.ok) return response;
  let body = null;
  try {
    body = await response.json();
  } catch {
    // The status alone tells it.
  }
  if (response.status === 401 && path !== "/api/v1/session") askForToken();
  throw new ApiError(response.status, body);
}

async function requestJson(method, path, options) {
  return (await request(method, path, options)).json();
}

function query(parameters) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const item of [value].flat()) if (item !== "" && item !== null && item !== undefined) search.append(name, item);
  }
  return search.toString();
}

const endpointPath = (upstream, endpoint) =>
  `/api/v1/upstreams/${encodeURIComponent(upstream)}/endpoints/${encodeURIComponent(endpoint)}`;

// ---- sign-in

function showSignIn() {
  if (document.body.dataset.signedIn === "no") return;
  document.body.dataset.signedIn = "no";
  store("key", null);
  byId("confirm").close();
  leaveView();
  byId("view-sign-in").hidden = false;
  byId("token").value = "";
  byId("token").focus();
}

function hideSignIn(byUser) {
  document.body.dataset.signedIn = "yes";
  byId("view-sign-in").hidden = true;
  showView(byUser);
}

function startSession() {
  byId("sign-in-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const error = byId("sign-in-error");
    setText(error, "");
    try {
      const { key } = await requestJson("POST", "/api/v1/session", { json: { token: byId("token").value } });
      store("key", key);
      byId("token").value = "";
      setHidden(byId("sign-out"), false);
      hideSignIn(true);
    } catch (failure) {
      setText(error, failure.status === 401 ? "The token is wrong." : explainError(failure));
      byId("token").select();
    }
  });
  byId("sign-out").addEventListener("click", async () => {
    try {
      await request("DELETE", "/api/v1/session");
    } catch {
      // The key is forgotten in any case.
    }
    showSignIn();
  });
}

/** Shows the sign-in if a token helps: without `admin.token` a refused call has no remedy here. */
async function askForToken() {
  try {
    const { required, signed_in: signedIn } = await requestJson("GET", "/api/v1/session");
    if (required && !signedIn) showSignIn();
  } catch {
    // The stream says that the gateway is gone.
  }
}

/** Enters the view, or asks for the token first. Without a response the stream reconnects, and says so. */
async function checkSession() {
  try {
    const { required, signed_in: signedIn } = await requestJson("GET", "/api/v1/session");
    setHidden(byId("sign-out"), !required);
    if (required && !signedIn) return showSignIn();
  } catch {
    setHidden(byId("sign-out"), stored("key") === null);
  }
  hideSignIn(false);
}
