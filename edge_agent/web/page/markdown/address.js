// Where links of a model may lead: nowhere but out, and never into a script. Pure.

const SAFE_PROTOCOLS = ["http:", "https:", "mailto:"];

// The address where a link may lead there, else null.
export function safeAddress(text) {
  try {
    const url = new URL(text);
    return SAFE_PROTOCOLS.includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

// A sentence's full stop or a bracket around an address is no part of it.
export function trimmedAddress(address) {
  for (;;) {
    const last = address.at(-1);
    const isOpen = last === ")" && !address.includes("(");
    if (!isOpen && !/[.,;:!?'*_~\]]/.test(last)) return address;
    address = address.slice(0, -1);
  }
}
