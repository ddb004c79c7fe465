/** Puts the page together: views on one editor, keys, messages, what is shown when something is wrong. */

import { Api } from "./api.js";
import { exportDialog, help, importDialog } from "./dialogs.js";
import { $, h } from "./dom.js";
import { Editor } from "./editor.js";
import { moved } from "./geometry.js";
import { icon } from "./icons.js";
import { listen } from "./keys.js";
import { Panels } from "./panels.js";
import { Pictures } from "./pictures.js";
import { Player } from "./player.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("./keys.js").Binding} Binding */
/** @typedef {import("./geometry.js").Box} Box */

const TOAST_MS = 5000;

const api = new Api();
const editor = new Editor(api);
const pictures = new Pictures(api, () => stage.redraw());
const stage = new Stage(editor, pictures);
const timeline = new Timeline(editor);
const player = new Player(editor, stage);
const panels = new Panels(editor, player);

// -- messages ---------------------------------------------------------------------------------------------

/** @param {import("./editor.js").Notice} notice */
editor.notify = ({ text, level = "info", action, run }) => {
  const toast = h("div", { class: "toast", "data-level": level }, h("span", {}, text));
  const close = () => toast.remove();
  if (action) toast.append(h("button", { class: "primary", onclick: () => (close(), run?.()) }, action));
  if (action || level !== "info") toast.append(h("button", { class: "quiet square small", "aria-label": "Close", onclick: close }, icon("close")));
  // What was said of the last step is of no use after the next one, and the same words twice say nothing new.
  for (const old of [...$("toasts").children])
    if (old.dataset.level === "info" || old.firstChild?.textContent === text || $("toasts").childElementCount > 3) old.remove();
  $("toasts").append(toast);
  if (!action && level !== "error") setTimeout(close, level === "info" ? TOAST_MS : 2 * TOAST_MS);
};

/** @param {string} title @param {string} text @param {boolean} whole nothing of the page is to be seen */
function cover(title, text, whole) {
  const box = $("gone");
  box.dataset.whole = String(whole);
  box.querySelector("h2").textContent = title;
  box.querySelector("p").textContent = text;
  box.hidden = false;
}

editor.onToken = () => {
  cover("Open the address that the terminal shows", "This page does not have the token of the siamtrack that is running here. Each start has a new one.", true);
};
// The address of another start, given to this tab, differs in the fragment only: no browser loads it anew.
window.addEventListener("hashchange", () => location.reload());
editor.onChange(() => {
  const gone = $("gone");
  if (gone.dataset.whole === "true") return;
  if (!editor.linked && gone.hidden) cover("siamtrack has stopped", `Your work is saved up to revision ${editor.project?.revision ?? 0}. The page looks for it every two seconds.`, false);
  if (editor.linked) gone.hidden = true;
});
/** @param {unknown} error */
pictures.onError = (error) => editor.failed(error);
/** @param {any} event */
api.onEvent = (event) => editor.handle(event);
/** @param {boolean} open */
api.onLink = (open) => {
  if (open) return;
  editor.linked = false;
  editor.jobs = [];
  editor.changed();
};

