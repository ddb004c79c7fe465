/** Everything around the picture: lists, the panel of the active target, tracking, review, banners. */

import { $, clock, counted, h, PALETTE, put, putField } from "./dom.js";
import { ask, choose, openColors, openMenu } from "./dialogs.js";
import { icon } from "./icons.js";
import { OCCLUDED, OUTSIDE } from "./track.js";

/** @typedef {import("./editor.js").Editor} Editor */
/** @typedef {import("./api.js").Target} Target */

/** @param {string} id @param {Parameters<typeof icon>[0]} name @param {string} [text] @param {string} [key] */
function dress(id, name, text, key) {
  $(id).replaceChildren(icon(name), ...(text ? [text] : []), ...(key ? [h("kbd", {}, key)] : []));
}

/** Elements of a list by key, made once and changed in place, so that focus stays. @template T */
class List {
  /** @param {HTMLElement} parent @param {(item: T) => any} make @param {(element: any, item: T, place: number) => void} fill */
  constructor(parent, make, fill) {
    this.parent = parent;
    this.make = make;
    this.fill = fill;
    /** @type {Map<number, any>} */
    this.rows = new Map();
  }

  /** @param {(T & {id: number})[]} items */
  show(items) {
    const ids = new Set(items.map((item) => item.id));
    for (const [id, row] of this.rows) if (!ids.has(id)) (row.remove(), this.rows.delete(id));
    items.forEach((item, k) => {
      let row = this.rows.get(item.id);
      if (!row) this.rows.set(item.id, (row = this.make(item)));
      this.fill(row, item, k);
      if (this.parent.children[k] !== row) this.parent.insertBefore(row, this.parent.children[k] ?? null);
    });
  }
}

export class Panels {
  /** @param {Editor} editor @param {import("./player.js").Player} player */
  constructor(editor, player) {
    this.editor = editor;
    this.player = player;
    this.drawnAs = -1;
    /** What is drawn already, to leave elements alone that would stay the same. */
    this.is = { banners: "", jobs: "", rows: "", hint: "", playing: /** @type {boolean | null} */ (null), scrolled: -1 };
    this.dress();
    this.listen();
    this.clips = new List($("clips"), (clip) => this.makeClip(clip), (row, clip) => this.fillClip(row, clip));
    this.targets = new List($("targets"), (target) => this.makeTarget(target), (row, target, place) => this.fillTarget(row, target, place));
    editor.onChange(() => this.draw());
    player.onChange = () => this.drawTransport();
  }

  dress() {
    dress("undo", "undo");
    dress("redo", "redo");
    dress("import", "import", "Import");
    dress("export", "export", "Export");
    dress("add-target", "plus");
    dress("target-menu", "more");
    dress("track-backward", "backward", "Back");
    dress("track-both", "both", "Both");
    dress("track-forward", "forward", "Forward", "T");
    dress("doubt-back", "back");
    dress("go-first", "first");
    dress("go-back", "back");
    dress("go-next", "next");
    dress("go-last", "last");
    dress("timeline-fit", "fit");
  }

