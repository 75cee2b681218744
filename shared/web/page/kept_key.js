// A key that a page needs: asked for once, kept for this tab, or in this browser if its owner says so.

import { byId } from "./element.js";

export class KeptKey {
  #name; // in the browser's storage
  #word;

  // The dialog, its field and the words for a wrong key are named after `word`.
  constructor(name, word) {
    this.#name = name;
    this.#word = word;
  }

  get current() {
    return sessionStorage.getItem(this.#name) ?? localStorage.getItem(this.#name);
  }

  forget() {
    for (const storage of [sessionStorage, localStorage]) storage.removeItem(this.#name);
  }

  // Ask for it; resolves when one was given.
  ask(isWrong) {
    const dialog = byId(`${this.#word}-dialog`);
    const form = dialog.querySelector("form");
    byId(`${this.#word}-wrong`).hidden = !isWrong;
    if (!dialog.open) dialog.showModal();
    return new Promise((resolve) => {
      dialog.oncancel = (event) => event.preventDefault(); // without it there is nothing to do
      form.onsubmit = (event) => {
        event.preventDefault();
        const key = form.elements[this.#word].value.trim();
        if (!key) return;
        this.forget();
        (form.elements.remember.checked ? localStorage : sessionStorage).setItem(this.#name, key);
        form.reset();
        dialog.close();
        resolve();
      };
    });
  }
}
