// The page: puts its parts together and owns what is shown.

import { KeptKey } from "../../../shared/web/page/kept_key.js";
import { Announcer } from "./announcer.js";
import { openSocket } from "./answer/answer_link.js";
import { Answering } from "./answer/answering.js";
import { setUpAppearance } from "./appearance.js";
import { WrongKey, fetchBoard } from "./board.js";
import { Composer } from "./composer.js";
import { addNode, callsOf, chooseVersion, newConversation, shownNodes } from "./conversation/conversation.js";
import { ConversationList } from "./conversation/conversation_list.js";
import { setUpDrawer } from "./drawer.js";
import { byId, setText } from "../../../shared/web/page/element.js";
import { asJson, asMarkdown, download, fileName } from "./conversation/export.js";
import { sentence } from "./answer/waiting_words.js";
import { LiveLine } from "./answer/live_line.js";
import { KINDS } from "./answer/origin.js";
import { editSettings } from "./settings_dialog.js";
import { ConversationStore } from "./conversation/store.js";
import { Transcript } from "./conversation/transcript.js";

const LOOK_AGAIN_SECONDS = 2; // for a board or a verifier that is away
const key = new KeptKey("goodspeed-key", "key"); // the board's
const CURRENT = "goodspeed-conversation"; // its id, in this browser

class Page {
  conversation = newConversation(newId(), Date.now());
  answering = null;
  #lookingAgain;
  #removedIds = new Set(); // an answer that is being stopped may still want to be saved
  store = new ConversationStore();
  announcer = new Announcer(byId("announcements"));
  live = new LiveLine(byId("figures"), byId("rounds"), byId("state"));
  transcript = new Transcript(byId("scroller"), byId("transcript"), {
    edit: (id, text) => this.ask(text, this.conversation.nodes[id].parent),
    again: (id) => this.answer(this.conversation.nodes[id].parent),
    version: (id, step) => this.showVersion(id, step),
    results: (id, texts) => this.giveResults(id, texts),
  }, (words) => this.announcer.say(words));
  list = new ConversationList(byId("conversations"), {
    open: (id) => this.open(id),
    remove: (id) => this.remove(id),
  });
  composer = new Composer(byId("composer"), {
    send: (text) => this.ask(text, shownNodes(this.conversation).at(-1)?.id ?? null),
    stop: () => this.answering?.stop(),
  });

  async start() {
    setUpAppearance();
    this.#setUpButtons();
    const lastId = localStorage.getItem(CURRENT);
    this.#show();
    this.composer.focus();
    performance.mark("usable"); // what is stored may take a moment longer
    await Promise.all([this.meetBoard(), this.#restore(lastId)]);
  }

  // Show the conversation that was shown last, unless a new one has begun meanwhile.
  async #restore(id) {
    const stored = id && (await this.store.load(id));
    if (stored && !shownNodes(this.conversation).length) await this.#open(id);
    else await this.#listConversations();
    byId("not-kept").hidden = await this.store.keepsThem();
    document.documentElement.dataset.ready = "yes";
  }

  // Who the board is; asks for the key where one is wanted, and looks again while it is away.
  async meetBoard() {
    try {
      const { model, hindrance } = await fetchBoard(key.current);
      const words = hindrance && sentence(hindrance);
      this.#showBoard([model, words].filter(Boolean).join(" – ") || "no verifier yet", model && !words);
      if (!model || words) this.#lookAgain();
    } catch (error) {
      if (error instanceof WrongKey) return this.#askForKey();
      const words = error instanceof TypeError ? "the board does not answer" : error.message;
      this.#showBoard(words, false);
      this.#lookAgain();
    }
    return undefined;
  }

  ask(text, parent) {
    if (this.answering) return;
    const node = addNode(this.conversation, parent, { id: newId(), role: "user", text });
    this.answer(node.id);
  }

  // What came of the calls of an answer, in their order; the answer goes on behind it.
  giveResults(id, texts) {
    if (this.answering) return;
    let last = id;
    callsOf(this.conversation.nodes[id]).forEach(({ name }, i) => {
      last = addNode(this.conversation, last, { id: newId(), role: "tool", name, text: texts[i] }).id;
    });
    this.answer(last);
  }

  answer(parent) {
    if (this.answering) return;
    const empty = { text: "", parts: [], counts: KINDS.map(() => 0), timings: null, end: null, error: null };
    const node = addNode(this.conversation, parent, { id: newId(), role: "assistant", ...empty });
    this.announcer.clear();
    this.#run(node).begin();
    this.transcript.follow();
    this.#save(this.conversation);
  }

  showVersion(id, step) {
    if (!chooseVersion(this.conversation, id, step)) return;
    this.#show();
    const shown = shownNodes(this.conversation).find((node) => node.parent === this.conversation.nodes[id].parent);
    this.transcript.focusVersion(shown.id, step < 0 ? "previous" : "next");
    this.#save(this.conversation);
  }

  async open(id) {
    await this.#open(id);
    this.composer.focus();
  }

  async remove(id) {
    this.#removedIds.add(id);
    if (this.answering?.conversation.id === id) this.answering.stop();
    await this.store.remove(id);
    if (this.conversation.id === id) await this.#open(null);
    else this.#listConversations();
  }

  async #open(id) {
    const { settings } = this.conversation;
    const isRunning = this.answering && this.answering.conversation.id === id;
    const stored = isRunning ? this.answering.conversation : id && (await this.store.load(id));
    this.conversation = stored || newConversation(newId(), Date.now(), { ...settings });
    this.#show();
    const { pending, nodes } = this.conversation;
    if (pending && !this.answering && nodes[pending.node]) this.#run(nodes[pending.node]).resume(pending.id);
    this.#listConversations();
  }

