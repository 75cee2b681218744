// Lays JSON out as it comes, a line for each member; what does not begin as JSON stays as it is. Pure.

const INDENT = "  ";
const MAX_DEPTH = 24; // of indents; what is deeper is shown as deep

export class JsonLayout {
  #isJson = null; // not known yet
  #depth = 0;
  #isInString = false;
  #isEscaped = false;
  #hasOpened = false; // a brace whose first member has not come

  // What is shown for more of the text.
  add(text) {
    let shown = "";
    for (const character of text) shown += this.#next(character);
    return shown;
  }

  #next(character) {
    if (this.#isJson === null && character.trim()) this.#isJson = "{[".includes(character);
    if (!this.#isJson) return character;
    if (this.#isInString) return this.#inString(character);
    if (!character.trim()) return "";
    const hadOpened = this.#hasOpened;
    this.#hasOpened = false;
    switch (character) {
      case "{":
      case "[":
        this.#depth++;
        this.#hasOpened = true;
        return (hadOpened ? this.#line(-1) : "") + character;
      case "}":
      case "]":
        this.#depth = Math.max(this.#depth - 1, 0);
        return (hadOpened ? "" : this.#line()) + character;
      case ",":
        return character + this.#line();
      case ":":
        return ": ";
      default:
        this.#isInString = character === '"';
        return (hadOpened ? this.#line() : "") + character;
    }
  }

  #inString(character) {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (character === "\\") this.#isEscaped = true;
    else if (character === '"') this.#isInString = false;
    return character;
  }

  #line(change = 0) {
    return `\n${INDENT.repeat(Math.min(this.#depth + change, MAX_DEPTH))}`;
  }
}
