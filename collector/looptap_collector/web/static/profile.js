// Where the time of a run went: a bar of its mean step, what held it back, and what could not be judged.

import { count, element } from "./words.js";

const byId = (id) => document.getElementById(id);

function seconds(value) {
  for (const [factor, unit] of [[1, "s"], [1e3, "ms"]]) if (value * factor >= 1) return `${Number((value * factor).toPrecision(3))} ${unit}`;
  return `${Number((value * 1e6).toPrecision(3))} µs`;
}

const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.02 ? 1 : 0)} %`;

function showPhases(phases) {
  byId("phases").hidden = byId("phase-names").hidden = phases.length === 0;
  byId("phases").setAttribute("role", "img");
  byId("phases").setAttribute("aria-label", phases.map((phase) => `${phase.name} ${percent(phase.share)}`).join(", "));
  byId("phases").replaceChildren(...phases.map((phase) => {
    const part = element("div", phase.share > 0.06 ? percent(phase.share) : "", `phase ${phase.name}`);
    part.style.flexGrow = phase.share;
    part.title = `${phase.name}: ${seconds(phase.seconds)}, ${percent(phase.share)}`;
    return part;
  }));
  byId("phase-names").replaceChildren(...phases.map((phase) => {
    const name = element("li", phase.name, `phase-name ${phase.name}`);
    name.append(element("span", `${seconds(phase.seconds)} · ${percent(phase.share)}`, "quiet"));
    return name;
  }));
}

// What the reader has opened or closed stays so when the profile comes anew.
const opened = new Map();

function showFinding(finding, place) {
  const made = element("details", undefined, `finding ${finding.weight >= 0.5 ? "grave" : finding.weight >= 0.2 ? "serious" : ""}`);
  made.open = opened.get(finding.rule) ?? place === 0;
  made.addEventListener("toggle", () => opened.set(finding.rule, made.open));
  const summary = element("summary");
  summary.append(element("h3", finding.title), element("p", finding.says));
  const facts = finding.facts.map((fact) => `${fact.name} ${fact.said}`);
  made.append(summary, element("p", `→ ${finding.advice}`, "advice"),
    element("p", [...facts, `threshold: ${finding.threshold}`].join(" · "), "quiet facts"));
  return made;
}

export function showProfile(profile) {
  const isEmpty = profile.phases.length === 0 && profile.findings.length === 0 && profile.lines.length === 0;
  byId("profile").hidden = isEmpty && profile.passed.length === 0;
  byId("profile-of").textContent = profile.step_seconds === null ? ""
    : `${count(profile.steps, "step", "steps")} timed, the median one ${seconds(profile.step_seconds)}`
      + (profile.phases.length ? "; below, the mean one" : "");
  showPhases(profile.phases);
  const nothing = element("p", "Nothing was found that held this run back.", "nothing");
  byId("findings").replaceChildren(...(profile.findings.length ? profile.findings.map(showFinding) : [nothing]));
  byId("passed").hidden = profile.passed.length === 0;
  byId("passed").textContent = `Looked at, and well: ${profile.passed.join(" · ")}`;
  byId("profile-lines").replaceChildren(...profile.lines.map((line) => element("p", line)));
  byId("not-looked-at").hidden = profile.not_looked_at.length === 0;
  document.querySelector("#not-looked-at summary").textContent = `Not looked at, since it was not recorded: ${profile.not_looked_at.length}`;
  document.querySelector("#not-looked-at ul").replaceChildren(
    ...profile.not_looked_at.map((one) => element("li", `${one.title} needs ${one.missing}`)));
}
