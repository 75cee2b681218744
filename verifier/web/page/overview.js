// The figures above the devices: what the verifier does now, a round by phase, cache, refusals.

import { byId, drawing, element, setAttribute, setText } from "../../../shared/web/page/element.js";
import { milliseconds, number, percent, seconds } from "./words.js";

const [LINE_WIDTH, LINE_HEIGHT] = [120, 24];

// What the tiles show: [name, value, a word more, explanation].
export function tiles(state, figures) {
  const connected = state.devices.filter((device) => device.is_connected).length;
  const used = 1 - state.cache.num_free_blocks / state.cache.num_blocks;
  return [
    ["Output", number(figures?.tokensPerSecond, 1), "tokens/s", "Output tokens of all streams a second, of late"],
    ["Devices", number(connected), `of ${number(state.devices.length)} connected`, "Boards with a connection"],
    ["Streams", number(state.num_running), `running, ${number(state.num_waiting)} waiting`, "Open streams with a place in the cache, and without"],
    ["Accepted", percent(figures?.acceptance), "of draft tokens", "Of the draft tokens that rounds tested of late"],
    ["Round", milliseconds(figures?.roundSeconds), rate(figures), "From the start of planning until all is settled"],
    ["Tokens a round", number(figures?.batchTokens, 1), `of at most ${number(state.max_round_tokens)}`, "Draft tokens, one of each stream, prompts"],
    ["Streams a round", number(figures?.batchStreams, 1), `room for ${number(state.budget_tokens)} drafts`, "Streams with a part in a round; draft tokens that the next one may hold"],
    ["Draft token", milliseconds(state.draft_token_price_seconds), "in all", "What one more draft token in a round costs all devices together"],
    ["Cache", percent(used), "in use", "Blocks of the cache of keys and values"],
    ["Jain index", number(state.jain_index, 3), "1 is even", "Fairness of tokens per round over all devices"],
    ["Σ log goodput", number(state.log_goodput, 2), "ln tokens/s", "What the policy goodspeed makes large, over all devices"],
  ];
}

export class Overview {
  #tiles = [];
  #line = drawing("polyline", { points: "" });
  #phases = [];

  show(state, recent) {
    const figures = recent.figures();
    this.#showTiles(tiles(state, figures), recent.speeds);
    this.#showPhases(figures);
    showFacts(byId("cache"), cacheFacts(state));
    byId("workers-card").hidden = !state.workers.length;
    showFacts(byId("workers"), state.workers.map(workerFact));
    const refused = Object.entries(state.totals.rejected).sort(([, a], [, b]) => b - a);
    showFacts(byId("rejected"), refused.length ? refused.map(([reason, count]) => [reason.replaceAll("_", " "), number(count)]) : [["nothing yet", "0"]]);
  }

  #showTiles(shown, speeds) {
    if (!this.#tiles.length) {
      this.#tiles = shown.map(([name, , , explanation]) => newTile(name, explanation));
      byId("tiles").append(...this.#tiles.map(({ tile }) => tile));
      const svg = drawing("svg", { class: "line", viewBox: `0 0 ${LINE_WIDTH} ${LINE_HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.#line);
      this.#tiles[0].tile.append(svg);
    }
    shown.forEach(([, value, more], i) => {
      setText(this.#tiles[i].value, value);
      setText(this.#tiles[i].more, more);
    });
    setAttribute(this.#line, "points", linePoints(speeds, LINE_WIDTH, LINE_HEIGHT));
  }

  #showPhases(figures) {
    const isRunning = figures?.rounds > 0;
    setText(byId("phases-note"), isRunning
      ? `Mean of ${number(figures.rounds)} rounds in ${seconds(figures.seconds)}; planner, loop and lock add ${milliseconds(figures.overheadSeconds)} to the target’s time`
      : "No round of late");
    if (!figures) return;
    if (!this.#phases.length) {
      this.#phases = figures.phases.map(({ words, isBeside }) => newPhase(words, isBeside));
      byId("phases").append(...this.#phases.map(({ item }) => item));
    }
    figures.phases.forEach(({ seconds: taken }, i) => {
      setText(this.#phases[i].value, milliseconds(taken));
      const share = figures.roundSeconds ? Math.min(taken / figures.roundSeconds, 1) : 0;
      setAttribute(this.#phases[i].bar, "width", `${(share * 100).toFixed(1)}%`);
    });
  }
}

// Where the line of speeds goes: the newest at the right, from 0 to the largest.
export function linePoints(speeds, width, height) {
  const most = Math.max(...speeds, 0);
  if (speeds.length < 2 || !most) return "";
  const step = width / (speeds.length - 1);
  return speeds.map((speed, i) => `${(i * step).toFixed(1)},${(height - 1 - (speed / most) * (height - 2)).toFixed(1)}`).join(" ");
}

function rate(figures) {
  return figures?.rounds ? `${number(figures.rounds / figures.seconds, 1)} a second` : "no round of late";
}

function cacheFacts({ cache, devices, num_waiting, num_draft_timeouts }) {
  const longest = Math.max(...devices.map((device) => device.waiting_seconds ?? 0), 0);
  const hit = cache.prefix_query_tokens ? cache.prefix_hit_tokens / cache.prefix_query_tokens : null;
  return [
    ["tokens in use", number((cache.num_blocks - cache.num_free_blocks) * cache.block_tokens)],
    ["tokens in all", number(cache.num_blocks * cache.block_tokens)],
    ["found there already", percent(hit)],
    ["streams without room", number(num_waiting)],
    ["longest wait for room", num_waiting ? seconds(longest) : "–"],
    ["lost their place", number(cache.num_preemptions)],
    ["drafts never sent", number(num_draft_timeouts)],
  ];
}

// One worker: what it does, and what was lost and moved since the start.
export function workerFact(worker) {
  const mean = worker.num_rounds ? worker.round_seconds / worker.num_rounds : null;
  const words = [`${number(worker.num_streams)} streams`, `${milliseconds(mean)} a round`];
  if (worker.num_lost) words.push(`lost ${number(worker.num_lost)} times`);
  if (worker.num_moved_in + worker.num_moved_out) words.push(`${number(worker.num_moved_in)} moved in, ${number(worker.num_moved_out)} out`);
  return [`${worker.number} ${worker.because ? `${worker.state}: ${worker.because}` : worker.state}`, words.join(", ")];
}

function showFacts(list, facts) {
  while (list.children.length > facts.length) list.lastChild.remove();
  facts.forEach(([name, value], i) => {
    if (!list.children[i]) list.append(element("div", {}, element("dt"), element("dd")));
    setText(list.children[i].children[0], name);
    setText(list.children[i].children[1], value);
  });
}

function newTile(name, explanation) {
  const [value, more] = [element("span", { class: "value" }), element("span", { class: "more" })];
  return { tile: element("div", { title: explanation }, element("dt", {}, name), element("dd", {}, value, " ", more)), value, more };
}

function newPhase(words, isBeside) {
  const value = element("span", { class: "took" });
  const bar = drawing("rect", { height: "100%", width: "0%", rx: 2 });
  const svg = drawing("svg", { class: isBeside ? "phase beside" : "phase", "aria-hidden": "true" }, bar);
  const name = element("span", {}, words, isBeside ? element("span", { class: "soft" }, " · beside the next round") : "");
  return { item: element("li", {}, name, value, svg), value, bar };
}
