/**
 * The state of the page and everything that changes it. The server owns the project: an operation is shown
 * at once, sent, and replaced by what the server made of it. Views listen to `onChange` and draw themselves anew.
 */

import { ApiError } from "./api.js";
import { BACKWARD, FORWARD, KEY, OCCLUDED, OUTSIDE, Track } from "./track.js";

/** @typedef {import("./api.js").Target} Target */
/** @typedef {import("./api.js").Op} Op */
/** @typedef {import("./api.js").Changes} Changes */
/** @typedef {import("./api.js").Job} Job */
/** @typedef {import("./geometry.js").Box} Box */
/** @typedef {import("./track.js").Stretch & {target: number}} Doubt */
/** @typedef {{target: number | null, frame: number, box: Box}} Pending a box that is not on disk yet */
/** @typedef {{text: string, level?: string, action?: string, run?: () => void, code?: string}} Notice */

/** Frames of one request for rows. */
const PIECE = 60_000;
/** Of more frames than these the times are not fetched, but counted by the rate. */
const LONG = 200_000;
/** An edit by arrow keys is one operation when the keys rest this long; tracking waits as long for the next edit. */
const REST_MS = 350;

export class Editor {
  /** @param {import("./api.js").Api} api */
  constructor(api) {
    this.api = api;
    /** @type {import("./api.js").Session | null} */
    this.session = null;
    /** @type {import("./api.js").Snapshot | null} */
    this.project = null;
    /** @type {Map<number, Track>} */
    this.tracks = new Map();
    this.frame = 0;
    /** @type {number | null} the target that keys act on */
    this.active = null;
    /** The box of the active target has handles; arrows move it. */
    this.selected = false;
    /** @type {null | "new" | "box"} the next drag makes a new target, or the box of the active one */
    this.armed = null;
    /** @type {Pending | null} */
    this.pending = null;
    /** @type {Job[]} */
    this.jobs = [];
    this.speed = 0;
    this.writer = true;
    this.linked = true;
    this.saving = 0;
    this.threshold = 0.5;
    this.settings = { until: "default", count: 100, step: 1, all: true, follow: true, correct: true };
    /** @type {Map<string, import("./api.js").Banner>} */
    this.banners = new Map();
    /** @type {Map<number, number>} where the person was in each clip */
    this.places = new Map();

    /** @type {Set<() => void>} */
    this.listeners = new Set();
    /** @type {(notice: Notice) => void} */
    this.notify = () => {};
    this.onToken = () => {};
    /** @type {Promise<unknown>} operations go one after the other, so that each knows the revision before it */
    this.queue = Promise.resolve();
    /** @type {Set<number>} */
    this.seen = new Set();
    /** @type {Map<number, number>} revision of each target as it is shown */
    this.revisions = new Map();
    /** @type {Map<number, [number, number]>} */
    this.dirty = new Map();
    /** @type {Set<number>} targets whose rows are on their way */
    this.fetching = new Set();
    /** @type {Set<string>} boxes that were asked for again */
    this.missed = new Set();
    /** Counts changes of what is shown for any frame. */
    this.version = 0;
    this.drawn = false;
    this.nudge = 0;
    this.retrack = 0;
    this.retracking = new Set();
    this.loads = 0;
    /** @type {number[] | null} time of each frame, s */
    this.times = null;
    /** @type {{name: string, rows: any}} */
    this.candidates = { name: "", rows: null };
  }

  // -- reading ------------------------------------------------------------------------------------------

  get clip() {
    return this.project?.clip ?? null;
  }

  get targets() {
    return this.project?.targets ?? [];
  }

  /** @param {number | null} id */
  target(id) {
    return this.targets.find((target) => target.id === id) ?? null;
  }

  get activeTarget() {
    return this.target(this.active);
  }

  /** Why nothing can be changed now, or "". */
  get locked() {
    if (!this.linked) return "siamtrack has stopped; nothing can be changed until it is back";
    if (!this.writer) return "this project is open in another tab";
    return this.project?.read_only ?? "";
  }

  /** What is shown for a target in a frame; an edit on its way comes first. @param {number} id @param {number} [frame] */
  row(id, frame = this.frame) {
    const track = this.tracks.get(id), missing = this.running ? null : track?.missing(frame);
    if (missing && !this.dirty.has(id) && !this.fetching.has(id) && !this.missed.has(`${id} ${missing}`)) {
      this.missed.add(`${id} ${missing}`); // not again if it fails
      this.mark(id, ...missing);
    }
    const row = track?.row(frame) ?? { box: null, score: NaN, agreement: NaN, status: 0, source: 0, flags: 0 };
    const pending = this.pending;
    if (pending && pending.target === id && pending.frame === frame) return { ...row, box: pending.box, status: 1, source: KEY, score: 1 };
    return row;
  }

