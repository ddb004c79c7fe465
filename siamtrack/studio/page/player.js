/** Plays at the speed of the clip, or as fast as pictures come: none is left out but for the stride of fast speeds. */

const SPEEDS = [0.25, 0.5, 1, 2, 4];
/** Pictures per second that are asked for at most; faster playback shows every n-th frame. */
const SHOWN_FPS = 30;

export class Player {
  /** @param {import("./editor.js").Editor} editor @param {import("./stage.js").Stage} stage */
  constructor(editor, stage) {
    this.editor = editor;
    this.stage = stage;
    this.speed = 1;
    this.startedAt = 0;
    this.startFrame = 0;
    this.running = false;
    this.onChange = () => {};
  }

  toggle() {
    if (this.running) return this.pause();
    const clip = this.editor.clip;
    if (!clip) return;
    if (this.editor.frame >= clip.frames - 1) this.editor.goto(0);
    this.running = this.stage.playing = true;
    this.restart();
    requestAnimationFrame(() => this.tick());
    this.onChange();
  }

  pause() {
    this.running = this.stage.playing = false;
    this.stage.stride = 1;
    this.stage.redraw();
    this.onChange();
  }

  restart() {
    this.startedAt = performance.now();
    this.startFrame = this.editor.frame;
    this.stage.stride = Math.max(1, Math.round(((this.editor.clip?.fps || 25) * this.speed) / SHOWN_FPS));
  }

  /** @param {number} speed */
  setSpeed(speed) {
    this.speed = speed;
    if (this.running) this.restart();
    this.onChange();
  }

  /** @param {1 | -1} way */
  faster(way) {
    const at = SPEEDS.indexOf(this.speed);
    this.setSpeed(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, at + way))]);
  }

  tick() {
    const editor = this.editor, clip = editor.clip;
    if (!this.running || !clip) return;
    const stride = this.stage.stride;
    const due = this.startFrame + ((performance.now() - this.startedAt) / 1000) * (clip.fps || 25) * this.speed;
    // The next picture is waited for: a clip that cannot be decoded as fast plays more slowly.
    const next = Math.min(clip.frames - 1, editor.frame + stride);
    if (this.stage.shown?.frame === editor.frame && due >= next) {
      editor.goto(next);
      if (due - next > 2 * stride) this.restart();
    }
    if (editor.frame >= clip.frames - 1) return this.pause();
    requestAnimationFrame(() => this.tick());
  }
}