  listen() {
    const editor = this.editor, { settings } = editor;
    /** @param {string} id @param {() => unknown} run */
    const click = (id, run) => $(id).addEventListener("click", run);
    click("undo", () => editor.walk("undo"));
    click("redo", () => editor.walk("redo"));
    click("add-target", () => this.arm("new"));
    click("outside", () => editor.toggleOutside());
    click("occluded", () => editor.toggleOccluded());
    click("track-forward", () => editor.track("forward"));
    click("track-backward", () => editor.track("backward"));
    click("track-both", () => editor.track("both"));
    click("doubt-back", () => editor.nextDoubt(-1));
    click("doubt-next", () => editor.nextDoubt(1));
    click("accept", () => editor.accept());
    for (const choice of ["forward", "backward", "line", "blend"]) click(`pick-${choice}`, () => editor.pick(choice));
    click("go-first", () => editor.goto(0));
    click("go-back", () => editor.goto(editor.frame - 1));
    click("go-next", () => editor.goto(editor.frame + 1));
    click("go-last", () => editor.goto(Infinity));
    click("play", () => this.player.toggle());
    click("target-menu", () => this.targetMenu());
    click("color", () => editor.activeTarget && openColors($("color"), editor.activeTarget.color, (color) => this.change({ color })));
    for (const field of ["name", "label"]) {
      const input = $(field);
      input.addEventListener("change", () => this.change({ [field]: input.value.trim() }));
      input.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
        if (event.key === "Escape") input.value = editor.activeTarget?.[/** @type {"name"} */ (field)] ?? "";
        if (event.key === "Enter" || event.key === "Escape") $("stage").focus();
      });
    }
    $("until").addEventListener("change", () => {
      settings.until = $("until").value;
      $("count").hidden = settings.until !== "frames";
    });
    for (const name of /** @type {const} */ (["count", "step"]))
      $(name).addEventListener("change", () => putField($(name), String((settings[name] = Math.max(1, Math.round(Number($(name).value)) || 1)))));
    for (const name of /** @type {const} */ (["all", "follow", "correct"])) $(name).addEventListener("change", () => (settings[name] = $(name).checked));
    $("threshold").addEventListener("input", () => editor.setThreshold(Number($("threshold").value)));
    $("speed").addEventListener("change", () => this.player.setSpeed(Number($("speed").value)));
    const frame = $("frame");
    frame.addEventListener("focus", () => frame.select());
    frame.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      if (event.key === "Enter" && /^\d+$/.test(frame.value.trim())) editor.goto(Number(frame.value));
      $("stage").focus();
      this.drawTransport();
    });
    frame.addEventListener("blur", () => setTimeout(() => this.drawTransport()));
  }

  /** @param {"new" | "box"} what the next drag or Enter draws */
  arm(what) {
    const editor = this.editor;
    if (editor.locked) return editor.say(editor.locked, "warning");
    if (what === "box" && !editor.activeTarget) what = "new";
    if (what === "box" && editor.activeTarget?.locked) return editor.say("This target is locked");
    editor.armed = what;
    editor.selected = false;
    $("stage").focus();
    editor.changed();
  }

  /** @param {Record<string, unknown>} fields @param {Target | null} [target] */
  change(fields, target = this.editor.activeTarget) {
    if (target && Object.entries(fields).some(([name, value]) => /** @type {any} */ (target)[name] !== value))
      this.editor.operate([{ op: "update_target", target: target.id, ...fields }]);
  }

  // -- operations on a whole target ---------------------------------------------------------------------

  targetMenu() {
    const editor = this.editor, target = editor.activeTarget;
    if (!target) return;
    const others = editor.targets.filter((other) => other.id !== target.id);
    openMenu($("target-menu"), [
      { text: "Draw box here", key: "D", run: () => this.arm("box") },
      { text: "Duplicate", run: () => this.whole([{ op: "duplicate_target", target: target.id }]) },
      { text: `Split at frame ${editor.frame}`, run: () => this.whole([{ op: "split_target", target: target.id, frame: editor.frame }]), disabled: editor.frame === 0 },
      { text: "Merge with …", run: () => this.merge(target, others), disabled: !others.length },
      { text: target.hidden ? "Show" : "Hide", run: () => this.change({ hidden: !target.hidden }, target) },
      { text: target.locked ? "Unlock" : "Lock", run: () => this.change({ locked: !target.locked }, target) },
      { text: "Delete key frame", key: "Del", run: () => editor.deleteKey(), disabled: !editor.key(target) },
      { text: "Delete target …", key: "⇧Del", run: () => this.remove(target) },
    ]);
  }

  /** @param {import("./api.js").Op[]} ops */
  async whole(ops) {
    const created = await this.editor.operate(ops);
    if (created?.length) this.editor.select(created[0]);
  }

  /** @param {Target} target @param {Target[]} others */
  async merge(target, others) {
    const other = await choose(`Merge “${target.name}” with`, "The other target's key frames and runs move here. They must not overlap in time.", others.map(({ id, name }) => [String(id), name]), "Merge");
    if (other) this.editor.operate([{ op: "merge_targets", target: target.id, other: Number(other) }]);
  }

  /** @param {Target | null} [target] */
  async remove(target = this.editor.activeTarget) {
    if (!target) return;
    if (await ask(`Delete “${target.name}”?`, `Its ${counted(target.keys.length, "key frame")} and all that was tracked go with it. Undo brings them back.`, "Delete target"))
      await this.editor.operate([{ op: "delete_target", target: target.id }]);
  }

  // -- lists --------------------------------------------------------------------------------------------

  /** @param {import("./api.js").ClipEntry} clip */
  makeClip(clip) {
    return h("li", { class: "item clip" }, h("button", { class: "pick", onclick: () => this.editor.open(clip.id) }, h("span", { class: "name" }), h("small")), h("span", { class: "badge" }));
  }

  /** @param {any} row @param {import("./api.js").ClipEntry} clip */
  fillClip(row, clip) {
    const current = clip.id === this.editor.clip?.id;
    row.dataset.current = String(current);
    row.dataset.state = clip.state;
    const [name, facts] = row.firstChild.children;
    put(name, "textContent", clip.name);
    put(row, "title", clip.error ?? (clip.touched ? `${clip.name}, last changed ${new Date(clip.touched).toLocaleString()}` : clip.name));
    const part = clip.frames && clip.targets ? Math.round((100 * clip.tracked) / clip.frames) : 0;
    put(facts, "textContent", clip.state === "failed" ? clip.error : clip.state === "opening" ? "opening …" : clip.targets ? `${counted(clip.targets, "target")} · ${part} % tracked` : `${clip.frames} frames · new`);
    put(row.firstChild, "disabled", clip.state !== "ready");
    row.firstChild.setAttribute("aria-current", String(current));
    put(row.lastChild, "hidden", !clip.to_check);
    put(row.lastChild, "textContent", String(clip.to_check));
    put(row.lastChild, "title", `${clip.to_check} to check`);
  }

  /** @param {Target} target */
  makeTarget({ id }) {
    const editor = this.editor;
    /** @param {"hidden" | "locked"} what */
    const flip = (what) => h("button", { class: "quiet square small", onclick: () => this.change({ [what]: !editor.target(id)?.[what] }, editor.target(id)) });
    const row = h("li", { class: "item" },
      h("button", { class: "pick", onclick: () => editor.select(id), ondblclick: () => $("name").select() }, h("span", { class: "dot" }), h("span", { class: "name" }), h("span", { class: "label" }), h("kbd")),
      h("span", { class: "badge" }), flip("hidden"), flip("locked"));
    return row;
  }

  /** @param {any} row @param {Target} target @param {number} place in the list, which its key goes by */
  fillTarget(row, target, place) {
    const [pick, badge, hide, lock] = row.children, [dot, name, label, key] = pick.children;
    put(key, "textContent", place < 9 ? String(place + 1) : "");
    put(key, "hidden", place > 8);
    const current = target.id === this.editor.active;
    row.dataset.current = String(current);
    row.dataset.hidden = String(target.hidden);
    pick.setAttribute("aria-current", String(current));
    dot.style.background = PALETTE[target.color];
    put(name, "textContent", target.name);
    put(label, "textContent", target.label);
    put(pick, "title", target.label ? `${target.name} (${target.label})` : target.name);
    const doubts = this.editor.tracks.get(target.id)?.stretches().length ?? 0;
    put(badge, "hidden", !doubts);
    put(badge, "textContent", String(doubts));
    put(badge, "title", `${doubts} to check`);
    for (const [button, on, on_icon, off_icon, says] of /** @type {const} */ ([[hide, target.hidden, "hidden", "eye", "Hide"], [lock, target.locked, "lock", "open", "Lock"]])) {
      if (button.dataset.on === String(on)) continue;
      button.dataset.on = String(on);
      button.setAttribute("aria-pressed", String(on));
      button.setAttribute("aria-label", `${says} ${target.name}`);
      button.title = says;
      button.replaceChildren(icon(on ? on_icon : off_icon));
    }
    if (current && this.is.scrolled !== target.id) {
      this.is.scrolled = target.id;
      row.scrollIntoView({ block: "nearest" });
    }
  }

  // -- drawing ------------------------------------------------------------------------------------------

  draw() {
    const editor = this.editor, clip = editor.clip;
    if (editor.version !== this.drawnAs) {
      this.drawnAs = editor.version;
      const clips = editor.session?.clips ?? [];
      $("clips-part").hidden = clips.length < 2 && clips[0]?.state !== "failed";
      this.clips.show(clips);
      this.targets.show(editor.targets);
      $("no-targets").hidden = editor.targets.length > 0 || !clip;
      put($("clip-name"), "textContent", clip?.name ?? "");
      put($("clip-facts"), "textContent", clip ? `${clip.width} × ${clip.height} · ${counted(clip.frames, "frame")} · ${+(clip.fps ?? 0).toFixed(2)} fps` : "");
      document.title = clip ? `${clip.name} – siamtrack studio` : "siamtrack studio";
      this.drawSaved();
      this.drawBanners();
      this.drawJobs();
      this.drawReview();
      $("timeline-part").setAttribute("aria-busy", String(editor.dirty.size + editor.fetching.size > 0));
      const labels = [...new Set([...(editor.project?.labels ?? []), ...(editor.session?.labels ?? [])])];
      if ($("labels").childElementCount !== labels.length) $("labels").replaceChildren(...labels.map((value) => h("option", { value })));
    }
    this.drawTarget();
    this.drawTransport();
    this.drawHint();
  }

  drawSaved() {
    const editor = this.editor, project = editor.project, saved = $("saved");
    const off = editor.locked || (editor.banners.has("disk") ? "not saved" : "");
    saved.dataset.state = off ? "off" : "";
    put(saved, "textContent", !project ? "" : off ? (editor.banners.has("disk") ? "Not saved" : "Read-only") : editor.saving || editor.nudge ? "Saving …" : `Saved · revision ${project.revision}`);
    for (const way of /** @type {const} */ (["undo", "redo"])) {
      const text = project?.[way];
      put($(way), "disabled", !text || !!editor.locked);
      put($(way), "title", `${way === "undo" ? "Undo" : "Redo"}${text ? `: ${text}` : ""} (${way === "undo" ? "Ctrl+Z" : "Ctrl+Shift+Z"})`);
    }
  }

  drawBanners() {
    const editor = this.editor, all = [...editor.banners.values()];
    /** @type {any[]} */
    const shown = all.map((banner) => h("div", { class: "banner", role: "alert", "data-level": banner.level, "data-code": banner.code }, icon("warn"), h("span", {}, banner.text)));
    if (!editor.writer && editor.linked)
      shown.unshift(h("div", { class: "banner", role: "alert", "data-code": "other_tab" }, icon("warn"), h("span", {}, "This project is open in another tab. Here it can only be looked at."), h("button", { class: "primary", onclick: () => editor.api.takeOver() }, "Take over")));
    if (editor.project?.read_only)
      shown.unshift(h("div", { class: "banner", role: "alert", "data-code": "read_only" }, icon("warn"), h("span", {}, editor.project.read_only), h("button", { onclick: () => this.relink() }, "Use the changed clip …")));
    const state = shown.map((banner) => banner.outerHTML).join("");
    if (state === this.is.banners) return;
    this.is.banners = state;
    $("banners").replaceChildren(...shown);
  }

  async relink() {
    const editor = this.editor, clip = editor.clip;
    if (!clip || !(await ask("Use the changed clip?", "Key frames stay where they are. Everything tracked is marked stale and has to be tracked again.", "Use it"))) return;
    if (await editor.guard(() => editor.api.post(`/api/clips/${clip.id}/relink`, {}))) await editor.open(clip.id);
  }

  drawJobs() {
    const editor = this.editor, state = JSON.stringify([editor.jobs, Math.round(editor.speed)]);
    if (state === this.is.jobs) return;
    const shape = JSON.stringify(editor.jobs.map((job) => [job.job, job.state]));
    this.is.jobs = state;
    if (shape !== this.is.rows) {
      this.is.rows = shape;
      $("jobs").replaceChildren(...editor.jobs.map((job, k) => h("div", { class: "job", "data-job": job.job },
        h("span"), job.state === "running" ? null : h("button", { class: "quiet square small", "aria-label": "Earlier", title: "Earlier", disabled: k < 2, onclick: () => editor.guard(() => editor.api.post(`/api/runs/${job.job}/move`, { position: k - 2 })) }, icon("up")),
        h("button", { class: "small", "aria-label": job.state === "running" ? "Stop" : "Cancel", title: job.state === "running" ? "Stop (Esc)" : "Cancel", onclick: () => editor.stop(job.job) }, icon(job.state === "running" ? "stop" : "close")),
        job.state === "running" ? h("progress", { max: 1, value: 0, "aria-label": "Progress" }) : null)));
    }
    editor.jobs.forEach((job, k) => {
      const row = $("jobs").children[k], name = job.targets.map((id) => editor.target(id)?.name ?? id).join(", ");
      const other = job.clip !== editor.clip?.id ? `${editor.session?.clips.find((clip) => clip.id === job.clip)?.name}: ` : "";
      put(row.firstChild, "textContent", job.state === "running" ? job.done ? `${other}${job.done} / ${job.total} · ${Math.round(editor.speed)} fps` : `${other}the tracker starts …` : `waiting: ${other || name}`);
      const bar = row.querySelector("progress");
      if (bar) put(bar, "value", job.total ? job.done / job.total : 0);
    });
  }

  drawReview() {
    const count = this.editor.doubts().length, some = this.editor.targets.some((target) => target.runs.length);
    $("to-check").dataset.some = some || count ? String(count > 0) : "";
    put($("to-check"), "textContent", count ? `${count} to check` : some ? "nothing in doubt" : "");
    for (const id of ["doubt-next", "doubt-back"]) put($(id), "disabled", !count);
    putField($("threshold"), String(this.editor.threshold));
    put($("threshold-value"), "textContent", this.editor.threshold.toFixed(2));
  }

  drawTarget() {
    const editor = this.editor, target = editor.activeTarget, key = editor.key(target);
    const row = target ? editor.row(target.id) : null;
    for (const id of ["color", "target-menu", "name", "label"]) put($(id), "disabled", !target);
    $("color").style.setProperty("--swatch", target ? PALETTE[target.color] : "");
    putField($("name"), target?.name ?? "");
    putField($("label"), target?.label ?? "");
    for (const [id, on] of /** @type {const} */ ([["outside", key?.outside || row?.source === OUTSIDE], ["occluded", !!row && !!(row.flags & OCCLUDED)]])) {
      put($(id), "disabled", !target || target.locked);
      $(id).setAttribute("aria-pressed", String(!!on));
    }
    for (const id of ["track-forward", "track-backward", "track-both"]) put($(id), "disabled", !target || !!editor.locked);
    const doubt = editor.doubtHere(), pick = editor.pickHere();
    put($("accept"), "disabled", !doubt);
    for (const choice of ["forward", "backward", "line", "blend"]) {
      put($(`pick-${choice}`), "disabled", !doubt && !pick);
      $(`pick-${choice}`).setAttribute("aria-pressed", String(pick?.choice === choice));
    }
  }

  drawTransport() {
    const { editor, player } = this, clip = editor.clip;
    putField($("frame"), String(editor.frame));
    put($("frame-count"), "textContent", clip ? `/ ${clip.frames - 1}` : "");
    put($("time"), "textContent", clip ? clock(editor.time(editor.frame)) : "");
    putField($("speed"), String(player.speed));
    if (this.is.playing !== player.running) {
      this.is.playing = player.running;
      $("play").replaceChildren(icon(player.running ? "pause" : "play"));
      $("play").setAttribute("aria-label", player.running ? "Pause" : "Play");
    }
  }

  /** One line that says what a person can do next. */
  drawHint() {
    const editor = this.editor, target = editor.activeTarget;
    /** @type {(string | Node)[]} */
    let words = [];
    /** @param {string} key */
    const k = (key) => h("kbd", {}, key);
    if (!editor.clip || editor.locked) words = [];
    else if (editor.armed) words = [editor.armed === "new" ? "New target: drag a box, or " : `Box of ${target?.name}: drag it, or `, k("Enter"), " puts one in the middle"];
    else if (!editor.targets.length) words = ["Drag a box around an object to begin"];
    else if (!editor.running && target && target.keys.length && !target.runs.length && editor.targets.length < 4 && !editor.tracks.get(target.id)?.stretches().length)
      words = [k("T"), ` tracks ${editor.settings.all && editor.targets.length > 1 ? "all targets" : target.name} from here; drag around another object for one more target`];
    else if (editor.doubtHere() && !editor.running && !editor.selected) words = [k("Enter"), " is right · ", k("F"), " ", k("B"), " forward or backward run · ", k("D"), " draw it again"];
    const text = words.map((word) => (typeof word === "string" ? word : word.textContent)).join("");
    if (text === this.is.hint) return;
    this.is.hint = text;
    $("hint").replaceChildren(...words);
  }
}
