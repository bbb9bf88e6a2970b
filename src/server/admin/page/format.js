// Numbers, sizes, durations and times as text. A value that is null or not a number is a dash.

const DASH = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

function formatCount(value) {
  return isNumber(value) ? whole.format(value) : DASH;
}

/** A rate or a mean: one digit after the point below 100, thousands as k from 100,000. */
function formatRate(value) {
  if (!isNumber(value)) return DASH;
  if (value === 0) return "0";
  if (value < 0.05) return "<0.1";
  if (value < 99.95) return fine.format(value);
  return value < 100_000 ? whole.format(value) : value < 1e6 ? `${whole.format(value / 1e3)}k` : `${fine.format(value / 1e6)}M`;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function formatBytes(value) {
  if (!isNumber(value)) return DASH;
  let size = value, unit = 0;
  while (size >= 999.5 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 || size >= 99.95 ? whole.format(size) : fine.format(size)} ${UNITS[unit]}`;
}

/** A short duration, as a round trip: seconds in, a unit that fits out. */
function formatLatency(seconds) {
  if (!isNumber(seconds)) return DASH;
  if (seconds < 0.000_999_5) return `${whole.format(seconds * 1e6)} µs`;
  if (seconds < 0.099_95) return `${fine.format(seconds * 1e3)} ms`;
  return seconds < 0.999_5 ? `${whole.format(seconds * 1e3)} ms` : `${fine.format(seconds)} s`;
}

/** A long duration, as an age: its two largest units. */
function formatDuration(seconds) {
  if (!isNumber(seconds)) return DASH;
  const s = Math.max(0, Math.floor(seconds));
  const parts = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => s >= size);
  if (first === -1) return "0 s";
  const [[size, unit], next] = [parts[first], parts[first + 1]];
  const text = `${Math.floor(s / size)} ${unit}`;
  const rest = next ? Math.floor((s % size) / next[0]) : 0;
  return rest > 0 ? `${text} ${rest} ${next[1]}` : text;
}

function formatPercent(fraction) {
  return isNumber(fraction) ? `${fraction < 0.0995 ? fine.format(fraction * 100) : whole.format(fraction * 100)} %` : DASH;
}

function formatClock(milliseconds) {
  return isNumber(milliseconds) ? clock.format(milliseconds) : DASH;
}

function formatClockMilliseconds(milliseconds) {
  if (!isNumber(milliseconds)) return DASH;
  return `${clock.format(milliseconds)}.${String(Math.floor(milliseconds) % 1000).padStart(3, "0")}`;
}

/** The time of day, and the date before it if that is not today. */
function formatTime(milliseconds) {
  if (!isNumber(milliseconds)) return DASH;
  const then = new Date(milliseconds);
  const time = clock.format(then);
  if (then.toDateString() === new Date().toDateString()) return time;
  const two = (number) => String(number).padStart(2, "0");
  return `${then.getFullYear()}-${two(then.getMonth() + 1)}-${two(then.getDate())} ${time}`;
}

function formatAgo(milliseconds) {
  return isNumber(milliseconds) ? `${formatDuration((Date.now() - milliseconds) / 1000)} ago` : DASH;
}

function plural(count, noun) {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}

// RFC 6455 §7.4.1 and the IANA registry.
const CLOSE_CODES = {
  1000: "normal closure", 1001: "going away", 1002: "protocol error", 1003: "unsupported data", 1005: "no code",
  1006: "no Close frame", 1007: "invalid payload", 1008: "policy violation", 1009: "message too big",
  1010: "missing extension", 1011: "internal error", 1012: "service restart", 1013: "try again later", 1014: "bad gateway",
};

function closeCodeName(code) {
  const number = Number(code);
  if (CLOSE_CODES[number]) return CLOSE_CODES[number];
  if (number >= 3000 && number < 4000) return "registered by a library";
  return number >= 4000 && number < 5000 ? "private use" : "";
}
