/** One lane per target: key frames, score, doubt. Lanes are drawn from the pyramid, the playhead above them. */

import { $, clock, PALETTE, themed } from "./dom.js";
import { clamp } from "./geometry.js";
import { BIT } from "./track.js";

const GUTTER = 132;
const RULER = 22;
const PAD = 8;
const SMALLEST_FRAMES = 20;

export class Timeline {
  /** @param {import("./editor.js").Editor} editor */
  constructor(editor) {
    this.editor = editor;
    /** @type {HTMLElement} */
    this.box = $("lanes");
    /** @type {HTMLCanvasElement} */
    this.lanes = $("lanes-canvas");
    /** @type {HTMLCanvasElement} */
    this.over = $("lanes-over");
    this.clip = -1;
    this.first = 0;
    this.count = 1;
    this.width = 0;
    this.height = 0;
    this.drawnAs = "";
    this.followed = -1;
    /** @type {null | "scrub" | "pan"} */
    this.hand = null;
    this.handX = 0;
    this.hoverX = -1;
    this.colors = /** @type {Record<string, string>} */ ({});
    /** @type {CanvasPattern | null} */
    this.hatch = null;
    new ResizeObserver(() => this.resize()).observe(this.box);
    this.box.addEventListener("scroll", () => this.draw(true));
    const over = this.over;
    over.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    over.addEventListener("pointerdown", (event) => this.down(event));
    over.addEventListener("pointermove", (event) => this.move(event));
    over.addEventListener("pointerup", () => (this.hand = null));
    over.addEventListener("pointerleave", () => {
      this.hoverX = -1;
      this.draw();
    });
    editor.onChange(() => this.draw());
  }

  get laneHeight() {
    const count = this.editor.targets.length;
    return count ? clamp((this.height - RULER - 6) / count, 30, 64) : 40;
  }

  resize() {
    const { clientWidth, clientHeight } = this.box;
    this.width = clientWidth;
    this.height = clientHeight;
    for (const canvas of [this.lanes, this.over]) {
      canvas.width = Math.round(clientWidth * devicePixelRatio);
      canvas.height = Math.round(clientHeight * devicePixelRatio);
    }
    this.draw(true);
  }

  /** Colors of the theme, read again when it changes. */
  theme() {
    for (const name of ["text", "dim", "line", "lane", "panel", "amber-fill", "red", "edge", "accent", "ring"]) this.colors[name] = themed(name);
    const tile = document.createElement("canvas");
    tile.width = tile.height = 6;
    const context = /** @type {CanvasRenderingContext2D} */ (tile.getContext("2d"));
    context.strokeStyle = "#fff";
    context.lineWidth = 1.6;
    context.beginPath();
    for (const shift of [-6, 0, 6]) {
      context.moveTo(shift, 6);
      context.lineTo(shift + 6, 0);
    }
    context.stroke();
    context.globalCompositeOperation = "source-in";
    context.fillStyle = this.colors.red;
    context.fillRect(0, 0, 6, 6);
    this.hatch = context.createPattern(tile, "repeat");
    this.draw(true);
  }

  get span() {
    return Math.max(1, this.width - GUTTER - 2 * PAD);
  }

  /** Left edge of a frame, px. @param {number} frame */
  x(frame) {
    return GUTTER + PAD + ((frame - this.first) / this.count) * this.span;
  }

  /** @param {number} x */
  frameAt(x) {
    const frames = this.editor.clip?.frames ?? 1;
    return clamp(Math.floor(this.first + ((x - GUTTER - PAD) / this.span) * this.count), 0, frames - 1);
  }

  fit() {
    this.zoomTo(0, this.editor.clip?.frames ?? 1);
  }

  /** @param {number} first @param {number} count */
  zoomTo(first, count) {
    const frames = this.editor.clip?.frames ?? 1;
    this.count = clamp(count, Math.min(SMALLEST_FRAMES, frames), frames);
    this.first = clamp(first, 0, frames - this.count);
    this.draw(true);
  }

  // -- the hand -----------------------------------------------------------------------------------------

  /** @param {WheelEvent} event */
  wheel(event) {
    if (event.offsetX < GUTTER && !event.deltaX) return; // over the names the lanes scroll
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    const sideways = event.deltaX || (event.shiftKey ? event.deltaY : 0);
    if (sideways) return this.zoomTo(this.first + (sideways * lines * this.count) / this.span, this.count);
    const part = clamp((event.offsetX - GUTTER - PAD) / this.span, 0, 1);
    const count = this.count * Math.exp(clamp(event.deltaY * lines, -1000, 1000) * 0.0022);
    const real = clamp(count, Math.min(SMALLEST_FRAMES, this.editor.clip?.frames ?? 1), this.editor.clip?.frames ?? 1);
    this.zoomTo(this.first + part * (this.count - real), real);
  }

