/** Every key, once: what it does, and its line in the help. Keys go by `KeyboardEvent.key`, so by what is printed on them. */

/** @typedef {{keys: string[], does: string, group: string, run?: (event: KeyboardEvent) => unknown, shown?: string[]}} Binding */

const MODIFIERS = new Set(["Shift", "Control", "Alt", "AltGraph", "Meta"]);

/** @param {KeyboardEvent} event @returns {string} such as `Ctrl+Shift+Z`, `<`, `Shift+ArrowLeft` */
function nameOf(event) {
  let key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  if (event.altKey && /^Key[A-Z]$/.test(event.code)) key = event.code.slice(3); // Alt makes other characters of letters
  // Shift is part of a printed sign, such as `?`, and said of letters and named keys.
  const shift = event.shiftKey && (event.key.length > 1 || /^[A-Z]$/.test(key)) ? "Shift+" : "";
  const control = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
  return `${control}${event.altKey ? "Alt+" : ""}${shift}${key}`;
}

/** @param {EventTarget | null} target */
const typing = (target) => target instanceof HTMLInputElement && !["range", "checkbox"].includes(target.type);

/** Controls keep the keys that work them. @param {KeyboardEvent} event */
function belongsToControl(event) {
  const target = event.target;
  if (typing(target)) return true;
  if (!(target instanceof HTMLElement)) return false;
  if (target.closest("dialog, [role=menu]")) return true;
  if (target instanceof HTMLSelectElement) return event.key.length === 1 || event.key.startsWith("Arrow") || ["Enter", "Home", "End", "PageUp", "PageDown"].includes(event.key);
  if (target instanceof HTMLInputElement && target.type === "range") return event.key.startsWith("Arrow") || ["Home", "End", "PageUp", "PageDown"].includes(event.key);
  return (target instanceof HTMLButtonElement || target instanceof HTMLInputElement) && (event.key === " " || event.key === "Enter");
}

/** @param {Binding[]} bindings @param {(name: string, event: KeyboardEvent) => boolean} first tried before the table */
export function listen(bindings, first) {
  const table = new Map(bindings.flatMap((binding) => binding.keys.map((key) => /** @type {const} */ ([key, binding]))));
  document.addEventListener("keydown", (event) => {
    // A modifier goes down before the key it is held for, and is none by itself.
    if (event.defaultPrevented || MODIFIERS.has(event.key) || belongsToControl(event)) return;
    const name = nameOf(event);
    if (first(name, event)) return event.preventDefault();
    const binding = table.get(name);
    if (!binding?.run || binding.run(event) === false) return;
    event.preventDefault();
  });
}
