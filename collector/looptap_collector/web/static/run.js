import { Chart } from "./chart.js";
import { showProfile } from "./profile.js";
import { ask, complaint, count, element, fileName, number, param as paramText, row, setting, size, took, when } from "./words.js";

const EVERY_MS = 2000;
const PROFILE_EVERY_MS = 30_000; // it reads many points
const POINTS = 2000;
const AT_ONCE = 16; // series in one question
const which = location.pathname.split("/").pop(); // stays percent-encoded, as the API takes it
const byId = (id) => document.getElementById(id);
const charts = new Map(); // metric key → Chart
const visible = new Set();
const drawn = new Map(); // series label → number of points that the chart shows
let metrics = {};

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const chart = entry.target.chart;
    if (entry.isIntersecting) visible.add(chart);
    else visible.delete(chart);
  }
  fetchPoints();
}, { rootMargin: "300px" });

function text(id, value) {
  byId(id).textContent = value ?? "";
  byId(id).hidden = !value;
}

function fill(selector, rows, none, columns) {
  const empty = element("td", none, "quiet");
  empty.colSpan = columns;
  document.querySelector(selector).replaceChildren(...(rows.length ? rows : [row(empty)]));
}

function showHead({ run, delivery }) {
  document.title = `${run.name} · looptap`;
  byId("name").textContent = run.name || run.id;
  byId("status").textContent = run.status;
  byId("status").className = ["running", "finished", "failed", "killed", "lost", "partial"].includes(run.status) ? `badge ${run.status}` : "badge";
  const who = [run.user, run.host].filter(Boolean).join("@");
  byId("facts").textContent = [
    `started ${when(run.started)}`, `${run.status === "running" ? "running for" : "took"} ${took(run.duration_seconds)}`, silence(run),
    run.experiment && `experiment ${run.experiment}`,
    fileName(run.script), who, run.id,
  ].filter(Boolean).join(" · ");
  text("command", run.command.join(" "));
  text("error", run.error);
  const lost = Object.values(delivery.dropped).reduce((sum, one) => sum + one, 0);
  const reasons = Object.entries(delivery.dropped).map(([reason, one]) => `${one.toLocaleString("en-US")} ${reason}`).join(", ");
  byId("delivery").textContent = `${count(delivery.points_stored, "point", "points")} stored, ${lost.toLocaleString("en-US")} dropped`
    + (reasons ? ` (${reasons})` : "") + (delivery.in_journal ? `, ${delivery.in_journal.toLocaleString("en-US")} still in the journal` : "");
  byId("delivery").title = `emitted ${delivery.emitted} = stored ${delivery.stored} + in journal ${delivery.in_journal} + dropped ${lost}`;
  byId("delivery").classList.toggle("lossy", lost > 0);
}

// A program that was killed cannot say so; until somebody finds its journal, silence is all there is to see.
function silence(run) {
  const quiet = run.status === "running" && run.heartbeat ? Date.now() - Date.parse(run.heartbeat) : 0;
  return quiet > 60_000 && `not heard from since ${when(run.heartbeat)}`;
}

// What the user chose comes before what the framework was found to be set to, and that before what the machine gave; by key within each.
const placeOf = (param) => (param.source === "allotment" ? 2 : ["user", "argparse", "default", "constant"].includes(param.source) ? 0 : 1);

function showParams(params) {
  const entries = Object.entries(params).sort(([, a], [, b]) => placeOf(a) - placeOf(b));
  byId("param-count").textContent = entries.length || "";
  fill("#params tbody", entries.map(([key, param]) => {
    const value = element("td", paramText(key, param), "mono");
    if (param.revisions) value.title = `before: ${param.revisions.slice(0, -1).map((one) => setting(one.value)).join(", ")}`;
    return row(element("td", key), value, element("td", param.source, "source"));
  }), "No params yet.", 3);
}

