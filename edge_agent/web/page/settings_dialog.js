// System prompt, sampling, form and tools of a conversation. A field that is left empty is not sent,
// and then the target's own value holds.

import { byId } from "../../../shared/web/page/element.js";
import { formOf, problemOf, shownForm } from "./answer_form.js";

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "max_tokens", "seed"];
const FORM_FIELDS = { schema: "The schema", tools: "The list of tools", regex: "The expression" };

// Show the dialog; `done` gets the new settings.
export function editSettings(settings, done) {
  const dialog = byId("settings-dialog");
  const form = dialog.querySelector("form");
  const value = (name) => form.elements[name].value;
  fill(form.elements, settings);
  form.oninput = () => check(form, value);
  check(form, value);
  form.onsubmit = (event) => {
    event.preventDefault();
    dialog.close();
    done(readSettings(value));
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
  if (value("reasoning_effort")) settings.reasoning_effort = value("reasoning_effort");
  const stop = value("stop").split("\n").filter(Boolean);
  if (stop.length) settings.stop = stop;
  Object.assign(settings, formOf(value));
  const goodspeed = {};
  if (value("acceptance_mode")) goodspeed.acceptance_mode = value("acceptance_mode");
  if (value("draft_length")) goodspeed.draft_length = Number(value("draft_length"));
  if (Object.keys(goodspeed).length) settings.goodspeed = goodspeed;
  return settings;
}

function fill(elements, settings) {
  for (const name of ["system", "reasoning_effort", ...NUMBERS]) elements[name].value = settings[name] ?? "";
  elements.stop.value = (settings.stop ?? []).join("\n");
  elements.acceptance_mode.value = settings.goodspeed?.acceptance_mode ?? "";
  elements.draft_length.value = settings.goodspeed?.draft_length ?? "";
  for (const [name, text] of Object.entries(shownForm(settings))) elements[name].value = text;
}

// Show the fields of the form that is chosen, and say what is wrong with them.
function check({ elements }, value) {
  for (const [name, words] of Object.entries(FORM_FIELDS)) {
    if (name !== "tools") elements[name].closest("label").hidden = value("form") !== name;
    const problem = problemOf(name, value);
    elements[name].setCustomValidity(problem ? `${words} ${problem}` : "");
    if (problem && name === "tools") elements[name].closest("details").open = true; // to be seen
  }
}
