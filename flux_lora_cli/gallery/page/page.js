"use strict";
{
/* The gallery's page. The images and their captions stand in the document already; this script finds, arranges, picks
 * and compares them. What it reads (written by page.py):
 *   items   [{id, anchor, yaml, replay, saved, problem, flagged, same, sides: [{src, facts, prompt}]}]
 *   facets  [[label, values, codes]]        codes[i]: item i's place in values
 *   axes    [columns, rows]                 labels of facets, or null
 *   labels  names of the two sides, where two folders are compared
 * Text from outside only ever becomes text: `make` sets textContent and attributes, never HTML.
 */
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const { items } = data;
const facets = data.facets.map(([label, values, codes]) => ({ label, values, codes }));
const facetOf = new Map(facets.map((facet) => [facet.label, facet]));
const cards = [...document.querySelectorAll("#wall > .card")];
const indexOf = new Map(items.map((item, i) => [item.anchor, i]));
const pairs = Boolean(data.labels);
const SORTS = {
  order: ["As in the preset", null],
  newest: ["Newest first", (a, b) => items[b].saved.localeCompare(items[a].saved)],
  prompt: ["Prompt, A to Z", (a, b) => items[a].sides.at(-1).prompt.localeCompare(items[b].sides.at(-1).prompt)],
};
const state = { view: "wall", query: "", sort: "order", filters: {}, columns: data.axes[0], rows: data.axes[1], onlyPicks: false, unchanged: false };
let shown = [];               /* indices of items that pass the filters, in order */
let picks = new Set();        /* indices */
let viewing = null;           /* {i, other, list}: what the viewer shows */
const revealed = new Set();

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}
const button = (text, act, attributes) => make("button", { type: "button", class: "plain", click: act, ...attributes }, text);
const press = (element, on) => element.setAttribute("aria-pressed", String(on));
const cut = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);

/* ---- what is shown ---- */
const haystacks = items.map((item) => [item.id, ...item.sides.flatMap((side) => [side.prompt, ...side.facts.map((fact) => fact.join(":"))])].join("\n").toLowerCase());

function matches(i, words) {
  if (items[i].same && !state.unchanged) return false;
  if (state.onlyPicks && !picks.has(i)) return false;
  if (Object.entries(state.filters).some(([key, code]) => facetOf.get(key).codes[i] !== code)) return false;
  return words.every((word) => haystacks[i].includes(word));
}

function draw() {
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  shown = items.map((_, i) => i).filter((i) => matches(i, words));
  const order = SORTS[state.sort][1];
  if (order) shown.sort((a, b) => order(a, b) || a - b);
  const visible = new Set(shown);
  cards.forEach((card, i) => { card.hidden = !visible.has(i); });
  const grid = state.view === "grid";
  byId("wall").hidden = grid;
  byId("grid").hidden = !grid || !shown.length;
  byId("axes").hidden = !grid;
  press(byId("to-wall"), !grid);
  press(byId("to-grid"), grid);
  for (const span of document.querySelectorAll(".meta [hidden]")) span.hidden = false;
  byId("wall").append(...shown.map((i) => cards[i]), ...cards.filter((card) => card.hidden));
  if (grid) drawGrid();
  drawControls();
  drawPicks();
  enter();
}

function drawControls() {
  const total = pairs && !state.unchanged ? items.filter((item) => !item.same).length : items.length;
  const filtered = state.query !== "" || Object.keys(state.filters).length > 0 || state.onlyPicks;
  byId("count").textContent = filtered ? `${shown.length.toLocaleString("en")} of ${total.toLocaleString("en")}` : "";
  byId("count").parentElement.hidden = !filtered;
  byId("empty").hidden = shown.length > 0;
  byId("empty").textContent = filtered ? "Nothing matches." : pairs ? "Nothing changed." : "No images yet.";
  for (const list of document.querySelectorAll("[data-filter]")) {
    list.value = String(state.filters[list.dataset.filter] ?? "");
    list.classList.toggle("set", list.value !== "");
  }
  byId("sort").value = state.sort;
  press(byId("unchanged"), state.unchanged);
  press(byId("only-picks"), state.onlyPicks);
  const chosen = Object.keys(state.filters).length;
  byId("more").textContent = chosen ? `Filters (${chosen})` : "Filters";
  document.documentElement.style.setProperty("--head", `${document.querySelector(".top").offsetHeight}px`);
}

