/**
 * What the server resolved for one target, frame by frame, and the min/max pyramid that the timeline is
 * drawn from: a day of video costs as much to draw as a second.
 */

/** @typedef {import("./geometry.js").Box} Box */
/** @typedef {{box: Box | null, score: number, agreement: number, status: number, source: number, flags: number}} Row */
/** @typedef {{first: number, last: number, frame: number, value: number}} Stretch frames to check, and the worst of them */

export const STATUS = ["", "tracked", "uncertain", "lost"];
export const SOURCE = ["", "key frame", "forward", "backward", "blend", "line", "outside", "stale"];
export const TRACKED = 1, UNCERTAIN = 2, LOST = 3;
export const KEY = 1, FORWARD = 2, BACKWARD = 3, BLEND = 4, OUTSIDE = 6, STALE = 7;
/** Bits of `flags`; the first one, what the server would check, depends on its threshold. */
export const OCCLUDED = 2;
const SETTLED = 4;

/** What a frame has; in the pyramid: what any frame of the block has. */
export const BIT = /** @type {const} */ ({ box: 1, uncertain: 2, lost: 4, outside: 8, occluded: 16, doubt: 32, key: 64, stale: 128 });
const FAN = 4;
/** Boxes are kept in pages around where the person looks; others come again when they are looked at. */
const PAGE = 4096, NEAR_PAGES = 4, KEPT_PAGES = 16;

export class Track {
  /** @param {number} frames number of frames of the clip */
  constructor(frames) {
    this.frames = frames;
    /** @type {Map<number, Float32Array>} x, y, w, h of each frame of a page, oldest first */
    this.pages = new Map();
    this.score = new Float32Array(frames).fill(NaN);
    this.agreement = new Float32Array(frames).fill(NaN);
    this.status = new Uint8Array(frames);
    this.source = new Uint8Array(frames);
    this.flags = new Uint8Array(frames);
    /** @type {{low: Uint8Array, high: Uint8Array, bits: Uint8Array}[]} level k holds blocks of 4^k frames */
    this.levels = [];
    for (let n = frames; ; n = Math.ceil(n / FAN)) {
      this.levels.push({ low: new Uint8Array(n).fill(255), high: new Uint8Array(n), bits: new Uint8Array(n) });
      if (n <= FAN) break;
    }
    this.threshold = 0.5;
    /** @type {Stretch[] | null} */
    this.found = null;
  }

  /** @param {number} frame @param {boolean} make @returns {Float32Array | undefined} */
  page(frame, make) {
    const number = Math.floor(frame / PAGE);
    let page = this.pages.get(number);
    if (!page && make) {
      this.pages.set(number, (page = new Float32Array(PAGE * 4).fill(NaN)));
      for (const oldest of this.pages.keys()) if (this.pages.size > KEPT_PAGES) this.pages.delete(oldest);
    }
    return page;
  }

  /** The frames to ask for where a frame has a box that was not kept. @param {number} frame @returns {[number, number] | null} */
  missing(frame) {
    if (!this.status[frame] || !Number.isNaN(this.page(frame, false)?.[(frame % PAGE) * 4] ?? NaN)) return null;
    const first = frame - (frame % PAGE);
    return [first, Math.min(first + PAGE, this.frames) - 1];
  }

  /** @param {number} frame @returns {Row} */
  row(frame) {
    const page = this.page(frame, false), at = (frame % PAGE) * 4;
    return {
      box: page && !Number.isNaN(page[at]) ? [page[at], page[at + 1], page[at + 2], page[at + 3]] : null,
      score: this.score[frame] ?? NaN, agreement: this.agreement[frame] ?? NaN,
      status: this.status[frame] ?? 0, source: this.source[frame] ?? 0, flags: this.flags[frame] ?? 0,
    };
  }

  /** Columns of `GET track?as=binary` for frames from `first`. @param {number} first @param {ArrayBuffer} buffer @param {number} near where the person looks */
  fill(first, buffer, near) {
    const n = buffer.byteLength / 27;
    const columns = [0, 1, 2, 3, 4, 5].map((k) => new Float32Array(buffer, 4 * n * k, n));
    const [status, source, flags] = [0, 1, 2].map((k) => new Uint8Array(buffer, 24 * n + n * k, n));
    for (let k = 0; k < n; k++) {
      const frame = first + k, isNear = Math.abs(frame - near) < NEAR_PAGES * PAGE;
      const page = this.page(frame, isNear && !Number.isNaN(columns[0][k]));
      if (page) for (let c = 0; c < 4; c++) page[(frame % PAGE) * 4 + c] = columns[c][k];
      this.score[frame] = columns[4][k];
      this.agreement[frame] = columns[5][k];
      this.status[frame] = status[k];
      this.source[frame] = source[k];
      this.flags[frame] = flags[k];
    }
    this.update(first, first + n - 1);
  }