  /** @param {Target | null} target @param {number} [frame] */
  key(target, frame = this.frame) {
    return target?.keys.find((key) => key.frame === frame) ?? null;
  }

  /** @returns {Doubt[]} all stretches to check, by frame */
  doubts() {
    /** @type {Doubt[]} */
    const all = [];
    for (const [target, track] of this.tracks) for (const stretch of track.stretches()) all.push({ ...stretch, target });
    return all.sort((a, b) => a.frame - b.frame || a.target - b.target);
  }

  /** The stretch of the active target around the frame. */
  doubtHere() {
    const track = this.active === null ? undefined : this.tracks.get(this.active);
    return track?.stretches().find((stretch) => stretch.first <= this.frame && this.frame <= stretch.last) ?? null;
  }

  /** The two runs in a stretch to check, after they came; asked for at most 200 frames to either side. */
  candidatesHere() {
    const doubt = this.doubtHere() ?? this.pickHere(), clip = this.clip, target = this.active;
    if (!doubt || !clip || target === null) return null;
    const first = Math.max(doubt.first, this.frame - (this.frame % 200) - 200), last = Math.min(doubt.last, first + 599);
    const name = `${clip.id} ${target} ${first} ${last} ${this.project?.revision}`;
    if (this.candidates.name !== name) {
      this.candidates = { name, rows: null };
      this.guard(async () => {
        const rows = await this.api.candidates(clip.id, target, first, last);
        if (this.candidates.name === name) this.candidates.rows = rows;
        this.changed(false);
      });
    }
    return this.candidates.rows;
  }

  pickHere() {
    return this.activeTarget?.picks.find((pick) => pick.first <= this.frame && this.frame <= pick.last) ?? null;
  }

  // -- telling the views --------------------------------------------------------------------------------

  /** @param {boolean} [rows] more than the frame in view changed */
  changed(rows = true) {
    if (rows) this.version++;
    if (this.drawn) return;
    this.drawn = true;
    requestAnimationFrame(() => {
      this.drawn = false;
      for (const listener of this.listeners) listener();
    });
  }

  /** @param {() => void} listener */
  onChange(listener) {
    this.listeners.add(listener);
  }

  /** @param {string} text @param {string} [level] */
  say(text, level = "info") {
    this.notify({ text, level });
  }

  // -- loading ------------------------------------------------------------------------------------------

  async start() {
    this.session = await this.api.session();
    const last = Number(sessionStorage.getItem("clip"));
    const clips = this.session.clips;
    const first = clips.find((clip) => clip.id === last && clip.state === "ready") ?? clips.find((clip) => clip.state === "ready");
    if (first) await this.open(first.id);
    this.changed();
  }

  /** @param {number} id */
  async open(id) {
    await this.flush();
    const load = ++this.loads;
    const project = await this.guard(() => this.api.snapshot(id));
    if (!project || load !== this.loads) return;
    if (this.clip) this.places.set(this.clip.id, this.frame);
    const same = this.clip?.id === id;
    this.project = project;
    this.seen = new Set([project.revision]);
    this.revisions = new Map(project.targets.map((target) => [target.id, project.revision]));
    this.banners = new Map([...this.banners].filter(([, banner]) => banner.code === "disk"));
    for (const banner of project.banners) this.banners.set(banner.code, banner);
    this.tracks = new Map();
    this.dirty = new Map();
    this.missed = new Set();
    this.pending = null;
    this.armed = null;
    if (!same) {
      this.frame = Math.min(this.places.get(id) ?? (Number(sessionStorage.getItem(`frame ${id}`)) || 0), project.clip.frames - 1);
      this.selected = false;
      this.active = project.targets[0]?.id ?? null;
    }
    if (!this.target(this.active)) this.active = project.targets[0]?.id ?? null;
    sessionStorage.setItem("clip", String(id));
    for (const target of project.targets) this.mark(target.id, 0, project.clip.frames - 1);
    this.changed();
    if (!same) {
      this.times = null;
      const times = project.clip.frames > LONG ? null : await this.guard(() => this.api.get(`/api/clips/${id}/times`));
      if (load === this.loads) this.times = times?.times_s ?? null;
      this.changed(false);
    }
  }

