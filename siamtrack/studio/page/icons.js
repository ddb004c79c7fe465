/** Line icons on a 16 px grid, built as SVG elements: the content policy allows no data URLs. */

const PATHS = {
  play: "M5 3.2v9.6l7.6-4.8z", pause: "M5 3.5v9M11 3.5v9",
  back: "M10.5 3.5 6 8l4.5 4.5", next: "M5.5 3.5 10 8l-4.5 4.5",
  first: "M4 3.5v9M12 3.5 7.5 8l4.5 4.5", last: "M12 3.5v9M4 3.5 8.5 8 4 12.5",
  undo: "M5.5 3 2.5 6l3 3M2.5 6h7a4 4 0 0 1 0 8H7", redo: "M10.5 3l3 3-3 3M13.5 6h-7a4 4 0 0 0 0 8H9",
  eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8zM8 6a2 2 0 1 0 0 4 2 2 0 0 0 0-4",
  hidden: "M3 3l10 10M6.3 3.8A6 6 0 0 1 8 3.5c4 0 6.5 4.5 6.5 4.5a12 12 0 0 1-1.9 2.4M4 5A11 11 0 0 0 1.5 8S4 12.5 8 12.5a6 6 0 0 0 2.5-.5",
  lock: "M4 7.5h8v6H4zM5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5", open: "M4 7.5h8v6H4zM5.5 7.5V5a2.5 2.5 0 0 1 4.8-1",
  up: "M8 13V3M4 7l4-4 4 4", plus: "M8 3v10M3 8h10", more: "M3.5 8h.01M8 8h.01M12.5 8h.01", close: "M4 4l8 8M12 4l-8 8",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1",
  moon: "M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7z",
  import: "M8 2v8M4.5 6.5 8 10l3.5-3.5M2.5 13.5h11", export: "M8 10V2M4.5 5.5 8 2l3.5 3.5M2.5 13.5h11",
  forward: "M2 8h10M8.5 4.5 12 8l-3.5 3.5M14.5 4v8", backward: "M14 8H4M7.5 4.5 4 8l3.5 3.5M1.5 4v8",
  both: "M2.5 8h11M5.5 5l-3 3 3 3M10.5 5l3 3-3 3", stop: "M4 4h8v8H4z", warn: "M8 2 1.5 13.5h13zM8 6.5v3.5M8 12h.01",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
};

/** @param {keyof typeof PATHS} name @returns {SVGSVGElement} */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  if (name === "play" || name === "stop") path.setAttribute("fill", "currentColor");
  svg.append(path);
  return svg;
}
