import assert from "node:assert/strict";
import { test } from "node:test";

import { ACCEPTED, BONUS, REJECTION } from "../../../edge_agent/web/page/answer/origin.js";
import { Painter } from "../../../edge_agent/web/page/answer/painter.js";
import { elementsOf, plain, shown, useDocument } from "./document.mjs";

const TEXT = `# Head

A **bold** and *it* with \`code\`, [link](https://x.y) and <script>alert(1)</script>.

- one
- two
  1. three

\`\`\`js
let a = "<b>";

b();
\`\`\`

| a | b |
|---|---|
| 1 | 2 |

> quoted
> again

last **words`;

function paintAtOnce(text) {
  const main = useDocument();
  const painter = new Painter(main);
  painter.append(text, ACCEPTED);
  painter.finish();
  return main;
}

test("a text in pieces of any size looks as if it had come at once", () => {
  const expected = shown(paintAtOnce(TEXT));
  for (const size of [1, 2, 3, 7, 50]) {
    const main = useDocument();
    const painter = new Painter(main);
    for (let at = 0; at < TEXT.length; at += size) {
      painter.append(TEXT.slice(at, at + size), ACCEPTED);
      painter.paint();
    }
    painter.finish();
    assert.equal(shown(main), expected);
  }
});

test("tags of a model are text", () => {
  const main = paintAtOnce("<img src=x onerror=alert(1)> [x](javascript:alert(1)) <https://x.y/\"onclick=>\n\n```<i>\n</pre><script>\n```");
  const tags = new Set(elementsOf(main).map(({ tag }) => tag));
  for (const tag of ["img", "script", "i"]) assert.ok(!tags.has(tag), tag);
  const links = elementsOf(main).filter(({ tag }) => tag === "a").map(({ href }) => href);
  for (const href of links) assert.match(href, /^https:/);
});

test("every piece shows its origin, inside markup too", () => {
  const main = useDocument();
  const painter = new Painter(main);
  for (const [text, kind] of [["a **b", ACCEPTED], ["c", REJECTION], ["d** e", BONUS]]) {
    painter.append(text, kind);
    painter.paint();
  }
  assert.equal(
    shown(main),
    "<main><p><span.accepted>a </span><strong><span.accepted>b</span><span.rejection>c</span>" +
      "<span.bonus>d</span></strong><span.bonus> e</span></p></main>",
  );
});

test("what is settled is never touched again", () => {
  const main = useDocument();
  const settled = [];
  const painter = new Painter(main, (block) => settled.push(block));
  painter.append("one\n\ntwo\n", ACCEPTED);
  painter.paint();
  assert.equal(settled.length, 1);
  const [first] = main.children;
  Object.freeze(first.children);
  for (const piece of ["\n", "three", " **four**\n", "\n- five"]) {
    painter.append(piece, ACCEPTED);
    painter.paint();
  }
  painter.finish();
  assert.equal(main.children[0], first);
  assert.deepEqual(settled.map(plain), [
    "<p>one</p>", "<p>two</p>", "<p>three <strong>four</strong></p>", "<ul><li><p>five</p></li></ul>",
  ]);
});

test("a growing block only gets more: what stands in it is not made anew", () => {
  const main = useDocument();
  const painter = new Painter(main);
  painter.append("```\n", ACCEPTED);
  painter.paint();
  const made = [];
  const { createElement } = document;
  document.createElement = (tag) => (made.push(tag), createElement(tag));
  for (let i = 0; i < 500; i++) {
    painter.append(`line ${i}\n`, ACCEPTED);
    painter.paint();
  }
  assert.equal(made.length, 1); // one span
});