// -- theme ------------------------------------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");
function applyTheme() {
  const theme = localStorage.getItem("theme") ?? (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  $("theme").replaceChildren(icon(theme === "dark" ? "sun" : "moon"));
  $("theme").title = theme === "dark" ? "Light" : "Dark";
  timeline.theme();
}
dark.addEventListener("change", applyTheme);
$("theme").addEventListener("click", () => {
  localStorage.setItem("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  applyTheme();
});

// -- keys -------------------------------------------------------------------------------------------------

/** Arrow keys move the selected box, or else the frame. @param {string} name @returns {boolean} */
function arrows(name) {
  const [, control, shift, key] = /^(Ctrl\+)?(Shift\+)?Arrow(Left|Right|Up|Down)$/.exec(name) ?? [];
  const { clip, activeTarget: target } = editor;
  if (!key || !clip || !target || !editor.selected || target.locked) return false;
  const box = editor.row(target.id).box;
  if (!box) return false;
  if (!stage.ready) return true; // the box is edited on its own picture
  const step = shift ? 10 : 1;
  const dx = key === "Left" ? -step : key === "Right" ? step : 0, dy = key === "Up" ? -step : key === "Down" ? step : 0;
  const [x, y, w, h] = box;
  /** @type {Box} */
  const next = control ? [x, y, Math.max(2, Math.min(w + dx, clip.width - x)), Math.max(2, Math.min(h + dy, clip.height - y))] : moved(box, dx, dy, clip.width, clip.height);
  editor.nudgeBox(target.id, next);
  return true;
}

/** A box drawn without a pointer: where the target was last seen, else in the middle of the picture. */
function place() {
  const clip = editor.clip, target = editor.armed === "box" ? editor.activeTarget : null;
  if (!clip || !editor.armed) return false;
  const near = target?.keys.filter((key) => key.box).sort((a, b) => Math.abs(a.frame - editor.frame) - Math.abs(b.frame - editor.frame))[0];
  const side = Math.min(clip.width, clip.height) / 4;
  editor.setBox(target?.id ?? null, near?.box ?? [(clip.width - side) / 2, (clip.height - side) / 2, side, side]);
  return true;
}

/** Escape ends one thing: the drag, the drawing, the run, the selection. After it Tab leaves the picture. */
let leaves = false;
function escape() {
  if (stage.abandon()) return;
  if (editor.nudge) {
    clearTimeout(editor.nudge);
    editor.nudge = 0;
    editor.pending = null;
  } else if (editor.armed) editor.armed = null;
  else if (editor.running) editor.stop(editor.running.job);
  else if (player.running) player.pause();
  else {
    editor.selected = false;
    leaves = true;
  }
  editor.changed();
}

/** @param {1 | -1} way @returns {boolean} false: the browser moves the focus */
function cycle(way) {
  if (document.activeElement !== stage.canvas || leaves) return false;
  const shown = editor.targets.filter((target) => !target.hidden);
  if (!shown.length) return false;
  const at = shown.findIndex((target) => target.id === editor.active);
  const next = editor.selected || at < 0 || !editor.row(shown[at].id).box ? shown[(at + way + shown.length) % shown.length] : shown[at];
  editor.select(next.id, true);
  return true;
}

/** @param {number} number */
function selectNumber(number) {
  const target = editor.targets[number - 1];
  if (!target) return editor.say(`There is no target ${number}`);
  editor.select(target.id, !!editor.row(target.id).box);
}

/** @type {Binding[]} */
const BINDINGS = [
  { group: "Frames", keys: [",", "ArrowLeft"], does: "one frame back (arrows: no box selected)", run: () => editor.goto(editor.frame - 1), shown: [",", "←"] },
  { group: "Frames", keys: [".", "ArrowRight"], does: "one frame on", run: () => editor.goto(editor.frame + 1), shown: [".", "→"] },
  { group: "Frames", keys: ["<", "Shift+ArrowLeft"], does: "ten frames back", run: () => editor.goto(editor.frame - 10), shown: ["<", "Shift+←"] },
  { group: "Frames", keys: [">", "Shift+ArrowRight"], does: "ten frames on", run: () => editor.goto(editor.frame + 10), shown: [">", "Shift+→"] },
  { group: "Frames", keys: ["Home"], does: "first frame", run: () => editor.goto(0) },
  { group: "Frames", keys: ["End"], does: "last frame", run: () => editor.goto(Infinity) },
  { group: "Frames", keys: ["G"], does: "go to a number", run: () => $("frame").focus() },
  { group: "Frames", keys: [" "], does: "play, pause; hold and drag to pan", run: () => undefined, shown: ["Space"] },
  { group: "Frames", keys: ["-"], does: "slower", run: () => player.faster(-1) },
  { group: "Frames", keys: ["+", "="], does: "faster", run: () => player.faster(1), shown: ["+"] },
  { group: "Frames", keys: ["PageDown"], does: "next clip", run: () => editor.nextClip(1) },
  { group: "Frames", keys: ["PageUp"], does: "previous clip", run: () => editor.nextClip(-1) },
  { group: "Boxes", keys: ["A"], does: "new target", run: () => panels.arm("new") },
  { group: "Boxes", keys: ["D"], does: "draw the box of this target", run: () => panels.arm("box") },
  { group: "Boxes", keys: ["Arrows"], does: "move the selected box 1 px, with Shift 10 px", shown: ["Arrows"] },
  { group: "Boxes", keys: ["Ctrl+Arrows"], does: "resize it", shown: ["Ctrl+Arrows"] },
  { group: "Boxes", keys: ["drag"], does: "Alt: from the center; Shift: keep the shape", shown: ["drag"] },
  { group: "Boxes", keys: ["O"], does: "outside from here on", run: () => editor.toggleOutside() },
  { group: "Boxes", keys: ["U"], does: "occluded from here on", run: () => editor.toggleOccluded() },
  { group: "Boxes", keys: ["Delete"], does: "delete the key frame", run: () => editor.deleteKey() },
  { group: "Boxes", keys: ["Shift+Delete"], does: "delete the target", run: () => panels.remove() },
  { group: "Boxes", keys: ["1"], does: "select target 1 to 9", run: () => selectNumber(1), shown: ["1", "…", "9"] },
  { group: "Boxes", keys: ["Tab"], does: "next target; after Esc: to the controls", run: () => cycle(1) },
  { group: "Boxes", keys: ["Ctrl+Z"], does: "undo", run: () => editor.walk("undo") },
  { group: "Boxes", keys: ["Ctrl+Shift+Z", "Ctrl+Y"], does: "redo", run: () => editor.walk("redo"), shown: ["Ctrl+Shift+Z"] },
  { group: "Track", keys: ["T"], does: "track forward", run: () => editor.track("forward") },
  { group: "Track", keys: ["Shift+T"], does: "track backward", run: () => editor.track("backward") },
  { group: "Track", keys: ["Y"], does: "track both ways", run: () => editor.track("both") },
  { group: "Track", keys: ["Escape"], does: "stop, abandon, deselect", run: escape },
  { group: "Review", keys: ["N"], does: "next to check", run: () => editor.nextDoubt(1) },
  { group: "Review", keys: ["Shift+N"], does: "previous to check", run: () => editor.nextDoubt(-1) },
  { group: "Review", keys: ["Alt+N", "Alt+Shift+N"], does: "worst to check", run: () => editor.nextDoubt(1, true), shown: ["Alt+N"] },
  { group: "Review", keys: ["Enter"], does: "accept the stretch", run: () => (place() ? undefined : editor.accept()) },
  { group: "Review", keys: ["F"], does: "use the forward run there", run: () => editor.pick("forward") },
  { group: "Review", keys: ["B"], does: "use the backward run", run: () => editor.pick("backward") },
  { group: "Review", keys: ["L"], does: "use a straight line", run: () => editor.pick("line") },
  { group: "Review", keys: ["X"], does: "blend both again", run: () => editor.pick("blend") },
  { group: "Review", keys: ["K"], does: "next key frame", run: () => editor.nextKey(1) },
  { group: "Review", keys: ["Shift+K"], does: "previous key frame", run: () => editor.nextKey(-1) },
  { group: "Review", keys: ["M"], does: "middle between key frames", run: () => editor.middle() },
  { group: "View", keys: ["0"], does: "fit the picture", run: () => stage.fit() },
  { group: "View", keys: ["Z"], does: "1:1, and back", run: () => stage.oneToOne() },
  { group: "View", keys: ["?"], does: "this table", run: () => help(BINDINGS) },
];
const silent = [
  ...[2, 3, 4, 5, 6, 7, 8, 9].map((number) => ({ group: "", keys: [String(number)], does: "", run: () => selectNumber(number) })),
  { group: "", keys: ["Shift+Tab"], does: "", run: () => cycle(-1) },
];
listen([...BINDINGS, ...silent], (name, event) => {
  if (name === " ") {
    stage.space = true; // playing waits for the key to go up: a drag meanwhile pans
    stage.panned = event.repeat && stage.panned;
    return true;
  }
  if (arrows(name)) return true;
  if (name !== "Escape" && name !== "Tab" && name !== "Shift+Tab") leaves = false;
  return false;
});
document.addEventListener("keyup", (event) => {
  if (event.key !== " " || !stage.space) return;
  stage.space = false;
  if (!stage.panned) player.toggle();
});
window.addEventListener("blur", () => (stage.space = false));

// -- the rest of the page ---------------------------------------------------------------------------------

$("help").addEventListener("click", () => help(BINDINGS));
$("export").addEventListener("click", () => exportDialog(editor));
$("import").addEventListener("click", () => importDialog(editor));
$("timeline-fit").addEventListener("click", () => timeline.fit());
// What was worked by the pointer does not keep the keys for itself: letters would choose in a list.
let pointed = false;
document.addEventListener("pointerdown", () => (pointed = true), true);
document.addEventListener("keydown", () => (pointed = false), true);
for (const kind of ["click", "change"])
  document.addEventListener(kind, (event) => {
    const control = pointed && event.target instanceof Element && event.target.closest(kind === "click" ? "button" : "select, [type=checkbox], [type=range]");
    if (control && !control.closest("dialog, #menu") && $("menu").hidden && !$("dialog").open) stage.canvas.focus({ preventScroll: true });
  });
for (const kind of ["dragover", "drop"])
  document.addEventListener(kind, (event) => {
    const { dataTransfer } = /** @type {DragEvent} */ (event);
    if (event.defaultPrevented || !dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    if (kind === "drop" && !$("dialog").open) importDialog(editor, dataTransfer.files[0]);
  });
window.addEventListener("beforeunload", () => editor.flush());

applyTheme();
player.onChange();
editor.start().then(
  () => api.connect(),
  (error) => {
    editor.failed(error);
    if (editor.linked === false) api.comeBack();
  },
);
stage.canvas.focus();
