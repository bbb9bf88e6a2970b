// Line charts: histories of ten minutes and the curve of a drain, as SVG with a text alternative.

const HISTORY_POINTS = 120;
const CHART_WIDTH = 240;
const CHART_HEIGHT = 56;

/** The `d` of a path through points; null is a gap. */
function linePath(points) {
  let path = "", pen = "M";
  for (const point of points) {
    if (point === null) {
      pen = "M";
    } else {
      path += `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
      pen = "L";
    }
  }
  return path;
}

function areaPath(points, bottom) {
  const known = points.filter((point) => point !== null);
  if (known.length < 2) return "";
  return `${linePath(known)}L${known.at(-1)[0].toFixed(1)} ${bottom}L${known[0][0].toFixed(1)} ${bottom}Z`;
}

/** A limit above the highest value: 1, 2 or 5 times a power of ten, of a unit that is a power of `base`. */
function niceCeiling(value, base) {
  if (!(value > 0)) return 1;
  const unit = base ** Math.floor(Math.log(value) / Math.log(base));
  const power = 10 ** Math.floor(Math.log10(value / unit));
  return [1, 2, 5, 10].map((step) => step * power * unit).find((limit) => limit >= value) ?? value;
}

/** The chart of one or two series over ten minutes. `format` writes a value; its units are powers of `base`. */
class HistoryChart {
  constructor(title, series, format, base) {
    Object.assign(this, { title, series, format, base, values: series.map(() => []), end: 0, interval: 5 });
    this.svg = svgElement("svg", { class: "chart", viewBox: `0 0 ${CHART_WIDTH} ${CHART_HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.area = svgElement("path", { class: "area" });
    this.lines = series.map((_, index) => svgElement("path", { class: `line line-${index}` }));
    this.cursor = svgElement("line", { class: "cursor", y1: 0, y2: CHART_HEIGHT, visibility: "hidden" });
    this.svg.append(this.area, ...this.lines, this.cursor);
    this.ceiling = element("span", { class: "chart-ceiling" });
    this.readout = element("span", { class: "chart-readout" }, "last 10 min");
    this.node = element("div", { class: "chart-box" }, this.svg,
      element("div", { class: "chart-foot", "aria-hidden": "true" }, this.ceiling, this.readout));
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.point(null));
  }

  update(values, end, interval) {
    Object.assign(this, { values, end, interval });
    const all = values.flat().filter(isNumber);
    const top = niceCeiling(Math.max(0, ...all), this.base);
    const lines = values.map((list) => list.map((value, index) => isNumber(value)
      ? [CHART_WIDTH - (list.length - 1 - index) * CHART_WIDTH / (HISTORY_POINTS - 1), CHART_HEIGHT - 1 - value / top * (CHART_HEIGHT - 4)]
      : null));
    setAttribute(this.area, "d", areaPath(lines[0], CHART_HEIGHT));
    this.lines.forEach((line, index) => setAttribute(line, "d", linePath(lines[index])));
    setText(this.ceiling, all.length > 0 ? `scale to ${this.format(top).replace(".0", "")}` : "");
    setAttribute(this.svg, "aria-label", `${this.title}, last ten minutes: ${this.describe()}`);
  }

  describe() {
    return this.series.map(({ name }, index) => {
      const known = this.values[index].filter(isNumber);
      if (known.length === 0) return `${name}: no values`;
      const [low, high, last] = [Math.min(...known), Math.max(...known), known.at(-1)].map(this.format);
      return `${name}: lowest ${low}, highest ${high}, latest ${last}`;
    }).join("; ");
  }

  /** Shows the values under the pointer. */
  point(event) {
    const count = this.values[0].length;
    if (event === null || count === 0) {
      this.cursor.setAttribute("visibility", "hidden");
      setText(this.readout, "last 10 min");
      return;
    }
    const box = this.svg.getBoundingClientRect();
    const back = Math.round((1 - (event.clientX - box.left) / box.width) * (HISTORY_POINTS - 1));
    const steps = Math.min(count - 1, Math.max(0, back));
    const x = CHART_WIDTH - steps * CHART_WIDTH / (HISTORY_POINTS - 1);
    for (const [name, value] of [["x1", x], ["x2", x], ["visibility", "visible"]]) this.cursor.setAttribute(name, value);
    const values = this.values.map((list) => this.format(list[count - 1 - steps])).join(" · ");
    setText(this.readout, `${formatClock(this.end - steps * this.interval * 1000)}  ${values}`);
  }
}

/** The history of one value in a row of a table. */
class SmallChart {
  constructor() {
    this.svg = svgElement("svg", { class: "chart small", viewBox: `0 0 ${CHART_WIDTH} ${CHART_HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.area = svgElement("path", { class: "area" });
    this.line = svgElement("path", { class: "line" });
    this.svg.append(this.area, this.line);
    this.node = this.svg;
  }

  update(title, values, format) {
    const top = Math.max(0, ...values);
    const points = values.map((value, index) =>
      [CHART_WIDTH - (values.length - 1 - index) * CHART_WIDTH / (HISTORY_POINTS - 1), CHART_HEIGHT - 1 - (top > 0 ? value / top : 0) * (CHART_HEIGHT - 6)]);
    setAttribute(this.line, "d", linePath(points));
    setAttribute(this.area, "d", areaPath(points, CHART_HEIGHT));
    const text = values.length > 0 ? `highest ${format(top)}, latest ${format(values.at(-1))}` : "no errors";
    setAttribute(this.svg, "aria-label", `${title}, last ten minutes: ${text}`);
  }
}

/** Planned and actual number of WebSockets over the window of a drain. */
class DrainChart {
  constructor() {
    this.svg = svgElement("svg", { class: "chart drain-chart", viewBox: `0 0 ${CHART_WIDTH} ${CHART_HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.area = svgElement("path", { class: "area" });
    this.planned = svgElement("path", { class: "line planned" });
    this.actual = svgElement("path", { class: "line line-0" });
    this.svg.append(this.area, this.planned, this.actual);
    this.node = this.svg;
  }

  /** `seen` is a list of [time, WebSockets]. */
  update(drain, seen) {
    const window = Math.max(1, drain.window * 1000);
    const last = seen.length > 0 ? seen.at(-1)[0] - drain.started : 0;
    const span = Math.max(window, last);
    const top = Math.max(1, drain.websockets_at_start, ...seen.map(([, count]) => count));
    const place = ([at, count]) => [(at - drain.started) / span * CHART_WIDTH, CHART_HEIGHT - 1 - count / top * (CHART_HEIGHT - 4)];
    const start = [drain.started, drain.websockets_at_start];
    const points = seen.map(place);
    setAttribute(this.planned, "d", linePath([start, [drain.started + window, 0]].map(place)));
    setAttribute(this.actual, "d", linePath(points));
    setAttribute(this.area, "d", areaPath(points, CHART_HEIGHT));
    const now = seen.length > 0 ? seen.at(-1)[1] : drain.websockets_at_start;
    setAttribute(this.svg, "aria-label",
      `Open WebSockets over the drain window of ${formatDuration(drain.window)}: ${formatCount(drain.websockets_at_start)} at the start, ${formatCount(now)} now`);
  }
}
