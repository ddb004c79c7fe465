"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const table = document.getElementById("sequences");
  const body = table.tBodies[0];
  const heads = [...table.querySelectorAll("[data-column]")];
  const {columns, rows} = read("rows");
  const timelines = read("timelines");
  const state = {column: 0, descending: false, sequence: ""};

  const element = (name, attributes, text) => {
    const space = ["svg", "path", "line", "text"].includes(name) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
    const made = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };

  // The address keeps what is shown, so that a link shows the same: #sort=2:desc&sequence=Deer
  const readAddress = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    const [column, direction] = (given.get("sort") || "0:asc").split(":");
    state.column = heads.some((head) => head.dataset.column === column) ? Number(column) : 0;
    state.descending = direction === "desc";
    state.sequence = given.get("sequence") || "";
  };
  const writeAddress = () => {
    const sort = `${state.column}:${state.descending ? "desc" : "asc"}`;
    const sequence = state.sequence ? `&sequence=${encodeURIComponent(state.sequence)}` : "";
    history.replaceState(null, "", `#sort=${sort}${sequence}`);
    show();
  };

  const compare = (a, b) => {
    const [x, y] = [a[state.column], b[state.column]];
    if (x === null || y === null) return (x === null) - (y === null);
    const order = typeof x === "string" ? x.localeCompare(y, "en", {numeric: true}) : x - y;
    return state.descending ? -order : order;
  };

  const best = (row) => {
    const marked = new Set();
    for (const kind of new Set(columns.map((column) => column.figure))) {
      const same = columns.map((column, index) => [column, row[index], index])
        .filter(([column, value]) => kind && column.figure === kind && value !== null);
      if (same.length < 2) continue;
      const values = same.map(([, value]) => value);
      const top = same[0][0].higher ? Math.max(...values) : Math.min(...values);
      same.filter(([, value]) => value === top).forEach(([, , index]) => marked.add(index));
    }
    return marked;
  };

  const showTable = () => {
    body.replaceChildren(...[...rows].sort(compare).map((row) => {
      const marked = best(row);
      const made = element("tr", {"data-sequence": row[0]});
      if (row[0] === state.sequence) made.className = "chosen";
      row.forEach((value, index) => {
        const {digits, start} = columns[index];
        const text = value === null ? "-" : typeof value === "string" ? value : value.toFixed(digits);
        const kinds = [index ? "number" : "", start ? "first" : "", marked.has(index) ? "best" : ""];
        made.append(element("td", {class: kinds.filter(Boolean).join(" ")}, text));
      });
      return made;
    }));
    heads.forEach((head) => {
      if (Number(head.dataset.column) !== state.column) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    });
  };

  const path = (overlap, x, y) => {
    let drawn = "", pen = false;
    overlap.forEach((value, index) => {
      if (value === null) { pen = false; return; }
      drawn += `${pen ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = true;
    });
    return drawn;
  };

  const showTimeline = () => {
    const place = document.getElementById("timeline");
    const line = timelines[state.sequence];
    place.hidden = !line;
    if (!line) return;
    const [width, height, left, bottom] = [1000, 260, 40, 30];
    const points = Math.max(1, Math.ceil(line.frames / line.block) - 1);
    const x = (index) => left + (width - left - 10) * index / points;
    const y = (value) => 10 + (height - bottom - 10) * (1 - value);
    const svg = element("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `overlap over time, ${state.sequence}`});
    [0, 0.25, 0.5, 0.75, 1].forEach((value) => {
      svg.append(element("line", {x1: left, x2: width - 10, y1: y(value), y2: y(value), stroke: "#dcdce0"}));
      svg.append(element("text", {x: left - 6, y: y(value) + 4, "text-anchor": "end", "font-size": 12, fill: "#6b6b70"}, value));
    });
    for (let part = 0; part <= 5; part++) {
      const frame = Math.round((line.frames - 1) * part / 5);
      svg.append(element("text", {x: x(frame / line.block), y: height - 8, "text-anchor": "middle", "font-size": 12, fill: "#6b6b70"}, frame));
    }
    line.trackers.forEach(({overlap, color}) => {
      svg.append(element("path", {d: path(overlap, x, y), fill: "none", stroke: color, "stroke-width": 1.5}));
    });
    const legend = element("p", {class: "legend"});
    line.trackers.forEach(({label, color}) => {
      const entry = element("span");
      entry.append(element("i", {class: "swatch", style: `background: ${color}`}), label);
      legend.append(entry);
    });
    const average = line.block > 1 ? `, means of ${line.block} frames` : "";
    place.replaceChildren(element("h3", {}, `${state.sequence}: overlap by frame${average}`), svg, legend);
  };

  const show = () => { showTable(); showTimeline(); };

  heads.forEach((head) => head.addEventListener("click", () => {
    const column = Number(head.dataset.column);
    // A first click on figures puts the best on top, on names the alphabet.
    state.descending = column === state.column ? !state.descending : column > 0;
    state.column = column;
    writeAddress();
  }));
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (!row) return;
    state.sequence = row.dataset.sequence === state.sequence ? "" : row.dataset.sequence;
    writeAddress();
  });
  window.addEventListener("hashchange", () => { readAddress(); show(); });
  readAddress();
  show();
})();