function showArtifacts(artifacts) {
  byId("artifact-count").textContent = artifacts.length || "";
  fill("#artifacts tbody", artifacts.map((artifact) => {
    const name = element("td", artifact.name);
    name.title = artifact.path ?? "";
    const digest = element("td", artifact.digest ? null : `not kept: ${artifact.missing}`, "mono source");
    if (artifact.digest) {
      const link = element("a", artifact.digest.slice(0, 12));
      link.href = `/api/runs/${which}/artifacts/${encodeURIComponent(artifact.digest)}`;
      link.download = "";
      link.title = `download · ${artifact.digest}`;
      digest.append(link);
    }
    return row(name, element("td", artifact.role, "source"), element("td", size(artifact.size_bytes), "num"), digest);
  }), "No files.", 4);
}

function showDatasets(datasets) {
  byId("datasets-section").hidden = datasets.length === 0;
  byId("dataset-count").textContent = datasets.length || "";
  document.querySelector("#datasets tbody").replaceChildren(...datasets.map((dataset) => {
    const name = element("td", dataset.name);
    name.title = [dataset.class_name, dataset.split && `split ${dataset.split}`, dataset.root, dataset.transform].filter(Boolean).join("\n");
    if (dataset.root) name.append(element("div", dataset.root, "quiet mono"));
    const print = element("td", dataset.fingerprint ? dataset.fingerprint.slice(0, 12) : `none: ${dataset.missing ?? "not known"}`, "mono source");
    print.title = dataset.fingerprint ?? "";
    if (dataset.covers) print.append(element("div", dataset.covers, "quiet"));
    return row(name, element("td", dataset.role, "source"), element("td", dataset.length === null ? "–" : number(dataset.length), "num"), print);
  }));
}

// The packages that bring them; TensorFlow comes under several names.
const FRAMEWORKS = ["torch", "tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-macos", "tensorflow-rocm", "tf-nightly", "keras", "jax"];

function showEnvironment(environment, tags) {
  const { git } = environment;
  const facts = [
    ["Python", environment.python], ["Platform", environment.platform],
    ["Git", git.commit && `${git.commit.slice(0, 10)}${git.branch ? ` on ${git.branch}` : ""}${git.dirty ? ", uncommitted changes" : ""}`],
    ["Remote", git.remote],
    ...FRAMEWORKS.map((name) => [name, environment.packages[name]]),
    ...Object.entries(tags).map(([key, value]) => [`tag ${key}`, value]),
    ...Object.entries(environment.variables).map(([key, value]) => [key, value]),
  ].filter(([, value]) => value);
  fill("#environment tbody", facts.map(([what, value]) => row(element("td", what, "quiet"), element("td", value, "mono"))), "Not known yet.", 2);
  const packages = Object.entries(environment.packages);
  byId("packages").hidden = packages.length === 0;
  document.querySelector("#packages summary").textContent = count(packages.length, "package", "packages");
  document.querySelector("#packages tbody").replaceChildren(
    ...packages.map(([name, version]) => row(element("td", name), element("td", version, "mono"))));
}

// Raised and over in turn, by kind, series and rank; what stands comes first, the worst before the others.
function showAlerts(alerts) {
  const episodes = [], standing = new Map();
  for (const alert of alerts) {
    const which = JSON.stringify([alert.kind, alert.key, alert.rank]);
    if (alert.state === "fired") {
      const episode = { alert, over: null };
      standing.set(which, episode);
      episodes.unshift(episode);
    } else if (standing.has(which)) {
      standing.get(which).over = alert;
      standing.delete(which);
    }
  }
  const place = ({ alert, over }) => (over ? 2 : alert.severity === "critical" ? 0 : 1);
  byId("alerts").hidden = episodes.length === 0;
  byId("alerts").replaceChildren(...episodes.sort((a, b) => place(a) - place(b)).map(({ alert, over }) => {
    const line = element("li", null, over ? "over" : alert.severity);
    line.append(element("b", alert.kind.replaceAll("_", " ")), ` ${alert.message}`, element("span",
      ` · ${when(alert.time)}${alert.rank ? ` · rank ${alert.rank}` : ""}${over ? ` · over ${when(over.time)}` : ""}`, "quiet"));
    return line;
  }));
}

