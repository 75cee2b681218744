import assert from "node:assert/strict";
import { test } from "node:test";

import { AnswerPainter, partsOf } from "../../../edge_agent/web/page/answer/answer_painter.js";
import { JsonLayout } from "../../../edge_agent/web/page/answer/json_layout.js";
import { ACCEPTED, ALONE, FORCED } from "../../../edge_agent/web/page/answer/origin.js";
import { failureWords, waitingWords } from "../../../edge_agent/web/page/answer/waiting_words.js";
import { plain, shown, useDocument } from "./document.mjs";

const PIECES = [
  ["Look", ALONE, "reasoning"], [" it up.", ACCEPTED, "reasoning"], ["I look", ACCEPTED], [".", ACCEPTED],
  ["weather", FORCED, "call"], ['{"city', FORCED, "arguments"], ['": "Oslo", "days": []}', ACCEPTED, "arguments"],
  ["clock", FORCED, "call"],
];

function painted(isInFrames) {
  const main = useDocument();
  const settled = [];
  const painter = new AnswerPainter(main, (words) => settled.push(words));
  for (const [text, kind, part] of PIECES) {
    painter.append(text, kind, part);
    if (isInFrames) painter.paint();
  }
  painter.finish();
  return { main, painter, settled };
}

test("thoughts, text and calls stand apart, in their order", () => {
  const { main, painter, settled } = painted(true);
  const [thoughts, prose, call, other] = main.children;
  assert.equal(plain(thoughts), "<details><summary>Thoughts, 3 words</summary><div><p>Look it up.</p></div></details>");
  assert.equal(plain(prose), "<div><p>I look.</p></div>");
  assert.match(plain(call), /calls weather.*<code>\{\n  "city": "Oslo",\n  "days": \[\]\n\}<\/code>/s);
  assert.match(plain(other), /calls clock.*<code><\/code>/s);
  assert.equal(painter.text, "I look.");
  assert.deepEqual(painter.parts.map(({ part, name, text }) => [part, name, text]), [
    ["reasoning", "", "Look it up."], ["text", "", "I look."],
    ["call", "weather", '{"city": "Oslo", "days": []}'], ["call", "clock", ""],
  ]);
  assert.deepEqual(settled, ["I look.", 'Calls weather with {"city": "Oslo", "days": []}', "Calls clock with no arguments"]);
});

test("arguments show how each piece came to be", () => {
  const { main } = painted(true);
  assert.match(shown(main.children[2]), /<span.forced>\{<\/span><span>\n  <\/span><span.forced>"city<\/span><span.accepted>": "Oslo",<\/span>/);
});

test("an answer looks the same at once, in frames and from the store", () => {
  const { main, painter } = painted(false);
  assert.equal(shown(painted(true).main), shown(main));
  const restored = useDocument();
  const other = new AnswerPainter(restored);
  other.restore(partsOf({ parts: JSON.parse(JSON.stringify(painter.parts)) }));
  other.finish();
  assert.equal(shown(restored), shown(main));
});

test("an answer of an older page is text alone", () => {
  assert.deepEqual(partsOf({ text: "a", runs: [[1, 0]] }), [{ part: "text", name: "", text: "a", runs: [[1, 0]] }]);
  assert.deepEqual(partsOf({ text: "" }), []);
});

test("JSON is laid out however it is cut, and other text is left alone", () => {
  const laidOut = (pieces) => {
    const layout = new JsonLayout();
    return pieces.map((piece) => layout.add(piece)).join("");
  };
  const value = { a: [1, { b: "x, {y}: \"z\\" }], c: {}, d: null };
  const written = JSON.stringify(value);
  assert.equal(laidOut([written]), JSON.stringify(value, null, 2));
  assert.equal(laidOut([...written]), JSON.stringify(value, null, 2));
  assert.equal(laidOut(["  ", JSON.stringify(value, null, 7)]).trim(), JSON.stringify(value, null, 2));
  assert.equal(laidOut(["not {json}, ", "is it"]), "not {json}, is it");
});

test("why nothing comes is said in words", () => {
  assert.equal(waitingWords({ type: "waiting", num_ahead: 2, seconds: 20 }), "The board is busy: place 3 in its line, about 20 s.");
  assert.equal(waitingWords({ num_ahead: 0 }), "The board is busy: place 1 in its line.");
  assert.equal(waitingWords({ because: "the verifier is loading its model (43 %)" }), "The verifier is loading its model (43 %).");
  assert.equal(waitingWords({ num_ahead: 0, seconds: 150, because: "paused" }), "The board is busy: place 1 in its line, about 3 min. Paused.");
  assert.equal(waitingWords({}), "");
  assert.equal(failureWords({ message: "64 requests wait", retry_after_seconds: 20 }), "64 requests wait. Ask again in about 20 s.");
  assert.equal(failureWords({ message: "too hot." }), "Too hot.");
});
