// One answer over the chat socket: asked for, read, and taken up again when the socket breaks.
// The page's only knowledge of what is said there (edge_agent/generation/chat_messages.py).

export const SUBPROTOCOL = "goodspeed.chat";
const TOKEN_PREFIX = "goodspeed.bearer.";
const RESUME_SECONDS = 60; // the agent keeps an answer about as long
const DELAYS_SECONDS = [0.1, 0.3, 1, 2, 3]; // before each attempt to come back; the last one repeats
const SOCKET_PATH = "/v1/chat/socket";

export function openSocket(key) {
  const address = new URL(SOCKET_PATH, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  return new WebSocket(address, key ? [SUBPROTOCOL, TOKEN_PREFIX + key] : [SUBPROTOCOL]);
}

export class AnswerLink {
  #open;
  #events;
  #clock;
  #socket = null;
  #id = null;
  #numCharacters = 0; // code points, as the agent counts them
  #numAttempts = 0;
  #heardAt;
  #isOver = false;

  // `open` makes a socket. `events`: started(id), text(message), held(message), finished(message),
  // failed({ message, param }) — one of the last two comes once, and nothing after it — and
  // waiting(isWaiting) while the socket is lost. `clock` has now() in seconds and wait(seconds, then).
  constructor(open, events, clock = realClock) {
    this.#open = open;
    this.#events = events;
    this.#clock = clock;
    this.#heardAt = clock.now();
  }

  generate(fields) {
    this.#connect({ type: "generate", ...fields });
  }

  resume(id, numCharacters = 0) {
    this.#id = id;
    this.#numCharacters = numCharacters;
    this.#connect({ type: "resume", id, num_characters: numCharacters });
  }

  // Ask the agent to stop; what there is of the answer stays.
  cancel() {
    if (this.#socket?.readyState === 1) this.#socket.send('{"type": "cancel"}');
    else this.#end(() => this.#events.finished({ type: "finished", reason: "cancelled" }));
  }

  #connect(message) {
    try {
      this.#socket = this.#open();
    } catch (error) {
      this.#fail(`the key cannot be sent by a browser: ${error.message}`);
      return;
    }
    this.#socket.onopen = () => this.#socket.send(JSON.stringify(message));
    this.#socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    this.#socket.onclose = ({ code }) => this.#lose(code);
  }

  #receive(message) {
    if (this.#isOver) return;
    this.#heardAt = this.#clock.now();
    if (this.#numAttempts) this.#events.waiting(false);
    this.#numAttempts = 0;
    switch (message.type) {
      case "started":
        this.#id = message.id;
        this.#events.started(message.id);
        break;
      case "text":
        this.#numCharacters += countCharacters(message.text);
        this.#events.text(message);
        break;
      case "waiting":
        this.#events.held(message);
        break;
      case "finished":
        this.#end(() => this.#events.finished(message));
        break;
      case "error":
        if (!message.is_generating) this.#end(() => this.#events.failed(message));
        break;
    }
  }

  #lose(code) {
    if (this.#isOver) return;
    if (code === 1009) this.#fail("the conversation is too long for the board");
    else if (this.#id === null) this.#fail("the board cannot be reached");
    else if (this.#clock.now() - this.#heardAt > RESUME_SECONDS) {
      this.#fail("the board went away in the middle of the answer");
    } else {
      this.#events.waiting(true);
      const delay = DELAYS_SECONDS[Math.min(this.#numAttempts++, DELAYS_SECONDS.length - 1)];
      this.#clock.wait(delay, () => this.#isOver || this.resume(this.#id, this.#numCharacters));
    }
  }

  #fail(message) {
    this.#end(() => this.#events.failed({ type: "error", message, isLink: true }));
  }

  #end(tell) {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#numAttempts) this.#events.waiting(false);
    this.#socket?.close(1000);
    tell();
  }
}

const realClock = {
  now: () => performance.now() / 1000,
  wait: (seconds, then) => setTimeout(then, seconds * 1000),
};

// Unicode code points.
export function countCharacters(text) {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
