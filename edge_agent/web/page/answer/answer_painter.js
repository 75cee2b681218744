// Paints an answer of several parts, in their order: thoughts, text, calls of functions. A part is
// { part, name, text, runs }, so that it can be stored and exported as it is.

import { element, setText } from "../../../../shared/web/page/element.js";
import { CallPainter } from "./call_painter.js";
import { Painter, codeElement } from "./painter.js";

export class AnswerPainter {
  #container;
  #onSettled;
  #parts = []; // { part, name, painter, label }

  // `onSettled` gets the words of whatever will not change any more, but for thoughts.
  constructor(container, onSettled = () => {}) {
    this.#container = container;
    this.#onSettled = onSettled;
  }

  // What is the answer's text alone.
  get text() {
    return this.parts.filter(({ part }) => part === "text").map(({ text }) => text).join("");
  }

  get parts() {
    return this.#parts.map(({ part, name, painter }) => ({ part, name, text: painter.text, runs: painter.runs }));
  }

  // Take in a piece without painting it; `kind` as in origin.js.
  append(text, kind, part = "text") {
    if (part === "call") this.#begin("call", text);
    else this.#partFor(part).painter.append(text, kind);
  }

  // Take in what was stored.
  restore(parts) {
    for (const { part, name, text, runs } of parts) this.#begin(part, name).painter.restore(text, runs);
  }

  paint() {
    this.#parts.at(-1)?.painter.paint();
  }

  // Paint, and nothing will follow.
  finish() {
    this.#finishLast();
  }

  #partFor(part) {
    const last = this.#parts.at(-1);
    const isLast = part === "arguments" ? last?.part === "call" : last?.part === part;
    return isLast ? last : this.#begin(part === "arguments" ? "call" : part, "");
  }

  #begin(part, name = "") {
    this.#finishLast();
    const made = { part, name, label: null, painter: null };
    if (part === "reasoning") this.#beginThoughts(made);
    else if (part === "call") this.#beginCall(made, name);
    else {
      const prose = element("div", { class: "prose" });
      this.#container.append(prose);
      made.painter = new Painter(prose, (block) => this.#onSettled(block.textContent));
    }
    this.#parts.push(made);
    return made;
  }

  #finishLast() {
    const last = this.#parts.at(-1);
    last?.painter.finish();
    if (last?.label) setText(last.label, thoughtsLabel(last.painter.text));
  }

  #beginThoughts(made) {
    const prose = element("div", { class: "prose" });
    made.label = element("summary", {}, "Thinking…");
    made.painter = new Painter(prose);
    this.#container.append(element("details", { class: "thoughts" }, made.label, prose));
  }

  #beginCall(made, name) {
    const box = codeElement(`calls ${name}`);
    const section = element("section", { class: "call", "aria-label": `Call of ${name}` });
    made.painter = new CallPainter(section, name, box, this.#onSettled);
    this.#container.append(section);
  }
}

// The parts of an answer as it is stored; an older page kept text alone.
export function partsOf(node) {
  if (node.parts) return node.parts;
  return node.text ? [{ part: "text", name: "", text: node.text, runs: node.runs ?? [] }] : [];
}

function thoughtsLabel(text) {
  const numWords = text.split(/\s+/).filter(Boolean).length;
  return `Thoughts, ${numWords} ${numWords === 1 ? "word" : "words"}`;
}