  /** Seconds from the start of the clip. @param {number} frame */
  time(frame) {
    return this.times?.[frame] ?? (this.clip?.fps ? frame / this.clip.fps : 0);
  }

  /** Rows of a target that changed: fetched one piece at a time, from where the person looks. @param {number} id @param {number} first @param {number} last */
  mark(id, first, last) {
    const open = this.dirty.get(id);
    this.dirty.set(id, open ? [Math.min(open[0], first), Math.max(open[1], last)] : [first, last]);
    this.fetchRows(id).catch((error) => this.failed(error));
  }

  /** @param {number} id */
  async fetchRows(id) {
    const clip = this.clip, load = this.loads;
    if (!clip || this.fetching.has(id)) return;
    this.fetching.add(id);
    try {
      for (let range; (range = this.dirty.get(id)) && load === this.loads; ) {
        const first = range[0], last = Math.min(range[1], first + PIECE - 1);
        if (last < range[1]) this.dirty.set(id, [last + 1, range[1]]);
        else this.dirty.delete(id);
        const buffer = await this.api.track(clip.id, id, first, last);
        if (load !== this.loads || !this.target(id)) return;
        let track = this.tracks.get(id);
        if (!track) {
          track = new Track(clip.frames);
          track.threshold = this.threshold;
          this.tracks.set(id, track);
        }
        track.fill(first, buffer, this.frame);
        this.missed.delete(`${id} ${[first, last]}`);
        // The edit is shown by its rows from now on.
        if (this.pending?.target === id && this.pending.frame >= first && this.pending.frame <= last && !this.saving && !this.nudge) this.pending = null;
        this.changed();
      }
    } finally {
      this.fetching.delete(id);
      this.changed();
      if (load !== this.loads && this.dirty.has(id)) this.fetchRows(id).catch((error) => this.failed(error));
    }
  }

  // -- operations ---------------------------------------------------------------------------------------

  /** @param {number} revision @param {Changes} changes */
  apply(revision, changes) {
    const project = this.project;
    if (!project || this.seen.has(revision)) return;
    this.seen.add(revision);
    for (const target of changes.targets) {
      if ((this.revisions.get(target.id) ?? -1) > revision) continue;
      this.revisions.set(target.id, revision);
      const at = project.targets.findIndex((known) => known.id === target.id);
      if (at >= 0) project.targets[at] = target;
      else project.targets.push(target);
    }
    project.targets.sort((a, b) => a.id - b.id);
    const pending = this.pending;
    // The box drawn for a new target is that target's from now on.
    if (pending && pending.target === null) pending.target = changes.targets.find((target) => target.keys.length === 1 && target.keys[0].frame === pending.frame)?.id ?? null;
    for (const id of changes.deleted) {
      project.targets = project.targets.filter((target) => target.id !== id);
      this.tracks.delete(id);
      this.dirty.delete(id);
    }
    if (!this.target(this.active)) {
      this.selected &&= this.active === null; // a new target keeps the handles of its first box
      this.active = project.targets[0]?.id ?? null;
    }
    if (revision >= project.revision) {
      project.revision = revision;
      project.undo = changes.undo;
      project.redo = changes.redo;
      project.labels = changes.labels;
    }
    for (const [id, first, last] of changes.dirty) if (this.target(id)) this.mark(id, first, last);
    this.changed();
  }

  /** Runs `work` after all operations before it. @template T @param {() => Promise<T>} work @returns {Promise<T | null>} */
  enqueue(work) {
    const next = this.queue.then(async () => {
      this.saving++;
      this.changed();
      try {
        return await work();
      } finally {
        this.saving--;
        this.changed();
      }
    });
    this.queue = next.catch(() => null);
    return next.catch((error) => this.failed(error));
  }

  /** @template T @param {() => Promise<T>} work @returns {Promise<T | null>} */
  async guard(work) {
    try {
      return await work();
    } catch (error) {
      return this.failed(error);
    }
  }

  /** One step of undo. @param {Op[]} ops @returns {Promise<number[] | null>} ids of new targets; null when it was not done */
  async operate(ops) {
    if (this.locked) {
      this.pending = null;
      this.say(this.locked, "warning");
      this.changed();
      return null;
    }
    const clip = this.clip;
    if (!clip) return null;
    return this.enqueue(async () => {
      try {
        const reply = await this.api.operate(clip.id, this.project?.revision ?? 0, ops);
        this.banners.delete("disk");
        this.apply(reply.revision, reply.changes);
        return reply.created;
      } catch (error) {
        this.pending = null;
        if (error instanceof ApiError && error.status === 409 && error.code === "revision") {
          await this.open(clip.id);
          this.notify({ text: "The project had changed meanwhile and was loaded again.", level: "warning", action: "Do it again", run: () => this.operate(ops) });
          return null;
        }
        throw error;
      }
    });
  }

