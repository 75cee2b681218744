// Vercel's AI SDK over `@ai-sdk/openai-compatible`.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";
import { AGENT, AWAY, KEY, LOCKED, SLOW, SYSTEM, TURNS, report } from "./report.mjs";

const at = (url, apiKey = "any") =>
  createOpenAICompatible({ name: "board", baseURL: `${url}/v1`, apiKey })("any");

async function ask(prompt, fields = {}, model = at(AGENT)) {
  return (await generateText({ model, prompt, maxRetries: 0, ...fields })).text;
}

async function stream() {
  const pieces = [];
  const told = streamText({ model: at(AGENT), prompt: "stream", maxRetries: 0 });
  for await (const piece of told.textStream) pieces.push(piece);
  return pieces;
}

async function cancel() {
  const controller = new AbortController();
  const told = streamText({
    model: at(SLOW),
    prompt: "cancel",
    maxRetries: 0,
    abortSignal: controller.signal,
    onError: () => {},
  });
  for await (const piece of told.textStream) {
    controller.abort();
    return piece;
  }
}

await report(
  {
    chat: () => ask("chat"),
    stream,
    turns: () => ask(undefined, { system: SYSTEM, messages: TURNS }),
    stop: () => ask("stop", { stopSequences: [" world"] }),
    length: () => ask("length", { maxOutputTokens: 1 }),
    sampling: () => ask("sampling", { temperature: 0.5, seed: 7 }),
    refused: () => ask("refused", { temperature: 1000 }),
    away: () => ask("away", {}, at(AWAY)),
    key: () => ask("key", {}, at(LOCKED, KEY)),
    "wrong key": () => ask("wrong key", {}, at(LOCKED)),
    cancel,
  },
  "ai",
  "@ai-sdk/openai-compatible",
);
