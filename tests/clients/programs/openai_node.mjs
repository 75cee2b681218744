// OpenAI's client for Node: chats, completions, responses.

import OpenAI from "openai";
import { AGENT, AWAY, KEY, LOCKED, SLOW, SYSTEM, TURNS, report } from "./report.mjs";

const at = (url, apiKey = "any") => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const client = at(AGENT);
const turn = (content) => [{ role: "user", content }];

async function chat(content, fields = {}, asked = client) {
  const answer = await asked.chat.completions.create({
    model: "any",
    messages: turn(content),
    ...fields,
  });
  return answer.choices[0].message.content;
}

async function stream() {
  const pieces = [];
  const asked = { model: "any", messages: turn("stream"), stream: true };
  for await (const chunk of await client.chat.completions.create(asked)) {
    pieces.push(chunk.choices[0].delta.content ?? "");
  }
  return pieces;
}

async function cancel() {
  const asked = { model: "any", messages: turn("cancel"), stream: true };
  for await (const chunk of await at(SLOW).chat.completions.create(asked)) {
    if (chunk.choices[0].delta.content) {
      return chunk.choices[0].delta.content; // leaving the loop closes the stream
    }
  }
}

async function responsesStream() {
  const pieces = [];
  const asked = { model: "any", input: "responses stream", stream: true };
  for await (const event of await client.responses.create(asked)) {
    if (event.type === "response.output_text.delta") pieces.push(event.delta);
  }
  return pieces;
}

await report(
  {
    models: async () => (await client.models.list()).data.map((model) => model.id),
    chat: () => chat("chat"),
    stream,
    turns: () => chat("", { messages: [{ role: "system", content: SYSTEM }, ...TURNS] }),
    stop: () => chat("stop", { stop: [" world"] }),
    length: () => chat("length", { max_tokens: 1 }),
    sampling: () => chat("sampling", { temperature: 0.5, seed: 7 }),
    refused: () => chat("refused", { temperature: 1000 }),
    away: () => chat("away", {}, at(AWAY)),
    key: () => chat("key", {}, at(LOCKED, KEY)),
    "wrong key": () => chat("wrong key", {}, at(LOCKED)),
    cancel,
    completion: async () =>
      (await client.completions.create({ model: "any", prompt: "completion" })).choices[0].text,
    responses: async () =>
      (await client.responses.create({ model: "any", input: "responses" })).output_text,
    "responses stream": responsesStream,
  },
  "openai",
);
