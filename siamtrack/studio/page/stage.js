/** The picture with its boxes: zoom, pan, and drawing, moving and resizing boxes by pointer. */

import { $, PALETTE } from "./dom.js";
import { between, clamp, clipped, contains, fitted, HANDLES, HANDLE_PX, moved, resized, toFrame, toScreen, zoomed } from "./geometry.js";
import { AHEAD, Pictures } from "./pictures.js";
import { KEY, LOST, OCCLUDED, SOURCE, STALE, STATUS, UNCERTAIN } from "./track.js";

/** @typedef {import("./geometry.js").Box} Box */
/** @typedef {import("./geometry.js").Point} Point */
/** @typedef {{kind: "pan", x: number, y: number}} Pan */
/** @typedef {{kind: "draw" | "move" | "resize", target: number | null, from: Point, start: Box, sx: number, sy: number, x: number, y: number, box: Box | null, moving: boolean}} Edit */

const STEADY_PX = 3;
const LATE_MS = 150;
const REST_MS = 120;

export class Stage {
  /** @param {import("./editor.js").Editor} editor @param {import("./pictures.js").Pictures} pictures */
  constructor(editor, pictures) {
    this.editor = editor;
    this.pictures = pictures;
    /** @type {HTMLCanvasElement} */
    this.canvas = $("stage");
    this.view = { zoom: 1, left: 0, top: 0 };
    this.fits = true;
    this.clip = -1;
    this.width = 0;
    this.height = 0;
    this.playing = false;
    this.stride = 1;
    /** @type {import("./pictures.js").Picture | null} */
    this.shown = null;
    this.asked = -1;
    this.direction = 1;
    this.askedAt = 0;
    this.late = 0;
    this.rested = true;
    this.rest = 0;
    /** @type {Pan | Edit | null} */
    this.hand = null;
    this.space = false;
    this.panned = false;
    this.waiting = false;
    new ResizeObserver(() => this.resize()).observe(this.canvas);
    editor.onChange(() => this.draw());
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", () => this.abandon());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("auxclick", (event) => event.preventDefault());
    $("fit").addEventListener("click", () => (this.fits ? this.oneToOne() : this.fit()));
  }

