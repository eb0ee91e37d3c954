/* The gallery's page. Plain JavaScript, one file after another in one scope.
 *
 * Data (written by page_data.py):
 *   runs    [{name, base, sandbox, service, updated}]     base: URL prefix of the run's folder
 *   texts   prompts and models, each once;  stacks: LoRA lists, each once
 *   jobs    [{r, id, al, preset, fp, st, m, p, l, in, task, at, ms, cost, err}]   r, m, p, l: places
 *   items   [[job, index, link, why, nsfw, sha256, bytes, width, height, saved_at]]
 *   facets  [{key, label, values, codes}]   codes[i]: item i's place in values; -1: all of them
 *   axes    [columns, rows, pages]          keys of facets, or null
 *   keys, jobKeys: as in job_yaml.py
 *
 * Text from outside only ever becomes text: `make` sets textContent, never HTML.
 */
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const items = data.items.map((raw, i) => {
  const [j, index, link, why, nsfw, sha256, bytes, width, height, saved] = raw;
  const job = data.jobs[j];
  const run = data.runs[job.r];
  return { i, job, run, index, why, nsfw, sha256, bytes, width, height, saved,
    link: link === null ? null : run.base + link, file: link === null ? null : decodeURIComponent(link) };
});
const facets = data.facets;
const facetOf = new Map(facets.map((facet) => [facet.key, facet]));

/* What the reader has chosen. Facet filters lie under the facet's key. */
const state = {
  view: "wall", query: "", sort: "order", filters: {}, size: 3,
  columns: data.axes[0], rows: data.axes[1], pages: data.axes[2], page: 0, automatic: true,
};
let shown = items;
const picked = new Set();
const revealed = new Set();

/* Make an element: attributes, listeners as functions, children as elements or text. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const promptOf = (item) => String(data.texts[item.job.p] ?? "");
const modelOf = (item) => String(data.texts[item.job.m] ?? "");
const lorasOf = (item) => (item.job.l === undefined ? [] : data.stacks[item.job.l] || []).filter((x) => x && typeof x === "object");
const loraText = (lora) => `${lora.path}:${lora.scale ?? 1}`;
const loraShort = (lora) => `${String(lora.path).replace(/\/+$/, "").split("/").at(-1)} ${lora.scale ?? 1}`;

function facetText(item, key) {
  const facet = facetOf.get(key);
  const code = facet ? facet.codes[item.i] : -1;
  return code < 0 ? "" : facet.values[code];
}

/* How a facet's value reads without its heading: "nasa", but "seed 1". */
function facetPhrase(item, key) {
  const text = facetText(item, key);
  if (!text || text === "–") return "";
  const bare = ["stack", "lora", "model", "preset", "folder", "size", "job"].includes(key) || key.startsWith("variant");
  return bare ? text : `${key === "scale" ? key : facetOf.get(key).label.toLowerCase()} ${text}`;
}

const short = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);

function stateOf(item) {
  if (item.link) return "shown";
  if (item.job.st === "failed") return "failed";
  return item.job.st === "completed" ? "missing" : "waiting";
}

/* ---- search ---- */
const haystacks = new Map();
function haystack(item) {
  if (!haystacks.has(item.i)) {
    const job = item.job;
    const parameters = Object.entries(job.in).map(([key, value]) => `${key}:${value}`);
    const loras = lorasOf(item).map(loraText);
    haystacks.set(item.i, [promptOf(item), job.id, ...(job.al || []), job.preset, modelOf(item), job.st, job.err, item.file, item.sha256,
      job.task, ...parameters, ...loras, facetText(item, "stack")].join("\n").toLowerCase());
  }
  return haystacks.get(item.i);
}

function matches(item, words) {
  for (const [key, code] of Object.entries(state.filters)) {
    if (key === "state") { if (item.job.st !== code && stateOf(item) !== code) return false; continue; }
    if (key === "nsfw") { if (String(item.nsfw) !== code) return false; continue; }
    const own = facetOf.get(key).codes[item.i];
    if (own !== code && own !== -1) return false;
  }
  return words.every((word) => haystack(item).includes(word));
}

