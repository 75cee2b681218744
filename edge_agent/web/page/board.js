// What the page asks the board beside answers: who it is, and whether the key is right.

export class WrongKey extends Error {}

// The target's name, null while the board has no verifier.
export async function fetchModel(key) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch("/v1/models", { headers });
  if (response.status === 401) throw new WrongKey();
  if (!response.ok) throw new Error(await refusal(response));
  return (await response.json()).data[0]?.id ?? null;
}

async function refusal(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `the board answers with status ${response.status}`;
  }
}
