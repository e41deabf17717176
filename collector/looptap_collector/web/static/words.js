// How numbers, times and sizes are said, and the one way in which stored text gets into the page: as text.

export function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function row(...cells) {
  const made = document.createElement("tr");
  made.append(...cells);
  return made;
}

export function badge(status) {
  const known = ["running", "finished", "failed", "killed", "lost", "partial"].includes(status);
  return element("span", status, known ? `badge ${status}` : "badge");
}

// JSON says NaN and the infinities as strings; a number beyond 2^53 is kept as the text it came as.
export async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  const parsed = JSON.parse(await answer.text(), (key, value, context) =>
    Number.isInteger(value) && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "") ? context.source : value);
  if (!answer.ok) throw Object.assign(new Error(typeof parsed.detail === "string" ? parsed.detail : `${answer.status} ${answer.statusText}`), { status: answer.status });
  return parsed;
}

// What the store answered is said as it is: only a store in trouble, or none at all, does not answer.
export function complaint(error) {
  return error.status < 500 ? error.message : `The store does not answer: ${error.message}`;
}

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value;
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return value.toLocaleString("en-US");
  return String(Number(value.toPrecision(6)));
}

const SHORT = { percent: "%", seconds: "s", watts: "W", joules: "J", celsius: "°C" };

// A number with its unit, where it has one: 1.5 GiB, 250 %.
export function quantity(value, unit) {
  if (!unit || typeof value !== "number") return number(value);
  if (unit === "bytes") return size(value);
  if (unit === "bytes/s") return `${size(value)}/s`;
  if (unit === "hertz") return `${number(value / 1e6)} MHz`;
  return unit === "count" ? number(value) : `${number(Number(value.toPrecision(3)))} ${SHORT[unit] ?? unit}`;
}

export function count(value, one, many) {
  return `${Number(value).toLocaleString("en-US")} ${value === 1 ? one : many}`;
}

export function took(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  const hours = Math.floor(whole / 3600);
  return hours < 48 ? `${hours} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function size(bytes) {
  let amount = bytes;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (amount < 1024) return unit === "B" ? `${Math.round(amount)} B` : `${amount.toFixed(1)} ${unit}`;
    amount /= 1024;
  }
  return `${amount.toFixed(1)} TiB`;
}

export function when(iso) {
  const moment = new Date(iso);
  if (iso === null || Number.isNaN(moment.getTime())) return "–";
  const today = moment.toDateString() === new Date().toDateString();
  const clock = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: today ? "2-digit" : undefined, hourCycle: "h23" });
  if (today) return `today ${clock}`;
  const pad = (part) => String(part).padStart(2, "0");
  return `${moment.getFullYear()}-${pad(moment.getMonth() + 1)}-${pad(moment.getDate())} ${clock}`;
}

// Of what a machine gave, what the agent records in bytes.
const IN_BYTES = /^allotted\.(memory|disk|gpu\.\d+\.memory)$/;

export function param(key, { value, source }) {
  return source === "allotment" && IN_BYTES.test(key) && typeof value === "number" ? size(value) : setting(value);
}

// A param is shown as Python would write it, more or less: text as it is, the rest as JSON.
export function setting(value) {
  if (typeof value === "string") return value;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return JSON.stringify(value);
}

export function fileName(path) {
  return (path ?? "").split(/[\\/]/).pop();
}