  /** @param {unknown} error @returns {null} */
  failed(error) {
    this.pending = null;
    if (!(error instanceof ApiError)) {
      if (error instanceof DOMException && error.name === "AbortError") return null;
      throw error;
    }
    if (error.status === 401) this.onToken();
    else if (error.status === 0) {
      this.linked = false;
      this.api.socket?.close(); // and comes back when the server does
    } else if (error.status === 507) this.banners.set("disk", { level: "error", code: "disk", text: error.message });
    else if (error.code === "other_tab") this.writer = false;
    else this.notify({ text: error.message, level: "warning" });
    this.changed();
    return null;
  }

  /** @param {"undo" | "redo"} way */
  async walk(way) {
    await this.flush();
    const clip = this.clip;
    if (!clip) return;
    if (this.locked) return this.say(this.locked, "warning");
    await this.enqueue(async () => {
      if (!this.project?.[way]) return this.say(`Nothing to ${way}`);
      const reply = await this.api.walk(clip.id, way, this.project.revision);
      this.apply(reply.revision, reply.changes);
      this.say(reply.text);
    });
  }

  // -- boxes --------------------------------------------------------------------------------------------

  /** A box drawn or changed by a person: the key frame. @param {number | null} id null = a new target @param {Box} box */
  async setBox(id, box) {
    const frame = this.frame;
    this.pending = { target: id, frame, box };
    this.armed = null;
    this.selected = true;
    this.changed();
    if (id === null) {
      const before = this.activeTarget;
      const created = await this.operate([{ op: "add_target", label: before?.label ?? "" }, { op: "set_key", target: "new", frame, box }]);
      if (created?.length) this.active = created[0];
    } else {
      const target = this.target(id);
      const key = this.key(target, frame);
      const done = await this.operate([{ op: "set_key", target: id, frame, box, occluded: key?.occluded ?? false }]);
      if (done && target?.runs.length) this.correct(id, frame);
    }
    // The rows may have come before the answer.
    if (this.pending?.box === box && this.pending.target !== null && !this.fetching.has(this.pending.target)) this.pending = null;
    this.changed();
  }

  /** Moves the box by arrow keys: shown at once, one operation when the keys rest. @param {number} id @param {Box} box */
  nudgeBox(id, box) {
    if (this.locked) return this.say(this.locked, "warning");
    this.pending = { target: id, frame: this.frame, box };
    clearTimeout(this.nudge);
    this.nudge = setTimeout(() => this.flush(), REST_MS);
    this.changed();
  }

  /** Sends the edit that waits for more arrow keys. */
  async flush() {
    if (!this.nudge) return;
    clearTimeout(this.nudge);
    this.nudge = 0;
    const pending = this.pending;
    if (!pending || pending.target === null) return;
    const target = this.target(pending.target);
    const key = this.key(target, pending.frame);
    const done = await this.operate([{ op: "set_key", target: pending.target, frame: pending.frame, box: pending.box, occluded: key?.occluded ?? false }]);
    if (done && target?.runs.length) this.correct(pending.target, pending.frame);
  }

  /** Tracks again from a corrected key frame, once the hand rests. @param {number} id @param {number} frame */
  correct(id, frame) {
    if (!this.settings.correct) return;
    clearTimeout(this.retrack);
    this.retrack = setTimeout(async () => {
      const target = this.target(id);
      if (!target || !this.key(target, frame)?.box) return;
      for (const job of this.jobs) if (this.retracking.has(job.job) && job.targets.includes(id)) await this.stop(job.job);
      const backward = target.keys.some((key) => key.frame < frame) || target.runs.some((run) => run.direction < 0);
      const job = await this.run([id], frame, backward ? "both" : "forward", "default");
      if (job !== null) this.retracking.add(job);
    }, REST_MS);
  }

  async deleteKey() {
    const target = this.activeTarget;
    if (!target || !this.key(target)) return this.say("No key frame of this target here");
    await this.operate([{ op: "delete_key", target: target.id, frame: this.frame }]);
  }

