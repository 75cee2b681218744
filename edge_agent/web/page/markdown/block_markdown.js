// Markdown's blocks, as nodes over ranges of the source; pure, and never HTML.
//
// A node has `type`, `start`, `end` and, but for text, breaks and rules, `children`; `key` holds what
// else its element depends on. What the last line is may change as it grows: `numSettled` says
// which blocks no further text can change.

import { parseInline } from "./inline_markdown.js";

const MAX_DEPTH = 8;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^`]*)$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( {1,4}(?! )| |$)/;
const DELIMITER_ROW = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

// The blocks of the source from an offset on, which is the start of a line.
export function parseBlocks(source, from = 0) {
  const lines = [];
  for (let start = from; start < source.length; ) {
    const newline = source.indexOf("\n", start);
    const end = newline === -1 ? source.length : newline;
    lines.push({ start, end });
    start = end + 1;
  }
  return new Blocks(source, lines, 0).parse();
}

// How many of the blocks stay as they are, whatever follows the source.
export function numSettled(source, blocks) {
  const lastNewline = source.lastIndexOf("\n");
  let count = blocks.length;
  while (count > 0 && !(blocks[count]?.firstLineEnd <= lastNewline)) count--;
  return count;
}

class Blocks {
  constructor(source, lines, depth) {
    this.source = source;
    this.lines = lines;
    this.depth = depth;
    this.at = 0;
  }

  parse() {
    const blocks = [];
    while (this.at < this.lines.length) {
      if (this.isBlank(this.at)) {
        this.at++;
        continue;
      }
      const first = this.lines[this.at];
      const block = this.block();
      const last = this.lines[this.at - 1];
      blocks.push({ start: first.start, end: last.end, firstLineEnd: first.end, ...block });
    }
    return blocks;
  }

  // The block that begins with the line; afterwards `at` is behind it.
  block() {
    const line = this.lineText(this.at);
    const fence = FENCE.exec(line);
    if (fence) return this.code(fence);
    const heading = HEADING.exec(line);
    if (heading) return this.heading(heading, line);
    if (RULE.test(line)) {
      this.at++;
      return { type: "rule" };
    }
    if (this.depth < MAX_DEPTH && QUOTE.test(line)) return this.quote();
    if (this.depth < MAX_DEPTH && ITEM.test(line)) return this.list(ITEM.exec(line));
    return this.beginsTable(this.at) ? this.table() : this.paragraph();
  }

  code([, indent, marks, language]) {
    const closing = new RegExp(`^ {0,3}\\${marks[0]}{${marks.length},}[ \\t]*$`);
    const lines = [];
    for (this.at++; this.at < this.lines.length; this.at++) {
      if (closing.test(this.lineText(this.at))) {
        this.at++;
        break;
      }
      lines.push(this.without(this.at, (text) => countSpaces(text, indent.length)));
    }
    const children = segments(this.source, lines).map(([start, end]) => ({ type: "text", start, end }));
    return { type: "code", key: language.trim().split(/\s/)[0], children };
  }

  heading([marks, signs], line) {
    const { start } = this.lines[this.at++];
    const rest = line.slice(marks.length).replace(/(?:^|[ \t]+)#*[ \t]*$/, "");
    const from = start + marks.length;
    return { type: "heading", key: signs.length, children: this.inline([{ start: from, end: from + rest.length }]) };
  }

  quote() {
    const lines = [];
    while (this.at < this.lines.length && QUOTE.test(this.lineText(this.at))) {
      lines.push(this.without(this.at++, (text) => QUOTE.exec(text)[0].length));
    }
    return { type: "quote", children: this.inner(lines) };
  }

  list([, , marker]) {
    const isOrdered = marker.length > 1;
    const kind = marker.at(-1);
    const items = [];
    let behind = this.at; // the last line with text
    while (this.at < this.lines.length) {
      const line = this.lineText(this.at);
      const found = ITEM.exec(line);
      if (!found || found[2].at(-1) !== kind || RULE.test(line)) break;
      items.push(this.item(found));
      behind = this.at;
      while (this.at < this.lines.length && this.isBlank(this.at)) this.at++;
    }
    this.at = behind;
    const key = isOrdered ? String(parseInt(marker, 10)) : "";
    return { type: "list", key, children: items };
  }

  item([head, indent, marker]) {
    const width = Math.max(head.length, indent.length + marker.length + 1);
    const { start } = this.lines[this.at];
    const lines = [this.without(this.at, () => head.length)];
    let behind = this.at + 1;
    // Two spaces are enough to belong to an item, as models write it.
    for (let at = behind; at < this.lines.length; at++) {
      if (this.isBlank(at)) lines.push({ start: this.lines[at].end, end: this.lines[at].end });
      else if (countSpaces(this.lineText(at), 2) === 2) {
        lines.push(this.without(at, (text) => countSpaces(text, width)));
        behind = at + 1;
      } else break;
    }
    this.at = behind;
    return { type: "item", start, end: this.lines[behind - 1].end, children: this.inner(lines) };
  }

  beginsTable(at) {
    if (at + 1 >= this.lines.length) return false;
    const [header, delimiter] = [this.lineText(at), this.lineText(at + 1)];
    if (!header.includes("|") || !DELIMITER_ROW.test(delimiter)) return false;
    return cells(header).length === cells(delimiter).length;
  }

  table() {
    const delimiters = cells(this.lineText(this.at + 1));
    const firstLineEnd = this.lines[this.at + 1].end; // before that it may still be a paragraph
    const aligns = delimiters.map(({ text }) =>
      text.endsWith(":") ? (text.startsWith(":") ? "center" : "right") : "",
    );
    const rows = [this.row(this.at, "header", aligns)];
    for (this.at += 2; this.at < this.lines.length && this.lineText(this.at).includes("|"); this.at++) {
      rows.push(this.row(this.at, "cell", aligns));
    }
    return { type: "table", firstLineEnd, children: rows };
  }

  row(at, type, aligns) {
    const { start, end } = this.lines[at];
    const found = cells(this.lineText(at));
    const children = aligns.map((align, i) => {
      const { from, text } = found[i] ?? { from: end - start, text: "" };
      const range = { start: start + from, end: start + from + text.length };
      return { type, key: align, ...range, children: text ? this.inline([range]) : [] };
    });
    return { type: "row", start, end, children };
  }

  paragraph() {
    const lines = [];
    do {
      lines.push(this.without(this.at++, (text) => countSpaces(text, text.length)));
    } while (this.at < this.lines.length && !this.isBlank(this.at) && !this.interrupts(this.at));
    return { type: "paragraph", children: this.inline(lines) };
  }

  interrupts(at) {
    const line = this.lineText(at);
    const item = ITEM.exec(line);
    const beginsItem = item && item[3] && (item[2].length === 1 || parseInt(item[2], 10) === 1);
    return (
      FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || beginsItem ||
      this.beginsTable(at)
    );
  }

  inner(lines) {
    return new Blocks(this.source, lines, this.depth + 1).parse();
  }

  inline(lines) {
    const found = segments(this.source, lines);
    return found.length ? parseInline(this.source, found) : [];
  }

  without(at, prefixLength) {
    const { start, end } = this.lines[at];
    return { start: Math.min(end, start + prefixLength(this.lineText(at))), end };
  }

  lineText(at) {
    return this.source.slice(this.lines[at].start, this.lines[at].end);
  }

  isBlank(at) {
    return !this.lineText(at).trim();
  }
}

// Ranges that make up the lines with the newlines between them, as few as possible.
function segments(source, lines) {
  const ranges = [];
  lines.forEach(({ start, end }, i) => {
    if (i + 1 < lines.length) end += 1; // the newline
    if (ranges.at(-1)?.[1] === start) ranges.at(-1)[1] = end;
    else if (start < end) ranges.push([start, end]);
  });
  return ranges;
}

// A tab counts as enough.
function countSpaces(text, most) {
  let count = 0;
  while (count < most && text[count] === " ") count++;
  return text[count] === "\t" ? count + 1 : count;
}

// The cells of a table's row, trimmed, and where they begin.
function cells(line) {
  const trimmed = line.trimEnd();
  const found = [];
  let from = /^\s*\|?/.exec(trimmed)[0].length;
  for (let at = from; at <= trimmed.length; at++) {
    if (trimmed[at] === "\\") at++;
    else if (trimmed[at] === "|" || (at === trimmed.length && from < at)) {
      const text = trimmed.slice(from, at);
      const offset = text.length - text.trimStart().length;
      found.push({ from: from + offset, text: text.trim() });
      from = at + 1;
    }
  }
  return found;
}
