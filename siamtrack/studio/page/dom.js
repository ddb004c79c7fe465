/** Elements without a framework. Text is always set as text: names come from files of strangers. */

/** @param {string} id @returns {any} the element, which index.html has */
export const $ = (id) => {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no #${id}`);
  return element;
};

/**
 * @param {string} tag @param {Record<string, any>} [props] properties; `class`, `aria-*`, `data-*`, `role` and `for` are attributes
 * @param {...(Node | string | null | undefined | false)} children @returns {any}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (/^(class|aria-.*|data-.*|role|for|list)$/.test(name)) element.setAttribute(name, String(value));
    else /** @type {any} */ (element)[name] = value;
  }
  element.append(.../** @type {(Node | string)[]} */ (children.filter((child) => child !== null && child !== undefined && child !== false)));
  return element;
}

/** Sets a property only when it differs, so that focus, selection and animations stay. @param {any} element @param {string} name @param {any} value */
export function put(element, name, value) {
  if (element[name] !== value) element[name] = value;
}

/** Text of a field that is not being typed in. @param {HTMLInputElement} field @param {string} value */
export function putField(field, value) {
  if (document.activeElement !== field) put(field, "value", value);
}

/** @param {number} seconds */
export function clock(seconds) {
  const rest = (seconds % 60).toFixed(2).padStart(5, "0"), minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

/** @param {number} count @param {string} one @param {string} [many] */
export const counted = (count, one, many = `${one}s`) => `${count.toLocaleString("en-US")} ${count === 1 ? one : many}`;

/** 12 hues between the two themes in lightness, so that both have a contrast of 3 to them; neighbors differ in lightness too. */
export const PALETTE = ["#2f7de0", "#d9730d", "#0f9488", "#d9479c", "#a08400", "#8b5cf6", "#3d9a3f", "#e0443e", "#0891b2", "#9c6b45", "#a23fae", "#728095"];
export const COLOR_NAMES = ["blue", "orange", "teal", "pink", "mustard", "violet", "green", "red", "cyan", "brown", "magenta", "slate"];

/** A color of the theme, for canvases. @param {string} name @returns {string} */
export const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
