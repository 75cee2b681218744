// The board's API key: asked for once, kept for this tab, or in this browser if its owner says so.

import { byId } from "./element.js";

const NAME = "goodspeed-key";

export function currentKey() {
  return read(sessionStorage) ?? read(localStorage);
}

export function forgetKey() {
  for (const storage of [sessionStorage, localStorage]) storage.removeItem(NAME);
}

// Ask for the key; resolves when one was given.
export function askForKey(isWrong) {
  const dialog = byId("key-dialog");
  const form = dialog.querySelector("form");
  byId("key-wrong").hidden = !isWrong;
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    dialog.oncancel = (event) => event.preventDefault(); // without a key there is nothing to do
    form.onsubmit = (event) => {
      event.preventDefault();
      const key = form.elements.key.value.trim();
      if (!key) return;
      forgetKey();
      (form.elements.remember.checked ? localStorage : sessionStorage).setItem(NAME, key);
      form.reset();
      dialog.close();
      resolve(key);
    };
  });
}

function read(storage) {
  return storage.getItem(NAME);
}