function showNotes(notes) {
  byId("notes-section").hidden = notes.length === 0;
  byId("notes").replaceChildren(...notes.map((note) => element("li", `${note.topic}: ${note.message}`)));
}

// Losses first; otherwise as the store sorts them.
const rank = (metric) => (metric.is_loss ? 0 : 1);
// What was used of the machine stands apart, below what the training is about.
const isResource = (metric) => metric.key.startsWith("system.");

function showMetrics() {
  const entries = Object.entries(metrics);
  const used = entries.filter(([, metric]) => isResource(metric)).length;
  byId("metric-count").textContent = entries.length - used || "";
  byId("no-metrics").hidden = entries.length > used;
  byId("resources-section").hidden = used === 0;
  byId("resource-count").textContent = used;
  const last = Math.max(...entries.filter(([, metric]) => !isResource(metric)).map(([, metric]) => metric.last_step));
  for (const [label, metric] of entries.sort(([, a], [, b]) => rank(a) - rank(b))) {
    let chart = charts.get(metric.key);
    if (!chart) {
      chart = new Chart(metric);
      chart.card.chart = chart;
      chart.rank = rank(metric);
      charts.set(metric.key, chart);
      const place = byId(isResource(metric) ? "resources" : "charts");
      place.insertBefore(chart.card, [...place.children].find((card) => card.chart.rank > chart.rank) ?? null);
      watcher.observe(chart.card);
    }
    const known = chart.series.get(label);
    chart.series.set(label, { context: metric.context, metric, points: known?.points });
    chart.summarise();
  }
  for (const chart of charts.values()) if (chart.reaches(last) && visible.has(chart)) chart.draw();
}

// Asks for the series on screen that have grown since they were drawn.
let asking = false;
async function fetchPoints() {
  if (asking) return;
  asking = true;
  try {
    for (;;) {
      const wanted = [...visible].flatMap((chart) => [...chart.series.entries()])
        .filter(([label, { metric }]) => drawn.get(label) !== metric.count).map(([label]) => label).slice(0, AT_ONCE);
      if (wanted.length === 0) break;
      const query = new URLSearchParams([["points", POINTS], ...wanted.map((label) => ["series", label])]);
      const answer = await ask(`/api/runs/${which}/histories?${query}`);
      const touched = new Set();
      for (const [label, points] of Object.entries(answer.series)) {
        const chart = charts.get(metrics[label].key);
        chart.series.get(label).points = points;
        // What the summary said, not the answer's own count: points that came in between are drawn the next time.
        drawn.set(label, metrics[label].count);
        touched.add(chart);
      }
      for (const chart of touched) await chart.draw();
    }
  } catch (error) {
    complain(error);
  } finally {
    asking = false;
  }
}

// Anew now and then while the run goes on, and once more when it has ended.
let profiled = { at: -Infinity, status: "" };
async function fetchProfile(status) {
  if (profiled.status === status && (status !== "running" || performance.now() - profiled.at < PROFILE_EVERY_MS)) return;
  profiled = { at: performance.now(), status };
  showProfile(await ask(`/api/runs/${which}/profile`));
}

function complain(error) {
  text("problem", complaint(error));
}

async function refresh() {
  let running = true;
  try {
    const record = await ask(`/api/runs/${which}`);
    text("problem", "");
    byId("body").hidden = false;
    running = record.run.status === "running";
    metrics = record.metrics;
    showHead(record);
    showAlerts(record.alerts);
    showMetrics();
    showParams(record.params);
    showArtifacts(record.artifacts);
    showDatasets(record.datasets);
    showEnvironment(record.environment, record.tags);
    showNotes(record.notes);
    await fetchPoints();
    await fetchProfile(record.run.status);
  } catch (error) {
    complain(error);
  }
  if (running) setTimeout(() => (document.hidden ? document.addEventListener("visibilitychange", refresh, { once: true }) : refresh()), EVERY_MS);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.draw()));
refresh();