  /** @param {PointerEvent} event */
  down(event) {
    if (event.button > 1) return;
    this.over.setPointerCapture(event.pointerId);
    const lane = Math.floor((event.offsetY - RULER + this.box.scrollTop) / this.laneHeight);
    const target = event.offsetY > RULER ? this.editor.targets[lane] : undefined;
    if (target && target.id !== this.editor.active) this.editor.select(target.id);
    if (event.offsetX < GUTTER) return;
    this.hand = event.button === 1 ? "pan" : "scrub";
    this.handX = event.offsetX;
    if (this.hand === "scrub") this.editor.goto(this.snapped(event.offsetX, target));
    event.preventDefault();
    this.over.focus({ preventScroll: true });
  }

  /** A click on a diamond is meant for its frame. @param {number} x @param {import("./api.js").Target | undefined} target */
  snapped(x, target) {
    const half = this.span / this.count / 2;
    const near = target?.keys.find((key) => Math.abs(this.x(key.frame) + half - x) <= 5);
    return near ? near.frame : this.frameAt(x);
  }

  /** @param {PointerEvent} event */
  move(event) {
    this.hoverX = event.offsetX;
    if (this.hand === "scrub") this.editor.goto(this.frameAt(event.offsetX));
    else if (this.hand === "pan") {
      this.zoomTo(this.first - ((event.offsetX - this.handX) / this.span) * this.count, this.count);
      this.handX = event.offsetX;
    } else this.draw();
  }

  // -- drawing ------------------------------------------------------------------------------------------

  /** @param {boolean} [anew] */
  draw(anew = false) {
    const editor = this.editor, clip = editor.clip;
    if (!clip || !this.width) return;
    if (clip.id !== this.clip) {
      this.clip = clip.id;
      this.box.scrollTop = 0;
      this.fit();
    }
    // The playhead never leaves the view unless the person looks elsewhere.
    const frame = editor.frame;
    if (frame !== this.followed) {
      this.followed = frame;
      if (frame < this.first || frame > this.first + this.count - 1) {
        this.first = clamp(frame - this.count / 5, 0, clip.frames - this.count);
        anew = true;
      }
    }
    const state = `${editor.version}`;
    if (anew || state !== this.drawnAs) {
      this.drawnAs = state;
      const height = RULER + editor.targets.length * this.laneHeight;
      $("lanes-space").style.height = `${Math.max(0, height - this.height)}px`;
      if (this.box.clientWidth !== this.width) return this.resize();
      this.drawLanes(clip);
    }
    this.drawOver(clip);
  }

  /** @param {HTMLCanvasElement} canvas */
  context(canvas) {
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    return context;
  }

  /** @param {NonNullable<import("./editor.js").Editor["clip"]>} clip */
  drawLanes(clip) {
    const context = this.context(this.lanes), { colors } = this, height = this.laneHeight, scroll = this.box.scrollTop;
    context.save();
    context.beginPath();
    context.rect(0, RULER, this.width, this.height - RULER);
    context.clip();
    this.editor.targets.forEach((target, k) => {
      const top = RULER + k * height - scroll;
      if (top + height < RULER || top > this.height) return;
      const active = target.id === this.editor.active;
      context.fillStyle = active ? colors.lane : colors.panel;
      context.fillRect(0, top, this.width, height);
      context.fillStyle = colors.line;
      context.fillRect(0, Math.round(top + height) - 1, this.width, 1);
      context.globalAlpha = target.hidden ? 0.45 : 1;
      this.drawLane(context, target, top, height);
      this.drawName(context, target, top, height, active);
      context.globalAlpha = 1;
    });
    context.restore();
    this.drawRuler(context, clip);
  }

