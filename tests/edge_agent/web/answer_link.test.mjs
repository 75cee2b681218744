import assert from "node:assert/strict";
import { test } from "node:test";

import { AnswerLink, countCharacters } from "../../../edge_agent/web/page/answer/answer_link.js";

class FakeSocket {
  readyState = 0;
  sent = [];
  closed = null;
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close(code) {
    this.closed = code;
  }
  accept() {
    this.readyState = 1;
    this.onopen();
  }
  say(...messages) {
    for (const message of messages) this.onmessage({ data: JSON.stringify(message) });
  }
  break(code = 1006) {
    this.readyState = 3;
    this.onclose({ code });
  }
}

function setUp() {
  const sockets = [];
  const told = [];
  const clock = { seconds: 0, waits: [], now: () => clock.seconds, wait: (seconds, then) => clock.waits.push({ seconds, then }) };
  const tell = (name) => (value) => told.push([name, value]);
  const events = Object.fromEntries(["started", "text", "held", "finished", "failed", "waiting"].map((name) => [name, tell(name)]));
  const link = new AnswerLink(() => (sockets.push(new FakeSocket()), sockets.at(-1)), events, clock);
  const comeBack = () => {
    const { seconds, then } = clock.waits.shift();
    clock.seconds += seconds;
    then();
    return sockets.at(-1);
  };
  return { link, sockets, told, clock, comeBack };
}

const STARTED = { type: "started", id: "77" };
const text = (words) => ({ type: "text", text: words, origin: "accepted" });
const FINISHED = { type: "finished", reason: "end" };

test("a question is sent once the socket is open, and its answer told to the end", () => {
  const { link, sockets, told } = setUp();
  link.generate({ messages: [], seed: 1 });
  sockets[0].accept();
  assert.deepEqual(sockets[0].sent, [{ type: "generate", messages: [], seed: 1 }]);
  sockets[0].say(STARTED, text("a"), FINISHED);
  assert.deepEqual(told.map(([name]) => name), ["started", "text", "finished"]);
  assert.equal(sockets[0].closed, 1000);
  sockets[0].break(1000);
  assert.equal(told.length, 3);
});

test("after a lost link it goes on behind the characters that it has, counted as the agent does", () => {
  const { link, sockets, told, comeBack } = setUp();
  link.generate({});
  sockets[0].accept();
  sockets[0].say(STARTED, text("aï😀"));
  sockets[0].break();
  const second = comeBack();
  second.accept();
  assert.deepEqual(second.sent, [{ type: "resume", id: "77", num_characters: 3 }]);
  second.say(STARTED, text("b"), FINISHED);
  assert.deepEqual(told.map(([name, value]) => (name === "waiting" ? value : name)), [
    "started", "text", true, false, "started", "text", "finished",
  ]);
});

test("it comes back ever more rarely, and gives up after a minute of silence", () => {
  const { link, sockets, told, clock, comeBack } = setUp();
  link.generate({});
  sockets[0].accept();
  sockets[0].say(STARTED);
  const waits = [];
  sockets[0].break();
  while (clock.waits.length) {
    waits.push(clock.waits[0].seconds);
    comeBack().break();
  }
  assert.deepEqual(waits.slice(0, 5), [0.1, 0.3, 1, 2, 3]);
  assert.ok(clock.seconds > 60 && clock.seconds < 70);
  assert.equal(told.at(-2)[0], "waiting");
  assert.equal(told.at(-1)[0], "failed");
});

test("a board that never answered is not asked again and again", () => {
  const { link, sockets, told, clock } = setUp();
  link.generate({});
  sockets[0].break();
  assert.deepEqual([told.at(-1)[0], told.at(-1)[1].isLink, clock.waits.length], ["failed", true, 0]);
});

test("what an answer waits for is told, and ends nothing", () => {
  const { link, sockets, told } = setUp();
  link.generate({});
  sockets[0].accept();
  sockets[0].say(STARTED, { type: "waiting", num_ahead: 2, seconds: 20 }, text("a"), FINISHED);
  assert.deepEqual(told.map(([name]) => name), ["started", "held", "text", "finished"]);
});

test("a refusal ends it with the agent's words", () => {
  const { link, sockets, told } = setUp();
  link.generate({});
  sockets[0].accept();
  sockets[0].say({ type: "error", message: "temperature = 9: too hot", param: "temperature", is_generating: false });
  assert.equal(told[0][1].message, "temperature = 9: too hot");
});

test("to stop is to ask the agent, or to wait no more where the link is lost", () => {
  const { link, sockets, told, comeBack } = setUp();
  link.generate({});
  sockets[0].accept();
  sockets[0].say(STARTED);
  link.cancel();
  assert.deepEqual(sockets[0].sent.at(-1), { type: "cancel" });
  sockets[0].break();
  link.cancel();
  assert.deepEqual(told.at(-1), ["finished", { type: "finished", reason: "cancelled" }]);
  comeBack();
  assert.equal(sockets.length, 1);
});

test("characters are code points", () => {
  assert.equal(countCharacters("aï😀𝄞"), 4);
});
