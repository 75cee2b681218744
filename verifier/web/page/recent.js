// What happened lately, from totals that the verifier counts since its start. Pure.

const RECENT_SECONDS = 10; // that means are taken over
const MAX_POINTS = 120; // of the line of speeds

// The phases that a round is made of, and those that go on beside the next one.
export const PHASES = [
  ["forward", "target’s forward pass", false],
  ["sample", "sampling", false],
  ["plan", "planning", false],
  ["settle", "settling", false],
  ["deliver", "sending verdicts", true],
  ["follow_up", "learning, planning drafts", true],
];

export class Recent {
  #moments = []; // { at_seconds, totals }, the oldest first, the newest RECENT_SECONDS of them
  speeds = []; // output tokens per second between two states, the oldest first

  // Takes a state in; one that was seen already changes nothing.
  push({ at_seconds, totals }) {
    const last = this.#moments.at(-1);
    if (last && at_seconds === last.at_seconds) return;
    if (last && (at_seconds < last.at_seconds || totals.num_rounds < last.totals.num_rounds)) {
      this.#moments = []; // another verifier: it was started anew
      this.speeds = [];
    }
    this.#moments.push({ at_seconds, totals });
    const before = this.#moments.at(-2);
    if (before) this.speeds.push(rate("num_output_tokens", before, this.#moments.at(-1)));
    if (this.speeds.length > MAX_POINTS) this.speeds.shift();
    // The one before the last is kept however old: a hidden page asks for nothing.
    while (this.#moments.length > 2 && at_seconds - this.#moments[0].at_seconds > RECENT_SECONDS) this.#moments.shift();
  }

  // Null before there are two states; figures are null where nothing was counted in between.
  figures() {
    const [first, last] = [this.#moments[0], this.#moments.at(-1)];
    if (!first || first === last) return null;
    const grown = (name) => last.totals[name] - first.totals[name];
    const rounds = grown("num_rounds");
    const secondsOf = (name) => (last.totals.round_seconds[name] ?? 0) - (first.totals.round_seconds[name] ?? 0);
    return {
      seconds: last.at_seconds - first.at_seconds,
      rounds,
      tokensPerSecond: rate("num_output_tokens", first, last),
      acceptance: ratio(grown("num_accepted_tokens"), grown("num_tested_tokens")),
      batchTokens: ratio(grown("batch_tokens"), rounds),
      batchStreams: ratio(grown("batch_streams"), rounds),
      roundSeconds: ratio(secondsOf("total"), rounds),
      overheadSeconds: ratio(secondsOf("overhead"), rounds),
      phases: PHASES.map(([name, words, isBeside]) => ({ name, words, isBeside, seconds: ratio(secondsOf(name), rounds) })),
    };
  }
}

function rate(name, first, last) {
  return (last.totals[name] - first.totals[name]) / (last.at_seconds - first.at_seconds);
}

function ratio(dividend, divisor) {
  return divisor > 0 ? dividend / divisor : null;
}
