// System prompt and sampling of a conversation. A field that is left empty is not sent, and then the
// target's own value holds.

import { byId } from "../../../shared/web/page/element.js";

const NUMBERS = ["temperature", "top_p", "top_k", "max_tokens", "seed"];

// Show the dialog; `done` gets the new settings.
export function editSettings(settings, done) {
  const dialog = byId("settings-dialog");
  const form = dialog.querySelector("form");
  fill(form.elements, settings);
  form.onsubmit = (event) => {
    event.preventDefault();
    dialog.close();
    done(readSettings((name) => form.elements[name].value));
  };
  byId("settings-cancel").onclick = () => dialog.close();
  dialog.showModal();
}

// The settings as the fields of a chat request, `system` beside them; `value` reads one by name.
export function readSettings(value) {
  const settings = {};
  if (value("system").trim()) settings.system = value("system");
  for (const name of NUMBERS) {
    if (value(name).trim()) settings[name] = Number(value(name));
  }
  const stop = value("stop").split("\n").filter(Boolean);
  if (stop.length) settings.stop = stop;
  const goodspeed = {};
  if (value("acceptance_mode")) goodspeed.acceptance_mode = value("acceptance_mode");
  if (value("draft_length")) goodspeed.draft_length = Number(value("draft_length"));
  if (Object.keys(goodspeed).length) settings.goodspeed = goodspeed;
  return settings;
}

function fill(elements, settings) {
  for (const name of ["system", ...NUMBERS]) elements[name].value = settings[name] ?? "";
  elements.stop.value = (settings.stop ?? []).join("\n");
  elements.acceptance_mode.value = settings.goodspeed?.acceptance_mode ?? "";
  elements.draft_length.value = settings.goodspeed?.draft_length ?? "";
}
