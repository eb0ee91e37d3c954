/* ---- one image ---- */
let current = null;
let detailList = [];

function openDetail(item) {
  detailList = state.view === "grid" ? [...new Set(gridOrder)] : shown;
  current = item;
  drawDetail();
  if (!byId("detail").open) byId("detail").showModal();
  byId("detail").scrollTop = 0;
  byId("detail").querySelector("[data-close]").focus({ preventScroll: true });
}

function step(by) {
  const next = detailList[detailList.indexOf(current) + by];
  if (!next) return;
  current = next;
  const held = document.activeElement?.dataset?.step;
  drawDetail();
  byId("detail").querySelector(held ? `[data-step="${held}"]` : "[data-close]").focus({ preventScroll: true });
}

function facts(pairs) {
  return make("dl", { class: "facts-list" }, ...pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined)
    .flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}
const code = (text) => (text ? make("code", {}, text) : "");
const closeButton = (dialog) => make("button", { type: "button", class: "quiet", "data-close": true, "aria-label": "Close", click: () => byId(dialog).close() }, "✕");

const PARAMETERS = [["size", "Size"], ["num_inference_steps", "Steps"], ["guidance_scale", "Guidance"], ["seed", "Seed"], ["strength", "Strength"], ["image", "Input image"]];

function drawDetail() {
  const item = current;
  const { job, run } = item;
  const place = detailList.indexOf(item);
  const nav = (by, name, sign, off) => make("button", { type: "button", class: `nav quiet ${name}`, "data-step": by, "aria-label": by < 0 ? "Previous image" : "Next image", disabled: off, click: () => step(by) }, sign);
  const frame = stage(item);
  frame.append(nav(-1, "previous", "‹", place <= 0), nav(1, "next", "›", place >= detailList.length - 1));
  const choose = item.link ? make("button", { type: "button", class: "plain", "aria-pressed": String(picked.has(item.i)), click: () => togglePick() }, picked.has(item.i) ? "Chosen" : "Compare") : null;
  const panel = make("div", { class: "panel" },
    make("div", { class: "panel-head" }, make("span", {}, `${place + 1} of ${detailList.length.toLocaleString("en")}`), closeButton("detail")),
    make("h2", { id: "detail-title" }, job.id || "Task of another tool"),
    job.err && job.st !== "completed" ? make("p", { class: "problem" }, job.err) : null,
    make("p", { class: "says", tabindex: "0", role: "group", "aria-label": "Prompt" }, promptOf(item) || "no prompt known"),
    make("div", { class: "actions" }, copyButton(replayCommand(item), "replay command"), copyButton(jobYaml(item), "job as YAML"), copyButton(promptOf(item), "prompt"), choose,
      item.link && !isVeiled(item) ? make("a", { class: "plain", href: item.link, target: "_blank", rel: "noopener noreferrer" }, "Open the file") : null),
    lorasOf(item).length ? make("section", {}, make("h3", {}, "LoRAs"), facts(lorasOf(item).map((lora) => [String(lora.scale ?? 1), code(String(lora.path))]))) : null,
    make("section", {}, make("h3", {}, "Request"), facts([["Model", code(modelOf(item))], ...PARAMETERS.map(([key, name]) => [name, job.in[key] === undefined ? "" : String(job.in[key])])])),
    make("section", {}, make("h3", {}, "Result"), facts(resultFacts(item))),
    make("details", {}, make("summary", {}, "Full request"), make("pre", { tabindex: "0" }, JSON.stringify(requestOf(item), null, 2))));
  byId("detail").replaceChildren(frame, panel);
  remember();
}

function resultFacts(item) {
  const { job, run } = item;
  const several = items.filter((other) => other.job === job && other.index !== null).length;
  return [
    ["State", (STATE_WORDS[job.st] && job.st !== "completed" ? STATE_WORDS[job.st] : item.link ? "Saved" : item.why)],
    ["Cost", job.cost === undefined ? "not known" : `$${job.cost}${several > 1 ? ` for ${several} images` : ""}`],
    ["Time", job.ms === undefined ? "" : `${(job.ms / 1000).toFixed(1)} s`],
    ["Made", timeText(job.at || item.saved)],
    ["NSFW", item.link ? { true: "flagged", false: "not flagged" }[item.nsfw] || "not known" : ""],
    ["Image", item.link && item.width ? `${item.width} × ${item.height}${item.bytes ? `, ${bytesText(item.bytes)}` : ""}` : ""],
    ["File", code(item.file)], ["SHA-256", code(item.sha256)], ["Task", code(job.task)], ["Fingerprint", code(job.fp)],
    ["Preset", job.preset || ""], ["Also", (job.al || []).join(", ")],
    ["Folder", data.runs.length > 1 ? run.name : ""], ["Service", run.sandbox ? "sandbox" : run.service],
  ];
}

