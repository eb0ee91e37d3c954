/* ---- head: title, filters, theme ---- */
function drawHead() {
  const names = data.runs.map((run) => run.name);
  const title = names.length > 3 ? `${names.length} folders` : names.join(", ");
  byId("title").textContent = document.title = title || "Gallery";
  const images = items.filter((item) => item.link).length;
  const failed = data.jobs.filter((job) => job.st === "failed").length;
  const open = data.jobs.filter((job) => ["planned", "submitting", "submitted", "unknown"].includes(job.st)).length;
  const updated = timeText(data.runs.map((run) => run.updated).sort().at(-1));
  const parts = [count(images, "image", "images"), failed ? `${failed} failed` : "", open ? `${open} not made yet` : "", moneySum(data.jobs), updated].filter(Boolean);
  byId("facts").replaceChildren(parts.join(" · "));
  if (data.runs.some((run) => run.sandbox)) byId("facts").append(" ", make("span", { class: "badge" }, "sandbox"));
}

function filterList(key, text, options) {
  const list = make("select", { "data-filter": key, change: () => choose(key, list.value) },
    make("option", { value: "" }, text), ...options.map(([value, name]) => make("option", { value }, short(name, 70))));
  return make("label", { class: "field" }, make("span", {}, text), list);
}

function choose(key, value) {
  if (value === "") delete state.filters[key];
  else state.filters[key] = ["state", "nsfw"].includes(key) ? value : Number(value);
  draw();
}

function drawFilters() {
  const first = ["preset", "stack", "seed"].map((key) => facetOf.get(key)).filter(Boolean);
  const rest = facets.filter((facet) => !first.includes(facet) && facet.key !== "prompt");
  const list = (facet) => filterList(facet.key, facet.label, facet.values.map((value, code) => [code, value]));
  const lists = first.map(list);
  const states = [...new Set(data.jobs.map((job) => job.st))];
  const missing = items.some((item) => stateOf(item) === "missing");
  if (states.length > 1 || missing) {
    const options = states.map((name) => [name, name]);
    if (missing) options.push(["missing", "completed, no file"]);
    lists.push(filterList("state", "State", options));
  }
  const flags = [...new Set(items.filter((item) => item.link).map((item) => String(item.nsfw)))];
  if (flags.length > 1) lists.push(filterList("nsfw", "NSFW", flags.map((flag) => [flag, { true: "flagged", false: "not flagged", null: "not known" }[flag]])));
  const extra = rest.map(list);
  if (lists.length + extra.length > 6) for (const field of extra) field.classList.add("extra");
  const further = make("button", { type: "button", class: "text further", "aria-expanded": "false", click: () => {
    further.setAttribute("aria-expanded", String(byId("filters").classList.toggle("all")));
    further.textContent = byId("filters").classList.contains("all") ? "Fewer" : "More filters";
    measure();
  } }, "More filters");
  lists.push(...extra);
  if (lists.length > 6) lists.push(further);
  const sort = make("select", { id: "sort", change: () => { state.sort = sort.value; draw(); } }, ...Object.entries(SORTS).map(([key, [text]]) => make("option", { value: key }, text)));
  lists.push(make("label", { class: "field sort" }, make("span", {}, "Sort"), sort));
  byId("filters").replaceChildren(...lists);
}

function dark() {
  return document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  byId("theme").setAttribute("aria-label", `Switch to ${dark() ? "light" : "dark"} colours`);
}
function switchTheme() {
  const theme = dark() ? "light" : "dark";
  setTheme(theme);
  try { localStorage.setItem("flux-lora-theme", theme); } catch { /* Storage is off: the choice lasts as long as the page. */ }
}

/* ---- the address keeps the view, so that it can be sent to somebody ---- */
function remember() {
  const words = new URLSearchParams();
  if (state.view !== "wall") words.set("view", state.view);
  if (state.query) words.set("q", state.query.slice(0, 200));
  if (state.sort !== "order") words.set("sort", state.sort);
  for (const [key, value] of Object.entries(state.filters)) words.set("f." + key, ["state", "nsfw"].includes(key) ? value : facetOf.get(key).values[value]);
  if (state.view === "grid" && !state.automatic) for (const axis of ["columns", "rows", "pages"]) words.set(axis, state[axis] || "");
  if (byId("detail").open && current) words.set("image", `${current.job.id}#${current.index ?? 0}`);
  const hash = words.toString();
  try { history.replaceState(null, "", hash ? "#" + hash : location.pathname + location.search); } catch { /* Some viewers forbid it. */ }
}

