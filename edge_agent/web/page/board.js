// What the page asks the board beside answers: who it is, and whether the key is right.

export class WrongKey extends Error {}

// The target's name, null while the board has no verifier, and what keeps it from answers, in words.
export async function fetchBoard(key) {
  const { data } = await ask("/v1/models", key);
  const { hindrance } = await ask("/health", key);
  return { model: data[0]?.id ?? null, hindrance: hindrance ?? "" };
}

async function ask(path, key) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch(path, { headers });
  if (response.status === 401) throw new WrongKey();
  if (!response.ok) throw new Error(await refusal(response));
  return response.json();
}

async function refusal(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `the board answers with status ${response.status}`;
  }
}
