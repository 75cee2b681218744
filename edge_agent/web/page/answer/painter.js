// Paints an answer as it grows: markdown, each piece with its origin. What stands is never painted
// again: settled blocks are left alone, and of the last block only its end changes.

import { numSettled, parseBlocks } from "../markdown/block_markdown.js";
import { KINDS, appendRun, cutRuns } from "./origin.js";

const TAGS = {
  paragraph: "p",
  quote: "blockquote",
  item: "li",
  rule: "hr",
  row: "tr",
  header: "th",
  cell: "td",
  strong: "strong",
  emphasis: "em",
  deleted: "del",
  "inline-code": "code",
  break: "br",
};

export class Painter {
  text = "";
  runs = [];
  #settledEnd = 0;
  #children = []; // of the last block and what is not settled beside it
  #container;
  #onSettled;

  // `onSettled` gets the element of each block that will not change any more.
  constructor(container, onSettled = () => {}) {
    this.#container = container;
    this.#onSettled = onSettled;
  }

  // Take in text without painting it; `kind` as in origin.js.
  append(text, kind) {
    this.text += text;
    appendRun(this.runs, text.length, kind);
  }

  // Take in what was stored of an answer.
  restore(text, runs) {
    this.text = text;
    this.runs = runs.map((run) => [...run]);
  }

  paint() {
    const blocks = parseBlocks(this.text, this.#settledEnd);
    this.#sync(this.#container, this.#children, blocks);
    const count = numSettled(this.text, blocks);
    if (!count) return;
    this.#settledEnd = blocks[count].start;
    for (const { made } of this.#children.splice(0, count)) this.#onSettled(made[0]);
  }

  // Paint, and nothing will follow.
  finish() {
    this.paint();
    for (const { made } of this.#children.splice(0)) this.#onSettled(made[0]);
    this.#settledEnd = this.text.length;
  }

  // Make the children of an element those of the nodes, by changes at their end only.
  #sync(parent, records, nodes) {
    let same = 0;
    while (same < records.length && same < nodes.length && isSame(records[same].node, nodes[same])) {
      same++;
    }
    const grown = records[same] && nodes[same] && mayGrow(records[same].node, nodes[same]);
    const numKept = grown ? same + 1 : same;
    for (const { made } of records.splice(numKept)) made.forEach((node) => node.remove());
    if (grown) this.#grow(parent, records[same], nodes[same]);
    for (const node of nodes.slice(numKept)) records.push(this.#make(parent, node));
  }

  #grow(parent, record, node) {
    const from = record.node.end;
    record.node = node;
    if (node.type === "text") this.#addText(parent, record.made, from, node.end);
    else if (node.children) this.#sync(record.inside, record.children, node.children);
  }

  #make(parent, node) {
    const record = { node, made: [], children: [], inside: null };
    if (node.type === "text") {
      this.#addText(parent, record.made, node.start, node.end);
      return record;
    }
    const [outside, inside] = makeElement(node);
    record.made.push(outside);
    record.inside = inside;
    if (node.children) this.#sync(inside, record.children, node.children);
    parent.append(outside);
    return record;
  }

  #addText(parent, made, from, to) {
    for (const [start, end, kind] of cutRuns(this.runs, from, to)) {
      addMarked(parent, made, this.text.slice(start, end), kind);
    }
  }
}

// Text of one origin behind what is there; `made` are the spans until now.
export function addMarked(parent, made, text, kind) {
  const last = made.at(-1);
  if (last && last.kind === kind) {
    last.firstChild.appendData(text);
    return;
  }
  const span = document.createElement("span");
  span.kind = kind;
  if (kind !== null) span.className = KINDS[kind].name;
  span.append(text);
  made.push(span);
  parent.append(span);
}

function isSame(one, other) {
  return mayGrow(one, other) && one.end === other.end;
}

function mayGrow(one, other) {
  const isLonger = one.end <= other.end || Boolean(other.children);
  return one.type === other.type && one.start === other.start && one.key === other.key && isLonger;
}

// The element of a node, and the one that its children go into.
function makeElement(node) {
  switch (node.type) {
    case "heading":
      return both(document.createElement(`h${Math.min(Math.max(node.key, 2) + 1, 6)}`)); // below its h2
    case "list":
      return both(listElement(node.key));
    case "link":
      return both(linkElement(node.key));
    case "code":
      return codeElement(node.key);
    case "table":
      return tableElement();
    default: {
      const made = document.createElement(TAGS[node.type]);
      if (node.type === "header") made.scope = "col";
      if (node.type === "header" || node.type === "cell") made.className = node.key;
      return both(made);
    }
  }
}

function both(made) {
  return [made, made];
}

function listElement(first) {
  const made = document.createElement(first ? "ol" : "ul");
  if (first) made.start = Number(first);
  return made;
}

function linkElement(address) {
  const made = document.createElement("a");
  made.href = address;
  made.target = "_blank";
  made.rel = "noopener noreferrer nofollow";
  return made;
}

// A box of code with its name and a button that copies it; and the element of the code.
export function codeElement(language) {
  const [box, head, name, pre, code] = ["div", "div", "span", "pre", "code"].map((tag) =>
    document.createElement(tag),
  );
  box.className = "code";
  name.append(language || "text");
  const copy = document.createElement("button");
  copy.type = "button";
  copy.dataset.action = "copy-code"; // the transcript listens
  copy.append("Copy");
  pre.tabIndex = 0; // it scrolls, so a keyboard must reach it
  head.append(name, copy);
  pre.append(code);
  box.append(head, pre);
  return [box, code];
}

function tableElement() {
  const box = document.createElement("div");
  const table = document.createElement("table");
  box.className = "table";
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "Table");
  box.append(table);
  return [box, table];
}
