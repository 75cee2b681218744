import assert from "node:assert/strict";
import { test } from "node:test";

import { problemOf, shownForm } from "../../../edge_agent/web/page/answer_form.js";
import { addNode, callsOf, chooseVersion, newConversation, requestFields, shownNodes, versions } from "../../../edge_agent/web/page/conversation/conversation.js";
import { asJson, asMarkdown, fileName } from "../../../edge_agent/web/page/conversation/export.js";
import { readSettings } from "../../../edge_agent/web/page/settings_dialog.js";

function chat() {
  const conversation = newConversation("c", 0, { system: "Be brief.", temperature: 0.5 });
  addNode(conversation, null, { id: "q1", role: "user", text: "Hi there\nyou" });
  addNode(conversation, "q1", { id: "a1", role: "assistant", text: "Hello" });
  addNode(conversation, "a1", { id: "q2", role: "user", text: "More" });
  addNode(conversation, "q2", { id: "a2", role: "assistant", text: "Sure" });
  return conversation;
}

const shownIds = (conversation) => shownNodes(conversation).map(({ id }) => id);

test("messages follow each other, the first one gives the title", () => {
  assert.deepEqual(shownIds(chat()), ["q1", "a1", "q2", "a2"]);
  assert.equal(chat().title, "Hi there");
});

test("an answer that is asked for again is a version beside the first", () => {
  const conversation = chat();
  addNode(conversation, "q1", { id: "a1b", role: "assistant", text: "Howdy" });
  assert.deepEqual(shownIds(conversation), ["q1", "a1b"]);
  assert.deepEqual(versions(conversation, "a1b"), ["a1", "a1b"]);
});

test("choosing a version shows what followed it", () => {
  const conversation = chat();
  addNode(conversation, null, { id: "q1b", role: "user", text: "Hello" });
  assert.deepEqual(shownIds(conversation), ["q1b"]);
  assert.ok(chooseVersion(conversation, "q1b", -1));
  assert.deepEqual(shownIds(conversation), ["q1", "a1", "q2", "a2"]);
  assert.ok(!chooseVersion(conversation, "q1", -1));
  assert.ok(chooseVersion(conversation, "q1", 1));
  assert.deepEqual(shownIds(conversation), ["q1b"]);
});

test("a request has the messages of its own branch alone, and the settings", () => {
  const conversation = chat();
  addNode(conversation, "a1", { id: "q2b", role: "user", text: "Else" });
  assert.deepEqual(requestFields(conversation, "q2b"), {
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hi there\nyou" },
      { role: "assistant", content: "Hello" },
      { role: "user", content: "Else" },
    ],
    reasoning_format: "auto",
    temperature: 0.5,
  });
});

test("what was called, what came of it and what was thought go on into the next request", () => {
  const conversation = newConversation("c", 0);
  addNode(conversation, null, { id: "q", role: "user", text: "Oslo?" });
  const parts = [
    { part: "reasoning", name: "", text: "Look.", runs: [] },
    { part: "call", name: "weather", text: '{"city": "Oslo"}', runs: [] },
  ];
  const answer = addNode(conversation, "q", { id: "a", role: "assistant", text: "", parts });
  addNode(conversation, "a", { id: "r", role: "tool", name: "weather", text: "sun" });
  assert.deepEqual(callsOf(answer), [parts[1]]);
  assert.deepEqual(requestFields(conversation, "r").messages, [
    { role: "user", content: "Oslo?" },
    {
      role: "assistant", content: "", reasoning_content: "Look.",
      tool_calls: [{ type: "function", function: { name: "weather", arguments: '{"city": "Oslo"}' } }],
    },
    { role: "tool", content: "sun", name: "weather" },
  ]);
  assert.match(asMarkdown(conversation), /\*\*Answer\*\*\n\nCalls `weather`:\n\n```json\n\{"city": "Oslo"\}\n```\n\n\*\*Result\*\*\n\nsun\n$/);
});

test("an export has all versions as JSON, and what is shown as Markdown", () => {
  const conversation = chat();
  addNode(conversation, "q2", { id: "a2b", role: "assistant", text: "**No**" });
  const exported = JSON.parse(asJson(conversation));
  assert.deepEqual(Object.keys(exported.nodes), ["q1", "a1", "q2", "a2", "a2b"]);
  assert.ok(!("pending" in exported));
  const text = asMarkdown(conversation);
  assert.match(text, /^# Hi there\n\n\*\*System\*\*\n\nBe brief\.\n/);
  assert.match(text, /\*\*Answer\*\*\n\n\*\*No\*\*\n$/);
  assert.ok(!text.includes("Sure"));
  assert.equal(fileName({ title: "../Wörter & «so»!" }, "md"), "wörter-so.md");
});

// The settings of a form in which only these fields are filled.
const settingsOf = (filled) => readSettings((name) => filled[name] ?? "");

test("settings that are left empty are not sent", () => {
  const filled = { system: " ", temperature: "0", top_k: "40", min_p: "0.1", frequency_penalty: "-1", stop: "a\n\nb", reasoning_effort: "low", draft_length: "0" };
  assert.deepEqual(settingsOf(filled), {
    temperature: 0, top_k: 40, min_p: 0.1, frequency_penalty: -1, reasoning_effort: "low", stop: ["a", "b"], goodspeed: { draft_length: 0 },
  });
});

test("a form and tools are sent as a chat request has them, and shown again as they were", () => {
  const schema = { type: "object" };
  const tools = [{ type: "function", function: { name: "weather" } }];
  const asked = [
    [{ form: "" }, {}],
    [{ form: "object" }, { response_format: { type: "json_object" } }],
    [{ form: "schema", schema: '{"type": "object"}' }, { response_format: { type: "json_schema", json_schema: { name: "answer", schema } } }],
    [{ form: "regex", regex: "a+" }, { regex: "a+" }],
    [{ form: "", tools: JSON.stringify(tools) }, { tools }],
  ];
  for (const [filled, settings] of asked) {
    assert.deepEqual(settingsOf(filled), settings);
    assert.deepEqual(settingsOf(shownForm(settings)), settings);
  }
});

test("what is wrong with a form or a tool is said, where it counts", () => {
  const problem = (name, filled) => problemOf(name, (field) => filled[field] ?? "");
  assert.match(problem("schema", { form: "schema", schema: "{" }), /^is no JSON: /);
  assert.equal(problem("schema", { form: "schema", schema: "[]" }), "must be an object of JSON");
  assert.equal(problem("schema", { form: "regex", schema: "{" }), "");
  assert.equal(problem("regex", { form: "regex" }), "is missing");
  assert.match(problem("tools", { tools: "{}" }), /^must be a list/);
  assert.equal(problem("tools", { tools: " " }), "");
});
