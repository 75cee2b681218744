// The state of the verifier, for those who may see it.

const PATIENCE_MILLISECONDS = 10000;

export class WrongToken extends Error {}

export class StateSource {
  #tag = null; // of the state that came last

  // The verifier's state; null where it has no newer one.
  async fetch(token) {
    const headers = { ...(token && { Authorization: `Bearer ${token}` }), ...(this.#tag && { "If-None-Match": this.#tag }) };
    const signal = AbortSignal.timeout(PATIENCE_MILLISECONDS);
    const response = await fetch("/dashboard/state", { headers, signal, cache: "no-store" });
    if (response.status === 304) return null;
    if (response.status === 401 || response.status === 403) throw new WrongToken();
    if (!response.ok) throw new Error(await refusal(response));
    const state = await response.json();
    this.#tag = response.headers.get("ETag");
    return state;
  }
}

// Its own words where it has some: a verifier that starts says how much of its model is loaded.
async function refusal(response) {
  const isText = response.headers.get("Content-Type")?.startsWith("text/plain");
  const words = isText ? (await response.text()).trim().slice(0, 200) : "";
  return words || `the verifier answers with status ${response.status}`;
}
