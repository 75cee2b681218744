// The conversations that this browser keeps, the newest first.

import { element } from "../../../../shared/web/page/element.js";

export class ConversationList {
  #list;
  #actions;

  // `actions`: open(id), remove(id).
  constructor(list, actions) {
    this.#list = list;
    this.#actions = actions;
  }

  show(conversations, currentId) {
    this.#list.replaceChildren(...conversations.map((one) => this.#item(one, one.id === currentId)));
  }

  #item({ id, title, changed }, isCurrent) {
    const name = title || "Empty conversation";
    const open = element(
      "button",
      { type: "button", class: "open", "aria-current": isCurrent ? "page" : null, onclick: () => this.#actions.open(id) },
      element("span", { class: "title" }, name),
      element("span", { class: "when" }, shortTime(changed)),
    );
    const remove = element(
      "button",
      {
        type: "button",
        class: "remove",
        "aria-label": `Delete “${name}”`,
        onclick: () => confirm(`Delete “${name}”?`) && this.#actions.remove(id),
      },
      "×",
    );
    return element("li", {}, open, remove);
  }
}

function shortTime(milliseconds) {
  const date = new Date(milliseconds);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday
    ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })
    : date.toLocaleDateString([], { day: "numeric", month: "short" });
}
