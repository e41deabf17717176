// One chart: every series of one metric key, a line for each context. Plotly's SVG traces, nothing from elsewhere.

import { element, number } from "./words.js";

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// Plotly reads a little markup in names. What is stored is text, so its markup is spelled out.
const asText = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const COLOURS = 6;

export class Chart {
  constructor(key) {
    this.series = new Map(); // label → { context, metric, points }
    this.isLog = false;
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
    this.last.textContent = metrics.length === 1 ? number(metrics[0].last) : `${metrics.length} series`;
    const nans = metrics.reduce((sum, metric) => sum + metric.nan_count, 0);
    const isInfinite = metrics.some((metric) => [metric.min, metric.max].some((value) => value === "Infinity" || value === "-Infinity"));
    const what = [nans && `${nans.toLocaleString("en-US")} NaN`, isInfinite && "infinite values"].filter(Boolean).join(" and ");
    this.odd.hidden = what === "";
    this.odd.textContent = `${what}: a gap in the line, marked ×`;
  }

  draw() {
    const traces = [];
    let place = 0;
    const legend = this.series.size > 1;
    for (const [label, { context, metric, points }] of this.series) {
      if (!points) continue;
      const colour = style(`--trace-${place++ % COLOURS}`);
      const name = asText(Object.entries(context).map(([key, value]) => `${key}=${value}`).join(", ") || metric.key);
      traces.push({
        type: "scatter", mode: points.values.length > 1 ? "lines" : "markers", name, x: points.steps, y: points.values, meta: label,
        line: { color: colour, width: points.values.length > 1000 ? 1 : 1.6 }, marker: { color: colour, size: 6 }, connectgaps: false,
        showlegend: legend, hovertemplate: legend ? "%{y:.6~g}  %{fullData.name}<extra></extra>" : "step %{x:,d}<br><b>%{y:.6~g}</b><extra></extra>",
      });
      if (points.odd.length) traces.push(oddMarks(points));
    }
    const steps = [...this.series.values()].flatMap(({ points }) => (points ? [points.steps[0], points.steps.at(-1)] : []));
    const isShort = Math.max(...steps) - Math.min(...steps) < 6; // there are no half steps to be named
    const isOnePoint = traces.every((trace) => trace.x.length < 2);
    const layout = {
      margin: { l: 52, r: 10, t: 8, b: legend ? 56 : 34 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: style("--quiet"), size: 11 }, hovermode: legend ? "x" : "closest", uirevision: "keep", dragmode: "zoom",
      hoverlabel: { bgcolor: style("--card"), bordercolor: style("--line"), font: { color: style("--ink") } },
      xaxis: { gridcolor: style("--grid"), zeroline: false, title: { text: legend ? "" : "step", standoff: 4 }, tickformat: ",d", ...(isShort ? { dtick: 1 } : { nticks: 6 }) },
      yaxis: { gridcolor: style("--grid"), zeroline: false, type: this.isLog ? "log" : "linear", nticks: 6, exponentformat: "e", rangemode: isOnePoint ? "tozero" : "normal" },
      legend: { orientation: "h", y: -0.16, font: { size: 11 } },
    };
    return window.Plotly.react(this.plot, traces, layout, { displaylogo: false, displayModeBar: false, responsive: true });
  }
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
