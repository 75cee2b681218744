import assert from "node:assert/strict";
import { test } from "node:test";

import { Recent } from "../../../verifier/web/page/recent.js";
import { linePoints, tiles, workerFact } from "../../../verifier/web/page/overview.js";

const EMPTY = { num_rounds: 0, round_seconds: {}, batch_tokens: 0, batch_streams: 0, num_output_tokens: 0, num_tested_tokens: 0, num_accepted_tokens: 0, rejected: {} };
const at = (at_seconds, totals = {}) => ({ at_seconds, totals: { ...EMPTY, ...totals } });

test("one state alone says nothing of what happened lately", () => {
  const recent = new Recent();
  assert.equal(recent.figures(), null);
  recent.push(at(5, { num_rounds: 100, num_output_tokens: 1000 }));
  recent.push(at(5, { num_rounds: 100, num_output_tokens: 1000 }));
  assert.equal(recent.figures(), null);
  assert.deepEqual(recent.speeds, []);
});

test("figures are of what was counted between two states", () => {
  const recent = new Recent();
  recent.push(at(5, { num_rounds: 100, num_output_tokens: 1000, round_seconds: { total: 10, forward: 8 } }));
  recent.push(at(7, {
    num_rounds: 110, num_output_tokens: 1050, num_tested_tokens: 40, num_accepted_tokens: 30,
    batch_tokens: 80, batch_streams: 20, round_seconds: { total: 10.5, forward: 8.4, plan: 0.01 },
  }));
  const figures = recent.figures();
  assert.equal(figures.tokensPerSecond, 25);
  assert.equal(figures.acceptance, 0.75);
  assert.equal(figures.batchTokens, 8);
  assert.equal(figures.batchStreams, 2);
  assert.equal(figures.roundSeconds, 0.05);
  const phases = Object.fromEntries(figures.phases.map(({ name, seconds }) => [name, seconds]));
  assert.ok(Math.abs(phases.forward - 0.04) < 1e-9);
  assert.equal(phases.plan, 0.001);
  assert.equal(phases.deliver, 0);
  assert.deepEqual(recent.speeds, [25]);
});

test("without a round in between the means are not known", () => {
  const recent = new Recent();
  for (const seconds of [1, 2]) recent.push(at(seconds, { num_rounds: 3 }));
  const { tokensPerSecond, acceptance, roundSeconds, batchTokens } = recent.figures();
  assert.deepEqual([tokensPerSecond, acceptance, roundSeconds, batchTokens], [0, null, null, null]);
});

test("means are over ten seconds, and over a longer pause of the page", () => {
  const recent = new Recent();
  for (let seconds = 0; seconds <= 30; seconds++) recent.push(at(seconds, { num_output_tokens: seconds < 20 ? 0 : (seconds - 20) * 7 }));
  assert.equal(recent.figures().tokensPerSecond, 7);
  recent.push(at(130, { num_output_tokens: 170 }));
  assert.equal(recent.figures().seconds, 100);
});

test("a verifier that was started anew is a new beginning", () => {
  const recent = new Recent();
  recent.push(at(100, { num_rounds: 10, num_output_tokens: 500 }));
  recent.push(at(101, { num_rounds: 20, num_output_tokens: 600 }));
  recent.push(at(102, { num_rounds: 2, num_output_tokens: 5 }));
  assert.equal(recent.figures(), null);
  assert.deepEqual(recent.speeds, []);
});

test("the line of speeds goes from 0 to the largest", () => {
  assert.equal(linePoints([1], 100, 22), "");
  assert.equal(linePoints([0, 0], 100, 22), "");
  assert.equal(linePoints([0, 5, 10], 100, 22), "0.0,21.0 50.0,11.0 100.0,1.0");
});

test("tiles say – for what is not known", () => {
  const state = {
    devices: [{ is_connected: true }, { is_connected: false }], num_running: 3, num_waiting: 1,
    cache: { num_blocks: 8, num_free_blocks: 6 }, max_round_tokens: 1024, budget_tokens: 16, jain_index: null, log_goodput: -1.234,
  };
  const shown = Object.fromEntries(tiles(state, null).map(([name, value, more]) => [name, `${value} ${more}`]));
  assert.equal(shown.Output, "– tokens/s");
  assert.equal(shown.Devices, "1 of 2 connected");
  assert.equal(shown.Streams, "3 running, 1 waiting");
  assert.equal(shown.Round, "– no round of late");
  assert.equal(shown["Jain index"], "– 1 is even");
  assert.equal(shown["Σ log goodput"], "-1.23 ln tokens/s");
  assert.equal(shown.Cache, "25 % in use");
});

test("a worker is told of with its state, its rounds, and what was lost and moved", () => {
  const worker = { number: 1, state: "serving", because: "", num_streams: 4, num_rounds: 50, round_seconds: 1.25, num_lost: 0, num_moved_in: 0, num_moved_out: 0 };
  assert.deepEqual(workerFact(worker), ["1 serving", "4 streams, 25 ms a round"]);
  const lost = { ...worker, state: "lost", because: "it did not answer in time", num_streams: 0, num_rounds: 0, num_lost: 2, num_moved_in: 1, num_moved_out: 5 };
  assert.deepEqual(workerFact(lost), ["1 lost: it did not answer in time", "0 streams, – a round, lost 2 times, 1 moved in, 5 out"]);
});
