import assert from "node:assert/strict";
import { test } from "node:test";

import { addNode, chooseVersion, newConversation, requestFields, shownNodes, versions } from "../../../edge_agent/web/page/conversation/conversation.js";
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
    temperature: 0.5,
  });
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

test("settings that are left empty are not sent", () => {
  const form = { system: " ", temperature: "0", top_p: "", top_k: "40", max_tokens: "", seed: "", stop: "a\n\nb", acceptance_mode: "", draft_length: "0" };
  assert.deepEqual(readSettings((name) => form[name]), {
    temperature: 0, top_k: 40, stop: ["a", "b"], goodspeed: { draft_length: 0 },
  });
});
