/** The server: one function per route, errors as `ApiError`, events over one WebSocket that comes back by itself. */

/** @typedef {{frame: number, box: [number, number, number, number] | null, outside: boolean, occluded: boolean, by: string}} Key */
/** @typedef {{id: string, frame: number, direction: number, step: number, first: number, last: number, stale: boolean}} Run */
/** @typedef {{first: number, last: number, choice: string}} Pick */
/** @typedef {{id: number, name: string, label: string, color: number, hidden: boolean, locked: boolean, keys: Key[], picks: Pick[], runs: Run[], gaps: [number, number, string][]}} Target */
/** @typedef {{id: number, name: string, state: string, error: string | null, frames: number, width: number, height: number, fps: number, tracked: number, to_check: number, targets: number, touched: string | null}} ClipEntry */
/** @typedef {{name: string, title: string, reads: boolean, writes: boolean, draws_lines: boolean, images: boolean, file: string}} Format */
/** @typedef {{version: string, weights: string, engine: string, clips: ClipEntry[], formats: Format[], labels: string[]}} Session */
/** @typedef {{targets: Target[], deleted: number[], labels: string[], undo: string | null, redo: string | null, dirty: [number, number, number][]}} Changes */
/** @typedef {{level: string, code: string, text: string | null}} Banner */
/** @typedef {{clip: ClipEntry & {searchable: boolean, scanned: number}, revision: number, undo: string | null, redo: string | null, read_only: string | null, banners: Banner[], labels: string[], targets: Target[]}} Snapshot */
/** @typedef {{job: number, clip: number, state: string, targets: number[], direction: string, done: number, total: number}} Job */
/** @typedef {Record<string, unknown> & {op: string}} Op */

export class ApiError extends Error {
  /** @param {number} status 0 when the server did not answer @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The token comes once in the fragment, which no server ever sees, and stays in this tab. */
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token") ?? "";
}

export class Api {
  constructor() {
    this.token = takeToken();
    this.connection = "";
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {(event: any) => void} */
    this.onEvent = () => {};
    /** @type {(open: boolean) => void} */
    this.onLink = () => {};
  }

  /**
   * The body of an answer. A server that ends in the middle of it is gone like one that never answered.
   * @param {string} path @param {"json" | "blob" | "arrayBuffer"} kind @param {RequestInit} [options] @returns {Promise<any>}
   */
  async request(path, kind, options = {}) {
    /** @type {Record<string, string>} */
    const headers = { Authorization: `Bearer ${this.token}`, .../** @type {Record<string, string>} */ (options.headers) };
    if (this.connection) headers["X-Siamtrack-Connection"] = this.connection;
    let reply, body;
    try {
      reply = await fetch(path, { ...options, headers });
      body = await (reply.ok ? reply[kind]() : reply.json().catch(() => ({})));
      // Not every browser says that a body was cut off.
      const size = kind === "blob" ? body.size : body.byteLength;
      if (reply.ok && kind !== "json" && size !== Number(reply.headers.get("Content-Length"))) throw new TypeError("cut off");
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new ApiError(0, "gone", "siamtrack does not answer");
    }
    if (reply.ok) return body;
    throw new ApiError(reply.status, body.error?.code ?? "unknown", body.error?.message ?? `the server answered ${reply.status}`);
  }

  /** @param {string} path @param {RequestInit} [options] */
  get(path, options) {
    return this.request(path, "json", options);
  }

  /** @param {string} path @param {unknown} body */
  async post(path, body) {
    const text = JSON.stringify(body);
    // What is sent while the page closes arrives, if it is small.
    return this.get(path, { method: "POST", body: text, keepalive: text.length < 30_000, headers: { "Content-Type": "application/json" } });
  }

  /** @returns {Promise<Session>} */
  session() {
    return this.get("/api/session");
  }

  /** @param {number} clip @returns {Promise<Snapshot>} */
  snapshot(clip) {
    return this.get(`/api/clips/${clip}`);
  }

  /** @param {number} clip @param {number} target @param {number} first @param {number} last @returns {Promise<ArrayBuffer>} */
  track(clip, target, first, last) {
    return this.request(`/api/clips/${clip}/track?target=${target}&first=${first}&last=${last}&as=binary`, "arrayBuffer");
  }

  /** @param {number} clip @param {number} target @param {number} first @param {number} last */
  candidates(clip, target, first, last) {
    return this.get(`/api/clips/${clip}/candidates?target=${target}&first=${first}&last=${last}`);
  }

  /** @param {number} clip @param {number} revision @param {Op[]} ops @returns {Promise<{revision: number, created: number[], changes: Changes}>} */
  operate(clip, revision, ops) {
    return this.post(`/api/clips/${clip}/ops`, { revision, ops });
  }

  /** @param {number} clip @param {"undo" | "redo"} way @param {number} revision @returns {Promise<{revision: number, changes: Changes, text: string}>} */
  walk(clip, way, revision) {
    return this.post(`/api/clips/${clip}/${way}`, { revision });
  }

  /** @param {number} clip @param {number} frame @param {string} query @param {AbortSignal} signal @returns {Promise<Blob>} */
  picture(clip, frame, query, signal) {
    return this.request(`/api/clips/${clip}/frames/${frame}?${query}`, "blob", { signal });
  }

  /** @param {number} clip @param {File} file @param {string} format "" = by content @param {string} thin */
  import(clip, file, format, thin) {
    const query = new URLSearchParams({ name: file.name, thin, ...(format && { format }) });
    return this.get(`/api/clips/${clip}/import?${query}`, { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
  }

  /** @param {number} clip @param {string} format @param {Record<string, unknown>} options @param {boolean} preview */
  export(clip, format, options, preview) {
    return this.post(`/api/clips/${clip}/export`, { format, options, preview });
  }

  /** Saves a finished export under `name`. @param {string} id @param {string} name */
  async download(id, name) {
    save(await this.request(`/api/exports/${id}`, "blob"), name);
  }

  /** Opens the WebSocket, and again two seconds after it closed. */
  connect() {
    const socket = new WebSocket(`ws://${location.host}/ws`, ["siamtrack", `token.${this.token}`]);
    this.socket = socket;
    socket.onmessage = (message) => {
      const event = JSON.parse(message.data);
      if (event.type === "hello") {
        this.connection = event.connection;
        this.onLink(true);
      }
      this.onEvent(event);
    };
    socket.onclose = () => {
      this.connection = "";
      this.onLink(false);
      setTimeout(() => this.comeBack(), 2000);
    };
  }

  /**
   * A WebSocket that cannot be opened leaves an error in the console, so the door is tried by a plain
   * request first; that also tells a new token from a server that is gone.
   */
  async comeBack() {
    try {
      await this.session();
      this.connect();
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) this.onEvent({ type: "token" });
      else setTimeout(() => this.comeBack(), 2000);
    }
  }

  takeOver() {
    this.socket?.send(JSON.stringify({ type: "take_over" }));
  }
}

/** @param {Blob} blob @param {string} name */
function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
