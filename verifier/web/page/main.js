// The page: asks for the state every second while someone looks, and hands it to its parts.

import { KeptKey } from "../../../shared/web/page/kept_key.js";
import { StateSource, WrongToken } from "./state_source.js";
import { DeviceTable } from "./device_table.js";
import { byId, setText } from "../../../shared/web/page/element.js";
import { Overview } from "./overview.js";
import { Recent } from "./recent.js";
import { setUpTheme } from "../../../shared/web/page/theme.js";

const token = new KeptKey("goodspeed-metrics-token", "token"); // the operator's
const EVERY_MILLISECONDS = 1000;

class Page {
  #source = new StateSource();
  #recent = new Recent();
  #overview = new Overview();
  #table = new DeviceTable();
  #timer;
  #isAsking = false;
  #lastNews = null; // when the shown state came

  start() {
    setUpTheme();
    byId("forget").addEventListener("click", () => (token.forget(), this.#ask()));
    document.addEventListener("visibilitychange", () => this.#ask());
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.target.matches("input, select")) return;
      event.preventDefault();
      byId("search").focus();
    });
    return this.#ask();
  }

  async #ask() {
    clearTimeout(this.#timer);
    if (this.#isAsking || document.hidden) return;
    this.#isAsking = true;
    const begunAt = performance.now();
    try {
      this.#show(await this.#source.fetch(token.current));
    } catch (error) {
      if (error instanceof WrongToken) await this.#askForToken();
      else this.#showAway(error);
    } finally {
      this.#isAsking = false;
    }
    if (document.hidden) return;
    this.#timer = setTimeout(() => this.#ask(), Math.max(EVERY_MILLISECONDS - (performance.now() - begunAt), 0));
  }

  // Null: the state that is shown is the newest.
  #show(state) {
    if (state) {
      this.#recent.push(state);
      this.#overview.show(state, this.#recent);
      this.#table.show(state);
      setText(byId("target"), state.target_model);
    }
    byId("forget").hidden = token.current === null;
    this.#lastNews = new Date();
    this.#showLink("live", true);
    document.documentElement.dataset.ready = "yes";
  }

  #showAway(error) {
    const words = error instanceof TypeError || error.name === "TimeoutError" ? "the verifier does not answer" : error.message;
    this.#showLink(this.#lastNews ? `${words}; shown is ${this.#lastNews.toLocaleTimeString()}` : words, false);
  }

  async #askForToken() {
    this.#showLink("needs the operator’s token", false);
    await token.ask(token.current !== null);
  }

  #showLink(words, isWell) {
    setText(byId("link"), words);
    byId("link").className = isWell ? "" : "away";
    document.body.classList.toggle("stale", !isWell && this.#lastNews !== null);
  }
}

await new Page().start();