/* A table over two axes; each cell is a small wall of the cards that belong there. */
function drawGrid() {
  const axes = [facetOf.get(state.columns), facetOf.get(state.rows)];
  const at = (facet, i) => (facet ? facet.codes[i] : 0);
  const places = (facet) => [...new Set(shown.map((i) => at(facet, i)))].sort((a, b) => a - b);
  const [columns, rows] = axes.map(places);
  const name = (facet, place) => make("span", { dir: "auto" }, facet ? cut(facet.values[place], 200) : "All");
  const cell = (r, c) => {
    const inside = shown.filter((i) => at(axes[0], i) === c && at(axes[1], i) === r);
    const note = inside.length ? null : make("span", { class: "gap" }, make("b", {}, "No such job"));
    return make("td", { class: inside.length > 1 ? "several" : null }, note || make("ul", { class: "cell", "aria-label": "Images" }, ...inside.map((i) => cards[i])));
  };
  const corner = [axes[0] && `${axes[0].label} →`, axes[1] && `${axes[1].label} ↓`].filter(Boolean).join(" ");
  const head = make("tr", {}, make(corner ? "th" : "td", { scope: corner ? "col" : null }, corner), ...columns.map((c) => make("th", { scope: "col" }, name(axes[0], c))));
  for (const span of document.querySelectorAll(".meta [data-facet]")) span.hidden = span.dataset.facet === state.columns || span.dataset.facet === state.rows;
  const body = rows.map((r) => make("tr", {}, make("th", { scope: "row" }, name(axes[1], r)), ...columns.map((c) => cell(r, c))));
  const caption = make("caption", { class: "unseen" }, `Images by ${axes.filter(Boolean).map((facet) => facet.label).join(" and ") || "no axis"}`);
  byId("grid").replaceChildren(make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Grid of images" },
    make("table", {}, caption, make("thead", {}, head), make("tbody", {}, ...body))));
}

function chooser(label, options, value, choose, attributes) {
  const list = make("select", { change: () => choose(list.value), ...attributes }, ...options.map(([key, text]) => make("option", { value: key }, cut(text, 80))));
  list.value = value ?? "";
  return make("label", { class: "field" }, make("span", {}, label), list);
}

function drawFilters() {
  const filters = facets.map((facet) => chooser(facet.label, [["", `${cut(facet.label, 30)}: all`], ...facet.values.map((value, code) => [String(code), value])], "",
    (code) => { if (code === "") delete state.filters[facet.label]; else state.filters[facet.label] = Number(code); draw(); }, { "data-filter": facet.label }));
  const sort = chooser("Sort", Object.entries(SORTS).map(([key, [text]]) => [key, text]), "order", (key) => { state.sort = key; draw(); }, { id: "sort" });
  byId("filters").append(...filters, sort);
}

function drawAxes() {
  const options = [["", "none"], ...facets.map((facet) => [facet.label, facet.label])];
  byId("axes").replaceChildren(...["columns", "rows"].map((axis) => chooser(axis === "rows" ? "Rows" : "Columns", options, state[axis], (key) => {
    const other = axis === "rows" ? "columns" : "rows";
    if (key && state[other] === key) state[other] = state[axis];
    state[axis] = key || null;
    drawAxes();
    draw();
    byId(`axis-${axis}`).focus();
  }, { id: `axis-${axis}` })));
}

/* ---- picks ---- */
function pick(i, on = !picks.has(i)) {
  if (on) picks.add(i); else picks.delete(i);
  store();
  if (state.onlyPicks) draw(); else drawPicks();
}

function drawPicks() {
  cards.forEach((card, i) => {
    press(card.querySelector(".pick"), picks.has(i));
    card.classList.toggle("picked", picks.has(i));
  });
  const held = controlOf("p");
  if (held && viewing) { press(held, picks.has(viewing.i)); held.textContent = picks.has(viewing.i) ? "Picked" : "Pick"; }
  byId("tray").hidden = !picks.size && !state.onlyPicks;
  document.body.classList.toggle("with-tray", !byId("tray").hidden);
  byId("picked").textContent = `${picks.size.toLocaleString("en")} picked`;
  byId("compare-picks").hidden = pairs || picks.size !== 2;
  for (const id of ["copy-picks", "export-picks"]) byId(id).disabled = !picks.size;
  remember();
}

