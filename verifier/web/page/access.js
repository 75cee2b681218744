// The state of the verifier, and the operator's token: asked for once, kept for this tab, or in this
// browser if its owner says so.

import { byId } from "./element.js";

const NAME = "goodspeed-metrics-token";
const PATIENCE_MILLISECONDS = 10000;

export class WrongToken extends Error {}

export function currentToken() {
  return sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME);
}

export function forgetToken() {
  for (const storage of [sessionStorage, localStorage]) storage.removeItem(NAME);
}

export async function fetchState(token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const signal = AbortSignal.timeout(PATIENCE_MILLISECONDS);
  const response = await fetch("/dashboard/state", { headers, signal });
  if (response.status === 401 || response.status === 403) throw new WrongToken();
  if (!response.ok) throw new Error(`the verifier answers with status ${response.status}`);
  return response.json();
}

// Ask for the token; resolves when one was given.
export function askForToken(isWrong) {
  const dialog = byId("token-dialog");
  const form = dialog.querySelector("form");
  byId("token-wrong").hidden = !isWrong;
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    dialog.oncancel = (event) => event.preventDefault(); // without it there is nothing to see
    form.onsubmit = (event) => {
      event.preventDefault();
      const token = form.elements.token.value.trim();
      if (!token) return;
      forgetToken();
      (form.elements.remember.checked ? localStorage : sessionStorage).setItem(NAME, token);
      form.reset();
      dialog.close();
      resolve();
    };
  });
}
