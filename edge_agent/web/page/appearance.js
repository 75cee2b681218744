// How the page looks: dark or light or as the system says, and whether origins are marked.

import { byId } from "./element.js";

const THEMES = ["system", "light", "dark"];
const NEXT = { system: "Theme: system", light: "Theme: light", dark: "Theme: dark" };

export function setUpAppearance() {
  const root = document.documentElement;
  const theme = byId("theme");
  const marks = byId("marks");

  function showTheme(name) {
    if (name === "system") delete root.dataset.theme;
    else root.dataset.theme = name;
    theme.textContent = NEXT[name];
    localStorage.setItem("goodspeed-theme", name);
  }

  function showMarks(isOn) {
    root.classList.toggle("unmarked", !isOn);
    marks.setAttribute("aria-pressed", String(isOn));
    localStorage.setItem("goodspeed-marks", isOn ? "on" : "off");
  }

  let current = localStorage.getItem("goodspeed-theme") ?? "system";
  if (!THEMES.includes(current)) current = "system";
  showTheme(current);
  showMarks(localStorage.getItem("goodspeed-marks") !== "off");
  theme.addEventListener("click", () => {
    current = THEMES[(THEMES.indexOf(current) + 1) % THEMES.length];
    showTheme(current);
  });
  marks.addEventListener("click", () => showMarks(root.classList.contains("unmarked")));
}
