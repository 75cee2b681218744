// The conversation on the screen: its turns, and the scrolling that follows the newest text.

import { shownNodes, versions } from "./conversation.js";
import { copyText } from "../../../../shared/web/page/element.js";
import { Turn } from "./turn.js";

const NEAR_END = 48; // pixels

export class Transcript {
  #scroller;
  #list;
  #turns = new Map(); // by the id of the message; what was painted is not painted again
  #conversation = null;
  #follows = true;
  #lastTop = 0;
  #onSettled;
  #actions;

  // `actions`: edit(id, text), again(id), version(id, step), results(id, texts).
  constructor(scroller, list, actions, onSettled) {
    this.#scroller = scroller;
    this.#list = list;
    this.#onSettled = onSettled;
    this.#actions = actions;
    list.addEventListener("click", (event) => this.#act(event.target.closest("[data-action]"), actions));
    scroller.addEventListener("scroll", () => this.#watchScroll(), { passive: true });
    // Between layout and paint: the frame with new text shows it.
    const resizes = new ResizeObserver(() => this.keepUp());
    for (const watched of [scroller, list]) resizes.observe(watched);
  }

  // Show a conversation; `runningId` is the answer that is being written, if any.
  show(conversation, runningId) {
    if (conversation !== this.#conversation) {
      const running = this.#turns.get(runningId);
      this.#turns = new Map(running ? [[runningId, running]] : []);
      this.#conversation = conversation;
      this.#follows = true;
    }
    const turns = shownNodes(conversation).map((node) => this.turn(node));
    for (const turn of turns) {
      turn.update(versions(conversation, turn.node.id), turn.node.id === runningId);
      const isLast = turn === turns.at(-1) && !runningId;
      turn.askForResults(isLast, (texts) => this.#actions.results(turn.node.id, texts));
    }
    const elements = turns.map((turn) => turn.element);
    const isShown = elements.every((one, i) => one === this.#list.children[i]);
    if (!isShown || elements.length !== this.#list.childElementCount) {
      this.#list.replaceChildren(...elements);
    }
  }

  turn(node) {
    let turn = this.#turns.get(node.id);
    if (!turn) this.#turns.set(node.id, (turn = new Turn(node, this.#onSettled)));
    return turn;
  }

  // Scroll to the end, unless the reader has scrolled up.
  keepUp() {
    if (this.#follows) this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  follow() {
    this.#follows = true;
    this.keepUp();
  }

  focusVersion(id, action) {
    const buttons = this.#turns.get(id)?.element.querySelectorAll(".versions button") ?? [];
    const wanted = [...buttons].find((one) => one.dataset.action === action && !one.disabled);
    (wanted ?? [...buttons].find((one) => !one.disabled))?.focus();
  }

  #watchScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    if (scrollTop < this.#lastTop) this.#follows = false;
    if (scrollHeight - scrollTop - clientHeight < NEAR_END) this.#follows = true;
    this.#lastTop = scrollTop;
  }

  async #act(pressed, actions) {
    const id = pressed?.closest("article").dataset.id;
    const turn = this.#turns.get(id);
    switch (pressed?.dataset.action) {
      case "copy":
        return this.#copy(pressed, turn.painter?.text ?? turn.node.text);
      case "copy-code":
        return this.#copy(pressed, pressed.closest(".code").querySelector("code").textContent);
      case "edit":
        return turn.edit((text) => (text === null ? pressed.focus() : actions.edit(id, text)));
      case "again":
        return actions.again(id);
      case "previous":
        return actions.version(id, -1);
      case "next":
        return actions.version(id, 1);
      default:
        return undefined;
    }
  }

  async #copy(pressed, text) {
    const label = pressed.textContent;
    await copyText(text);
    pressed.textContent = "Copied";
    setTimeout(() => (pressed.textContent = label), 1500);
  }
}
