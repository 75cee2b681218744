// A conversation as a file: JSON with all versions of all messages, or Markdown of what is shown.

import { callsOf, shownNodes } from "./conversation.js";
import { summary } from "../answer/figures.js";
import { describeCounts } from "../answer/origin.js";

const AUTHORS = { user: "You", tool: "Result" };

export function asJson(conversation) {
  const { pending: _, ...kept } = conversation;
  return JSON.stringify({ format: "goodspeed-chat/1", ...kept }, null, 1);
}

export function asMarkdown(conversation) {
  const { system } = conversation.settings;
  const parts = [`# ${conversation.title || "Conversation"}`];
  if (system) parts.push(`**System**\n\n${system}`);
  for (const node of shownNodes(conversation)) {
    parts.push(`**${AUTHORS[node.role] ?? "Answer"}**`);
    if (node.text) parts.push(node.text);
    for (const { name, text } of callsOf(node)) parts.push(`Calls \`${name}\`:\n\n\`\`\`json\n${text}\n\`\`\``);
    const figures = node.timings ? summary(node.timings) : "";
    const origin = node.counts ? describeCounts(node.counts) : "";
    const notes = [figures, origin].filter(Boolean).join(". ");
    if (notes) parts.push(`<sub>${notes}</sub>`);
  }
  return `${parts.join("\n\n")}\n`;
}

// A name for the file that every system takes.
export function fileName(conversation, extension) {
  const words = conversation.title.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ["conversation"];
  return `${words.join("-").slice(0, 40)}.${extension}`;
}

export function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
