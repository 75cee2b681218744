// One answer being written: from the chat socket into its message, onto the screen, into the store.

import { AnswerLink } from "./answer_link.js";
import { requestFields } from "../conversation/conversation.js";
import { FrameBatch } from "./frame_batch.js";
import { KINDS, kindOf } from "./origin.js";
import { failureWords, waitingWords } from "./waiting_words.js";

const SAVE_SECONDS = 2;
const LINK_LOST = "The link to the board is lost; taking the answer up again…";
const FIRST = "Waiting for the first token…";

export class Answering {
  #link;
  #batch = new FrameBatch((messages) => this.#paint(messages));
  #savedAt = 0;
  #startsAnew = false;
  #isPainted = false;
  #isHeld = false;
  #screen;

  // `screen` has turn, live, save(conversation), say(sentence), settled(block), ended(answering, error).
  constructor(conversation, node, screen, open) {
    this.conversation = conversation;
    this.node = node;
    this.#screen = screen;
    this.#link = new AnswerLink(open, {
      started: (id) => this.#start(id),
      text: (message) => this.#batch.add(message),
      finished: (message) => this.#finish(message),
      failed: (error) => this.#fail(error),
      waiting: (isWaiting) => screen.turn.showNote(isWaiting ? LINK_LOST : ""),
      held: (message) => this.#showHeld(message),
    });
  }

  begin() {
    this.#screen.live.begin();
    this.#link.generate(requestFields(this.conversation, this.node.parent));
  }

  // Take up an answer that was being written when the page was left: all of it is told again.
  resume(id) {
    this.#startsAnew = true;
    this.#screen.live.begin();
    this.#link.resume(id);
  }

  stop() {
    this.#link.cancel();
  }

  #start(id) {
    if (this.#startsAnew) {
      this.#startsAnew = false;
      this.node.counts = KINDS.map(() => 0);
      this.#screen.turn.clear((words) => this.#screen.settled(words));
    }
    this.conversation.pending = { node: this.node.id, id };
    this.#save();
  }

  #paint(messages) {
    const { painter } = this.#screen.turn;
    let timings = null;
    for (const message of messages) {
      const kind = kindOf(message);
      painter.append(message.text, kind, message.part);
      this.node.counts[kind] += 1;
      timings = message.so_far ?? timings;
    }
    painter.paint();
    if (this.#isHeld) this.#showHeld({});
    if (!this.#isPainted) this.#screen.live.say("Writing…");
    this.#isPainted = true;
    if (timings) {
      this.node.timings = timings;
      this.#screen.live.show(timings);
    }
    if (performance.now() / 1000 - this.#savedAt > SAVE_SECONDS) this.#save();
  }

  // What the answer waits for, until it comes.
  #showHeld(message) {
    const words = waitingWords(message);
    this.#screen.turn.showNote(words);
    this.#screen.live.say(words || (this.#isPainted ? "Writing…" : FIRST));
    this.#isHeld = Boolean(words);
  }

  #finish(message) {
    this.node.end = message.reason;
    this.node.timings = message.timings ?? this.node.timings;
    this.node.seed = message.seed ?? null;
    this.#end(message.reason === "cancelled" ? "Stopped." : "The answer is complete.", null);
  }

  #fail(error) {
    this.node.error = failureWords(error);
    this.#end(this.node.error, error);
  }

  #end(words, error) {
    this.#batch.flush();
    this.#screen.turn.painter.finish();
    this.conversation.pending = null;
    this.#save();
    if (this.node.timings) this.#screen.live.show(this.node.timings);
    this.#screen.live.say(words);
    this.#screen.say(words);
    this.#screen.ended(this, error);
  }

  #save() {
    const { painter } = this.#screen.turn;
    if (!this.#startsAnew) {
      this.node.text = painter.text;
      this.node.parts = painter.parts;
    }
    this.conversation.changed = Date.now();
    this.#savedAt = performance.now() / 1000;
    this.#screen.save(this.conversation);
  }
}