const SORTS = {
  order: ["As in the preset", null],
  newest: ["Newest first", (a, b) => (b.saved || "").localeCompare(a.saved || "")],
  prompt: ["Prompt, A to Z", (a, b) => promptOf(a).localeCompare(promptOf(b))],
  seed: ["Seed", (a, b) => Number(a.job.in.seed ?? 0) - Number(b.job.in.seed ?? 0)],
  slow: ["Slowest first", (a, b) => (b.job.ms || 0) - (a.job.ms || 0)],
  cost: ["Dearest first", (a, b) => Number(b.job.cost || 0) - Number(a.job.cost || 0)],
};

function select() {
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  shown = items.filter((item) => matches(item, words));
  const order = SORTS[state.sort][1];
  if (order) shown.sort((a, b) => order(a, b) || a.i - b.i);
}

/* ---- numbers and texts for people ---- */
function count(n, one, many) { return `${n.toLocaleString("en")} ${n === 1 ? one : many}`; }
function bytesText(n) { return n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${Math.max(1, Math.round(n / 1e3))} kB`; }
function timeText(iso) {
  const date = new Date(iso || "");
  return isNaN(date) ? "" : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/* Sums decimal texts exactly enough for display: in millionths of a dollar, as whole numbers. */
function moneySum(jobs) {
  const known = jobs.filter((job) => job.cost !== undefined);
  if (!known.length) return "";
  const millionths = known.reduce((sum, job) => sum + Math.round(Number(job.cost) * 1e6), 0);
  const text = (millionths / 1e6).toFixed(6).replace(/0{1,4}$/, "");
  return (known.length < jobs.length ? "at least " : "") + "$" + text;
}

/* ---- what can be copied ---- */
function requestOf(item) {
  const { job } = item;
  const input = {};
  const loras = job.l === undefined ? {} : { loras: data.stacks[job.l] };
  for (const [key, value] of Object.entries({ prompt: promptOf(item), ...job.in, ...loras })) input[key] = value;
  return { model: modelOf(item), input };
}

function scalar(value) {
  if (typeof value === "boolean") return String(value);
  if (typeof value === "number") return /e/.test(String(value)) ? value.toLocaleString("en-US", { useGrouping: false, maximumFractionDigits: 20 }) : String(value);
  return JSON.stringify(String(value)).replace(/[\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\uffff]/g,
    (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

/* The twin of job_yaml.py; a test holds the two together. */
function jobYaml(item) {
  const { model, input } = requestOf(item);
  const slug = item.job.id.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[-.]+|[-.]+$/g, "").slice(0, 80) || "job";
  const lines = ["version: 1"];
  if (model) lines.push(`model: ${scalar(model)}`);
  lines.push("jobs:", `  - id: ${scalar(slug)}`);
  const others = Object.keys(input).filter((key) => !data.keys.includes(key) && !data.jobKeys.includes(key) && key !== "loras").sort();
  for (const key of [...data.keys.filter((k) => k in input), ...others]) {
    const value = input[key];
    if (value === null || typeof value === "object" || !/^[a-z_]{1,40}$/.test(key)) continue;
    lines.push(`    ${key}: ${scalar(key === "prompt" ? String(value).replace(/\$(?=\{)|\{|_(?=_)|(?<=\\)[}$_|]/g, "\\$&") : value)}`);
  }
  if (Array.isArray(input.loras)) {
    const loras = lorasOf(item);
    lines.push(loras.length ? "    loras:" : "    loras: []");
    for (const lora of loras) {
      lines.push(`      - path: ${scalar(String(lora.path ?? ""))}`, `        scale: ${scalar(typeof lora.scale === "number" ? lora.scale : 1)}`);
    }
  }
  return lines.join("\n") + "\n";
}

/* From a file: page the folder's true place is known; elsewhere the command is for inside the folder. */
function replayCommand(item) {
  let folder = item.run.base ? decodeURIComponent(item.run.base) : "./";
  if (location.protocol === "file:") {
    folder = decodeURIComponent(new URL(item.run.base || "./", location.href).pathname).replace(/^\/([A-Za-z]:)/, "$1");
  }
  const windows = /^[A-Za-z]:/.test(folder);
  const words = item.file ? [folder + item.file] : [folder.replace(/(.)\/$/, "$1"), item.job.id];
  if (words.some((word) => /[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/.test(word))) return "";
  const quote = (word) => (/^[\w@%+=:,./-]+$/.test(word) && !word.startsWith("-") ? word : windows ? `"${word.replace(/"/g, "")}"` : `'${word.replace(/'/g, "'\\''")}'`);
  return ["flux-lora", "replay", ...words.map(quote)].join(" ");
}
