// The live line: the figures of the answer that is being written, or of the last one.

import { element, setText } from "../../../../shared/web/page/element.js";
import { shownFigures } from "./figures.js";
import { RoundStrip } from "./round_strip.js";

export class LiveLine {
  #values = new Map();
  #strip;
  #state;

  constructor(list, canvas, state) {
    this.#strip = new RoundStrip(canvas);
    this.#state = state;
    for (const { name, unit, explanation } of shownFigures(null)) {
      const value = element("span", { class: "value" }, "–");
      list.append(
        element("div", { title: explanation }, element("dt", {}, name), element("dd", {}, value, unit ? ` ${unit}` : "")),
      );
      this.#values.set(name, value);
    }
  }

  // A new answer begins.
  begin() {
    this.#strip.clear();
    this.show(null);
    this.say("Waiting for the first token…");
  }

  // The newest timings of the answer, null for none.
  show(timings) {
    for (const { name, value } of shownFigures(timings)) setText(this.#values.get(name), value);
    if (timings) this.#strip.add(timings);
  }

  say(sentence) {
    setText(this.#state, sentence);
  }
}
