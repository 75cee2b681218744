// The figures that people read off a generation's timings, as edge_agent/generation/figures.py has
// them; null where nothing was counted. Pure.

export function tokensPerSecond(timings) {
  const seconds = Math.max(timings.total_seconds - timings.seconds_to_first_token, 0);
  return ratio(timings.output_tokens - 1, seconds);
}

// What the same passes of the target would bring without drafts, a token each.
export function aloneTokensPerSecond(timings) {
  const seconds = Math.max(timings.total_seconds - timings.seconds_to_first_token, 0);
  return ratio(timings.num_verdicts - 1, seconds);
}

export function acceptance(timings) {
  return ratio(timings.survived_tokens, timings.survived_tokens + timings.rejections);
}

export function tokensPerRound(timings) {
  return ratio(timings.output_tokens, timings.num_verdicts);
}

export function draftLength(timings) {
  return ratio(timings.drafted_tokens, timings.num_drafting_verdicts);
}

// What the live line shows: { name, value, unit, explanation }, `value` "–" where it is not known.
export function shownFigures(timings) {
  const milliseconds = (seconds) => (seconds == null ? null : seconds * 1000);
  return [
    figure("Speed", timings && tokensPerSecond(timings), 1, "tokens/s",
      "output tokens for each second after the first token"),
    figure("Target alone", timings && aloneTokensPerSecond(timings), 1, "tokens/s",
      "one token for each of these passes of the target; without drafts they may come a little faster"),
    figure("Accepted", timings && percent(acceptance(timings)), 0, "%",
      "how often the next draft token survived"),
    figure("Per round", timings && tokensPerRound(timings), 2, "tokens",
      "output tokens for each pass of the target"),
    figure("Draft", timings && draftLength(timings), 1, "tokens",
      "draft tokens sent for each round that checked some"),
    figure("Round trip", timings && milliseconds(timings.round_trip_seconds), 0, "ms",
      "from this board to the verifier and back, when they connected"),
    figure("First token", timings && milliseconds(timings.seconds_to_first_token), 0, "ms",
      "from the question to the first token"),
    figure("Tokens", timings && timings.output_tokens, 0, "", "output tokens of this answer"),
  ];
}

// One line for an answer that stands: "128 tokens · 31.2 tokens/s · 71 % accepted · …".
export function summary(timings) {
  return shownFigures(timings)
    .filter(({ value, name }) => value !== "–" && !LIVE_ONLY.has(name))
    .map(({ name, value, unit }) => (unit ? `${value} ${unit} ${WORDS[name] ?? ""}` : `${value} ${value === "1" ? "token" : "tokens"}`).trim())
    .map((words) => words.replaceAll(" ", NO_BREAK)) // a number stays with its unit
    .join(" · ");
}

const NO_BREAK = "\u00a0";
const LIVE_ONLY = new Set(["Target alone", "First token", "Draft"]);
const WORDS = { Accepted: "accepted", "Per round": "a round", "Round trip": "round trip" };

function figure(name, value, digits, unit, explanation) {
  const isKnown = value !== null && value !== undefined;
  const shown = !isKnown ? "–" : value > 0 && value < 1 && !digits ? "<1" : value.toFixed(digits);
  return { name, value: shown, unit, explanation };
}

function percent(share) {
  return share === null ? null : share * 100;
}

function ratio(dividend, divisor) {
  return dividend > 0 && divisor > 0 ? dividend / divisor : null;
}
