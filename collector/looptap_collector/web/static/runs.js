import { ask, badge, complaint, count, element, fileName, number, row, took, when } from "./words.js";

const EVERY_MS = { running: 2000, quiet: 5000 };
const byId = (id) => document.getElementById(id);
// What only the filter language has; anything else is words to look for.
const LANGUAGE = /[=<>~(]|\b(exists|in|like|and|or|not)\b/;
const TYPING_MS = 250;
let runs = [];
let shown = "";
let timer = 0;
let wasFilter = false;

const typed = () => byId("filter").value.trim();
const isFilter = () => LANGUAGE.test(typed());

function cells(run) {
  const name = element("td");
  const link = element("a", run.name || run.id);
  link.href = `/runs/${encodeURIComponent(run.id)}`;
  name.append(link);
  name.title = run.name;
  const status = element("td");
  status.append(badge(run.status));
  if (run.alerts.fired) status.append(element("span", count(run.alerts.fired, "alert", "alerts"), "warned"));
  if (run.error) status.title = run.error;
  const started = element("td", when(run.started));
  started.title = run.started ?? "";
  const loss = element("td", run.loss ? number(run.loss.last) : "–", "num");
  if (run.loss) loss.title = run.loss.key;
  const script = element("td", fileName(run.script), "mono");
  script.title = run.script ?? "";
  return row(
    name, status, element("td", run.experiment), started, element("td", took(run.duration_seconds), "num"),
    loss, element("td", run.points.toLocaleString("en-US"), "num"), script,
  );
}

function draw() {
  const words = isFilter() ? [] : typed().toLowerCase().split(/\s+/).filter(Boolean);
  const matching = runs.filter((run) => {
    const text = [run.name, run.id, run.experiment, run.script, run.status].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const isEmpty = runs.length === 0 && !isFilter();
  byId("empty").hidden = !isEmpty;
  byId("list").hidden = isEmpty;
  byId("filter").hidden = isEmpty;
  byId("nothing").hidden = matching.length > 0;
  byId("count").textContent = runs.length === 0 ? "" : matching.length < runs.length ? `${matching.length} of ${runs.length}` : runs.length;
  document.querySelector("#list tbody").replaceChildren(...matching.map(cells));
}

async function refresh() {
  let asked = "";
  try {
    asked = typed();
    const question = isFilter() ? `&filter=${encodeURIComponent(typed())}` : "";
    const answer = await ask(`/api/runs?limit=1000${question}`);
    showMistake(answer.mistake);
    byId("problem").hidden = true;
    byId("store").textContent = answer.store;
    const text = JSON.stringify(answer.runs);
    // A mistake while one types leaves the list as it was.
    if (!answer.mistake && text !== shown) {
      shown = text;
      runs = answer.runs;
      draw();
    }
  } catch (error) {
    byId("problem").textContent = complaint(error);
    byId("problem").hidden = false;
  }
  const wait = runs.some((run) => run.status === "running") ? EVERY_MS.running : EVERY_MS.quiet;
  // Somebody went on typing meanwhile.
  again(asked !== typed() && (isFilter() || wasFilter) ? TYPING_MS : wait);
}

function again(wait) {
  clearTimeout(timer);
  timer = setTimeout(() => (document.hidden ? document.addEventListener("visibilitychange", refresh, { once: true }) : refresh()), wait);
}

function showMistake(mistake) {
  byId("mistake").hidden = !mistake;
  // In the words and places of the command line: the filter, a mark under where it stops to make sense, and why.
  if (mistake) byId("mistake").textContent = `${typed()}\n${" ".repeat([...typed()].slice(0, mistake.position).length)}^ ${mistake.message}`;
}

byId("filter").addEventListener("input", () => {
  if (isFilter() || wasFilter) again(TYPING_MS);
  else draw();
  wasFilter = isFilter();
});
refresh();