/* Job IDs, one per line, as --only-file takes them. */
const pickList = () => [...new Set([...picks].sort((a, b) => a - b).map((i) => items[i].id))].map((id) => id + "\n").join("");

function exportPicks() {
  make("a", { href: `data:text/plain,${encodeURIComponent(pickList())}`, download: "picks.txt" }).click();
  toast("Saved as picks.txt");
}

function store() {
  try {
    if (picks.size) localStorage.setItem(`flux-lora-picks-${data.store}`, JSON.stringify([...picks].map((i) => items[i].anchor)));
    else localStorage.removeItem(`flux-lora-picks-${data.store}`);
  } catch { /* storage may be switched off; the address still has them */ }
}

function stored() {
  try {
    const found = JSON.parse(localStorage.getItem(`flux-lora-picks-${data.store}`) || "[]");
    return Array.isArray(found) ? found : [];
  } catch { return []; }
}

/* ---- the address: the image that is open, and the picks ---- */
function remember() {
  const words = new URLSearchParams([...picks].map((i) => ["pick", items[i].anchor]));
  if (viewing && viewing.other === null) words.set("image", items[viewing.i].anchor);
  try { history.replaceState(null, "", words.size ? `#${words}` : location.pathname + location.search); } catch { /* some viewers forbid it */ }
}

function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  const names = words.has("pick") ? words.getAll("pick") : stored();  /* a link's picks are stored once they are changed */
  picks = new Set(names.filter((name) => indexOf.has(name)).map((name) => indexOf.get(name)));
  const wanted = indexOf.get(words.get("image"));
  draw();
  if (wanted !== undefined) openViewer(wanted); else if (byId("viewer").open) byId("viewer").close();
}

/* ---- copying ---- */
let toastTimer = 0;
function toast(text) {
  const box = byId("toast");
  (document.querySelector("dialog[open]") || document.body).append(box);  /* a dialog covers the rest of the page */
  box.replaceChildren(make("span", {}, text));
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => box.replaceChildren(), 2500);
}

async function copy(text, what) {
  try { await navigator.clipboard.writeText(text); toast(`Copied: ${what}`); } catch { toast("The browser does not allow copying"); }
}

