/** Dialogs and menus: help, export, import, a question. Each returns when it is closed. */

import { $, COLOR_NAMES, counted, h, PALETTE } from "./dom.js";

/** @typedef {import("./editor.js").Editor} Editor */

/** @param {any} content a form @returns {Promise<string>} value of the button that closed it, "" for Escape */
function show(content) {
  /** @type {HTMLDialogElement} */
  const dialog = $("dialog");
  const before = document.activeElement;
  dialog.replaceChildren(content);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclick = (event) => {
      if (event.target === dialog) dialog.close("");
    };
    dialog.onclose = () => {
      dialog.replaceChildren();
      if (before instanceof HTMLElement) before.focus({ preventScroll: true });
      resolve(dialog.returnValue);
    };
  });
}

const cancel = () => h("button", { type: "button", class: "quiet", onclick: () => $("dialog").close("") }, "Cancel");

/** @param {string} title @param {string} text @param {string} action @returns {Promise<boolean>} */
export async function ask(title, text, action) {
  const form = h("form", { method: "dialog" }, h("h2", {}, title), h("p", {}, text),
    h("div", { class: "buttons" }, cancel(), h("button", { class: "danger", value: "yes", autofocus: true }, action)));
  return (await show(form)) === "yes";
}

/** @param {string} title @param {string} text @param {[string, string][]} choices value and text @param {string} action @returns {Promise<string>} */
export async function choose(title, text, choices, action) {
  const select = h("select", { "aria-label": title, autofocus: true }, ...choices.map(([value, name]) => h("option", { value }, name)));
  const form = h("form", { method: "dialog" }, h("h2", {}, title), h("p", {}, text), select,
    h("div", { class: "buttons" }, cancel(), h("button", { class: "primary", value: "yes" }, action)));
  return (await show(form)) === "yes" ? select.value : "";
}

/** @param {import("./keys.js").Binding[]} bindings */
export function help(bindings) {
  const groups = [...new Set(bindings.map((binding) => binding.group))];
  const signs = /** @type {Record<string, string>} */ ({ ARROWLEFT: "←", ARROWRIGHT: "→", ARROWUP: "↑", ARROWDOWN: "↓", " ": "Space", Escape: "Esc", Delete: "Del", ArrowLeft: "←", ArrowRight: "→", PageDown: "PgDn", PageUp: "PgUp" });
  const sections = groups.map((group) =>
    h("section", {}, h("h3", {}, group), h("dl", {}, ...bindings.filter((binding) => binding.group === group).flatMap((binding) => [
      h("dt", {}, ...(binding.shown ?? binding.keys).map((key) => h("kbd", {}, key === "+" ? key : key.split("+").map((part) => signs[part] ?? part).join(" ")))),
      h("dd", {}, binding.does)]))));
  // The first two groups are long; the others share the last column.
  const columns = [h("div"), h("div"), h("div")];
  sections.forEach((section, k) => columns[Math.min(2, k)].append(section));
  return show(h("form", { method: "dialog" }, h("h2", {}, "Keys", h("button", { class: "quiet", value: "x", autofocus: true }, "Close")),
    h("div", { class: "keys" }, ...columns),
    h("p", {}, "Draw a box, track, press N for the next doubtful frame, correct it or press Enter, export. Every step is saved as you make it.")));
}

/** @param {HTMLElement} notes @param {string} text @param {unknown} [error] */
function note(notes, text, error) {
  notes.textContent = error instanceof Error ? error.message : text;
  notes.dataset.bad = String(error !== undefined);
}

/** Counts of an export. @param {any} counts */
function table(counts) {
  const cells = [["frames", counts.frames], ["targets", counts.targets], ["boxes", counts.boxes], ["key frames", counts.key],
    ["absent", counts.absent], ["uncertain", counts.uncertain], ["lost", counts.lost], ["to check", counts.to_check]];
  return cells.map(([name, value]) => h("div", { "data-warn": String(name === "to check" && value > 0) }, h("b", {}, Number(value ?? 0).toLocaleString("en-US")), h("span", {}, name)));
}

