// Why nothing comes, in words. Pure.

// Of a `waiting` message; "" where nothing is known to be in the way.
export function waitingWords({ num_ahead: numAhead, seconds, because }) {
  const reason = because ? sentence(because) : "";
  if (numAhead === undefined || numAhead === null) return reason;
  const estimate = seconds ? `, about ${duration(seconds)}` : "";
  return [`The board is busy: place ${numAhead + 1} in its line${estimate}.`, reason].filter(Boolean).join(" ");
}

// Of an `error` message.
export function failureWords({ message, retry_after_seconds: seconds }) {
  return seconds ? `${sentence(message)} Ask again in about ${duration(seconds)}.` : sentence(message);
}

// What the board says of itself begins small and has no full stop.
export function sentence(words) {
  return `${words[0].toUpperCase()}${words.slice(1)}.`.replace(/([.!?])\.$/, "$1");
}

function duration(seconds) {
  return seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}
