// Server-Sent Events over fetch, because EventSource cannot send the key of the session. A lost stream reconnects with
// back-off; a refused one does not.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 10_000;
// The gateway sends a comment at least every 15 s.
const SILENCE = 35_000;

/** Reads the events of a response; calls `onEvent(name, data)` for each. */
async function readEvents(response, onEvent, onBytes = () => {}) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let line = "", name = "", data = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    onBytes();
    const lines = value.split("\n");
    lines[0] = line + lines[0];
    line = lines.pop();
    for (const text of lines) {
      const field = text.endsWith("\r") ? text.slice(0, -1) : text;
      if (field === "") {
        if (data.length > 0) onEvent(name, JSON.parse(data.join("\n")));
        name = "";
        data = [];
      } else if (field.startsWith("event:")) {
        name = field.slice(6).trim();
      } else if (field.startsWith("data:")) {
        data.push(field.slice(5));
      }
    }
  }
}

/** The live stream of the page. States: idle, connecting, live, lost, refused. */
class LiveStream {
  #abort = null;
  #failures = 0;
  #path = null;
  #timer = 0;

  constructor({ onEvent, onState, onRefused }) {
    this.onEvent = onEvent;
    this.onState = onState;
    this.onRefused = onRefused;
  }

  open(path) {
    this.#path = path;
    this.#failures = 0;
    this.#connect();
  }

  close() {
    this.#end();
    this.#path = null;
    this.onState("idle");
  }

  /** Connects without waiting. */
  retry() {
    if (this.#path !== null) this.#connect();
  }

  #end() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = null;
  }

  async #connect() {
    this.#end();
    const abort = this.#abort = new AbortController();
    // After the first failure the page says "lost" until events arrive.
    if (this.#failures === 0) this.onState("connecting");
    const silence = { timer: setTimeout(() => abort.abort(), SILENCE) };
    try {
      const response = await request("GET", this.#path, { signal: abort.signal });
      await readEvents(response, (name, data) => {
        if (this.#abort !== abort) return;
        if (name === "hello") {
          this.#failures = 0;
          this.onState("live");
        }
        // A fault of this page must not look like a lost connection.
        try {
          this.onEvent(name, data);
        } catch (fault) {
          reportError(fault);
        }
      }, () => {
        clearTimeout(silence.timer);
        silence.timer = setTimeout(() => abort.abort(), SILENCE);
      });
    } catch (error) {
      const refused = error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429;
      if (refused && this.#abort === abort) {
        this.#abort = null;
        this.onState("refused");
        if (error.status !== 401) this.onRefused(error);
        return;
      }
    } finally {
      clearTimeout(silence.timer);
    }
    // Another connection has taken its place, or the stream was closed.
    if (this.#abort !== abort) return;
    abort.abort();
    this.#reconnectLater();
  }

  #reconnectLater() {
    // Jitter, so that the pages of several operators do not reconnect together.
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#failures) * (0.75 + Math.random() / 2);
    // A stream that ended may be back at once: the page says "lost" after the first failed attempt.
    this.onState(this.#failures === 0 ? "connecting" : "lost", Date.now() + wait);
    this.#failures += 1;
    this.#timer = setTimeout(() => this.#connect(), wait);
  }
}
