/**
 * Boxes in frame pixels and the map between frame and screen. Pixel i covers [i, i + 1), so a
 * point of the screen is never rounded on its way to a box; only the stored number is, to 0.01 px.
 */

/** @typedef {[number, number, number, number]} Box x, y, w, h in px of the frame */
/** @typedef {{x: number, y: number}} Point */
/** @typedef {{zoom: number, left: number, top: number}} View screen = frame * zoom + (left, top) */

export const SMALLEST_PX = 2;
export const HANDLE_PX = 9;
/** What each handle moves: -1 the left or upper edge, +1 the right or lower one, 0 none. */
export const HANDLES = /** @type {const} */ ([
  ["nw", -1, -1], ["n", 0, -1], ["ne", 1, -1], ["e", 1, 0],
  ["se", 1, 1], ["s", 0, 1], ["sw", -1, 1], ["w", -1, 0],
]);

/** @param {number} value @param {number} low @param {number} high */
export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** @param {number} value */
const hundredth = (value) => Math.round(value * 100) / 100;

/** @param {View} view @param {number} x @param {number} y @returns {Point} */
export const toFrame = (view, x, y) => ({ x: (x - view.left) / view.zoom, y: (y - view.top) / view.zoom });

/** @param {View} view @param {Box} box @returns {Box} */
export const toScreen = (view, [x, y, w, h]) =>
  [x * view.zoom + view.left, y * view.zoom + view.top, w * view.zoom, h * view.zoom];

/**
 * The box between two corners. `center`: the first point is the center; `square`: equal sides.
 * @param {Point} from @param {Point} to @param {boolean} center @param {boolean} square @returns {Box}
 */
export function between(from, to, center, square) {
  let dx = to.x - from.x, dy = to.y - from.y;
  if (square) {
    const side = Math.max(Math.abs(dx), Math.abs(dy));
    dx = side * (Math.sign(dx) || 1);
    dy = side * (Math.sign(dy) || 1);
  }
  if (center) return [from.x - Math.abs(dx), from.y - Math.abs(dy), 2 * Math.abs(dx), 2 * Math.abs(dy)];
  return [Math.min(from.x, from.x + dx), Math.min(from.y, from.y + dy), Math.abs(dx), Math.abs(dy)];
}

/**
 * `box` with the edges of a handle moved by (dx, dy). An edge that is pulled over the other side turns
 * the box inside out, as in every drawing program.
 * @param {Box} box @param {number} sx @param {number} sy @param {number} dx @param {number} dy
 * @param {boolean} center both sides move @param {boolean} keep the ratio of the sides stays @returns {Box}
 */
export function resized([x, y, w, h], sx, sy, dx, dy, center, keep) {
  const both = center ? 2 : 1;
  let nw = w + sx * dx * both, nh = h + sy * dy * both;
  if (keep && w > 0 && h > 0) {
    const byWidth = sy === 0 || (sx !== 0 && Math.abs(nw / w) > Math.abs(nh / h));
    if (byWidth) nh = Math.abs(nw) * (h / w) * (Math.sign(nh) || 1);
    else nw = Math.abs(nh) * (w / h) * (Math.sign(nw) || 1);
  }
  // The side opposite to the handle stays; on an axis without a handle, and with `center`, the middle does.
  const nx = center || sx === 0 ? x + (w - nw) / 2 : sx > 0 ? x : x + w - nw;
  const ny = center || sy === 0 ? y + (h - nh) / 2 : sy > 0 ? y : y + h - nh;
  return [Math.min(nx, nx + nw), Math.min(ny, ny + nh), Math.abs(nw), Math.abs(nh)];
}

/** `box` moved, kept inside the frame. @param {Box} box @param {number} dx @param {number} dy @param {number} width @param {number} height @returns {Box} */
export function moved([x, y, w, h], dx, dy, width, height) {
  return [clamp(x + dx, Math.min(0, width - w), Math.max(0, width - w)), clamp(y + dy, Math.min(0, height - h), Math.max(0, height - h)), w, h];
}

/** The part of `box` inside the frame, to 0.01 px; null when less than 2x2 px are left. @param {Box} box @param {number} width @param {number} height @returns {Box | null} */
export function clipped([x, y, w, h], width, height) {
  const left = hundredth(clamp(x, 0, width)), top = hundredth(clamp(y, 0, height));
  const right = hundredth(clamp(x + w, 0, width)), bottom = hundredth(clamp(y + h, 0, height));
  if (right - left < SMALLEST_PX || bottom - top < SMALLEST_PX) return null;
  return [left, top, hundredth(right - left), hundredth(bottom - top)];
}

/** @param {Box} box @param {Point} point @param {number} [margin] */
export const contains = ([x, y, w, h], point, margin = 0) =>
  point.x >= x - margin && point.y >= y - margin && point.x <= x + w + margin && point.y <= y + h + margin;

/** The zoom and shift that show the whole frame with a margin. @param {number} width @param {number} height @param {number} stageWidth @param {number} stageHeight @returns {View} */
export function fitted(width, height, stageWidth, stageHeight) {
  const zoom = clamp(Math.min((stageWidth - 24) / width, (stageHeight - 24) / height), 1 / 16, 32);
  return { zoom, left: (stageWidth - width * zoom) / 2, top: (stageHeight - height * zoom) / 2 };
}

/** `view` zoomed by `factor` with the frame point under (x, y) standing still. @param {View} view @param {number} factor @param {number} x @param {number} y @returns {View} */
export function zoomed(view, factor, x, y) {
  const zoom = clamp(view.zoom * factor, 1 / 16, 32), real = zoom / view.zoom;
  return { zoom, left: x - (x - view.left) * real, top: y - (y - view.top) * real };
}
