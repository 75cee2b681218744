// OpenAI's client for Node: chats, completions, responses.

import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
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

const tools = [{ type: "function", function: WEATHER }];
const Pet = z.object({ kind: z.enum(["cat", "dog"]), age: z.number().int().min(0).max(30) });
const called = (calls) =>
  calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]);

async function useTools() {
  const asked = { model: "any", tools };
  const { completions } = at(CALLS).chat;
  const answer = await completions.create({ ...asked, messages: turn("tools") });
  const { message } = answer.choices[0];
  const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "tools" };
  const turns = [...turn("tools"), message, result];
  const again = await completions.create({ ...asked, messages: turns });
  return { calls: called(message.tool_calls), answer: again.choices[0].message.content };
}

async function toolsStream() {
  const asked = { model: "any", messages: turn("tools stream"), tools };
  const whole = await at(CALLS).chat.completions.stream(asked).finalChatCompletion();
  return called(whole.choices[0].message.tool_calls);
}

async function forced() {
  const asked = { model: "any", messages: turn("forced"), tools, tool_choice: "required" };
  const answer = await at(FORMS).chat.completions.create(asked);
  return called(answer.choices[0].message.tool_calls);
}

async function thoughts() {
  const asked = { model: "any", messages: turn("thoughts") };
  const answer = await at(CALLS).chat.completions.create(asked);
  return answer.choices[0].message.reasoning_content;
}

async function parse() {
  const response_format = zodResponseFormat(Pet, "pet");
  const asked = { model: "any", messages: turn("parse"), response_format };
  return (await at(FORMS).chat.completions.parse(asked)).choices[0].message.parsed;
}

const scored = (text, told) => ({
  text,
  tokens: told.map((token) => [token.token, token.logprob]),
  top: told.map((token) => token.top_logprobs.length),
});

async function logprobs() {
  const asked = { model: "any", messages: turn("logprobs"), max_tokens: 5, temperature: 0 };
  const answer = await at(FORMS).chat.completions.create({
    ...asked,
    logprobs: true,
    top_logprobs: 2,
  });
  const [choice] = answer.choices;
  return scored(choice.message.content, choice.logprobs.content);
}

async function responsesTools() {
  const offered = [{ type: "function", ...WEATHER }];
  const { responses } = at(CALLS);
  const first = await responses.create({ model: "any", input: "responses tools", tools: offered });
  const calls = first.output.filter((item) => item.type === "function_call");
  const result = {
    type: "function_call_output",
    call_id: calls[0].call_id,
    output: "responses tools",
  };
  const input = [...turn("responses tools"), ...first.output, result];
  const again = await responses.create({ model: "any", input, tools: offered });
  return {
    calls: calls.map((call) => [call.name, JSON.parse(call.arguments)]),
    answer: again.output_text,
  };
}

async function responsesParse() {
  const text = { format: zodTextFormat(Pet, "pet") };
  const asked = { model: "any", input: "responses parse", text };
  return (await at(FORMS).responses.parse(asked)).output_parsed;
}

async function responsesLogprobs() {
  const answer = await at(FORMS).responses.create({
    model: "any",
    input: "responses logprobs",
    max_output_tokens: 5,
    temperature: 0,
    include: ["message.output_text.logprobs"],
    top_logprobs: 2,
  });
  const [part] = answer.output[0].content;
  return scored(part.text, part.logprobs);
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
    tools: useTools,
    "tools stream": toolsStream,
    forced,
    thoughts,
    parse,
    logprobs,
    "responses tools": responsesTools,
    "responses parse": responsesParse,
    "responses logprobs": responsesLogprobs,
  },
  "openai",
);
