/* ---- parts that several views share ---- */
const isVeiled = (item) => item.nsfw === true && !revealed.has(item.i);

const STATE_WORDS = {
  planned: "Not made yet", submitting: "Being submitted", submitted: "Being made",
  unknown: "Outcome unknown", completed: "Not saved", failed: "Failed", skipped: "Skipped",
};

function reason(item) {
  const heading = item.link ? "Cannot be shown" : STATE_WORDS[item.job.st] || "No image";
  const text = item.why.replace(/^(failed|not saved): /, "");
  const said = text === heading || text === "not made yet";
  return make("span", { class: "none" + (item.job.st === "failed" ? " bad" : "") }, make("b", {}, heading), said ? null : " ", said ? null : make("span", {}, short(text, 300)));
}

function picture(item, eager) {
  const img = make("img", { src: item.link, alt: "", decoding: "async", loading: eager ? null : "lazy", width: item.width, height: item.height, draggable: "false" });
  img.addEventListener("error", () => {
    item.why = "the file is missing or is no image";
    img.replaceWith(reason(item));
  });
  return img;
}

function nameOf(item) {
  const parts = cardFacets.map((key) => facetPhrase(item, key)).filter(Boolean);
  return [short(promptOf(item), 120) || item.job.id, ...parts].join(", ");
}

/* The picture as a button: shows a flagged one first, opens it then. */
function shot(item, open) {
  const button = make("button", { type: "button", class: "shot", "data-item": item.i, tabindex: "-1" });
  button.append(item.link ? picture(item) : reason(item));
  if (isVeiled(item) && item.link) {
    button.classList.add("veiled");
    button.append(make("span", { class: "veil" }, make("b", {}, "Flagged NSFW"), " Show"));
  }
  label(button, item);
  button.addEventListener("click", () => (button.classList.contains("veiled") ? reveal(item) : open(item)));
  return button;
}

function label(button, item) {
  button.setAttribute("aria-label", `${button.textContent || "Open"}: ${nameOf(item)}`);
}

function reveal(item) {
  revealed.add(item.i);
  for (const button of document.querySelectorAll(`[data-item="${item.i}"].veiled`)) {
    button.classList.remove("veiled");
    button.querySelector(".veil")?.remove();
    if (button.classList.contains("shot")) label(button, item);
  }
}

function stage(item) {
  const box = make("div", { class: "stage" + (isVeiled(item) && item.link ? " veiled" : ""), "data-item": item.i });
  if (!item.link) { box.append(reason(item)); return box; }
  const img = picture(item, true);
  img.alt = isVeiled(item) ? "Flagged image, hidden" : short(promptOf(item), 400);
  box.append(img);
  if (isVeiled(item)) {
    const show = make("button", { type: "button", class: "plain", click: () => { reveal(item); img.alt = short(promptOf(item), 400); } }, "Show");
    box.append(make("div", { class: "veil" }, make("b", {}, "Flagged NSFW by the service"), show));
  }
  return box;
}

function pickBox(item) {
  const box = make("input", { type: "checkbox", tabindex: "-1", "aria-label": "Compare: " + nameOf(item) });
  box.checked = picked.has(item.i);
  box.addEventListener("change", () => { if (!pick(item, box.checked)) box.checked = false; });
  return make("label", { class: "pick", "data-pick": item.i }, box);
}

/* Choose up to four for comparison; false where that was refused. */
function pick(item, on) {
  if (on && !item.link) { toast("Only images can be compared"); return false; }
  if (on && picked.size >= 4 && !picked.has(item.i)) { toast("Four at most can be compared"); return false; }
  if (on) picked.add(item.i); else picked.delete(item.i);
  for (const box of document.querySelectorAll(`[data-pick="${item.i}"] input`)) box.checked = on;
  for (const button of document.querySelectorAll(`.shot[data-item="${item.i}"]`)) button.parentElement.classList.toggle("chosen", on);
  drawTray();
  return true;
}

function drawTray() {
  byId("tray").hidden = picked.size === 0;
  byId("tray-compare").disabled = picked.size < 2;
  byId("tray-compare").textContent = picked.size < 2 ? "Choose another" : `Compare ${picked.size}`;
  byId("tray-shots").replaceChildren(...[...picked].map((i) => {
    const item = items[i];
    const button = make("button", { type: "button", class: isVeiled(item) ? "veiled" : "", "data-item": i, "aria-label": "Leave out of the comparison: " + nameOf(item), click: () => pick(item, false) });
    button.append(picture(item, true));
    return button;
  }));
}

let toastTimer = 0;
function toast(text) {
  const box = byId("toast");
  // Inside an open dialog the rest of the page is inert, and under it.
  (document.querySelector("dialog[open]") || document.body).append(box);
  box.replaceChildren(make("span", {}, text));
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => box.replaceChildren(), 2200);
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied`);
  } catch {
    const area = make("textarea", { class: "hidden", "aria-hidden": "true" });
    area.value = text;
    (document.querySelector("dialog[open]") || document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    toast(done ? `${what} copied` : "This browser does not let the page copy");
  }
}
const copyButton = (text, what) => (text ? make("button", { type: "button", class: "plain", "data-copy": what, click: () => copy(text, what) }, `Copy ${what}`) : null);

/* A new set of rows; few at once, so that the first are on screen before the last are made. */
let filling = 0;
function fill(parent, list, build, first) {
  const ticket = ++filling;
  parent.replaceChildren(...list.slice(0, first).map(build));
  let done = first;
  const more = () => {
    if (ticket !== filling || done >= list.length) return;
    parent.append(...list.slice(done, done + 150).map(build));
    done += 150;
    setTimeout(more, 0);
  };
  if (done < list.length) requestAnimationFrame(() => setTimeout(more, 0));
}
