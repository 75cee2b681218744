// A conversation as a tree: a message that is edited, or answered again, gets a sibling. Pure; its
// values are plain objects, so that they can be stored and exported as they are.
//
// nodes: by id, { id, parent, role, text }, for answers { parts, counts, timings, end, … }, and for
// what came of a call (role "tool") { name };
// children: ids by parent ("" is the root); chosen: the child that is shown, by parent.

const ROOT = "";
const TITLE_CHARACTERS = 60;

export function newConversation(id, now, settings = {}) {
  return { id, title: "", changed: now, settings, nodes: {}, children: {}, chosen: {}, pending: null };
}

// Add a message behind another one (null: at the start) and show it.
export function addNode(conversation, parent, node) {
  const place = parent ?? ROOT;
  const siblings = (conversation.children[place] ??= []);
  conversation.nodes[node.id] = { ...node, parent };
  siblings.push(node.id);
  conversation.chosen[place] = node.id;
  conversation.title ||= titleOf(node);
  return conversation.nodes[node.id];
}

// The messages that are shown, from the first on.
export function shownNodes(conversation) {
  return nodesBehind(conversation, ROOT);
}

// A message and those before it.
export function nodesUpTo(conversation, id) {
  const nodes = [];
  for (let node = conversation.nodes[id]; node; node = conversation.nodes[node.parent]) {
    nodes.unshift(node);
  }
  return nodes;
}

// The versions of a message, itself included, in the order of their making.
export function versions(conversation, id) {
  return conversation.children[conversation.nodes[id].parent ?? ROOT];
}

// Show another version, `step` further on; false where there is none.
export function chooseVersion(conversation, id, step) {
  const ids = versions(conversation, id);
  const other = ids[ids.indexOf(id) + step];
  if (other === undefined) return false;
  conversation.chosen[conversation.nodes[id].parent ?? ROOT] = other;
  return true;
}

// The fields of a chat request for the answer behind a message.
export function requestFields(conversation, lastId) {
  const { system, ...sampling } = conversation.settings;
  const turns = nodesUpTo(conversation, lastId).map(turnOf);
  const opening = system ? [{ role: "system", content: system }] : [];
  return { messages: [...opening, ...turns], reasoning_format: "auto", ...sampling };
}

// The calls of an answer, as parts of it.
export function callsOf(node) {
  return (node.parts ?? []).filter(({ part }) => part === "call");
}

function turnOf(node) {
  const turn = { role: node.role, content: node.text };
  if (node.role === "tool") turn.name = node.name;
  const thoughts = (node.parts ?? []).filter(({ part }) => part === "reasoning");
  if (thoughts.length) turn.reasoning_content = thoughts.map(({ text }) => text).join("\n");
  const calls = callsOf(node).map(({ name, text }) => ({ type: "function", function: { name, arguments: text } }));
  if (calls.length) turn.tool_calls = calls;
  return turn;
}

function nodesBehind(conversation, parent) {
  const nodes = [];
  for (let id = conversation.chosen[parent]; id; id = conversation.chosen[id]) {
    nodes.push(conversation.nodes[id]);
  }
  return nodes;
}

function titleOf({ text }) {
  const line = text.trim().split("\n")[0];
  const characters = [...line];
  if (characters.length <= TITLE_CHARACTERS) return line;
  return `${characters.slice(0, TITLE_CHARACTERS - 1).join("").trimEnd()}…`;
}