  /**
   * Rows of a run while it goes on. They are shown until the server's resolved rows replace them; a frame
   * that a person settled is left alone.
   * @param {{frame: number[], x: (number|null)[], y: (number|null)[], w: (number|null)[], h: (number|null)[], score: number[], status: number[]}} rows
   * @param {number} source
   */
  live(rows, source) {
    let first = Infinity, last = -1;
    rows.frame.forEach((frame, k) => {
      if (frame < 0 || frame >= this.frames || this.source[frame] === KEY || this.source[frame] === OUTSIDE) return;
      if (this.flags[frame] & SETTLED) return;
      const page = /** @type {Float32Array} */ (this.page(frame, true));
      page.set([rows.x[k] ?? NaN, rows.y[k] ?? NaN, rows.w[k] ?? NaN, rows.h[k] ?? NaN], (frame % PAGE) * 4);
      this.score[frame] = rows.score[k];
      this.agreement[frame] = NaN;
      this.status[frame] = rows.status[k];
      this.source[frame] = source;
      first = Math.min(first, frame);
      last = Math.max(last, frame);
    });
    if (last >= 0) this.update(first, last);
  }

  /** min(score, agreement) of a tracked frame; NaN where there is nothing to doubt. @param {number} frame */
  doubt(frame) {
    const source = this.source[frame];
    if (source < FORWARD || source > BLEND || this.flags[frame] & SETTLED) return NaN;
    const score = this.score[frame], agreement = this.agreement[frame];
    return Number.isNaN(agreement) ? score : Math.min(score, agreement);
  }

  /** @param {number} frame */
  bitsOf(frame) {
    const status = this.status[frame], source = this.source[frame];
    return (
      (status ? BIT.box : 0) | (status === UNCERTAIN ? BIT.uncertain : 0) | (status === LOST ? BIT.lost : 0) |
      (source === OUTSIDE ? BIT.outside : 0) | (source === KEY ? BIT.key : 0) | (source === STALE ? BIT.stale : 0) |
      (this.flags[frame] & OCCLUDED ? BIT.occluded : 0) | (this.doubt(frame) < this.threshold ? BIT.doubt : 0)
    );
  }

  /** The pyramid over frames that changed. @param {number} first @param {number} last */
  update(first, last) {
    this.found = null;
    const leaf = this.levels[0];
    for (let frame = first; frame <= last; frame++) {
      const score = this.score[frame], bits = this.bitsOf(frame), shown = bits & BIT.box && !Number.isNaN(score);
      leaf.bits[frame] = bits;
      leaf.low[frame] = shown ? Math.round(score * 254) : 255;
      leaf.high[frame] = shown ? Math.round(score * 254) : 0;
    }
    for (let k = 1; k < this.levels.length; k++) {
      const below = this.levels[k - 1], here = this.levels[k];
      first = Math.floor(first / FAN);
      last = Math.min(Math.floor(last / FAN), here.bits.length - 1);
      for (let block = first; block <= last; block++) {
        let low = 255, high = 0, bits = 0;
        for (let child = block * FAN; child < Math.min((block + 1) * FAN, below.bits.length); child++) {
          low = Math.min(low, below.low[child]);
          high = Math.max(high, below.high[child]);
          bits |= below.bits[child];
        }
        here.low[block] = low;
        here.high[block] = high;
        here.bits[block] = bits;
      }
    }
  }

  /** Least and largest score (0 to 1) and what there is in frames first ... last. @param {number} first @param {number} last @param {number} level @param {{low: number, high: number, bits: number}} into */
  span(first, last, level, into) {
    const { low, high, bits } = this.levels[level], size = FAN ** level;
    let least = 255, most = 0, all = 0;
    const end = Math.min(Math.floor(last / size), bits.length - 1);
    for (let block = Math.floor(first / size); block <= end; block++) {
      least = Math.min(least, low[block]);
      most = Math.max(most, high[block]);
      all |= bits[block];
    }
    into.low = least === 255 ? 0 : least / 254;
    into.high = most / 254;
    into.bits = all;
  }

  /** The level whose blocks are at most `frames` long. @param {number} frames */
  level(frames) {
    return Math.max(0, Math.min(this.levels.length - 1, Math.floor(Math.log(Math.max(1, frames)) / Math.log(FAN))));
  }

  /** @param {number} threshold */
  setThreshold(threshold) {
    if (threshold === this.threshold) return;
    this.threshold = threshold;
    this.update(0, this.frames - 1);
  }

  /** Stretches of frames to check, in order; blocks without doubt are skipped. @returns {Stretch[]} */
  stretches() {
    if (this.found) return this.found;
    /** @type {Stretch[]} */
    const found = [];
    const { bits } = this.levels[0], coarse = this.levels[Math.min(2, this.levels.length - 1)].bits;
    const size = FAN ** Math.min(2, this.levels.length - 1);
    for (let frame = 0; frame < this.frames; frame++) {
      if (frame % size === 0 && !(coarse[frame / size] & BIT.doubt)) {
        frame += size - 1;
        continue;
      }
      if (!(bits[frame] & BIT.doubt)) continue;
      const value = this.doubt(frame), open = found.at(-1);
      if (open && open.last === frame - 1) {
        open.last = frame;
        if (value < open.value) [open.frame, open.value] = [frame, value];
      } else found.push({ first: frame, last: frame, frame, value });
    }
    return (this.found = found);
  }
}
