// Markdown inside a paragraph, as nodes over ranges of the source; pure, and never HTML.
// Every `text` node shows its range of the source as it stands.

import { safeAddress, trimmedAddress } from "./address.js";

const MAX_SPAN = 1000; // characters between the marks of a span; makes a long paragraph linear
const MAX_DEPTH = 6;
const SPECIAL = /[\\`*_~[!<\n]|https?:\/\//g;
const PUNCTUATION = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}_]/u;
const BARE_LINK = /https?:\/\/[^\s<>"`]+/y;
const ANGLE_LINK = /<((?:https?:\/\/|mailto:)[^\s<>]+)>/y;
const LINK_END = /\(\s*((?:[^\s()\\]|\\.|\([^\s()]*\))+)(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/y;

// `segments` are ranges of the source that make up the paragraph.
export function parseInline(source, segments) {
  return new Inline(source, segments).parseAll();
}

class Inline {
  constructor(source, segments) {
    this.segments = segments;
    this.bracketAt = -1; // the next closing bracket, as it was found last
    this.text = segments.map(([start, end]) => source.slice(start, end)).join("");
  }

  parseAll() {
    const nodes = [];
    this.parse(0, this.text.length, 0, nodes);
    return nodes;
  }

  parse(start, end, depth, nodes) {
    const failed = new Map(); // mark -> where the search for its other half need not look again
    let plain = start;
    let at = start;
    for (;;) {
      SPECIAL.lastIndex = at;
      const found = SPECIAL.exec(this.text);
      if (!found || found.index >= end) break;
      at = found.index;
      const span = depth < MAX_DEPTH ? this.spanAt(at, end, depth, failed) : null;
      if (!span) {
        at += found[0].length > 1 ? found[0].length : this.markLength(at, end);
        continue;
      }
      this.addText(plain, span.from ?? at, nodes);
      nodes.push(...span.nodes);
      plain = at = span.next;
    }
    this.addText(plain, end, nodes);
  }

  // What begins here, with `next` behind it; null where the character is only itself.
  spanAt(at, end, depth, failed) {
    switch (this.text[at]) {
      case "\\":
        return this.escapeAt(at, end);
      case "`":
        return this.codeAt(at, end);
      case "\n":
        return this.breakAt(at);
      case "[":
        return this.linkAt(at, at, end, depth);
      case "!":
        return this.text[at + 1] === "[" ? this.linkAt(at, at + 1, end, depth) : null;
      case "<":
        return this.addressAt(at, end, ANGLE_LINK);
      case "h":
        return WORD.test(this.text[at - 1] ?? " ") ? null : this.addressAt(at, end, BARE_LINK);
      default:
        return this.emphasisAt(at, end, depth, failed);
    }
  }

  escapeAt(at, end) {
    const next = this.text[at + 1];
    if (at + 1 >= end) return null;
    if (next === "\n") return { nodes: [this.node("break", at, at + 2)], next: at + 2 };
    if (!PUNCTUATION.test(next)) return null;
    const nodes = [];
    this.addText(at + 1, at + 2, nodes);
    return { nodes, next: at + 2 };
  }

  codeAt(at, end) {
    const length = this.runLength(at, end);
    const closing = this.closingBackticks(at + length, Math.min(end, at + MAX_SPAN), length);
    if (closing === null) return null;
    let [from, to] = [at + length, closing];
    const inner = this.text.slice(from, to);
    if (/^ .* $/s.test(inner) && inner.trim()) [from, to] = [from + 1, to - 1];
    const node = this.node("inline-code", at, closing + length, { children: [] });
    this.addText(from, to, node.children);
    return { nodes: [node], next: closing + length };
  }

  breakAt(at) {
    const spaces = /  +$/.exec(this.text.slice(Math.max(0, at - 8), at));
    if (!spaces) return null;
    const from = at - spaces[0].length;
    return { nodes: [this.node("break", from, at + 1)], from, next: at + 1 };
  }

  linkAt(at, bracket, end, depth) {
    const closing = this.closingBracket(bracket + 1, Math.min(end, bracket + MAX_SPAN));
    if (closing === null) return null;
    LINK_END.lastIndex = closing + 1;
    const target = LINK_END.exec(this.text);
    if (!target || LINK_END.lastIndex > end) return null;
    const next = LINK_END.lastIndex;
    const address = safeAddress(target[1].replace(/\\(.)/g, "$1"));
    if (address === null) return null;
    const node = this.node("link", at, next, { key: address, children: [] });
    this.parse(bracket + 1, closing, depth + 1, node.children);
    if (!node.children.length) {
      const from = closing + 1 + target[0].indexOf(target[1]);
      this.addText(from, from + target[1].length, node.children);
    }
    return { nodes: [node], next };
  }

  addressAt(at, end, pattern) {
    pattern.lastIndex = at;
    const found = pattern.exec(this.text);
    if (!found) return null;
    const isBare = found[1] === undefined;
    const shown = isBare ? trimmedAddress(found[0]) : found[1];
    const from = isBare ? at : at + 1;
    const next = from + shown.length + (isBare ? 0 : 1);
    const address = safeAddress(shown);
    if (address === null || next > end) return null;
    const node = this.node("link", at, next, { key: address, children: [] });
    this.addText(from, from + shown.length, node.children);
    return { nodes: [node], next };
  }

  emphasisAt(at, end, depth, failed) {
    const mark = this.markAt(at, end);
    const from = at + mark.length;
    if (!mark || from >= end || /\s/.test(this.text[from])) return null;
    if (mark[0] === "_" && WORD.test(this.text[at - 1] ?? " ")) return null;
    const limit = Math.min(end, from + MAX_SPAN);
    const closing = this.closingMark(mark, from, limit, failed);
    if (closing === null) return null;
    const type = mark === "~~" ? "deleted" : mark.length === 2 ? "strong" : "emphasis";
    const node = this.node(type, at, closing + mark.length, { children: [] });
    this.parse(from, closing, depth + 1, node.children);
    return { nodes: [node], next: closing + mark.length };
  }

  markAt(at, end) {
    const character = this.text[at];
    const isDouble = at + 1 < end && this.text[at + 1] === character;
    if (character === "~") return isDouble ? "~~" : "";
    return isDouble ? character + character : character;
  }

  // How far to go where nothing begins: a run of marks is passed at once.
  markLength(at, end) {
    return "`*_~".includes(this.text[at]) ? this.runLength(at, end) : 1;
  }

  runLength(at, end) {
    let to = at;
    while (to < end && this.text[to] === this.text[at]) to++;
    return to - at;
  }

  closingMark(mark, from, limit, failed) {
    let at = Math.max(from, failed.get(mark) ?? 0);
    while (at < limit) {
      const character = this.text[at];
      if (character === "\\") at += 2;
      else if (character === "`") at = this.behindCode(at, limit);
      else if (character !== mark[0]) at += 1;
      else {
        const length = this.runLength(at, limit);
        // Two single marks are those of a span inside.
        const fits = mark.length === 2 ? length >= 2 : length !== 2;
        if (fits && this.mayClose(at, length, from, mark)) return at + length - mark.length;
        at += length;
      }
    }
    failed.set(mark, Math.max(limit, failed.get(mark) ?? 0));
    return null;
  }

  mayClose(at, length, from, mark) {
    if (at <= from || /\s/.test(this.text[at - 1])) return false;
    return mark[0] !== "_" || !WORD.test(this.text[at + length] ?? " ");
  }

  behindCode(at, limit) {
    const length = this.runLength(at, limit);
    const closing = this.closingBackticks(at + length, limit, length);
    return closing === null ? at + length : closing + length;
  }

  closingBackticks(from, limit, length) {
    for (let at = this.text.indexOf("`", from); at !== -1 && at < limit; ) {
      const found = this.runLength(at, limit);
      if (found === length) return at;
      at = this.text.indexOf("`", at + found);
    }
    return null;
  }

  closingBracket(from, limit) {
    if (this.bracketAt < from) this.bracketAt = this.text.indexOf("]", from) >>> 0; // -1: far off
    if (this.bracketAt >= limit) return null;
    let depth = 1;
    for (let at = from; at < limit; ) {
      const character = this.text[at];
      if (character === "`") at = this.behindCode(at, limit);
      else {
        if (character === "[") depth += 1;
        if (character === "]" && --depth === 0) return at;
        at += character === "\\" ? 2 : 1;
      }
    }
    return null;
  }

  node(type, from, to, rest = {}) {
    return { type, start: this.sourceAt(from), end: this.sourceAt(to - 1) + 1, ...rest };
  }

  addText(from, to, nodes) {
    let base = 0;
    for (const [start, end] of this.segments) {
      const [first, last] = [Math.max(from, base), Math.min(to, base + end - start)];
      if (first < last) {
        nodes.push({ type: "text", start: start + first - base, end: start + last - base });
      }
      base += end - start;
      if (base >= to) break;
    }
  }

  sourceAt(position) {
    for (const [start, end] of this.segments) {
      if (position < end - start) return start + position;
      position -= end - start;
    }
    return this.segments.at(-1)[1];
  }
}
