// What arrives between two frames is painted at once, with the next frame.

export class FrameBatch {
  #items = [];
  #isDue = false;
  #paint;
  #schedule;

  // `paint` gets all items since the last frame; `schedule` calls back before the next one.
  constructor(paint, schedule = (callback) => requestAnimationFrame(callback)) {
    this.#paint = paint;
    this.#schedule = schedule;
  }

  add(item) {
    this.#items.push(item);
    if (this.#isDue) return;
    this.#isDue = true;
    this.#schedule(() => this.flush());
  }

  // Paint now what has not been painted; a hidden page gets no frames.
  flush() {
    this.#isDue = false;
    const items = this.#items;
    this.#items = [];
    if (items.length) this.#paint(items);
  }
}
