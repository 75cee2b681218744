// How the page looks: dark or light or as the system says.

import { byId, setText } from "./element.js";

const THEMES = ["system", "light", "dark"];
const NAME = "goodspeed-theme";

export function setUpTheme() {
  let current = localStorage.getItem(NAME);
  if (!THEMES.includes(current)) current = "system";

  function show() {
    if (current === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = current;
    setText(byId("theme"), `Theme: ${current}`);
    localStorage.setItem(NAME, current);
  }

  show();
  byId("theme").addEventListener("click", () => {
    current = THEMES[(THEMES.indexOf(current) + 1) % THEMES.length];
    show();
  });
}