function togglePick() {
  pick(current, !picked.has(current.i));
  if (byId("detail").open) drawDetail();
  byId("detail").querySelector("[aria-pressed]")?.focus();
}

/* ---- side by side ---- */
function openCompare() {
  if (picked.size < 2) { toast("Choose two to four images first: x, or the box in their corner"); return; }
  if (byId("detail").open) byId("detail").close();
  drawCompare(false);
  byId("compare").showModal();
  byId("compare").querySelector("[data-close]").focus();
}

function drawCompare(full) {
  const list = [...picked].map((i) => items[i]);
  const rows = differences(list);
  const stages = [];
  const figures = list.map((item, n) => {
    const box = stage(item);
    box.tabIndex = full ? 0 : -1;
    box.addEventListener("scroll", () => follow(stages, box));
    stages.push(box);
    const names = facts(rows.map(([name, values]) => [name, values[n] || "–"]));
    return make("figure", {}, box, make("figcaption", {}, names));
  });
  const zoom = make("button", { type: "button", class: "plain", "aria-pressed": String(full), "data-zoom": true, click: () => { drawCompare(!full); byId("compare").querySelector("[data-zoom]").focus(); } }, "Full size");
  const note = rows.length ? "What differs stands below; all else is the same." : "The requests are the same.";
  const panes = make("div", { class: "panes" + (full ? " full" : "") }, ...figures);
  panes.style.setProperty("--n", String(list.length));
  byId("compare").replaceChildren(
    make("div", { class: "compare-head" }, make("h2", { id: "compare-title" }, `${list.length} images side by side`), make("span", { class: "same" }, note), zoom, closeButton("compare")), panes);
}

/* Panes at full size scroll together. */
let leader = null;
function follow(stages, box) {
  if (leader && leader !== box) return;
  leader = box;
  for (const other of stages) if (other !== box) { other.scrollLeft = box.scrollLeft; other.scrollTop = box.scrollTop; }
  requestAnimationFrame(() => requestAnimationFrame(() => { leader = null; }));
}

function differences(list) {
  const readers = [
    ["Prompt", (item) => short(promptOf(item), 400)], ["Model", modelOf], ["LoRAs", (item) => lorasOf(item).map(loraShort).join(", ") || "none"],
    ...PARAMETERS.map(([key, name]) => [name, (item) => String(item.job.in[key] ?? "")]),
    ["Job", (item) => item.job.id], ["Image", (item) => String((item.index ?? 0) + 1)], ["Folder", (item) => item.run.name],
    ["Time", (item) => (item.job.ms === undefined ? "" : `${(item.job.ms / 1000).toFixed(1)} s`)],
  ];
  return readers.map(([name, read]) => [name, list.map(read)]).filter(([, values]) => new Set(values).size > 1);
}

/* ---- help ---- */
const KEYS = [["/", "search"], ["← → ↑ ↓", "move among the images"], ["Enter", "open, or show a flagged image"], ["x", "choose for comparison"], ["c", "compare the chosen"],
  ["g", "grid and wall"], ["[ ]", "previous and next page of the grid"], ["r", "copy the replay command"], ["y", "copy the job as YAML"], ["t", "light and dark"], ["Esc", "close, or leave the search"], ["?", "this list"]];

function openHelp() {
  const rows = KEYS.flatMap(([keys, text]) => [make("dt", {}, ...keys.split(" ").flatMap((key) => [make("kbd", {}, key), " "])), make("dd", {}, text)]);
  byId("help").replaceChildren(make("div", { class: "help-head" }, make("h2", { id: "help-title" }, "Keyboard"), closeButton("help")), make("dl", {}, ...rows));
  byId("help").showModal();
}
