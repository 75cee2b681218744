// Vercel's AI SDK over `@ai-sdk/openai-compatible`.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import {
  AGENT,
  AWAY,
  CALLS,
  FORMS,
  KEY,
  LOCKED,
  SLOW,
  SYSTEM,
  TURNS,
  WEATHER,
  report,
} from "./report.mjs";

const at = (url, apiKey = "any") =>
  createOpenAICompatible({
    name: "board",
    baseURL: `${url}/v1`,
    apiKey,
    supportsStructuredOutputs: true,
  })("any");

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

const get_weather = tool({
  description: WEATHER.description,
  inputSchema: z.object({ city: z.enum(["Paris", "Rome"]) }),
  execute: async () => "tools",
});
const called = (calls) => calls.map((call) => [call.toolName, call.input]);

async function useTools() {
  const told = await generateText({
    model: at(CALLS),
    prompt: "tools",
    tools: { get_weather },
    stopWhen: stepCountIs(2),
    maxRetries: 0,
  });
  return { calls: called(told.steps[0].toolCalls), answer: told.text };
}

async function toolsStream() {
  const asked = { model: at(CALLS), prompt: "tools stream", tools: { get_weather } };
  const told = streamText({ ...asked, stopWhen: stepCountIs(1), maxRetries: 0 });
  return called(await told.toolCalls);
}

async function forced() {
  const asked = { model: at(FORMS), prompt: "forced", tools: { get_weather } };
  const told = await generateText({ ...asked, toolChoice: "required", maxRetries: 0 });
  return called(told.toolCalls);
}

async function thoughts() {
  return (await generateText({ model: at(CALLS), prompt: "thoughts" })).reasoningText;
}

async function parse() {
  const schema = z.object({
    kind: z.enum(["cat", "dog"]),
    age: z.number().int().min(0).max(30),
  });
  const output = Output.object({ schema });
  return (await generateText({ model: at(FORMS), prompt: "parse", output, maxRetries: 0 })).output;
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
    tools: useTools,
    "tools stream": toolsStream,
    forced,
    thoughts,
    parse,
  },
  "ai",
  "@ai-sdk/openai-compatible",
);