function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  if (words.get("view") === "grid") state.view = "grid";
  state.query = words.get("q") || "";
  if (Object.hasOwn(SORTS, words.get("sort"))) state.sort = words.get("sort");
  for (const [name, text] of words) {
    if (!name.startsWith("f.")) continue;
    const key = name.slice(2);
    const code = facetOf.get(key)?.values.indexOf(text) ?? -1;
    if (["state", "nsfw"].includes(key)) state.filters[key] = text;
    else if (code >= 0) state.filters[key] = code;
  }
  if (words.has("columns")) state.automatic = false;
  for (const axis of ["columns", "rows", "pages"]) if (words.has(axis)) state[axis] = facetOf.has(words.get(axis)) ? words.get(axis) : null;
  const wanted = words.get("image");
  return wanted ? items.find((item) => `${item.job.id}#${item.index ?? 0}` === wanted) : null;
}

/* ---- drawing ---- */
function draw() {
  select();
  const grid = state.view === "grid";
  byId("wall").hidden = grid;
  byId("grid").hidden = byId("axes").hidden = !grid;
  byId("to-wall").setAttribute("aria-pressed", String(!grid));
  byId("to-grid").setAttribute("aria-pressed", String(grid));
  const filtered = state.query !== "" || Object.keys(state.filters).length > 0;
  byId("count").textContent = filtered ? `${shown.length.toLocaleString("en")} of ${items.length.toLocaleString("en")}` : "";
  byId("count").parentElement.hidden = !filtered;
  byId("clear").hidden = !filtered;
  byId("empty").hidden = shown.length > 0;
  byId("empty").textContent = items.length ? "Nothing matches." : "No images yet.";
  for (const list of document.querySelectorAll("[data-filter]")) {
    list.value = String(state.filters[list.dataset.filter] ?? "");
    list.classList.toggle("set", list.value !== "");
  }
  if (document.querySelector(".extra .set")) byId("filters").classList.add("all");
  const chosen = Object.keys(state.filters).length;
  byId("more").textContent = chosen ? `Filters (${chosen})` : "Filters";
  byId("sort").value = state.sort;
  if (grid) { byId("wall").replaceChildren(); drawGrid(); } else { byId("grid").replaceChildren(); drawWall(); }
  if (!shown.length) byId("grid").hidden = true;
  enter();
  measure();
  remember();
}

function measure() { document.documentElement.style.setProperty("--head", `${document.querySelector(".top").offsetHeight}px`); }
function setSize(size) {
  state.size = size;
  document.documentElement.style.setProperty("--tile", `${SIZES[size - 1]}px`);
}
function setView(view) { state.view = view; draw(); }

/* ---- keyboard ---- */
/* One image is in the tab order; arrows move from it. */
function shots() { return [...document.querySelectorAll(state.view === "grid" ? "#grid button.shot" : "#wall button.shot")]; }
function enter() {
  const first = document.querySelector("main .shot[data-item]");
  if (first && !document.querySelector("main .shot[tabindex='0']")) first.tabIndex = 0;
}
function focusShot(button) {
  if (!button) return;
  for (const other of document.querySelectorAll("main .shot[tabindex='0']")) other.tabIndex = -1;
  button.tabIndex = 0;
  button.focus();
}

function move(key, from) {
  const list = shots();
  if (!from) { focusShot(list[0]); return; }
  const at = list.indexOf(from);
  if (key === "Home") return focusShot(list[0]);
  if (key === "End") return focusShot(list.at(-1));
  if (state.view === "grid") return focusShot(neighbour(key, from));
  const across = getComputedStyle(byId("wall")).gridTemplateColumns.split(" ").length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[key];
  return focusShot(list[at + by]);
}

/* The next cell in a direction that holds a job. */
function neighbour(key, from) {
  const cell = from.closest("td");
  const along = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[key];
  const rows = [...cell.closest("tbody").rows];
  let r = rows.indexOf(cell.parentElement);
  let c = cell.cellIndex;
  for (;;) {
    r += along[0]; c += along[1];
    const next = rows[r]?.cells[c];
    if (!next || c < 1) return null;
    const button = next.querySelector("button.shot");
    if (button) return button;
  }
}

