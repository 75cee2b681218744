// How the page looks: dark or light, and whether origins are marked.

import { byId } from "../../../shared/web/page/element.js";
import { setUpTheme } from "../../../shared/web/page/theme.js";

export function setUpAppearance() {
  const root = document.documentElement;
  const marks = byId("marks");

  function showMarks(isOn) {
    root.classList.toggle("unmarked", !isOn);
    marks.setAttribute("aria-pressed", String(isOn));
    localStorage.setItem("goodspeed-marks", isOn ? "on" : "off");
  }

  setUpTheme();
  showMarks(localStorage.getItem("goodspeed-marks") !== "off");
  marks.addEventListener("click", () => showMarks(root.classList.contains("unmarked")));
}
