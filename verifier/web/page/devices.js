// The list of devices: its columns, search, filter and order. Pure.

import { milliseconds, number, percent } from "./words.js";

// `value` is what is sorted by (null: not known, always last), `text` what is shown.
export const COLUMNS = [
  column("name", "Device", (device) => device.name, (device) => device.name, "The name of its token"),
  column("goodput", "Tokens/s", (device) => (device.num_streams ? device.goodput_tokens_per_second : null),
    (device, value) => number(value, 1), "Output tokens a second of late, waiting included"),
  column("alone", "Of alone", (device) => device.of_alone_ratio,
    (device, value) => (value === null ? "–" : `${number(value, 2)} ×`), "Its tokens a second over those that the target alone would give it"),
  column("acceptance", "Accepted", (device) => device.acceptance, (device, value) => percent(value),
    "How often the next draft token survives; the bars show it by position in the draft"),
  column("draft", "Draft", (device) => device.draft_length, (device, value) => number(value),
    "Draft length S over the device’s streams"),
  column("window", "Window", (device) => device.window, (device, value) => number(value),
    "How far its streams may draft ahead"),
  column("trip", "Round trip", (device) => device.round_trip_seconds, (device, value) => milliseconds(value),
    "From a message to its answer, without the drafting"),
  column("drafting", "Drafting", (device) => device.draft_tokens_per_second,
    (device, value) => (value === null ? "–" : `${number(value)}/s`), "Draft tokens a second of the board"),
  column("heat", "Heat", (device) => device.celsius, (device, value) => (value === null ? "–" : `${number(value)} °C`),
    "The hottest sensor of the board’s processor"),
  column("streams", "Streams", (device) => device.num_streams, (device, value) => number(value),
    "Open streams, those that wait included"),
  column("cache", "Cache", (device, numBlocks) => device.cache_blocks / numBlocks,
    (device, value) => (device.cache_blocks ? percent(value) : "–"), "Its part of the cache"),
  column("state", "State", stateOf, (device, value) => value, "Whether it drafts, or why not; fused: the target writes the stream alone"),
];
const RIGHT = new Set(["goodput", "alone", "draft", "window", "trip", "drafting", "heat", "streams", "cache"]);

// Whether it drafts, or why not, what its operator set, and what is wrong with its hardware, in words.
export function stateOf(device) {
  return [draftingOf(device), ...modeOf(device), ...termsOf(device), ...promiseOf(device), ...device.troubles].join("; ");
}

// DSD's two modes: a stream that the target writes alone is fused, one that its board drafts for distributed.
function modeOf({ num_fused: numFused, num_streams: numStreams }) {
  return numFused ? [`${number(numFused)} of ${number(numStreams)} streams fused`] : [];
}

// What is promised to it and how that is kept, or why a stream waits for its promise or has none.
function promiseOf({ promise }) {
  if (promise === null) return [];
  const { in_time: inTime, sentence, token_seconds: seconds } = promise;
  if (sentence) return [sentence];
  return [`a token in ${milliseconds(seconds)} is promised${inTime === null ? "" : `, ${percent(inTime)} in time`}`];
}

function termsOf({ cap, weight }) {
  const terms = [];
  if (cap !== null) terms.push(`drafts of at most ${number(cap)} tokens`);
  if (weight !== 1) terms.push(`weight ${weight}`);
  return terms;
}

// A paused device still has the drafts that it was granted before.
export function drafts(device) {
  return device.draft_length > 0 && device.idle_cause !== "paused";
}

function draftingOf(device) {
  if (drafts(device)) return "drafts";
  if (device.idle_sentence) return device.idle_sentence;
  return device.is_connected ? "no open stream" : "not connected";
}

export function isNumber(key) {
  return RIGHT.has(key);
}

const FILTERS = {
  all: () => true,
  connected: (device) => device.is_connected,
  streams: (device) => device.num_streams > 0,
  idle: (device) => device.num_streams > 0 && device.draft_length === 0,
};

// The devices to show in their order: those with all the words in name or state.
export function chosen(state, { words, only, key, isDescending }) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const holds = (device) => {
    const text = `${device.name} ${stateOf(device)}`.toLowerCase();
    return FILTERS[only](device) && wanted.every((word) => text.includes(word));
  };
  const { value } = COLUMNS.find((one) => one.key === key);
  const keyed = state.devices.filter(holds).map((device) => [value(device, state.cache.num_blocks), device]);
  keyed.sort(([a, first], [b, second]) => compare(a, b, isDescending) || compareNames(first.name, second.name));
  return keyed.map(([, device]) => device);
}

// "position 1: 82 %, 2: 71 %, …": what the bars say.
export function positionsInWords(device, names) {
  const parts = device.reached.map((reached, i) => `${names[i]}: ${percent(reached ? device.accepted[i] / reached : null)}`);
  return parts.length ? `accepted at position ${parts.join(", ")}` : "no draft was tested yet";
}

function compare(a, b, isDescending) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "string" ? compareNames(a, b) : a - b;
  return isDescending ? -order : order;
}

const COLLATOR = new Intl.Collator("en", { numeric: true });

function compareNames(a, b) {
  return COLLATOR.compare(a, b);
}

function column(key, title, value, text, explanation) {
  return { key, title, value, text, explanation };
}