  /** @param {CanvasRenderingContext2D} context @param {import("./api.js").Target} target @param {number} top @param {number} height @param {boolean} active */
  drawName(context, target, top, height, active) {
    const { colors } = this, middle = top + height / 2;
    context.fillStyle = PALETTE[target.color];
    if (active) context.fillRect(0, top, 3, height - 1);
    context.beginPath();
    context.roundRect(12, middle - 5, 10, 10, 3);
    context.fill();
    context.save();
    context.beginPath();
    context.rect(28, top, GUTTER - 36, height);
    context.clip();
    context.font = `${active ? 600 : 400} 12px system-ui, 'DejaVu Sans', sans-serif`;
    context.fillStyle = colors.text;
    context.textBaseline = "middle";
    context.fillText(target.name, 28, middle + 0.5);
    context.restore();
    context.textBaseline = "alphabetic";
  }

  /** @param {CanvasRenderingContext2D} context @param {import("./api.js").Target} target @param {number} top @param {number} height */
  drawLane(context, target, top, height) {
    const track = this.editor.tracks.get(target.id), { colors } = this, color = PALETTE[target.color];
    const high = top + 8, low = top + height - 6, tall = low - high;
    context.save();
    context.beginPath();
    context.rect(GUTTER, top, this.width - GUTTER, height);
    context.clip();
    if (track) {
      const columns = Math.ceil(this.span), per = this.count / this.span, level = track.level(per);
      const value = { low: 0, high: 0, bits: 0 };
      const least = new Path2D(), most = new Path2D();
      const names = /** @type {const} */ (["uncertain", "lost", "occluded", "stale", "doubt"]);
      /** @type {Record<string, [number, number][]>} */
      const strips = { uncertain: [], lost: [], occluded: [], stale: [], doubt: [] };
      let open = false;
      for (let k = 0; k < columns; k++) {
        const x = GUTTER + PAD + k, first = Math.floor(this.first + k * per);
        if (first >= track.frames) break;
        track.span(first, Math.min(track.frames - 1, Math.max(first, Math.ceil(this.first + (k + 1) * per) - 1)), level, value);
        if (value.bits & BIT.box) {
          if (!open) for (const path of [least, most]) path.moveTo(x, low);
          most.lineTo(x + 0.5, low - Math.max(1, value.high * tall));
          least.lineTo(x + 0.5, low - Math.max(1, value.low * tall));
          open = true;
        } else if (open) {
          for (const path of [least, most]) path.lineTo(x, low);
          open = false;
        }
        for (const name of names) if (value.bits & BIT[name]) grow(strips[name], x);
      }
      if (open) for (const path of [least, most]) path.lineTo(this.x(Math.min(track.frames, this.first + this.count)), low);
      const alpha = context.globalAlpha;
      context.fillStyle = color;
      context.globalAlpha = 0.3 * alpha;
      context.fill(most);
      context.globalAlpha = 0.6 * alpha;
      context.fill(least);
      context.globalAlpha = alpha;
      for (const [x, width] of strips.stale) hatched(context, this.hatch, x, high, width, tall, 0.5);
      for (const [x, width] of strips.lost) hatched(context, this.hatch, x, high, width, tall, 1);
      context.fillStyle = colors["amber-fill"];
      for (const [x, width] of strips.uncertain) context.fillRect(x, low, width, 3);
      context.fillStyle = colors.dim;
      for (const [x, width] of strips.occluded) context.fillRect(x, top + height - 3, width, 1.5);
      context.fillStyle = colors.red;
      for (const [x, width] of strips.doubt) {
        const middle = x + width / 2;
        context.fillRect(x, top + 2, width, 1.5);
        context.beginPath();
        context.moveTo(middle - 3.5, top + 2);
        context.lineTo(middle + 3.5, top + 2);
        context.lineTo(middle, top + 7.5);
        context.fill();
      }
    }
    this.drawGaps(context, target, low);
    const half = this.span / this.count / 2;
    for (const key of target.keys) {
      const x = this.x(key.frame) + half, y = (high + low) / 2 + 1;
      if (x < GUTTER - 8 || x > this.width + 8) continue;
      context.beginPath();
      context.moveTo(x, y - 6);
      context.lineTo(x + 5, y);
      context.lineTo(x, y + 6);
      context.lineTo(x - 5, y);
      context.closePath();
      context.fillStyle = key.outside ? colors.panel : colors.text;
      context.strokeStyle = key.outside ? colors.text : colors.panel;
      context.lineWidth = key.outside ? 1.5 : 1;
      context.fill();
      context.stroke();
    }
    context.restore();
  }

