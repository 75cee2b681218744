import assert from "node:assert/strict";
import { test } from "node:test";

import { shownFigures, summary } from "../../../edge_agent/web/page/answer/figures.js";
import { FrameBatch } from "../../../edge_agent/web/page/answer/frame_batch.js";
import { ACCEPTED, ALONE, BONUS, FORCED, OWN, REJECTION, appendRun, cutRuns, describeCounts, kindOf } from "../../../edge_agent/web/page/answer/origin.js";
import { roundsBetween } from "../../../edge_agent/web/page/answer/round_strip.js";

test("what comes between two frames is painted once", () => {
  const painted = [];
  const due = [];
  const batch = new FrameBatch((items) => painted.push(items), (callback) => due.push(callback));
  batch.add(1);
  batch.add(2);
  assert.deepEqual([painted, due.length], [[], 1]);
  due[0]();
  batch.add(3);
  due[1]();
  assert.deepEqual(painted, [[1, 2], [3]]);
});

test("a flush paints at once, and the frame that was due nothing more", () => {
  const painted = [];
  const due = [];
  const batch = new FrameBatch((items) => painted.push(items), (callback) => due.push(callback));
  batch.add(1);
  batch.flush();
  due[0]();
  assert.deepEqual(painted, [[1]]);
});

test("pieces of one kind that follow each other are one run", () => {
  const runs = [];
  for (const [length, kind] of [[2, ACCEPTED], [3, ACCEPTED], [1, BONUS]]) appendRun(runs, length, kind);
  assert.deepEqual(runs, [[5, ACCEPTED], [6, BONUS]]);
  assert.deepEqual(cutRuns(runs, 1, 8), [[1, 5, ACCEPTED], [5, 6, BONUS], [6, 8, null]]);
  assert.deepEqual(cutRuns(runs, 5, 6), [[5, 6, BONUS]]);
  assert.deepEqual(cutRuns(runs, 2, 2), []);
});

test("messages tell their kind", () => {
  const messages = [{ origin: "accepted" }, ...["rejection", "bonus", "alone", "forced", undefined].map((reason) => ({ origin: "target", reason }))];
  assert.deepEqual(messages.map(kindOf), [ACCEPTED, REJECTION, BONUS, ALONE, FORCED, OWN]);
  assert.match(describeCounts([3, 1, 0, 0, 0]), /^4 pieces of text: 3 drafted .*; 1 the target’s own, in place/);
});

const TIMINGS = {
  output_tokens: 101, total_seconds: 2.5, seconds_to_first_token: 0.5, survived_tokens: 70, rejections: 30,
  num_verdicts: 25, drafted_tokens: 110, num_drafting_verdicts: 20, accepted_tokens: 76, round_trip_seconds: 0.0123,
};

test("figures are those of the terminal chat", () => {
  const figures = Object.fromEntries(shownFigures(TIMINGS).map(({ name, value }) => [name, value]));
  assert.deepEqual(figures, {
    Speed: "50.0", "Target alone": "12.0", Accepted: "70", "Per round": "4.04", Draft: "5.5", "Round trip": "12", "First token": "500", Tokens: "101",
  });
  const said = summary(TIMINGS);
  assert.equal(said.replaceAll("\u00a0", " "), "50.0 tokens/s · 70 % accepted · 4.04 tokens a round · 12 ms round trip · 101 tokens");
  assert.ok(said.split(" ").includes("12\u00a0ms\u00a0round\u00a0trip"), "a number stays with its unit");
});

test("what was not counted is not shown as a number", () => {
  const unknown = { ...TIMINGS, output_tokens: 1, survived_tokens: 0, num_drafting_verdicts: 0, round_trip_seconds: null };
  const values = shownFigures(unknown).map(({ value }) => value);
  assert.deepEqual(values, ["–", "12.0", "–", "0.04", "–", "–", "500", "1"]);
  assert.ok(shownFigures(null).every(({ value }) => value === "–"));
});

test("rounds are what changed between two timings", () => {
  const later = { ...TIMINGS, num_verdicts: 27, output_tokens: 110, accepted_tokens: 83 };
  assert.deepEqual(roundsBetween(TIMINGS, later), { rounds: 2, tokens: 9, accepted: 7 });
  assert.deepEqual(roundsBetween(null, TIMINGS), { rounds: 25, tokens: 101, accepted: 76 });
});
