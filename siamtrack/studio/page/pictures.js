/** Frames as pictures: fetched by number, decoded by the browser, kept while there is room. */

/** @typedef {import("./api.js").Api} Api */
/** @typedef {{bitmap: ImageBitmap, frame: number, region: [number, number, number, number] | null}} Picture region in px of the frame */
/** @typedef {{w: number | null, q: number, region: [number, number, number, number] | null}} Quality */

const WIDTHS = [640, 960, 1280, 1920];
/** Pictures kept, in px: four bytes each. Nine of 1920x1080, so that those ahead fit. */
const ROOM_PX = 20e6;
const IN_FLIGHT = 4;
export const AHEAD = 8;

export class Pictures {
  /** @param {Api} api @param {() => void} onPicture */
  constructor(api, onPicture) {
    this.api = api;
    this.onPicture = onPicture;
    this.clip = -1;
    /** @type {Map<string, Picture>} least recently used first */
    this.kept = new Map();
    this.keptPx = 0;
    /** @type {Map<string, {control: AbortController, frame: number}>} */
    this.flying = new Map();
    this.newest = -1;
    /** @type {(error: unknown) => void} */
    this.onError = () => {};
    /** @type {Picture | null} on the screen, so not to be thrown away */
    this.held = null;
    /** @type {Set<string>} not asked for again before the place changes */
    this.failed = new Set();
  }

  /** @param {number} clip */
  open(clip) {
    if (clip === this.clip) return;
    this.clip = clip;
    for (const { control } of this.flying.values()) control.abort();
    this.flying.clear();
    for (const { bitmap } of this.kept.values()) bitmap.close();
    this.kept.clear();
    this.keptPx = 0;
  }

  /** The width to ask for, so that one px of the screen has at least one of the picture. @param {number} frameWidth @param {number} shownPx @returns {number | null} null = native */
  static width(frameWidth, shownPx) {
    const width = WIDTHS.find((known) => known >= shownPx);
    return width && width < frameWidth ? width : null;
  }

  /** @param {number} frame @param {Quality} quality */
  name(frame, { w, q, region }) {
    return `${frame} ${w} ${q} ${region}`;
  }

  /** The picture, if it is here. @param {number} frame @param {Quality} quality @returns {Picture | null} */
  have(frame, quality) {
    const name = this.name(frame, quality), picture = this.kept.get(name);
    if (!picture) return null;
    this.kept.delete(name);
    this.kept.set(name, picture);
    return picture;
  }

  /** Any picture of the frame, the largest first. @param {number} frame @returns {Picture | null} */
  any(frame) {
    let best = null;
    for (const picture of this.kept.values())
      if (picture.frame === frame && !picture.region && (!best || picture.bitmap.width > best.bitmap.width)) best = picture;
    return best;
  }

  /**
   * Asks for frames, the first one before all others. What is on its way for other frames is given up:
   * while somebody drags over an hour of video only the newest place counts.
   * @param {number[]} frames @param {Quality} quality
   */
  want(frames, quality) {
    const wanted = new Set(frames);
    if (frames[0] !== this.newest) this.failed.clear();
    this.newest = frames[0];
    for (const [name, { control, frame }] of this.flying)
      if (!wanted.has(frame)) {
        control.abort();
        this.flying.delete(name);
      }
    for (const frame of frames) {
      if (this.flying.size >= IN_FLIGHT) break;
      this.fetch(frame, quality);
    }
  }

  /** @param {number} frame @param {Quality} quality */
  async fetch(frame, quality) {
    const name = this.name(frame, quality), clip = this.clip;
    if (this.kept.has(name) || this.flying.has(name) || this.failed.has(name)) return;
    const control = new AbortController();
    const flight = { control, frame };
    this.flying.set(name, flight);
    const query = new URLSearchParams({ q: String(quality.q) });
    if (quality.region) ["x", "y", "cw", "ch"].forEach((key, k) => query.set(key, String(quality.region?.[k])));
    else if (quality.w) query.set("w", String(quality.w));
    try {
      const blob = await this.api.picture(clip, frame, String(query), control.signal);
      const bitmap = await createImageBitmap(blob);
      if (clip !== this.clip) return bitmap.close();
      this.keep(name, { bitmap, frame, region: quality.region });
    } catch (error) {
      if (!control.signal.aborted) {
        this.failed.add(name);
        this.onError(error);
      }
    } finally {
      if (this.flying.get(name) === flight) this.flying.delete(name);
      if (!control.signal.aborted) this.onPicture();
    }
  }

  /** @param {string} name @param {Picture} picture */
  keep(name, picture) {
    this.kept.set(name, picture);
    this.keptPx += picture.bitmap.width * picture.bitmap.height;
    for (const [oldest, old] of this.kept) {
      if (this.keptPx <= ROOM_PX) break;
      if (old === picture || old === this.held) continue;
      const { bitmap } = old;
      this.keptPx -= bitmap.width * bitmap.height;
      bitmap.close();
      this.kept.delete(oldest);
    }
  }
}