  /** Frames that nothing covers are a hollow line. @param {CanvasRenderingContext2D} context @param {import("./api.js").Target} target @param {number} low */
  drawGaps(context, target, low) {
    context.strokeStyle = this.colors.edge;
    context.lineWidth = 1;
    context.setLineDash([2, 3]);
    context.beginPath();
    for (const [first, last, cover] of target.gaps) {
      if (cover !== "none") continue;
      context.moveTo(this.x(first), Math.round(low) - 0.5);
      context.lineTo(this.x(last + 1), Math.round(low) - 0.5);
    }
    context.stroke();
    context.setLineDash([]);
  }

  /** @param {CanvasRenderingContext2D} context @param {NonNullable<import("./editor.js").Editor["clip"]>} clip */
  drawRuler(context, clip) {
    const { colors } = this;
    context.fillStyle = colors.panel;
    context.fillRect(0, 0, this.width, RULER);
    context.fillStyle = colors.line;
    context.fillRect(0, RULER - 1, this.width, 1);
    context.fillRect(GUTTER - 1, 0, 1, this.height);
    context.font = "11px system-ui, 'DejaVu Sans', sans-serif";
    context.fillStyle = colors.dim;
    const step = nice((this.count / this.span) * 84);
    for (let frame = Math.ceil(this.first / step) * step; frame < Math.min(clip.frames, this.first + this.count); frame += step) {
      const x = this.x(frame);
      context.fillRect(Math.round(x), RULER - 6, 1, 5);
      if (x < this.width - 30) context.fillText(String(frame), x + 4, 14);
    }
    context.fillText(this.count < clip.frames ? `${Math.round(this.count)} of ${clip.frames} frames` : "frame", 12, 14);
    // Where the view is in the clip.
    if (this.count < clip.frames) {
      const width = this.width - GUTTER;
      context.fillStyle = colors.accent;
      context.fillRect(GUTTER + (width * this.first) / clip.frames, 0, Math.max(3, (width * this.count) / clip.frames), 2);
    }
  }

  /** @param {NonNullable<import("./editor.js").Editor["clip"]>} clip */
  drawOver(clip) {
    const context = this.context(this.over), { colors } = this, frame = this.editor.frame;
    const x = this.x(frame), width = Math.max(1.5, this.span / this.count);
    if (this.hoverX >= GUTTER && !this.hand) {
      const at = this.frameAt(this.hoverX), text = `${at}  ${clock(this.editor.time(at))}`;
      context.fillStyle = colors.edge;
      context.fillRect(Math.round(this.hoverX), RULER, 1, this.height);
      this.tag(context, this.hoverX, text, colors.dim, colors.panel);
    }
    if (x >= GUTTER - 1 && x <= this.width) {
      context.fillStyle = colors.accent;
      context.globalAlpha = 0.28;
      if (width > 2) context.fillRect(x, RULER, width, this.height);
      context.globalAlpha = 1;
      context.fillRect(Math.round(x + width / 2) - 0.75, RULER - 4, 1.5, this.height);
      this.tag(context, x + width / 2, String(frame), colors.accent, colors.panel);
    }
    this.over.setAttribute("aria-valuemax", String(clip.frames - 1));
    this.over.setAttribute("aria-valuenow", String(frame));
  }

  /** @param {CanvasRenderingContext2D} context @param {number} x @param {string} text @param {string} back @param {string} ink */
  tag(context, x, text, back, ink) {
    context.font = "600 11px system-ui, 'DejaVu Sans', sans-serif";
    const width = context.measureText(text).width + 10, left = clamp(x - width / 2, GUTTER, this.width - width - 2);
    context.fillStyle = back;
    context.beginPath();
    context.roundRect(left, 2, width, 16, 4);
    context.fill();
    context.fillStyle = ink;
    context.fillText(text, left + 5, 14);
  }
}

/** Lengthens the last strip by a column, or begins one. @param {[number, number][]} strips @param {number} x */
function grow(strips, x) {
  const last = strips.at(-1);
  if (last && last[0] + last[1] === x) last[1]++;
  else strips.push([x, 1]);
}

/** @param {CanvasRenderingContext2D} context @param {CanvasPattern | null} pattern @param {number} x @param {number} y @param {number} width @param {number} height @param {number} alpha */
function hatched(context, pattern, x, y, width, height, alpha) {
  const before = context.globalAlpha;
  context.globalAlpha = before * alpha;
  if (pattern) context.fillStyle = pattern;
  context.fillRect(x, y, width, height);
  context.globalAlpha = before;
}

/** 1, 2 or 5 times a power of ten, at least `least`. @param {number} least */
function nice(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return ([1, 2, 5, 10].find((factor) => factor * power >= least) ?? 10) * power;
}
