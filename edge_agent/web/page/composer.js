// The box that messages are written in; its button sends, or stops the answer that is being written.

export class Composer {
  #form;
  #area;
  #send;
  #isRunning = false;

  constructor(form, { send, stop }) {
    this.#form = form;
    this.#area = form.querySelector("textarea");
    this.#send = form.querySelector("button[type=submit]");
    const submit = () => {
      const text = this.#area.value;
      if (this.#isRunning || !text.trim()) return;
      this.#area.value = "";
      this.#fit();
      send(text);
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#isRunning) stop();
      else submit();
    });
    this.#area.addEventListener("input", () => this.#fit());
    this.#area.addEventListener("keydown", (event) => {
      // A phone's return key makes lines: it has no Shift.
      const makesLine = event.shiftKey || event.isComposing || matchMedia("(pointer: coarse)").matches;
      if (event.key !== "Enter" || makesLine) return;
      event.preventDefault();
      submit();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#isRunning && !document.querySelector("dialog[open]")) stop();
    });
  }

  show(isRunning) {
    this.#isRunning = isRunning;
    this.#send.textContent = isRunning ? "Stop" : "Send";
    this.#form.classList.toggle("running", isRunning);
  }

  focus() {
    this.#area.focus();
  }

  #fit() {
    this.#area.style.height = "auto";
    this.#area.style.height = `${this.#area.scrollHeight + 2}px`;
  }
}
