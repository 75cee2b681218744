// What form an answer must have, and which functions it may call: between the fields of the
// settings and those of a chat request. Pure.

// The fields of a request; `value` reads a field of the settings by name.
export function formOf(value) {
  const fields = {};
  switch (value("form")) {
    case "object":
      fields.response_format = { type: "json_object" };
      break;
    case "schema":
      fields.response_format = { type: "json_schema", json_schema: { name: "answer", schema: JSON.parse(value("schema")) } };
      break;
    case "regex":
      fields.regex = value("regex");
      break;
  }
  if (value("tools").trim()) fields.tools = JSON.parse(value("tools"));
  return fields;
}

// What the settings show of these fields.
export function shownForm({ response_format: format, regex, tools }) {
  const schema = format?.json_schema?.schema;
  const form = regex ? "regex" : schema ? "schema" : format ? "object" : "";
  return { form, regex: regex ?? "", schema: shownJson(schema), tools: shownJson(tools) };
}

// What is wrong with a field, as the end of a sentence that begins with its name; "" if nothing is.
export function problemOf(name, value) {
  const text = value(name).trim();
  if (name === "tools") return text && jsonProblem(text, Array.isArray, "must be a list of tools, in OpenAI’s words");
  if (value("form") !== name) return "";
  if (!text) return "is missing";
  return name === "schema" ? jsonProblem(text, isObject, "must be an object of JSON") : "";
}

function jsonProblem(text, isRight, otherwise) {
  try {
    return isRight(JSON.parse(text)) ? "" : otherwise;
  } catch (error) {
    return `is no JSON: ${error.message}`;
  }
}

function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

function shownJson(value) {
  return value === undefined ? "" : JSON.stringify(value, null, 2);
}
