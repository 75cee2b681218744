// What a screen reader says by itself: settled blocks of an answer, one after the other, and how it
// ended. The answer itself is no live region: it would be read again with every token.

const MAX_SAID = 40; // elements; a reader has long read the first ones

export class Announcer {
  #region;

  constructor(region) {
    this.#region = region;
  }

  say(sentence) {
    if (!sentence.trim()) return;
    const line = document.createElement("p");
    line.append(sentence);
    this.#region.append(line);
    while (this.#region.childElementCount > MAX_SAID) this.#region.firstChild.remove();
  }

  clear() {
    this.#region.replaceChildren();
  }
}
