// The table of devices: a row for each that is shown, written anew only where something changed.

import { COLUMNS, chosen, drafts, isNumber, positionsInWords } from "./devices.js";
import { byId, drawing, element, setAttribute, setText } from "../../../shared/web/page/element.js";
import { number } from "./words.js";

const ROWS_AT_ONCE = 100;
const [BAR_WIDTH, BAR_GAP, BAR_HEIGHT] = [5, 1, 18];
const NUM_BARS = 8;

export class DeviceTable {
  #state = null;
  #choice = { words: "", only: "all", key: "name", isDescending: false };
  #numShown = ROWS_AT_ONCE;
  #rows = new Map(); // by device
  #heads = new Map(); // by column

  constructor() {
    for (const { key, title, explanation } of COLUMNS) {
      const button = element("button", { type: "button", title: explanation, onclick: () => this.#sort(key) }, title);
      const head = element("th", { scope: "col", role: "columnheader", class: isNumber(key) ? "number" : null }, button);
      this.#heads.set(key, head);
      byId("head").append(head);
      byId("sort").append(element("option", { value: key }, title));
    }
    byId("search").addEventListener("input", (event) => this.#choose({ words: event.target.value }));
    byId("only").addEventListener("change", (event) => this.#choose({ only: event.target.value }));
    byId("sort").addEventListener("change", (event) => this.#sort(event.target.value));
    byId("more").addEventListener("click", () => {
      this.#numShown += ROWS_AT_ONCE;
      this.#write();
    });
  }

  show(state) {
    this.#state = state;
    this.#write();
  }

  // A column of numbers begins with the largest.
  #sort(key) {
    const { key: before, isDescending } = this.#choice;
    this.#choose({ key, isDescending: key === before ? !isDescending : isNumber(key) || key === "acceptance" });
  }

  #choose(change) {
    this.#choice = { ...this.#choice, ...change };
    this.#numShown = ROWS_AT_ONCE;
    if (this.#state) this.#write();
  }

  #write() {
    const { key, isDescending } = this.#choice;
    for (const [name, head] of this.#heads) {
      setAttribute(head, "aria-sort", name !== key ? "none" : isDescending ? "descending" : "ascending");
    }
    byId("sort").value = key;
    const devices = chosen(this.#state, this.#choice);
    const shown = devices.slice(0, this.#numShown);
    this.#place(shown.map((device) => this.#row(device)));
    const total = this.#state.devices.length;
    setText(byId("count"), devices.length === total ? `${number(total)} device${total === 1 ? "" : "s"}` : `${number(devices.length)} of ${number(total)}`);
    byId("more").hidden = shown.length === devices.length;
    setText(byId("more"), `Show more (${number(devices.length - shown.length)} left)`);
    byId("none").hidden = devices.length > 0;
    setText(byId("none"), total ? "No device is like that." : "No device has connected yet.");
  }

  #place(rows) {
    const body = byId("rows");
    const kept = new Set(rows);
    for (const row of [...body.children]) if (!kept.has(row)) row.remove();
    rows.forEach((row, i) => {
      if (body.children[i] !== row) body.insertBefore(row, body.children[i] ?? null);
    });
  }

  #row(device) {
    if (!this.#rows.has(device.name)) this.#rows.set(device.name, newRow());
    const row = this.#rows.get(device.name);
    const state = this.#state;
    row.element.className = device.is_connected ? "" : "away";
    for (const { key, value, text } of COLUMNS) setText(row.texts[key], text(device, value(device, state.cache.num_blocks)));
    row.texts.state.className = drafts(device) ? "drafts" : device.idle_cause ? `idle ${device.idle_cause}` : "soft";
    setAttribute(row.bars, "aria-label", positionsInWords(device, state.position_names));
    setAttribute(row.bars, "visibility", device.reached.length ? "visible" : "hidden");
    setText(row.title, positionsInWords(device, state.position_names));
    row.rects.forEach((rect, i) => {
      const share = device.reached[i] ? device.accepted[i] / device.reached[i] : 0;
      const height = Math.round(share * BAR_HEIGHT * 10) / 10;
      setAttribute(rect, "height", String(height));
      setAttribute(rect, "y", String(BAR_HEIGHT - height));
    });
    return row.element;
  }
}

function newRow() {
  const texts = Object.fromEntries(COLUMNS.map(({ key }) => [key, element("span")]));
  const rects = [...Array(NUM_BARS).keys()].map((i) =>
    drawing("rect", { x: i * (BAR_WIDTH + BAR_GAP), width: BAR_WIDTH, y: BAR_HEIGHT, height: 0, rx: 1 }));
  const width = NUM_BARS * (BAR_WIDTH + BAR_GAP) - BAR_GAP;
  const title = drawing("title");
  const bars = drawing("svg", { class: "bars", role: "img", width, height: BAR_HEIGHT, viewBox: `0 0 ${width} ${BAR_HEIGHT}` },
    title, drawing("path", { class: "ground", d: `M0 ${BAR_HEIGHT - 0.5}H${width}` }), ...rects);
  const cells = COLUMNS.map(({ key, title: label }) => {
    const isName = key === "name";
    const attributes = { role: isName ? "rowheader" : "cell", "data-label": label, "data-key": key, class: isNumber(key) ? "number" : null };
    const cell = element(isName ? "th" : "td", isName ? { ...attributes, scope: "row" } : attributes, texts[key]);
    if (key === "acceptance") cell.append(bars);
    return cell;
  });
  return { element: element("tr", { role: "row" }, ...cells), texts, bars, rects, title };
}

