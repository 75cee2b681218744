// The fields that a person fills with what came of the calls of an answer.

import { element } from "../../../../shared/web/page/element.js";

// `calls` are parts of an answer; `done` gets a text for each.
export function resultForm(calls, done) {
  const areas = calls.map(({ name }) =>
    element("textarea", { rows: 2, class: "edit", "aria-label": `Result of ${name}`, placeholder: `Result of ${name}` }),
  );
  const onsubmit = (event) => {
    event.preventDefault();
    done(areas.map((area) => area.value));
  };
  const send = element("button", { type: "submit", class: "primary" }, "Go on with this");
  return element("form", { class: "results", onsubmit }, ...areas, element("div", { class: "row" }, send));
}
