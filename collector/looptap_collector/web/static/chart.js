// One chart: every series of one metric key, a line for each context. Plotly's SVG traces, nothing from elsewhere.

import { element, quantity } from "./words.js";

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// Plotly reads a little markup in names. What is stored is text, so its markup is spelled out.
const asText = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const COLOURS = 6;
const LARGE = new Set(["bytes", "bytes/s", "hertz"]);

export class Chart {
  constructor({ key, unit, lasting }) {
    this.unit = unit; // of what is measured in one, as bytes
    this.series = new Map(); // label → { context, metric, points }
    this.isLog = false;
    this.isLasting = lasting === true; // recorded when it changes; until then it stays what it is
    this.until = -Infinity; // the last step of the run
    this.card = element("article", undefined, "card chart");
    const header = element("header");
    this.last = element("span", "", "last");
    this.log = element("button", "log");
    this.log.type = "button";
    this.log.title = "logarithmic scale";
    this.log.setAttribute("aria-pressed", "false");
    this.log.addEventListener("click", () => {
      this.isLog = !this.isLog;
      this.log.setAttribute("aria-pressed", String(this.isLog));
      this.draw();
    });
    header.append(element("h3", key), this.last, this.log);
    this.plot = element("div", undefined, "plot");
    this.odd = element("p", "", "odd");
    this.odd.hidden = true;
    this.card.append(header, this.plot, this.odd);
  }

  summarise() {
    const metrics = [...this.series.values()].map((one) => one.metric);
    this.last.textContent = metrics.length === 1 ? quantity(metrics[0].last, this.unit) : `${metrics.length} series`;
    const nans = metrics.reduce((sum, metric) => sum + metric.nan_count, 0);
    const isInfinite = metrics.some((metric) => [metric.min, metric.max].some((value) => value === "Infinity" || value === "-Infinity"));
    const what = [nans && `${nans.toLocaleString("en-US")} NaN`, isInfinite && "infinite values"].filter(Boolean).join(" and ");
    this.odd.hidden = what === "";
    this.odd.textContent = `${what}: a gap in the line, marked ×`;
  }

  // The run has come to this step. Whether there is more to draw for it than was drawn.
  reaches(step) {
    const isFarther = this.isLasting && step > this.until && [...this.series.values()].some(({ points }) => points);
    this.until = step;
    return isFarther;
  }

  draw() {
    const traces = [];
    let place = 0;
    const legend = this.series.size > 1;
    for (const [label, { context, metric, points }] of this.series) {
      if (!points) continue;
      const colour = style(`--trace-${place++ % COLOURS}`);
      const name = asText(Object.entries(context).map(([key, value]) => `${key}=${value}`).join(", ") || metric.key);
      const { x, y } = this.isLasting ? held(points, this.until) : { x: points.steps, y: points.values };
      const isLone = y.map((value, at) => value !== null && (y[at - 1] ?? null) === null && (y[at + 1] ?? null) === null);
      traces.push({
        type: "scatter", mode: isLone.includes(true) ? "lines+markers" : "lines", name, x, y, meta: label,
        line: { color: colour, width: y.length > 1000 ? 1 : 1.6, shape: this.isLasting ? "hv" : "linear" }, connectgaps: false,
        marker: { color: colour, size: isLone.map((one) => (one ? 6 : 0)) },
        showlegend: legend, hovertemplate: legend ? "%{y:.6~g}  %{fullData.name}<extra></extra>" : "step %{x:,d}<br><b>%{y:.6~g}</b><extra></extra>",
      });
      if (points.odd.length) traces.push(oddMarks(points));
    }
    const steps = traces.flatMap(({ x }) => [x[0], x.at(-1)]);
    const isShort = Math.max(...steps) - Math.min(...steps) < 6; // there are no half steps to be named
    const isFlat = new Set(traces.flatMap(({ y }) => y.filter((value) => value !== null))).size < 2;
    const layout = {
      margin: { l: 52, r: 10, t: 8, b: legend ? 56 : 34 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: style("--quiet"), size: 11 }, hovermode: legend ? "x" : "closest", uirevision: "keep", dragmode: "zoom",
      hoverlabel: { bgcolor: style("--card"), bordercolor: style("--line"), font: { color: style("--ink") } },
      xaxis: { gridcolor: style("--grid"), zeroline: false, title: { text: legend ? "" : this.unit ? "sample" : "step", standoff: 4 }, tickformat: ",d", ...(isShort ? { dtick: 1 } : { nticks: 6 }) },
      yaxis: { gridcolor: style("--grid"), zeroline: false, type: this.isLog ? "log" : "linear", nticks: 6, exponentformat: "e", tickformat: LARGE.has(this.unit) ? ".4~s" : "", rangemode: isFlat || this.unit ? "tozero" : "normal" },
      legend: { orientation: "h", y: -0.16, font: { size: 11 } },
    };
    return window.Plotly.react(this.plot, traces, layout, { displaylogo: false, displayModeBar: false, responsive: true });
  }
}

// Up to the last step of the run, unless what it was last is no number.
function held({ steps, values }, until) {
  const isOver = steps.at(-1) >= until || values.at(-1) === null;
  return isOver ? { x: steps, y: values } : { x: [...steps, until], y: [...values, values.at(-1)] };
}

// Where a value is not finite there is nothing to draw; a cross at the height of the last value says so.
function oddMarks(points) {
  const heights = [];
  let height = points.values.find((value) => value !== null) ?? 0;
  let next = 0;
  points.values.forEach((value, index) => {
    if (value !== null) height = value;
    if (points.odd[next]?.[0] === index) {
      heights.push(height);
      next += 1;
    }
  });
  return {
    type: "scatter", mode: "markers", x: points.odd.map(([index]) => points.steps[index]), y: heights, showlegend: false,
    text: points.odd.map(([, what]) => what), hoverinfo: "x+text", marker: { symbol: "x-thin", size: 9, line: { color: style("--stopped"), width: 2 } },
  };
}