/** @param {Editor} editor */
export async function exportDialog(editor) {
  const clip = editor.clip, formats = editor.session?.formats.filter((format) => format.writes) ?? [];
  if (!clip) return;
  await editor.flush();
  await editor.queue;
  const kept = localStorage.getItem("export") ?? "cvat";
  const format = h("select", { "aria-label": "Format", autofocus: true }, ...formats.map((one) => h("option", { value: one.name, selected: one.name === kept }, one.title)));
  const thin = h("select", { "aria-label": "Boxes" }, ...[["", "every frame"], ["0.9", "thinned, overlap ≥ 0.9"], ["0.8", "thinned, overlap ≥ 0.8"], ["1", "thinned, corners within 1 px"], ["keys", "key frames only"]].map(([value, text]) => h("option", { value }, text)));
  /** @param {string} name @param {string} text */
  const check = (name, text) => h("label", {}, h("input", { type: "checkbox", name }), text);
  const options = h("div", { class: "options" }, check("interpolate", "fill gaps with lines"), check("keep_lost", "keep lost boxes"), check("drop_uncertain", "leave out uncertain boxes"), check("images", "with the pictures"));
  const counts = h("div", { class: "counts", role: "status", "aria-label": "What will be written" });
  const notes = h("p", { class: "notes", role: "status" });
  const go = h("button", { class: "primary", type: "submit" }, "Export");
  const form = h("form", {}, h("h2", {}, `Export ${clip.name}`),
    h("div", { class: "field" }, h("span", {}, "Format"), format, h("span", {}, "Boxes"), thin), options, counts, notes,
    h("div", { class: "buttons" }, cancel(), go));
  const chosen = () => {
    /** @type {Record<string, unknown>} */
    const all = {};
    for (const box of form.querySelectorAll("input")) if (box.checked) all[box.name] = true;
    if (thin.value === "keys") all.keys_only = true;
    else if (thin.value) all.thin = Number(thin.value);
    return all;
  };
  let asked = 0;
  const preview = async () => {
    const mine = ++asked;
    const { images: _, ...rest } = chosen(); // they change no count
    try {
      const reply = await editor.api.export(clip.id, format.value, rest, true);
      if (mine !== asked) return;
      counts.replaceChildren(...table(reply.counts));
      const lost = reply.lost.map((/** @type {string} */ line) => line.replace(/: (.*), not kept by .*/, " ($1)"));
      note(notes, lost.length ? `Not kept by this format: ${lost.join(", ")}` : "");
      go.disabled = false;
    } catch (error) {
      if (mine !== asked) return;
      note(notes, "", error);
      go.disabled = true;
    }
  };
  const settle = () => {
    const one = formats.find((known) => known.name === format.value);
    form.querySelector("[name=images]").disabled = !one?.images;
    // Lines between key frames are for tools that draw them.
    for (const option of thin.options) option.disabled = Number(option.value) > 0 && !one?.draws_lines;
    if (thin.selectedOptions[0].disabled) thin.value = "";
    preview();
  };
  form.onchange = settle;
  form.onsubmit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    go.disabled = true;
    note(notes, "Writing …");
    try {
      const reply = await editor.api.export(clip.id, format.value, chosen(), false);
      await editor.api.download(reply.export, reply.name);
      localStorage.setItem("export", format.value);
      $("dialog").close("done");
      editor.say(`${reply.name}: ${counted(reply.counts.boxes, "box", "boxes")} exported`);
    } catch (error) {
      note(notes, "", error);
      go.disabled = false;
    }
  };
  settle();
  await show(form);
}

