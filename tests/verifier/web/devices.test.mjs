import assert from "node:assert/strict";
import { test } from "node:test";

import { COLUMNS, chosen, positionsInWords, stateOf } from "../../../verifier/web/page/devices.js";
import { milliseconds, number, percent, seconds } from "../../../verifier/web/page/words.js";

const QUIET = {
  is_connected: true, goodput_tokens_per_second: null, of_alone_ratio: null, acceptance: null, reached: [], accepted: [], draft_length: 0, window: 0,
  num_streams: 0, num_fused: 0, round_trip_seconds: null, draft_tokens_per_second: null, celsius: null, troubles: [], cache_blocks: 0, idle_cause: null, idle_sentence: null,
  weight: 1, cap: null, promise: null,
};
const device = (name, changes = {}) => ({ ...QUIET, name, ...changes });
const state = (...devices) => ({ devices, cache: { num_blocks: 100 } });
const ALL = { words: "", only: "all", key: "name", isDescending: false };
const names = (devices, choice = {}) => chosen(state(...devices), { ...ALL, ...choice }).map(({ name }) => name);
const textOf = (key, one) => {
  const { value, text } = COLUMNS.find((column) => column.key === key);
  return text(one, value(one, 100));
};

test("names are in the order that people count in", () => {
  assert.deepEqual(names([device("board-10"), device("board-9"), device("attic")]), ["attic", "board-9", "board-10"]);
  assert.deepEqual(names([device("b"), device("a")], { isDescending: true }), ["b", "a"]);
});

test("what is not known comes last, either way, and equal ones by name", () => {
  const devices = [device("d"), device("c", { acceptance: 0.5 }), device("b", { acceptance: 0.9 }), device("a", { acceptance: 0.5 })];
  assert.deepEqual(names(devices, { key: "acceptance" }), ["a", "c", "b", "d"]);
  assert.deepEqual(names(devices, { key: "acceptance", isDescending: true }), ["b", "a", "c", "d"]);
});

test("what is promised stands with how it is kept, or why a stream waits", () => {
  assert.equal(stateOf(device("a", { promise: { token_seconds: 0.05, in_time: null, sentence: null } })), "no open stream; a token in 50 ms is promised");
  assert.equal(stateOf(device("a", { promise: { token_seconds: 0.05, in_time: 0.98, sentence: null } })), "no open stream; a token in 50 ms is promised, 98 % in time");
  assert.equal(stateOf(device("a", { promise: { token_seconds: 0.05, in_time: null, sentence: "waits: it" } })), "no open stream; waits: it");
});

test("the speed of a device without a stream is not of now", () => {
  const gone = device("gone", { goodput_tokens_per_second: 99 });
  const here = device("here", { goodput_tokens_per_second: 12.34, num_streams: 1 });
  assert.deepEqual(names([gone, here], { key: "goodput", isDescending: true }), ["here", "gone"]);
  assert.deepEqual([textOf("goodput", gone), textOf("goodput", here)], ["–", "12.3"]);
});

test("who gains by drafts, and how much", () => {
  const devices = [device("slower", { of_alone_ratio: 0.97 }), device("alone"), device("gains", { of_alone_ratio: 1.845 })];
  assert.deepEqual(names(devices, { key: "alone", isDescending: true }), ["gains", "slower", "alone"]);
  assert.deepEqual(devices.map((one) => textOf("alone", one)), ["0.97 ×", "–", "1.85 ×"]);
});

test("every word must be in name or state", () => {
  const devices = [
    device("kitchen-1", { idle_sentence: "its board is still reading the prompt", num_streams: 1 }),
    device("kitchen-2", { draft_length: 4 }),
    device("attic"),
  ];
  assert.deepEqual(names(devices, { words: "Kitchen" }), ["kitchen-1", "kitchen-2"]);
  assert.deepEqual(names(devices, { words: " kit  prompt " }), ["kitchen-1"]);
  assert.deepEqual(names(devices, { words: "cellar" }), []);
});

test("filters show a part", () => {
  const devices = [
    device("away", { is_connected: false }), device("drafting", { num_streams: 1, draft_length: 3 }), device("idle", { num_streams: 2 }), device("quiet"),
  ];
  assert.deepEqual(names(devices, { only: "connected" }), ["drafting", "idle", "quiet"]);
  assert.deepEqual(names(devices, { only: "streams" }), ["drafting", "idle"]);
  assert.deepEqual(names(devices, { only: "idle" }), ["idle"]);
});

test("streams that the target writes alone are counted", () => {
  assert.equal(stateOf(device("a", { draft_length: 2, num_streams: 3, num_fused: 1 })), "drafts; 1 of 3 streams fused");
});

test("what an operator set stands beside what a device does", () => {
  assert.equal(stateOf(device("a", { draft_length: 2, cap: 3, weight: 0.5 })), "drafts; drafts of at most 3 tokens; weight 0.5");
  const paused = device("a", { draft_length: 2, idle_cause: "paused", idle_sentence: "an operator paused this device", troubles: ["80 °C"] });
  assert.equal(stateOf(paused), "an operator paused this device; 80 °C");
});

test("a device drafts, or says why not", () => {
  assert.equal(stateOf(device("a", { draft_length: 2, idle_sentence: null })), "drafts");
  assert.equal(stateOf(device("a", { idle_sentence: "waits for room in the cache" })), "waits for room in the cache");
  assert.equal(stateOf(device("a")), "no open stream");
  assert.equal(stateOf(device("a", { is_connected: false })), "not connected");
});

test("bars are told in words", () => {
  const drafted = device("a", { reached: [10, 8, 0], accepted: [8, 2, 0] });
  assert.equal(positionsInWords(drafted, ["0", "1", "2"]), "accepted at position 0: 80 %, 1: 25 %, 2: –");
  assert.equal(positionsInWords(device("a"), ["0"]), "no draft was tested yet");
});

test("numbers have a unit and no more digits than they are worth", () => {
  assert.deepEqual([milliseconds(0.00012), milliseconds(0.0042), milliseconds(0.25), milliseconds(0), milliseconds(null)], ["0.12 ms", "4.2 ms", "250 ms", "0 ms", "–"]);
  assert.deepEqual([percent(0.004), percent(0), percent(0.756), percent(undefined)], ["<1 %", "0 %", "76 %", "–"]);
  assert.deepEqual([number(12345.678, 1), number(null)], ["12,345.7", "–"]);
  assert.deepEqual([seconds(3.14), seconds(600), seconds(null)], ["3.1 s", "10 min", "–"]);
  assert.deepEqual([textOf("cache", device("a", { cache_blocks: 25 })), textOf("cache", device("a"))], ["25 %", "–"]);
});

test("what is wrong with a board's hardware stands beside its state, and is searched", () => {
  const hot = device("hot", { draft_length: 2, celsius: 84, troubles: ["throttled", "undervoltage before"] });
  assert.equal(stateOf(hot), "drafts; throttled; undervoltage before");
  assert.deepEqual([textOf("heat", hot), textOf("heat", device("cool"))], ["84 °C", "–"]);
  assert.deepEqual(names([hot, device("cool")], { words: "throttled" }), ["hot"]);
});
