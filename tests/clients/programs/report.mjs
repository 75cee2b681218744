// What every client's program says: for each scenario what came of it, as one JSON object.
// Must never know a scenario.

import { readFileSync } from "node:fs";

const modules = new URL("../node_modules/", import.meta.url);

export const { AGENT, AWAY, LOCKED, SLOW, CALLS, FORMS } = process.env;
export const KEY = "a key of some length for clients"; // of the agent at LOCKED
export const SYSTEM = "Be brief.";
export const TURNS = [
  { role: "user", content: "one" },
  { role: "assistant", content: "1" },
  { role: "user", content: "turns" },
];
// A function on offer at CALLS.
export const WEATHER = {
  name: "get_weather",
  description: "How the weather is.",
  parameters: {
    type: "object",
    properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
    required: ["city"],
    additionalProperties: false,
  },
};

/** Play all of them, one after the other; a failure is what the client throws. */
export async function report(scenarios, ...packages) {
  const versions = packages.map((name) => {
    const told = JSON.parse(readFileSync(new URL(`${name}/package.json`, modules)));
    return `${name} ${told.version}`;
  });
  const told = { version: versions.join(", ") };
  for (const [name, play] of Object.entries(scenarios)) {
    try {
      told[name] = await play();
    } catch (error) {
      told[name] = { error: `${error.name}: ${error.message}` };
    }
  }
  process.stdout.write(JSON.stringify(told) + "\n");
}