  /** At most one drawing per frame of the screen. */
  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    this.width = width;
    this.height = height;
    const ratio = devicePixelRatio;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    if (this.fits) this.fit();
    this.draw();
  }

  // -- zoom ---------------------------------------------------------------------------------------------

  fit() {
    const clip = this.editor.clip;
    if (clip && this.width) this.setView(fitted(clip.width, clip.height, this.width, this.height), true);
  }

  oneToOne() {
    if (!this.fits && Math.abs(this.view.zoom - 1) < 1e-6) return this.fit();
    this.setView(zoomed(this.view, 1 / this.view.zoom, this.width / 2, this.height / 2));
  }

  /** @param {import("./geometry.js").View} view @param {boolean} [fits] */
  setView(view, fits = false) {
    this.view = view;
    this.fits = fits;
    this.rested = false;
    clearTimeout(this.rest);
    this.rest = setTimeout(() => {
      this.rested = true;
      this.redraw();
    }, REST_MS);
    this.redraw();
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    event.preventDefault();
    const { x, y } = this.place(event);
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.setView(zoomed(this.view, Math.exp(clamp(-event.deltaY * lines, -1000, 1000) * 0.0018), x, y));
  }

  /** @param {MouseEvent} event @returns {Point} px of the screen, from the corner of the canvas */
  place(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  // -- the hand -----------------------------------------------------------------------------------------

  /** Boxes are edited on the picture they are seen on. */
  get ready() {
    return this.shown?.frame === this.editor.frame;
  }

  /** The visible target whose box is the smallest under the point. @param {Point} point */
  hit(point) {
    let found = null, least = Infinity;
    for (const target of this.editor.targets) {
      const box = target.hidden ? null : this.editor.row(target.id).box;
      if (box && contains(box, point, 3 / this.view.zoom) && box[2] * box[3] < least) [found, least] = [target, box[2] * box[3]];
    }
    return found;
  }

  /** @param {Point} place px of the screen */
  handle(place) {
    const editor = this.editor, target = editor.activeTarget;
    const box = target && editor.selected && !target.locked && !target.hidden ? editor.row(target.id).box : null;
    if (!box) return null;
    const [x, y, w, h] = toScreen(this.view, box);
    // A corner is preferred to a side where they are close.
    const near = HANDLES.map(([, sx, sy]) => ({ sx, sy, far: Math.max(Math.abs(place.x - x - (w * (sx + 1)) / 2), Math.abs(place.y - y - (h * (sy + 1)) / 2)) }))
      .filter(({ far }) => far <= HANDLE_PX / 2 + 3);
    near.sort((a, b) => a.far - b.far || Math.abs(b.sx * b.sy) - Math.abs(a.sx * a.sy));
    return near[0] ?? null;
  }

  /** Whose box a drag on free ground draws: null = a new target's. */
  get drawsFor() {
    const editor = this.editor, target = editor.activeTarget;
    if (!target || editor.armed === "new") return null;
    if (editor.armed === "box") return target.id;
    return target.locked || target.hidden || editor.key(target)?.box ? null : target.id;
  }

  /** @param {PointerEvent} event */
  down(event) {
    const editor = this.editor, place = this.place(event);
    this.canvas.focus({ preventScroll: true });
    if (event.button === 1 || (event.button === 0 && this.space)) {
      event.preventDefault();
      this.hand = { kind: "pan", x: place.x, y: place.y };
      this.panned = true;
      this.canvas.setPointerCapture(event.pointerId);
      return;
    }
    if (event.button !== 0 || !editor.clip) return;
    if (editor.nudge) editor.flush();
    const from = toFrame(this.view, place.x, place.y);
    const edit = { target: editor.active, from, sx: 0, sy: 0, ...place, box: null, moving: false };
    const handle = editor.armed ? null : this.handle(place);
    const hit = editor.armed || handle ? null : this.hit(from);
    if (handle) {
      const start = /** @type {Box} */ (editor.row(/** @type {number} */ (editor.active)).box);
      this.hand = { ...edit, kind: "resize", start, sx: handle.sx, sy: handle.sy };
    } else if (hit) {
      editor.select(hit.id, !hit.locked);
      if (!hit.locked) this.hand = { ...edit, kind: "move", target: hit.id, start: /** @type {Box} */ (editor.row(hit.id).box) };
    } else this.hand = { ...edit, kind: "draw", target: this.drawsFor, start: [from.x, from.y, 0, 0] };
    if (this.hand) this.canvas.setPointerCapture(event.pointerId);
  }

  /** @param {PointerEvent} event */
  move(event) {
    const place = this.place(event), hand = this.hand, clip = this.editor.clip;
    if (!hand || !clip) return this.hover(place);
    if (hand.kind === "pan") {
      this.setView({ ...this.view, left: this.view.left + place.x - hand.x, top: this.view.top + place.y - hand.y });
      [hand.x, hand.y] = [place.x, place.y];
      return;
    }
    if (!hand.moving && Math.hypot(place.x - hand.x, place.y - hand.y) < STEADY_PX) return;
    if (!hand.moving && (this.editor.locked || !this.ready)) {
      if (this.editor.locked) this.editor.say(this.editor.locked, "warning");
      this.hand = null;
      return;
    }
    hand.moving = true;
    const to = toFrame(this.view, place.x, place.y), dx = to.x - hand.from.x, dy = to.y - hand.from.y;
    if (hand.kind === "draw") hand.box = between(hand.from, to, event.altKey, event.shiftKey);
    else if (hand.kind === "move") hand.box = moved(hand.start, dx, dy, clip.width, clip.height);
    else hand.box = resized(hand.start, hand.sx, hand.sy, dx, dy, event.altKey, event.shiftKey);
    this.redraw();
  }

  /** @param {PointerEvent} event */
  up(event) {
    const hand = this.hand, editor = this.editor, clip = editor.clip;
    this.hand = null;
    this.hover(this.place(event));
    if (!hand || hand.kind === "pan" || !clip) return this.redraw();
    if (!hand.moving) {
      if (hand.kind === "draw" && !editor.armed) editor.select(editor.active, false);
      return this.redraw();
    }
    const box = hand.box && clipped(hand.box, clip.width, clip.height);
    if (!box) {
      editor.say("A box needs at least 2 × 2 px inside the picture");
      return this.redraw();
    }
    editor.setBox(hand.target, box);
  }

  /** @returns {boolean} whether there was something to abandon */
  abandon() {
    const had = this.hand !== null;
    this.hand = null;
    this.redraw();
    return had;
  }

  /** @param {Point} place */
  hover(place) {
    const handle = this.editor.armed ? null : this.handle(place);
    const over = this.editor.armed || handle ? null : this.hit(toFrame(this.view, place.x, place.y));
    this.canvas.style.cursor = this.space ? "grab"
      : handle ? (handle.sx === 0 ? "ns-resize" : handle.sy === 0 ? "ew-resize" : handle.sx * handle.sy > 0 ? "nwse-resize" : "nesw-resize")
      : over ? (over.locked ? "pointer" : "move") : "crosshair";
  }

  // -- pictures -----------------------------------------------------------------------------------------

  /** @returns {import("./pictures.js").Quality} */
  get quality() {
    const clip = this.editor.clip;
    const shownPx = (clip?.width ?? 0) * this.view.zoom * devicePixelRatio;
    const w = Pictures.width(clip?.width ?? 0, shownPx);
    // Above 1920 px only the part in view is fetched natively.
    return { w: w ?? ((clip?.width ?? 0) > 1920 ? 1920 : null), q: this.playing ? 75 : 92, region: null };
  }

  /** The part in view, where the whole frame at 1920 px would be blurred. @returns {import("./pictures.js").Quality | null} */
  get detail() {
    const clip = this.editor.clip;
    if (!clip || this.playing || !this.rested || clip.width <= 1920 || clip.width * this.view.zoom * devicePixelRatio <= 1920) return null;
    const corner = toFrame(this.view, 0, 0), end = toFrame(this.view, this.width, this.height);
    const x = Math.floor(clamp(corner.x, 0, clip.width - 1)), y = Math.floor(clamp(corner.y, 0, clip.height - 1));
    const cw = Math.ceil(clamp(end.x, 1, clip.width)) - x, ch = Math.ceil(clamp(end.y, 1, clip.height)) - y;
    return cw > 0 && ch > 0 && cw <= 1920 && ch <= 1080 ? { w: null, q: 92, region: [x, y, cw, ch] } : null;
  }

  /** Frames the person is likely to see next. */
  get ahead() {
    const clip = this.editor.clip, frame = this.editor.frame;
    const frames = [frame];
    for (let k = 1; k <= AHEAD; k++) {
      const next = frame + k * this.direction * this.stride;
      if (clip && next >= 0 && next < clip.frames) frames.push(next);
    }
    return frames;
  }

  choosePicture() {
    const editor = this.editor, frame = editor.frame, quality = this.quality;
    if (frame !== this.asked) {
      const step = frame - this.asked;
      this.steps = Math.abs(step) <= 10;
      this.direction = step < 0 ? -1 : 1;
      this.asked = frame;
      this.askedAt = performance.now();
    }
    const picture = this.pictures.have(frame, quality) ?? this.pictures.any(frame);
    if (picture) this.pictures.held = this.shown = picture;
    this.pictures.want(this.playing || (this.steps && picture) ? this.ahead : [frame], quality);
    const detail = this.detail;
    if (detail) this.pictures.fetch(frame, detail);
    clearTimeout(this.late);
    const wait = this.askedAt + LATE_MS - performance.now();
    if (!this.ready && wait > 0) this.late = setTimeout(() => this.redraw(), wait + 5);
    return { late: !this.ready && wait <= 0, detail: detail && this.ready ? this.pictures.have(frame, detail) : null };
  }

  // -- drawing ------------------------------------------------------------------------------------------

  draw() {
    const editor = this.editor, clip = editor.clip, ratio = devicePixelRatio;
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!clip || !this.width) return;
    if (clip.id !== this.clip) {
      this.clip = clip.id;
      this.pictures.open(clip.id);
      this.pictures.held = this.shown = null;
      this.asked = -1;
      this.fit();
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const { late, detail } = this.choosePicture();
    const { zoom, left, top } = this.view;
    context.imageSmoothingEnabled = zoom < 4;
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#000";
    context.fillRect(left, top, clip.width * zoom, clip.height * zoom);
    if (this.shown) {
      context.globalAlpha = late ? 0.45 : 1;
      context.drawImage(this.shown.bitmap, left, top, clip.width * zoom, clip.height * zoom);
      if (detail?.region) {
        const [x, y, w, h] = detail.region;
        context.drawImage(detail.bitmap, x * zoom + left, y * zoom + top, w * zoom, h * zoom);
      }
      context.globalAlpha = 1;
    }
    if (this.shown) this.drawBoxes(context, this.shown.frame);
    this.drawHand(context);
    this.canvas.dataset.shown = String(this.shown?.frame ?? "");
    this.facts(late);
  }

  /** @param {CanvasRenderingContext2D} context @param {number} frame */
  drawBoxes(context, frame) {
    const editor = this.editor, hand = this.hand;
    const held = hand && hand.kind !== "pan" && hand.moving ? hand.target : undefined;
    for (const target of [...editor.targets].sort((a, b) => Number(a.id === editor.active) - Number(b.id === editor.active))) {
      if (target.hidden || target.id === held) continue;
      const row = editor.row(target.id, frame);
      const active = target.id === editor.active;
      if (active && frame === editor.frame) this.drawCandidates(context, frame);
      if (row.box) this.drawBox(context, row.box, PALETTE[target.color], {
        active, dashed: row.status === LOST, faint: row.source === STALE || target.locked, text: this.caption(target, row, active), key: row.source === KEY,
        handles: active && editor.selected && !target.locked && this.ready,
      });
    }
    // A new target has no id before the server gave one.
    const pending = editor.pending;
    if (pending?.target === null && pending.frame === frame) this.drawBox(context, pending.box, PALETTE[this.nextColor], { active: true });
  }

  /** The color that the server will give, by the number of the target. */
  get nextColor() {
    return (Math.max(-1, ...this.editor.targets.map((target) => target.id)) + 1) % PALETTE.length;
  }

  /** @param {import("./api.js").Target} target @param {import("./track.js").Row} row @param {boolean} active */
  caption(target, row, active) {
    const state = row.status === LOST || row.status === UNCERTAIN ? ` · ${STATUS[row.status]}` : "";
    return `${target.name}${active && row.flags & OCCLUDED ? " · occluded" : ""}${state}`;
  }

  /** @param {CanvasRenderingContext2D} context @param {number} frame */
  drawCandidates(context, frame) {
    const rows = this.editor.candidatesHere();
    if (!rows || frame < rows.first || frame > rows.last) return;
    const k = frame - rows.first;
    if (rows.forward?.x[k] == null || rows.backward?.x[k] == null) return;
    for (const [way, color] of /** @type {const} */ ([["forward", "#ffffff"], ["backward", "#ffd166"]])) {
      const columns = rows[way];
      const box = toScreen(this.view, [columns.x[k], columns.y[k], columns.w[k], columns.h[k]]);
      context.lineWidth = 1;
      context.setLineDash([]);
      context.strokeStyle = color;
      context.strokeRect(...box);
      this.label(context, way === "forward" ? box[0] + 27 : box[0] + box[2], box[1] + box[3] + 3, way === "forward" ? "F" : "B", color, true);
    }
  }

  /**
   * @param {CanvasRenderingContext2D} context @param {Box} frameBox @param {string} color
   * @param {{active?: boolean, dashed?: boolean, faint?: boolean, text?: string, key?: boolean, handles?: boolean}} how
   */
  drawBox(context, frameBox, color, { active = false, dashed = false, faint = false, text = "", key = false, handles = false }) {
    const box = toScreen(this.view, frameBox), [x, y, w, h] = box;
    context.globalAlpha = faint ? 0.6 : 1;
    context.setLineDash(dashed ? [6, 4] : faint ? [2, 3] : []);
    context.lineJoin = "miter";
    context.strokeStyle = "#000000b0";
    context.lineWidth = active ? 5 : 3.5;
    context.strokeRect(...box);
    context.strokeStyle = color;
    context.lineWidth = active ? 2.5 : 1.5;
    context.strokeRect(...box);
    if (active && !dashed && !faint) {
      context.strokeStyle = "#ffffffc0";
      context.lineWidth = 0.75;
      context.strokeRect(...box);
    }
    context.setLineDash([]);
    context.globalAlpha = 1;
    if (text) this.label(context, x, y - 4, text, color, false, key);
    if (!handles) return;
    for (const [, sx, sy] of HANDLES) {
      // Where a side is short, its middle handle would cover the corners.
      if ((sx === 0 && w < 3 * HANDLE_PX) || (sy === 0 && h < 3 * HANDLE_PX)) continue;
      const hx = x + (w * (sx + 1)) / 2, hy = y + (h * (sy + 1)) / 2;
      context.fillStyle = "#fff";
      context.strokeStyle = "#000000c0";
      context.lineWidth = 1;
      context.beginPath();
      context.rect(hx - HANDLE_PX / 2, hy - HANDLE_PX / 2, HANDLE_PX, HANDLE_PX);
      context.fill();
      context.stroke();
    }
  }

  /** A name on dark ground, so that it can be read on any picture. @param {CanvasRenderingContext2D} context @param {number} x @param {number} y @param {string} text @param {string} color @param {boolean} [below] @param {boolean} [key] */
  label(context, x, y, text, color, below = false, key = false) {
    context.font = "500 11px system-ui, 'DejaVu Sans', sans-serif";
    const width = Math.min(context.measureText(text).width, 220) + 20, height = 17;
    const left = clamp(below ? x - width : x, 2, Math.max(2, this.width - width - 2));
    const top = clamp(below ? y : y - height, 2, this.height - height - 2);
    context.fillStyle = "#131417d9";
    context.beginPath();
    context.roundRect(left, top, width, height, 4);
    context.fill();
    context.fillStyle = color;
    context.beginPath();
    if (key) {
      const cx = left + 8, cy = top + height / 2;
      context.moveTo(cx, cy - 4.5);
      context.lineTo(cx + 4.5, cy);
      context.lineTo(cx, cy + 4.5);
      context.lineTo(cx - 4.5, cy);
    } else context.roundRect(left + 5, top + 5.5, 6, 6, 1.5);
    context.fill();
    context.fillStyle = "#f4f5f7";
    context.fillText(text, left + 15, top + 12.5, 220);
  }

  /** @param {CanvasRenderingContext2D} context */
  drawHand(context) {
    const hand = this.hand;
    if (!hand || hand.kind === "pan" || !hand.box) return;
    const target = this.editor.target(hand.target), [, , w, h] = hand.box;
    const color = PALETTE[target ? target.color : this.nextColor];
    this.drawBox(context, hand.box, color, { active: true, text: `${target ? target.name : "new target"} · ${w.toFixed(0)} × ${h.toFixed(0)}` });
  }

  // -- words on the picture -----------------------------------------------------------------------------

  /** @param {boolean} late */
  facts(late) {
    const editor = this.editor, row = editor.active === null ? null : editor.row(editor.active);
    const parts = [];
    if (late) parts.push(`loading frame ${editor.frame} …`);
    else if (row && editor.activeTarget) {
      parts.push(editor.activeTarget.name, SOURCE[row.source] || "no box here");
      if (row.source > KEY && row.status) parts.push(`${STATUS[row.status]} ${row.score.toFixed(2)}`);
      if (!Number.isNaN(row.agreement)) parts.push(`agreement ${row.agreement.toFixed(2)}`);
      if (editor.key(editor.activeTarget)?.by === "import") parts.push("imported");
    }
    $("facts").textContent = parts.join("  ·  ");
    $("fit").textContent = this.fits ? `fit ${Math.round(this.view.zoom * 100)} %` : `${Math.round(this.view.zoom * 100)} %`;
  }
}
