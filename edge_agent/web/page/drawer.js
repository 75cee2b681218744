// On a narrow screen the conversations are a drawer, which a button opens.

import { byId } from "../../../shared/web/page/element.js";

export function setUpDrawer() {
  const toggle = byId("nav-toggle");
  const isOpen = () => document.body.classList.contains("nav-open");

  function show(isWanted) {
    document.body.classList.toggle("nav-open", isWanted);
    toggle.setAttribute("aria-expanded", String(isWanted));
  }

  toggle.addEventListener("click", () => {
    show(!isOpen());
    if (isOpen()) byId("new").focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !isOpen()) return;
    show(false);
    toggle.focus();
  });
  document.addEventListener("click", (event) => {
    const isElsewhere = !event.target.closest("#nav, #nav-toggle");
    if (isOpen() && (isElsewhere || event.target.closest("#new, .open"))) show(false);
  });
}