/* From a file: page the folder's place is known; elsewhere the command is for inside the page's folder. */
function replayCommand(item) {
  let [path, ...rest] = item.replay;
  if (location.protocol === "file:") path = decodeURIComponent(new URL(encodeURI(path).replace(/[?#]/g, encodeURIComponent), location.href).pathname).replace(/^\/([A-Za-z]:)/, "$1");
  const words = [path.replace(/(.)\/$/, "$1"), ...rest];
  if (words.some((word) => /[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/.test(word))) return "";
  const windows = /^[A-Za-z]:/.test(path);
  const quote = (word) => (/^[\w@%+=:,./-]+$/.test(word) && (word === "--sandbox" || !word.startsWith("-")) ? word : windows ? `"${word.replace(/"/g, "")}"` : `'${word.replace(/'/g, "'\\''")}'`);
  return ["flux-lora", "replay", ...words.map(quote)].join(" ");
}

/* What can be copied of an image: the key, its name, the text. */
const copies = (i) => [
  ["r", "replay command", replayCommand(items[i])],
  ["y", "preset YAML", items[i].yaml],
  ["t", "prompt", items[i].sides.at(-1).prompt],
  ["l", "link", location.href.split("#")[0] + "#" + new URLSearchParams({ image: items[i].anchor })],
].filter(([, , text]) => text);

/* ---- one image, or two compared ---- */
const sidesOf = ({ i, other }) => (other === null ? items[i].sides : [items[i].sides[0], items[other].sides[0]]);
const hiddenIn = ({ i, other }) => [i, other].some((n) => n !== null && items[n].flagged && !revealed.has(n));
const controlOf = (key, which = "") => byId("viewer").querySelector(`[aria-keyshortcuts="${CSS.escape(key)}"]${which}`);
let mode = "side";

function openViewer(i, other = null) {
  viewing = { i, other, list: shown.includes(i) ? shown : [i] };
  drawViewer();
  if (!byId("viewer").open) byId("viewer").showModal();
  controlOf("Escape").focus({ preventScroll: true });
  remember();
}

function step(by) {
  const { list } = viewing;
  const moving = viewing.other ?? viewing.i;
  const next = list[list.indexOf(moving) + by];
  if (next === undefined) return;
  if (viewing.other === null) viewing.i = next; else viewing.other = next;
  redraw();
  remember();
}

/* Draw anew, with the focus on the same control. */
function redraw() {
  const held = document.activeElement.getAttribute("aria-keyshortcuts") || "Escape";
  drawViewer();
  (controlOf(held, ":not(:disabled)") || controlOf("Escape")).focus({ preventScroll: true });
}

function drawViewer() {
  const { i, other, list } = viewing;
  const item = items[i];
  const two = sidesOf(viewing).length > 1;
  const place = list.indexOf(other ?? i);
  const nav = (by, text, sign) => button(sign, () => step(by), { class: "quiet", "aria-label": text, "aria-keyshortcuts": by < 0 ? "ArrowLeft" : "ArrowRight", disabled: list[place + by] === undefined });
  const head = make("div", { class: "viewer-head" },
    make("h2", { id: "viewer-title", dir: "auto" }, other === null ? item.id : `${item.id} and ${items[other].id}`),
    place >= 0 && make("span", { class: "soft" }, `${(place + 1).toLocaleString("en")} of ${list.length.toLocaleString("en")}`),
    two && make("div", { class: "segments", role: "group", "aria-label": "Compare by" }, ...MODES.map(([name, key, text]) =>
      button(text, () => setMode(name), { class: null, "aria-pressed": String(mode === name), "aria-keyshortcuts": key, title: `${text} (${key})` }))),
    make("span", { class: "nav" }, nav(-1, "Previous image", "‹"), nav(1, "Next image", "›"),
      button("✕", () => byId("viewer").close(), { class: "quiet", "aria-label": "Close", "aria-keyshortcuts": "Escape" })));
  byId("viewer").replaceChildren(head, drawStage(two), drawPanel(two), byId("toast"));
}

const MODES = [["side", "s", "Side by side"], ["swipe", "w", "Swipe"], ["blink", "b", "Blink"]];
const labels = () => data.labels || ["First", "Second"];

function drawStage(two) {
  const panes = sidesOf(viewing).map((side, n) => {
    const gap = make("span", { class: "gap" }, make("b", {}, two ? "Not here" : "No image"), make("span", { dir: "auto" }, two ? "" : items[viewing.i].problem));
    const image = side.src && make("img", { src: side.src, alt: cut(side.prompt, 300), decoding: "async", draggable: "false" });
    return make("figure", { class: "pane" }, two && make("figcaption", {}, labels()[n]), image || gap);
  });
  const stage = make("div", { class: "stage", "data-mode": two ? mode : "one" }, ...panes);
  if (hiddenIn(viewing)) {
    stage.classList.add("veiled");
    stage.append(make("div", { class: "veil" }, make("b", {}, "Flagged NSFW"), button("Show", () => { for (const n of [viewing.i, viewing.other]) reveal(n); redraw(); })));
  }
  if (two && mode === "swipe") {
    const range = make("input", { type: "range", min: "0", max: "100", value: "50", class: "cut", "aria-label": "Swipe between the two images" });
    range.addEventListener("input", () => stage.style.setProperty("--cut", String(Number(range.value) / 100)));
    stage.append(range);
  }
  return stage;
}

/* The key of the mode that is on holds what blinks, and lets it go on. */
function setMode(name) {
  if (name === "blink" && mode === "blink") { byId("viewer").querySelector(".stage").classList.toggle("held"); return; }
  mode = name;
  redraw();
  if (name === "swipe") byId("viewer").querySelector(".cut").focus();
}

function reveal(i) {
  if (i === null) return;
  revealed.add(i);
  cards[i].querySelector(".shot").classList.remove("veiled");
  for (const image of cards[i].querySelectorAll("img")) image.alt = cut(items[i].sides.at(-1).prompt, 200);
}

function drawPanel(two) {
  const { i, other } = viewing;
  const item = items[i];
  const act = ([key, what, text]) => button(`Copy ${what}`, () => copy(text, what), { "aria-keyshortcuts": key });
  const picked = button(picks.has(i) ? "Picked" : "Pick", () => pick(i), { "aria-pressed": String(picks.has(i)), "aria-keyshortcuts": "p" });
  const open = item.sides.findLast((side) => side.src);
  const link = other === null && open && !hiddenIn(viewing) && make("a", { class: "plain", href: open.src, target: "_blank", rel: "noopener noreferrer" }, "Open the file");
  const actions = other === null ? [picked, ...copies(i).map(act), link] : [];
  const yaml = other === null && item.yaml && make("details", {}, make("summary", {}, "As preset YAML"), make("pre", { tabindex: "0", dir: "auto" }, item.yaml));
  return make("div", { class: "panel", tabindex: "0", role: "group", "aria-label": "Details" },
    item.problem && other === null && make("p", { class: "problem", dir: "auto" }, item.problem),
    other === null && make("p", { class: "says", dir: "auto" }, item.sides.at(-1).prompt || "Unknown prompt"),
    make("div", { class: "actions" }, ...actions), two ? differences() : facts(item.sides[0].facts), yaml);
}

const facts = (list) => make("dl", { class: "facts" }, ...list.flatMap(([name, value]) => [make("dt", { dir: "auto" }, name), make("dd", { dir: "auto" }, value)]));

const NEVER_SAME = new Set(["SHA-256", "File", "Saved", "Task", "Fingerprint", "Folder", "Time"]);
function differences() {
  const maps = sidesOf(viewing).map((side) => {
    const map = new Map();
    for (const [name, value] of [["Prompt", side.prompt], ...side.facts]) map.set(name, map.has(name) ? `${map.get(name)}\n${value}` : value);
    return map;
  });
  const names = [...new Set(maps.flatMap((map) => [...map.keys()]))];
  const rows = names.filter((name) => !NEVER_SAME.has(name) && maps[0].get(name) !== maps[1].get(name));
  const cell = (map, name) => make("td", { dir: "auto" }, map.get(name) ?? "–");
  return make("table", { class: "differences" }, make("caption", { class: "soft" }, rows.length ? "What differs" : "No known difference"),
    rows.length && make("thead", {}, make("tr", {}, make("td", {}), ...labels().map((text) => make("th", { scope: "col", dir: "auto" }, text)))),
    make("tbody", {}, ...rows.map((name) => make("tr", {}, make("th", { scope: "row", dir: "auto" }, name), cell(maps[0], name), cell(maps[1], name)))));
}

/* ---- keyboard and mouse ---- */
const shots = () => shown.map((i) => cards[i].querySelector(".shot"));
const itemOf = (element) => cards.indexOf(element?.closest?.(".card"));

/* One image is in the tab order; arrows move from it. */
function enter(chosen) {
  const current = chosen ?? shown.find((i) => cards[i].querySelector(".shot").tabIndex === 0) ?? shown[0];
  cards.forEach((card, i) => { for (const control of card.querySelectorAll(".shot, .pick")) control.tabIndex = i === current ? 0 : -1; });
}

function focusShot(shot) {
  if (shot) { enter(itemOf(shot)); shot.focus(); }
}

/* The nearest image in a direction, by where things stand on the screen. */
function move(key, from) {
  const list = state.view === "grid" ? [...document.querySelectorAll("#grid .shot")] : shots();
  if (!from || key === "Home") return focusShot(list[0]);
  if (key === "End") return focusShot(list.at(-1));
  if (key === "ArrowLeft" || key === "ArrowRight") return focusShot(list[list.indexOf(from) + (key === "ArrowLeft" ? -1 : 1)]);
  const down = key === "ArrowDown" ? 1 : -1;
  const here = from.getBoundingClientRect();
  const ahead = list.map((shot) => { const box = shot.getBoundingClientRect(); return { shot, away: (box.top - here.top) * down, aside: Math.abs(box.left - here.left) }; });
  const near = ahead.filter(({ away }) => away >= here.height / 2).sort((a, b) => (a.away - b.away) * 4 + a.aside - b.aside)[0];
  return focusShot(near?.shot);
}

function onKey(event) {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches("textarea, select")) return;
  if (target.matches("input[type=range]") && key.startsWith("Arrow")) return;
  if (target.matches("input[type=search]")) {
    if (key === "Escape" || key === "Enter") { search(key === "Escape" ? "" : target.value); target.blur(); focusShot(shots()[0]); event.preventDefault(); }
    return;
  }
  const open = byId("viewer").open;
  const acts = open ? {} : pageKeys(target);
  const control = open ? controlOf(key) : document.querySelector(`[aria-keyshortcuts="${CSS.escape(key)}"]:not(.pick, [hidden])`);
  const act = Object.hasOwn(acts, key) ? acts[key] : control && (() => control.click());
  if (!act) return;
  event.preventDefault();
  act();
}

/* What has no button on the page, or another one on each card. */
function pageKeys(target) {
  const i = itemOf(target);
  const acts = {
    "/": () => { byId("search").focus(); byId("search").select(); },
    g: () => { setView(state.view === "grid" ? "wall" : "grid"); focusShot(shots()[0]); },
  };
  if (i >= 0) acts.p = () => pick(i);
  for (const [key, what, text] of i >= 0 ? copies(i) : []) acts[key] = () => copy(text, what);
  if (i >= 0 || target.matches("body, main, button")) {
    for (const name of ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"]) acts[name] = () => move(name, i >= 0 ? cards[i].querySelector(".shot") : null);
  }
  return acts;
}

function onClick(event) {
  const i = itemOf(event.target);
  if (i < 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (event.target.closest(".pick")) { enter(i); pick(i); return; }
  if (!event.target.closest(".shot")) return;
  focusShot(cards[i].querySelector(".shot"));
  if (items[i].flagged && !revealed.has(i)) reveal(i); else openViewer(i);
}

/* ---- start ---- */
function search(text) { clearTimeout(typing); byId("search").value = text; state.query = text.trim(); draw(); }
function setView(view) { state.view = view; draw(); }
let typing = 0;
const clicks = {
  "to-wall": () => setView("wall"), "to-grid": () => setView("grid"), unchanged: () => { state.unchanged = !state.unchanged; draw(); },
  clear: () => { state.filters = {}; state.onlyPicks = false; search(""); byId("search").focus(); },
  more: () => { byId("more").setAttribute("aria-expanded", String(byId("filters").classList.toggle("open"))); drawControls(); },
  "only-picks": () => { state.onlyPicks = !state.onlyPicks; draw(); },
  "compare-picks": () => openViewer(...picks), "copy-picks": () => copy(pickList(), "picks"), "export-picks": exportPicks,
  "clear-picks": () => { picks.clear(); store(); state.onlyPicks = false; draw(); },
};

document.documentElement.classList.add("js");
for (const [id, act] of Object.entries(clicks)) byId(id).addEventListener("click", act);
byId("size").addEventListener("input", () => document.documentElement.style.setProperty("--tile", `${byId("size").value}px`));
byId("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => search(byId("search").value), 120); });
byId("main").addEventListener("click", onClick);
byId("main").addEventListener("focusin", (event) => { if (itemOf(event.target) >= 0) enter(itemOf(event.target)); });
byId("viewer").addEventListener("close", () => {
  const at = viewing?.other ?? viewing?.i;
  document.body.append(byId("toast"));
  byId("viewer").replaceChildren();
  viewing = null;
  remember();
  if (at !== undefined) focusShot(cards[at].querySelector(".shot"));
});
document.addEventListener("keydown", onKey);
addEventListener("hashchange", recall);
const unchangedCount = items.filter((item) => item.same).length;
byId("unchanged").hidden = !unchangedCount;
byId("unchanged").textContent = `Show ${unchangedCount.toLocaleString("en")} unchanged`;
byId("to-grid").disabled = facets.length === 0;
drawFilters();
drawAxes();
recall();
}