/** @param {Editor} editor @param {File} [given] dropped on the page */
export async function importDialog(editor, given) {
  const clip = editor.clip, formats = editor.session?.formats.filter((format) => format.reads) ?? [];
  if (!clip) return;
  if (editor.locked) return editor.say(editor.locked, "warning");
  await editor.flush();
  const file = h("input", { type: "file", hidden: true, tabIndex: -1 });
  const browse = h("button", { type: "button", autofocus: true, onclick: () => file.click() }, "Choose a file");
  const name = h("p", {}, "or drop it here; folders as .zip");
  const drop = h("div", { class: "drop" }, browse, name, file);
  const format = h("select", { "aria-label": "Format" }, h("option", { value: "" }, "recognized by content"), ...formats.map((one) => h("option", { value: one.name }, one.title)));
  const thin = h("select", { "aria-label": "Key frames" }, ...[["0.9", "as few as needed, overlap ≥ 0.9"], ["1", "as few as needed, corners within 1 px"], ["0", "one for every box"]].map(([value, text]) => h("option", { value }, text)));
  const notes = h("p", { class: "notes", role: "status" });
  const go = h("button", { class: "primary", type: "submit", disabled: !given }, "Import");
  const form = h("form", {}, h("h2", {}, "Import boxes"), h("p", {}, "They become key frames of new targets; nothing of yours is changed."), drop,
    h("div", { class: "field" }, h("span", {}, "Format"), format, h("span", {}, "Key frames"), thin), notes, h("div", { class: "buttons" }, cancel(), go));
  let chosen = given;
  /** @param {File | undefined} one */
  const take = (one) => {
    if (!one) return;
    chosen = one;
    name.textContent = `${one.name}, ${(one.size / 1024).toFixed(0)} kB`;
    go.disabled = false;
    note(notes, "");
    go.focus();
  };
  if (given) take(given);
  file.onchange = () => take(file.files?.[0]);
  drop.ondragover = (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    drop.classList.add("over");
  };
  drop.ondragleave = () => drop.classList.remove("over");
  drop.ondrop = (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer?.files[0]);
  };
  form.onsubmit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!chosen) return;
    go.disabled = true;
    note(notes, "Reading …");
    try {
      const reply = await editor.api.import(clip.id, chosen, format.value, thin.value);
      editor.apply(reply.revision, reply.changes);
      if (reply.created.length) editor.select(reply.created[0]);
      $("dialog").close("done");
      const summary = `${reply.format}: ${counted(reply.boxes, "box", "boxes")} as ${counted(reply.keys, "key frame")} of ${counted(reply.created.length, "new target")}`;
      editor.say([summary, ...reply.notes].join("; "), reply.notes.length ? "warning" : "info");
    } catch (error) {
      note(notes, "", error);
      go.disabled = false;
    }
  };
  await show(form);
}

// -- menus ----------------------------------------------------------------------------------------------

/** Opens a menu beside `anchor`. @param {HTMLElement} anchor @param {HTMLElement[]} items @param {string} [kind] */
function popUp(anchor, items, kind = "") {
  const menu = $("menu");
  menu.className = kind;
  menu.replaceChildren(...items);
  menu.hidden = false;
  const place = anchor.getBoundingClientRect(), size = menu.getBoundingClientRect();
  menu.style.left = `${Math.max(4, Math.min(place.left, innerWidth - size.width - 8))}px`;
  menu.style.top = `${Math.min(place.bottom + 4, innerHeight - size.height - 8)}px`;
  items.find((item) => !(/** @type {HTMLButtonElement} */ (item).disabled))?.focus();
  const close = () => {
    menu.hidden = true;
    document.removeEventListener("pointerdown", outside, true);
    anchor.focus({ preventScroll: true });
  };
  /** @param {Event} event */
  const outside = (event) => {
    if (!menu.contains(event.target)) close();
  };
  document.addEventListener("pointerdown", outside, true);
  menu.onclick = close;
  menu.onkeydown = (/** @type {KeyboardEvent} */ event) => {
    const buttons = [...menu.querySelectorAll("button:not(:disabled)")];
    const at = buttons.indexOf(document.activeElement);
    const step = { ArrowDown: kind ? 6 : 1, ArrowUp: kind ? -6 : -1, ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) buttons[(at + step + buttons.length) % buttons.length]?.focus();
    else if (event.key === "Escape" || event.key === "Tab") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
}

/** @param {HTMLElement} anchor @param {{text: string, key?: string, run: () => void, disabled?: boolean}[]} items */
export function openMenu(anchor, items) {
  popUp(anchor, items.map(({ text, key, run, disabled }) => h("button", { role: "menuitem", onclick: run, disabled: !!disabled }, text, key ? h("kbd", {}, key) : null)));
}

/** @param {HTMLElement} anchor @param {number} current @param {(color: number) => void} pick */
export function openColors(anchor, current, pick) {
  popUp(anchor, PALETTE.map((color, k) => {
    const button = h("button", { class: "swatch", role: "menuitemradio", "aria-checked": String(k === current), "aria-label": COLOR_NAMES[k], title: COLOR_NAMES[k], onclick: () => pick(k) });
    button.style.setProperty("--swatch", color);
    return button;
  }), "colors");
}