  // The answer that is being written from now on; the caller says how it begins.
  #run(node) {
    const { conversation } = this;
    this.answering = new Answering(
      conversation,
      node,
      {
        turn: this.transcript.turn(node),
        live: this.live,
        save: (changed) => this.#keep(changed),
        say: (words) => this.announcer.say(words),
        settled: (words) => this.announcer.say(words),
        ended: (answering, error) => this.#end(answering, error),
      },
      () => openSocket(key.current),
    );
    this.#show();
    return this.answering;
  }

  #end(answering, error) {
    this.answering = null;
    if (answering.conversation === this.conversation) this.#show();
    else this.composer.show(false);
    this.#listConversations();
    if (error?.isLink) this.meetBoard(); // perhaps it wants a key
  }

  #show() {
    localStorage.setItem(CURRENT, this.conversation.id);
    this.transcript.show(this.conversation, this.answering?.node.id);
    this.composer.show(this.answering !== null);
    byId("welcome").hidden = shownNodes(this.conversation).length > 0;
    document.title = this.conversation.title ? `${this.conversation.title} · goodspeed` : "goodspeed";
  }

  async #save(conversation) {
    await this.#keep(conversation);
    await this.#listConversations();
  }

  async #keep(conversation) {
    if (!Object.keys(conversation.nodes).length || this.#removedIds.has(conversation.id)) return;
    await this.store.save(conversation);
  }

  async #listConversations() {
    this.list.show(await this.store.list(), this.conversation.id);
  }

  #showBoard(words, isWell) {
    setText(byId("board"), words);
    byId("board").classList.toggle("away", !isWell);
    byId("forget-key").hidden = key.current === null;
  }

  #lookAgain() {
    clearTimeout(this.#lookingAgain);
    this.#lookingAgain = setTimeout(() => this.meetBoard(), LOOK_AGAIN_SECONDS * 1000);
  }

  async #askForKey() {
    this.#showBoard("the board wants its key", false);
    const isWrong = key.current !== null;
    await key.ask(isWrong);
    await this.meetBoard();
  }

  #setUpButtons() {
    const when = (id, act) => byId(id).addEventListener("click", act);
    const export_ = (extension, type, write) => () => {
      byId("export").open = false;
      download(fileName(this.conversation, extension), type, write(this.conversation));
    };
    when("new", () => this.open(null));
    when("export-json", export_("json", "application/json", asJson));
    when("export-markdown", export_("md", "text/markdown", asMarkdown));
    when("forget-key", () => (key.forget(), this.meetBoard()));
    when("settings", () =>
      editSettings(this.conversation.settings, (settings) => {
        this.conversation.settings = settings;
        this.#save(this.conversation);
      }),
    );
    setUpDrawer();
  }
}

// Works in pages over plain HTTP, which have no crypto.randomUUID.
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

await new Page().start();