  async toggleOutside() {
    const target = this.activeTarget;
    if (!target) return this.say("No target is selected");
    const key = this.key(target);
    if (key?.outside) await this.operate([{ op: "delete_key", target: target.id, frame: this.frame }]);
    else if (this.row(target.id).source === OUTSIDE) this.say("It is outside here already: draw its box where it comes back");
    else await this.operate([{ op: "set_key", target: target.id, frame: this.frame, box: null, outside: true }]);
  }

  async toggleOccluded() {
    const target = this.activeTarget;
    if (!target) return this.say("No target is selected");
    const done = await this.operate([{ op: "set_key", target: target.id, frame: this.frame, occluded: !(this.row(target.id).flags & OCCLUDED) }]);
    if (done && target.runs.length) this.correct(target.id, this.frame);
  }

  // -- tracking -----------------------------------------------------------------------------------------

  /** @param {number[]} targets @param {number} frame @param {string} direction @param {string} until @returns {Promise<number | null>} */
  async run(targets, frame, direction, until) {
    const clip = this.clip;
    if (!clip) return null;
    const { count, step } = this.settings;
    const reply = await this.guard(() => this.api.post(`/api/clips/${clip.id}/runs`, { targets, frame, direction, until, frames: until === "frames" ? count : null, step }));
    return reply?.job ?? null;
  }

  /** @param {"forward" | "backward" | "both"} direction */
  async track(direction) {
    await this.flush();
    await this.queue;
    if (this.locked) return this.say(this.locked, "warning");
    const chosen = this.settings.all ? this.targets.filter((target) => !target.locked) : this.activeTarget ? [this.activeTarget] : [];
    const ready = chosen.filter((target) => target.keys.some((key) => key.box));
    if (!ready.length) return this.say(this.targets.length ? "Draw a box of this target first" : "Draw a box around the object first");
    this.selected = false;
    const job = await this.run(ready.map((target) => target.id), this.frame, direction, this.settings.until);
    if (job === null && this.linked && this.writer) this.say("There is nothing left to track in this direction");
    this.changed();
  }

  /** @param {number} job */
  async stop(job) {
    await this.guard(() => this.api.post(`/api/runs/${job}/stop`, {}));
  }

  get running() {
    return this.jobs.find((job) => job.state === "running") ?? null;
  }

  // -- review -------------------------------------------------------------------------------------------

  /** @param {number} value */
  setThreshold(value) {
    this.threshold = value;
    for (const track of this.tracks.values()) track.setThreshold(value);
    this.changed();
  }

  /** Goes to the next stretch to check. @param {1 | -1} way @param {boolean} [worst] */
  nextDoubt(way, worst = false) {
    const all = this.doubts();
    if (!all.length) return this.say("Nothing left to check");
    let next;
    if (worst) {
      all.sort((a, b) => a.value - b.value);
      const at = all.findIndex((doubt) => doubt.target === this.active && doubt.frame === this.frame);
      next = all[(at + 1) % all.length];
    } else {
      const here = this.active ?? -1;
      /** @param {Doubt} doubt */
      const beyond = (doubt) => way * (doubt.frame - this.frame || doubt.target - here) > 0;
      const ordered = way > 0 ? all : all.reverse();
      // The stretch that is looked at is not the next one, wherever in it the person stands.
      const current = this.doubtHere();
      next = ordered.find((doubt) => beyond(doubt) && !(current && doubt.target === here && doubt.first === current.first)) ?? ordered[0];
    }
    this.active = next.target;
    this.selected = false;
    this.goto(next.frame);
  }

  async accept() {
    const doubt = this.doubtHere();
    if (!doubt || this.active === null) return this.say("Nothing to accept in this frame: N goes to the next doubtful one");
    const done = await this.operate([{ op: "accept", target: this.active, first: doubt.first, last: doubt.last }]);
    if (!done) return;
    // The list is right only after the rows came back; the stretch itself is skipped meanwhile.
    const rest = this.doubts().filter((other) => other.target !== this.active || other.first !== doubt.first);
    const next = rest.find((other) => other.frame >= this.frame) ?? rest[0];
    if (!next) return this.say("Nothing left to check");
    this.active = next.target;
    this.goto(next.frame);
  }

  /** @param {string} choice */
  async pick(choice) {
    const range = this.doubtHere() ?? this.pickHere();
    if (!range || this.active === null) return this.say("F, B, L and X pick in a stretch to check: N goes to the next one");
    await this.operate([{ op: "pick", target: this.active, first: range.first, last: range.last, choice }]);
  }

  // -- moving -------------------------------------------------------------------------------------------

