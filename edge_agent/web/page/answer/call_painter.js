// Paints one call of a function as it grows: its arguments laid out, each piece with its origin.

import { JsonLayout } from "./json_layout.js";
import { appendRun, cutRuns } from "./origin.js";
import { addMarked } from "./painter.js";

const INDENT = /(\n *)/;

export class CallPainter {
  text = ""; // the arguments, as they came
  runs = [];
  #name;
  #box;
  #code;
  #layout = new JsonLayout();
  #made = [];
  #paintedEnd = 0;
  #onSettled;

  // `codeBox` is [element, the element of its code], as for code in an answer.
  constructor(container, name, codeBox, onSettled) {
    [this.#box, this.#code] = codeBox;
    this.#name = name;
    this.#onSettled = onSettled;
    container.append(this.#box);
  }

  append(text, kind) {
    this.text += text;
    appendRun(this.runs, text.length, kind);
  }

  restore(text, runs) {
    this.text = text;
    this.runs = runs.map((run) => [...run]);
  }

  paint() {
    for (const [start, end, kind] of cutRuns(this.runs, this.#paintedEnd, this.text.length)) {
      for (const piece of this.#layout.add(this.text.slice(start, end)).split(INDENT)) {
        // An indent is nobody's token.
        if (piece) addMarked(this.#code, this.#made, piece, piece.startsWith("\n") ? null : kind);
      }
    }
    this.#paintedEnd = this.text.length;
  }

  finish() {
    this.paint();
    this.#onSettled(`Calls ${this.#name} with ${this.text || "no arguments"}`);
  }
}
