/* ---- wall ---- */
const onePrompt = !facetOf.has("prompt") && !facetOf.has("job") && !facets.some((facet) => facet.key.startsWith("variant"));
/* What a caption says: the ways in which these images differ, but for the prompt that stands above. */
const cardFacets = facets.map((facet) => facet.key).filter((key) => !["prompt", "job", "image", "safety"].includes(key) && !key.startsWith("variant"))
  .filter((key) => !(key === "lora" && facetOf.has("stack")) && !(key === "scale" && facetOf.has("stack")));
const cards = new Map();
const SIZES = [120, 170, 240, 340, 520];

function card(item) {
  if (!cards.has(item.i)) {
    const phrases = cardFacets.map((key) => facetPhrase(item, key)).filter(Boolean);
    // A long name of a stack goes last, where the line may be cut.
    phrases.sort((a, b) => (a.length > 24) - (b.length > 24));
    const heading = onePrompt && phrases.length ? phrases.shift() : promptOf(item) || item.job.id;
    const caption = make("div", { class: "cap" }, make("p", { class: "prompt" }, short(heading, 300)),
      make("p", { class: "meta" }, phrases.join(" · ") || (onePrompt ? item.job.id : `seed ${item.job.in.seed ?? "–"}`)));
    const box = make("li", { class: "card" + (picked.has(item.i) ? " chosen" : "") }, shot(item, openDetail), item.link ? pickBox(item) : null, caption);
    cards.set(item.i, box);
  }
  return cards.get(item.i);
}

/* One shape for all tiles, so that rows line up: that of nearly all images, or a square. */
function tileShape() {
  const shapes = new Map();
  for (const { width, height } of items) if (width && height) shapes.set(`${width} / ${height}`, (shapes.get(`${width} / ${height}`) || 0) + 1);
  const [best] = [...shapes].sort((a, b) => b[1] - a[1]);
  const all = [...shapes.values()].reduce((a, b) => a + b, 0);
  return best && best[1] > 0.8 * all ? best[0] : "1 / 1";
}

function drawWall() {
  byId("wall").classList.toggle("one-line", onePrompt);
  fill(byId("wall"), shown, card, 60);
}

/* ---- grid ---- */
const gridOrder = [];
function cellItems(column, row, page) {
  const at = (facet, item, place) => !facet || facet.codes[item.i] === place || facet.codes[item.i] === -1;
  const [c, r, p] = axisFacets();
  return shown.filter((item) => at(c, item, column) && at(r, item, row) && at(p, item, page));
}
const axisFacets = () => [state.columns, state.rows, state.pages].map((key) => facetOf.get(key));

/* Places of a facet that something shown has, in the facet's order. */
function places(facet, list) {
  if (!facet) return [0];
  const used = new Set(list.map((item) => facet.codes[item.i]));
  return facet.values.map((_, code) => code).filter((code) => used.has(code));
}

/* The axes that span what is shown as a matrix; the twin of arrange.py, run anew on what filters leave. */
const AXIS_ORDER = ["stack", "scale", "lora", "guidance", "steps", "strength", "size", "model", "image", "variant", "job", "repeat", "seed", "output", "preset", "prompt", "folder", "safety"];
function chooseAxes() {
  const rank = (facet) => AXIS_ORDER.indexOf(facet.key.replace(/\d+$/, ""));
  let candidates = facets.map((facet) => ({ facet, size: places(facet, shown).filter((code) => code !== -1).length })).filter(({ size }) => size >= 2 && size <= 60);
  const keys = new Set(candidates.map(({ facet }) => facet.key));
  const counts = (list) => new Set(shown.map((item) => list.map(({ facet }) => facet.codes[item.i]).join()).filter((codes) => !codes.split(",").includes("-1"))).size;
  if (keys.has("lora") && keys.has("scale")) {
    const both = candidates.filter(({ facet }) => facet.key === "lora" || facet.key === "scale");
    if (counts(both) > both[0].size * both[1].size / 2) candidates = candidates.filter(({ facet }) => facet.key !== "stack");
  }
  const chosen = [];
  let spanned = 1;
  for (const candidate of candidates.sort((a, b) => rank(a.facet) - rank(b.facet))) {
    const combined = counts([...chosen, candidate]);
    const cells = [...chosen, candidate].reduce((product, { size }) => product * size, 1);
    if (combined > spanned && combined > cells / 2) { chosen.push(candidate); spanned = combined; }
  }
  if (chosen.length > 1 && chosen[0].size > 3 * chosen[1].size) chosen.splice(0, 2, chosen[1], chosen[0]);
  [state.columns, state.rows, state.pages] = [0, 1, 2].map((n) => chosen[n]?.facet.key ?? null);
}