function onKey(event) {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches("textarea, select")) return;
  if (target.matches("input:not([type=checkbox])")) {
    if (event.key === "Escape" && target === byId("search")) { state.query = target.value = ""; target.blur(); draw(); }
    if (event.key === "Enter" && target === byId("search")) { clearTimeout(typing); state.query = target.value.trim(); draw(); focusShot(shots()[0]); }
    return;
  }
  const dialog = document.querySelector("dialog[open]");
  const done = dialog ? dialogKey(event.key, dialog) : pageKey(event.key, target);
  if (done) event.preventDefault();
}

function dialogKey(key, dialog) {
  if (dialog.id === "compare") return key === "f" && (dialog.querySelector("[data-zoom]").click(), true);
  if (dialog.id !== "detail") return false;
  if (document.activeElement?.matches("pre, .says") && key.startsWith("Arrow") && key.length > 7 && !/Left|Right/.test(key)) return false;
  const acts = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), x: togglePick, c: openCompare, ...copies(current) };
  return run(acts, key);
}

function pageKey(key, target) {
  const here = target.closest?.("button.shot");
  const item = here ? items[Number(here.dataset.item)] : null;
  const acts = {
    "/": () => { byId("search").focus(); byId("search").select(); }, "?": openHelp, c: openCompare, t: switchTheme,
    g: () => { setView(state.view === "grid" ? "wall" : "grid"); focusShot(shots()[0]); }, "[": () => turnPage(-1), "]": () => turnPage(1),
  };
  if (item) Object.assign(acts, { x: () => pick(item, !picked.has(item.i)) }, copies(item));
  const free = here || target === document.body || target === byId("main");
  if (free) for (const name of ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"]) acts[name] = () => move(name, here);
  return run(acts, key);
}
const copies = (item) => ({ r: () => replayCommand(item) && copy(replayCommand(item), "replay command"), y: () => copy(jobYaml(item), "job as YAML") });
function run(acts, key) { if (!Object.hasOwn(acts, key)) return false; acts[key](); return true; }

/* ---- start ---- */
let typing = 0;
function listen() {
  byId("to-wall").addEventListener("click", () => setView("wall"));
  byId("to-grid").addEventListener("click", () => setView("grid"));
  byId("theme").addEventListener("click", switchTheme);
  byId("help-open").addEventListener("click", openHelp);
  byId("size").addEventListener("input", () => setSize(Number(byId("size").value)));
  byId("search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { state.query = byId("search").value.trim(); draw(); }, 120);
  });
  byId("clear").addEventListener("click", () => { state.query = byId("search").value = ""; state.filters = {}; draw(); byId("search").focus(); });
  byId("more").addEventListener("click", () => {
    byId("more").setAttribute("aria-expanded", String(byId("filters").classList.toggle("open")));
    measure();
  });
  byId("tray-compare").addEventListener("click", openCompare);
  byId("tray-clear").addEventListener("click", () => { for (const i of [...picked]) pick(items[i], false); });
  byId("detail").addEventListener("close", () => {
    document.body.append(byId("toast"));
    remember();
    focusShot(document.querySelector(`main .shot[data-item="${current?.i}"]`));
  });
  byId("compare").addEventListener("close", () => document.body.append(byId("toast")));
  byId("main").addEventListener("focusin", (event) => { if (event.target.matches(".shot")) focusShot(event.target); });
  document.addEventListener("keydown", onKey);
  addEventListener("resize", measure);
}

try { setTheme(localStorage.getItem("flux-lora-theme") === "dark" ? "dark" : localStorage.getItem("flux-lora-theme") === "light" ? "light" : ""); } catch { setTheme(""); }
const wanted = recall();
document.documentElement.style.setProperty("--shape", tileShape());
if (innerWidth <= 760) { byId("size").value = "2"; setSize(2); } else setSize(3);
byId("search").value = state.query;
byId("to-grid").disabled = facets.length === 0;
if (!facets.length) state.view = "wall";
drawHead();
drawFilters();
drawAxes();
listen();
draw();
if (wanted) openDetail(wanted);