  /** @param {number} frame */
  goto(frame) {
    const clip = this.clip;
    if (!clip) return;
    const next = Math.max(0, Math.min(clip.frames - 1, Math.round(frame)));
    if (next === this.frame) return;
    if (this.nudge) this.flush();
    if (!this.pending || !this.saving) this.pending = null;
    this.frame = next;
    sessionStorage.setItem(`frame ${clip.id}`, String(next));
    this.changed(false);
  }

  /** @param {1 | -1} way */
  nextKey(way) {
    const from = this.activeTarget ? [this.activeTarget] : this.targets;
    const frames = from.flatMap((target) => target.keys.map((key) => key.frame)).filter((frame) => way * (frame - this.frame) > 0);
    if (!frames.length) return this.say(way > 0 ? "No key frame after this one" : "No key frame before this one");
    this.goto(way > 0 ? Math.min(...frames) : Math.max(...frames));
  }

  middle() {
    const clip = this.clip;
    if (!clip) return;
    const frames = this.activeTarget?.keys.map((key) => key.frame) ?? [];
    const before = Math.max(0, ...frames.filter((frame) => frame <= this.frame));
    const after = Math.min(clip.frames - 1, ...frames.filter((frame) => frame > this.frame));
    this.goto(Math.floor((before + after) / 2));
  }

  /** @param {number} way */
  async nextClip(way) {
    const ready = this.session?.clips.filter((clip) => clip.state === "ready") ?? [];
    const at = ready.findIndex((clip) => clip.id === this.clip?.id);
    if (ready.length > 1) await this.open(ready[(at + way + ready.length) % ready.length].id);
  }

  /** @param {number | null} id @param {boolean} [box] with handles */
  select(id, box = false) {
    if (this.nudge) this.flush();
    this.active = id;
    this.selected = box && id !== null;
    this.changed();
  }

  // -- events of the server -----------------------------------------------------------------------------

  /** @param {any} event */
  handle(event) {
    const here = event.clip === this.clip?.id;
    if (event.type === "hello") {
      this.writer = event.writer;
      this.jobs = event.jobs;
      const gone = !this.linked || !this.clip;
      this.linked = true;
      // Before the first event a clip may have been opened unheard.
      this.guard(async () => (gone ? this.reload() : (this.session = await this.api.session())));
    } else if (event.type === "role") {
      if (event.writer && !this.writer) this.guard(() => this.reload());
      this.writer = event.writer;
    } else if (event.type === "queue") this.jobs = event.jobs;
    else if (event.type === "progress") this.progress(event, here);
    else if (event.type === "done") {
      this.retracking.delete(event.job);
      if (here && event.changes) this.apply(event.revision, event.changes);
      if (event.message) this.notify({ text: event.message, level: event.reason === "failed" || event.reason === "hung" ? "error" : "info" });
    } else if (event.type === "saved") {
      if (here) this.apply(event.revision, event.changes);
    } else if (event.type === "clip") {
      const clips = this.session?.clips;
      const at = clips?.findIndex((clip) => clip.id === event.clip.id) ?? -1;
      if (clips && at >= 0) clips[at] = event.clip;
      // The pass over a clip may find other frames than its index lists.
      const grown = event.clip.id === this.clip?.id && event.clip.frames && event.clip.frames !== this.clip.frames;
      if (event.clip.state === "ready" && (!this.clip || grown)) this.guard(() => this.open(event.clip.id));
    } else if (event.type === "scan") {
      if (here && this.clip) this.clip.scanned = event.done;
    } else if (event.type === "banner") {
      if (event.text === null) this.banners.delete(event.code);
      else if (event.clip === null || here) this.banners.set(event.code, event);
    } else if (event.type === "token") this.onToken();
    this.changed();
  }

  async reload() {
    this.session = await this.api.session();
    if (this.clip) await this.open(this.clip.id);
    else await this.start();
  }

  /** @param {any} event @param {boolean} here */
  progress(event, here) {
    const job = this.jobs.find((known) => known.job === event.job);
    if (job) [job.done, job.total] = [event.done, event.total];
    this.speed = event.fps;
    if (!here) return;
    let last = -1;
    for (const rows of event.rows) {
      this.tracks.get(rows.target)?.live(rows, rows.direction < 0 ? BACKWARD : FORWARD);
      if (rows.target === this.active || last < 0) last = rows.frame.at(-1) ?? last;
    }
    // Who holds a box is working on it and stays where it is.
    if (this.settings.follow && last >= 0 && !this.retracking.has(event.job) && !this.selected) this.goto(last);
  }
}