function drawGrid() {
  if (state.automatic) { chooseAxes(); drawAxes(); }
  const [columnFacet, rowFacet, pageFacet] = axisFacets();
  const pages = places(pageFacet, shown);
  if (!pages.includes(state.page)) state.page = pages[0] ?? 0;
  drawPager(pageFacet, pages);
  const here = shown.filter((item) => !pageFacet || [state.page, -1].includes(pageFacet.codes[item.i]));
  const columns = places(columnFacet, here);
  const rows = places(rowFacet, here);
  const buckets = new Map();
  for (const item of here) {
    const cs = columnFacet && columnFacet.codes[item.i] === -1 ? columns : [columnFacet ? columnFacet.codes[item.i] : 0];
    const rs = rowFacet && rowFacet.codes[item.i] === -1 ? rows : [rowFacet ? rowFacet.codes[item.i] : 0];
    for (const c of cs) for (const r of rs) { const key = `${c},${r}`; if (!buckets.has(key)) buckets.set(key, []); buckets.get(key).push(item); }
  }
  const corner = make("th", { scope: "col" }, make("span", {}, [columnFacet && `${columnFacet.label} →`, rowFacet && `${rowFacet.label} ↓`].filter(Boolean).join(" ") || "All"));
  const head = make("tr", {}, corner, ...columns.map((c) => make("th", { scope: "col" }, heading(columnFacet, c))));
  const body = make("tbody");
  gridOrder.length = 0;
  const build = (r) => make("tr", {}, make("th", { scope: "row" }, heading(rowFacet, r), rowPrompt(rowFacet, columns.flatMap((c) => buckets.get(`${c},${r}`) || []))), ...columns.map((c) => cell(buckets.get(`${c},${r}`) || [])));
  for (const r of rows) for (const c of columns) gridOrder.push(...(buckets.get(`${c},${r}`) || []));
  fill(body, rows, build, 12);
  const caption = make("caption", { class: "hidden" }, "Images by " + [columnFacet, rowFacet].filter(Boolean).map((f) => f.label.toLowerCase()).join(" and "));
  byId("grid").replaceChildren(make("div", { class: "scroll" }, make("table", {}, caption, make("thead", {}, head), body)));
}

function heading(facet, place) {
  const text = facet ? facet.values[place] : "all";
  return make("span", { title: text.length > 60 ? short(text, 500) : null }, short(text, 200));
}

/* A row named after its job says what the job asks for, where all of the row ask the same. */
function rowPrompt(facet, list) {
  const prompts = new Set(list.map(promptOf));
  if (!facet || !(facet.key === "job" || facet.key.startsWith("variant")) || prompts.size !== 1) return null;
  return make("span", { class: "under" }, short([...prompts][0], 160));
}

function cell(list) {
  if (!list.length) {
    return make("td", {}, make("div", { class: "shot" }, make("span", { class: "none" }, make("b", {}, "No such job"), make("span", {}, "none with these values, or filtered out"))));
  }
  const item = list.find((x) => x.link) || list[0];
  const box = make("td", { class: picked.has(item.i) ? "chosen" : "" }, shot(item, openDetail), item.link ? pickBox(item) : null);
  if (list.length > 1) box.append(make("span", { class: "also", title: "More images have these values" }, `1 of ${list.length}`));
  return box;
}

function drawPager(facet, pages) {
  document.querySelector(".pager")?.remove();
  if (!facet) return;
  const list = make("select", { "aria-label": facet.label, change: () => { state.page = Number(list.value); draw(); } },
    ...pages.map((code) => make("option", { value: code }, short(facet.values[code], 60))));
  list.value = String(state.page);
  const step = (by) => () => turnPage(by);
  byId("axes").append(make("span", { class: "pager field" },
    make("button", { type: "button", class: "quiet", "aria-label": "Previous page", click: step(-1) }, "‹"), list,
    make("button", { type: "button", class: "quiet", "aria-label": "Next page", click: step(1) }, "›")));
}

function turnPage(by) {
  const facet = facetOf.get(state.pages);
  if (state.view !== "grid" || !facet) return;
  const pages = places(facet, shown);
  const next = pages[(pages.indexOf(state.page) + by + pages.length) % pages.length];
  if (next !== undefined) { state.page = next; draw(); }
}

function drawAxes() {
  const names = [["columns", "Columns"], ["rows", "Rows"], ["pages", "Pages"]];
  byId("axes").replaceChildren(...names.map(([axis, text]) => {
    const list = make("select", { id: `axis-${axis}`, change: () => chooseAxis(axis, list.value || null) },
      make("option", { value: "" }, "none"), ...facets.map((facet) => make("option", { value: facet.key }, facet.label)));
    list.value = state[axis] || "";
    return make("label", { class: "field" }, make("span", {}, text), list);
  }));
}

/* An axis that is in use elsewhere changes places with this one. */
function chooseAxis(axis, key) {
  for (const other of ["columns", "rows", "pages"]) if (other !== axis && key && state[other] === key) state[other] = state[axis];
  state[axis] = key;
  state.automatic = false;
  drawAxes();
  draw();
}
