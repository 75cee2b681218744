// Where conversations are kept: in this browser (IndexedDB), nowhere else.

const DATABASE = "goodspeed-chat";
const STORE = "conversations";

export class ConversationStore {
  #database = null;
  #opening;
  #unsaved = new Map(); // what a browser that stores nothing keeps until the page is closed

  constructor() {
    this.#opening = this.#open();
  }

  // Whether they outlive the page.
  async keepsThem() {
    await this.#opening;
    return this.#database !== null;
  }

  async #open() {
    try {
      const opening = indexedDB.open(DATABASE, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "id" });
      this.#database = await result(opening);
    } catch {
      this.#database = null; // a private window, or no room
    }
  }

  async save(conversation) {
    this.#unsaved.set(conversation.id, conversation);
    await this.#opening;
    if (!this.#database) return;
    try {
      await result(this.#store("readwrite").put(conversation));
      this.#unsaved.delete(conversation.id);
    } catch {
      // No room: it stays in memory.
    }
  }

  async load(id) {
    await this.#opening;
    if (this.#unsaved.has(id) || !this.#database) return this.#unsaved.get(id) ?? null;
    return (await result(this.#store("readonly").get(id))) ?? null;
  }

  async remove(id) {
    this.#unsaved.delete(id);
    await this.#opening;
    if (this.#database) await result(this.#store("readwrite").delete(id));
  }

  // Id, title and time of the last change of all, the newest first.
  async list() {
    await this.#opening;
    const stored = this.#database ? await result(this.#store("readonly").getAll()) : [];
    const byId = new Map([...stored, ...this.#unsaved.values()].map((one) => [one.id, one]));
    return [...byId.values()]
      .map(({ id, title, changed }) => ({ id, title, changed }))
      .sort((one, other) => other.changed - one.changed);
  }

  #store(mode) {
    return this.#database.transaction(STORE, mode).objectStore(STORE);
  }
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
