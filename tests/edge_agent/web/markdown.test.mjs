import assert from "node:assert/strict";
import { test } from "node:test";

import { numSettled, parseBlocks } from "../../../edge_agent/web/page/markdown/block_markdown.js";
import { safeAddress } from "../../../edge_agent/web/page/markdown/address.js";

// "type=key(children)", text in quotes.
function tree(source) {
  const show = (node) => {
    if (node.type === "text") return JSON.stringify(source.slice(node.start, node.end));
    const key = node.key === undefined || node.key === "" ? "" : `=${node.key}`;
    return node.type + key + (node.children ? `(${node.children.map(show).join(" ")})` : "");
  };
  return parseBlocks(source).map(show).join(" ");
}

const CASES = [
  ["# A *b* ##", 'heading=1("A " emphasis("b"))'],
  ["####### a", 'paragraph("####### a")'],
  ["a\nb", 'paragraph("a\\nb")'],
  ["a  \nb", 'paragraph("a" break "b")'],
  ["a\n\nb", 'paragraph("a") paragraph("b")'],
  ["**a *b* c**", 'paragraph(strong("a " emphasis("b") " c"))'],
  ["***a***", 'paragraph(strong(emphasis("a")))'],
  ["2 * 3 * 4, snake_case_name", 'paragraph("2 * 3 * 4, snake_case_name")'],
  ["**open", 'paragraph("**open")'],
  ["~~a~~ ~b~", 'paragraph(deleted("a") " ~b~")'],
  ["`a*b*` ``c`d``", 'paragraph(inline-code("a*b*") " " inline-code("c`d"))'],
  ["\\*a\\*", 'paragraph("*" "a" "*")'],
  ["<b>a</b> <script>", 'paragraph("<b>a</b> <script>")'],
  ["[a](https://x.y) [b](/z)", 'paragraph(link=https://x.y/("a") " [b](/z)")'],
  ["![a](https://x.y/i.png)", 'paragraph(link=https://x.y/i.png("a"))'],
  ["see https://x.y/z.", 'paragraph("see " link=https://x.y/z("https://x.y/z") ".")'],
  ["- a\n- b\n  - c", 'list(item(paragraph("a")) item(paragraph("b") list(item(paragraph("c")))))'],
  ["3. a\n4. b", 'list=3(item(paragraph("a")) item(paragraph("b")))'],
  ["- a\n\n- b\n\nc", 'list(item(paragraph("a")) item(paragraph("b"))) paragraph("c")'],
  ["1. a\n   ```\n   b\n   ```", 'list=1(item(paragraph("a") code("b")))'],
  ["```py\na\n\n<b>\n```\nc", 'code=py("a\\n\\n<b>") paragraph("c")'],
  ["```\na", 'code("a")'],
  ["> a\n> > b", 'quote(paragraph("a") quote(paragraph("b")))'],
  ["---", "rule"],
  [
    "|a|b|\n|-|:-:|\n|`c`|\n",
    'table(row(header("a") header=center("b")) row(cell(inline-code("c")) cell=center()))',
  ],
  ["|a|b|\n|-|", 'paragraph("|a|b|\\n|-|")'],
];

for (const [source, expected] of CASES) {
  test(`${JSON.stringify(source)} is understood`, () => {
    assert.equal(tree(source), expected);
  });
}

test("only http, https and mailto lead anywhere", () => {
  const refused = ["javascript:alert(1)", "JaVaScRiPt:1", "data:text/html,x", "vbscript:x", "//x.y", "/v1", "file:///"];
  assert.deepEqual(refused.map(safeAddress), refused.map(() => null));
  assert.equal(safeAddress("https://x.y/?a=b"), "https://x.y/?a=b");
});

test("whatever follows, a settled block stays as it is", () => {
  const pieces = ["a", "\n", "\n", "- ", "b", "```", "|", "-", "# ", "> ", "1. ", "  ", "*", "`"];
  let seed = 7;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  for (let round = 0; round < 3000; round++) {
    const source = Array.from({ length: 14 }, () => pieces[random(pieces.length)]).join("");
    const more = Array.from({ length: 6 }, () => pieces[random(pieces.length)]).join("");
    const before = parseBlocks(source);
    const count = numSettled(source, before);
    const after = parseBlocks(source + more);
    assert.deepEqual(after.slice(0, count), before.slice(0, count), JSON.stringify([source, more]));
    if (count) {
      const rest = parseBlocks(source + more, before[count].start);
      assert.deepEqual(rest, after.slice(count), JSON.stringify([source, more]));
    }
  }
});

test("hostile texts take no more than a blink", () => {
  for (const part of ["*a ", "**a", "[", "[a](", "`", "a_b ", "``a`", "<", "> ", "- ", "|", "~~a", "![", "\\"]) {
    const source = part.repeat(50_000 / part.length);
    const start = performance.now();
    parseBlocks(source);
    const seconds = (performance.now() - start) / 1000;
    assert.ok(seconds < 1, `${JSON.stringify(part)}: ${seconds} s`);
  }
});
