// The last rounds of an answer as bars: what each pass of the target brought, its own token and the
// accepted draft below it. Decoration: the figures beside it say the same in words.

const MAX_ROUNDS = 64;
const BAR = 5; // pixels, with its gap
const TOKEN = 3;

// What became of the rounds between two timings of one answer.
export function roundsBetween(before, timings) {
  const difference = (name) => timings[name] - (before?.[name] ?? 0);
  return {
    rounds: difference("num_verdicts"),
    tokens: difference("output_tokens"),
    accepted: difference("accepted_tokens"),
  };
}

export class RoundStrip {
  #canvas;
  #bars = [];
  #timings = null;
  #colours = [];

  constructor(canvas) {
    this.#canvas = canvas;
  }

  clear() {
    this.#bars = [];
    this.#timings = null;
    // Once for each answer: to read a style makes a browser work out all of them.
    const style = getComputedStyle(this.#canvas);
    this.#colours = ["--accepted-bar", "--own-bar"].map((name) => style.getPropertyValue(name).trim());
    this.#draw();
  }

  // Take in the newest timings; several rounds that came together are one wide bar.
  add(timings) {
    const bar = roundsBetween(this.#timings, timings);
    this.#timings = timings;
    if (bar.rounds < 1) return;
    this.#bars.push(bar);
    if (this.#bars.length > MAX_ROUNDS) this.#bars.shift();
    this.#draw();
  }

  #draw() {
    const scale = globalThis.devicePixelRatio || 1;
    const [width, height] = [MAX_ROUNDS * BAR, 30];
    if (this.#canvas.width !== width * scale) {
      this.#canvas.width = width * scale;
      this.#canvas.height = height * scale;
    }
    const context = this.#canvas.getContext("2d");
    const [accepted, own] = this.#colours;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    this.#bars.forEach((bar, i) => {
      const left = width - (this.#bars.length - i) * BAR;
      const acceptedHeight = Math.min((bar.accepted / bar.rounds) * TOKEN, height - TOKEN);
      const ownHeight = Math.min(((bar.tokens - bar.accepted) / bar.rounds) * TOKEN, height);
      context.fillStyle = accepted;
      context.fillRect(left, height - acceptedHeight, BAR - 1, acceptedHeight);
      context.fillStyle = own;
      context.fillRect(left, height - acceptedHeight - ownHeight, BAR - 1, ownHeight);
    });
  }
}
