// One message on the screen. Buttons carry `data-action`; the transcript listens.

import { element, setText } from "../../../../shared/web/page/element.js";
import { summary } from "../answer/figures.js";
import { KINDS, describeCounts } from "../answer/origin.js";
import { resultForm } from "./call_results.js";
import { callsOf } from "./conversation.js";
import { AnswerPainter, partsOf } from "../answer/answer_painter.js";

const ENDS = {
  length: "Cut at the token limit.",
  context: "The context is full; a new conversation starts afresh.",
  cancelled: "Stopped.",
};
const WHO = { user: "You", assistant: "Answer", tool: "Result" };
const KINDS_OF_TURNS = { user: "question", assistant: "answer", tool: "question result" };
const ACTIONS = {
  user: { edit: "Edit", copy: "Copy" },
  assistant: { copy: "Copy", again: "Regenerate" },
  tool: { copy: "Copy" },
};

export class Turn {
  painter = null;
  #body;
  #note = element("p", { class: "note", role: "note", hidden: true });
  #figures = element("p", { class: "figures" });
  #bar = element("div", { class: "origin-bar", role: "img", hidden: true });
  #versions = element("span", { class: "versions" });
  #actions;
  #results = null;

  constructor(node, onSettled) {
    this.node = node;
    const isAnswer = node.role === "assistant";
    this.#body = element("div", { class: isAnswer ? "parts" : "said" });
    this.#actions = element("div", { class: "actions" }, this.#versions, ...actions(node.role));
    this.element = element(
      "article",
      { class: `turn ${KINDS_OF_TURNS[node.role]}`, "data-id": node.id, tabindex: "-1" },
      element("h2", { class: "who" }, WHO[node.role], node.name ? ` of ${node.name}` : ""),
      this.#body,
      this.#note,
      ...(isAnswer ? [element("footer", {}, this.#bar, this.#figures)] : []),
      this.#actions,
    );
    if (isAnswer) this.#restore(onSettled);
    else this.#body.append(node.text);
  }

  // Begin the answer anew.
  clear(onSettled) {
    this.#body.replaceChildren();
    this.painter = new AnswerPainter(this.#body, onSettled);
  }

  // Show what is known beside the text: its version, how it ended, its figures.
  update(ids, isRunning) {
    const { node } = this;
    this.element.classList.toggle("running", isRunning);
    this.element.setAttribute("aria-busy", String(isRunning));
    this.#actions.classList.toggle("waiting", isRunning);
    this.#showVersions(ids);
    const note = isRunning ? "" : (node.error ?? ENDS[node.end] ?? "");
    setText(this.#note, note);
    this.#note.hidden = !note;
    this.#note.classList.toggle("failure", Boolean(node.error));
    if (node.role !== "assistant" || isRunning) return;
    setText(this.#figures, node.timings ? summary(node.timings) : "");
    this.#showBar(node.counts);
  }

  // Say what the answer waits for; "" where it does not wait.
  showNote(words) {
    setText(this.#note, words);
    this.#note.hidden = !words;
  }

  // Ask for what came of the calls, where nothing follows the answer; `done` gets a text for each.
  askForResults(isWanted, done) {
    const isAsked = this.#results !== null;
    const calls = isWanted ? callsOf(this.node) : [];
    if (isAsked === calls.length > 0) return;
    this.#results?.remove();
    this.#results = calls.length ? resultForm(calls, done) : null;
    if (this.#results) this.#actions.before(this.#results);
  }

  // Let the message be changed in place; `done` gets the new text, or null.
  edit(done) {
    const area = element("textarea", { class: "edit", rows: 3, "aria-label": "Edit your message" });
    area.value = this.node.text;
    const finish = (text) => {
      editor.replaceWith(this.#body);
      this.#actions.hidden = false;
      done(text);
    };
    const send = element("button", { type: "submit", class: "primary" }, "Send as a new version");
    const cancel = element("button", { type: "button", onclick: () => finish(null) }, "Cancel");
    const onsubmit = (event) => {
      event.preventDefault();
      if (area.value.trim()) finish(area.value);
    };
    const editor = element("form", { onsubmit }, area, element("div", { class: "row" }, send, cancel));
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") finish(null);
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) editor.requestSubmit();
    });
    this.#body.replaceWith(editor);
    this.#actions.hidden = true;
    area.focus();
  }

  #restore(onSettled) {
    const parts = partsOf(this.node);
    this.clear(parts.length ? () => {} : onSettled);
    this.painter.restore(parts);
    this.painter.finish();
  }

  #showVersions(ids) {
    const place = ids.indexOf(this.node.id) + 1;
    if (ids.length < 2) return this.#versions.replaceChildren();
    if (!this.#versions.childElementCount) {
      this.#versions.append(
        element("button", { type: "button", "data-action": "previous", "aria-label": "Previous version" }, "‹"),
        element("span", {}),
        element("button", { type: "button", "data-action": "next", "aria-label": "Next version" }, "›"),
      );
    }
    const [previous, label, next] = this.#versions.children;
    setText(label, `${place} of ${ids.length}`);
    previous.disabled = place === 1;
    next.disabled = place === ids.length;
    return undefined;
  }

  #showBar(counts) {
    const words = counts ? describeCounts(counts) : "";
    this.#bar.hidden = !words;
    if (!words) return;
    this.#bar.setAttribute("aria-label", words);
    this.#bar.title = words;
    this.#bar.replaceChildren(
      ...KINDS.filter(({ kind }) => counts[kind]).map(({ kind, name }) => {
        const part = element("span", { class: name });
        part.style.flexGrow = counts[kind];
        return part;
      }),
    );
  }
}

function actions(role) {
  return Object.entries(ACTIONS[role]).map(([action, label]) =>
    element("button", { type: "button", "data-action": action }, label),
  );
}
