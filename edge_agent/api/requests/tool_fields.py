"""The tools that a client offers, and which of them must be called, in the words of all dialects.

Whatever the dialect, they go on in OpenAI's words, which the templates of models know. This module
must never look into a schema: only the template and the verifier do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from edge_agent.api.json_fields import kind_of, read_field, shown
from edge_agent.output_parsing.output_parser import OutputReading
from shared.errors import RequestRefused
from shared.protocol.messages import MAX_TOOLS, MAX_TOOLS_BYTES

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")  # OpenAI's, and the dots of MCP's servers
# Tools that their vendor's server runs, by how their types begin: none of them is here.
_HOSTED = (
    *("web_search", "web_fetch", "file_search", "code_interpreter", "code_execution"),
    *("image_generation", "mcp"),
)
_NO_PARAMETERS = {"type": "object", "properties": {}}
# Reasoning stays in the text; llama-server's word, and SGLang's field for the same.
_IN_TEXT = ("reasoning_format", "separate_reasoning")
TOOL_FIELDS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})
READING_FIELDS = frozenset(_IN_TEXT)


class ToolsAsked(msgspec.Struct, frozen=True):
    """What may be called; `must_call` one of these names, or nothing must be."""

    tools: bytes = b""  # a JSON list, empty where nothing may be called
    several: bool = True  # calls in one answer
    must_call: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()  # of tools that are left out, as there are others


def read_chat_tools(fields: Mapping[str, Any]) -> ToolsAsked:
    """OpenAI's chat fields, `functions` of old included.

    Raises:
        RequestRefused: a tool is none, or of another type, or the choice names none of them.
    """
    tools = _read_list(fields, "tools", lambda tool, name: _function(tool, name, "function"))
    tools += _read_list(fields, "functions", _read_function)
    choice = fields.get("tool_choice")
    if choice is None:
        choice, key = fields.get("function_call"), "function_call"
        if isinstance(choice, dict):
            choice = {"type": "function", "function": choice}
    else:
        key = "tool_choice"
    if isinstance(choice, dict) and choice.get("type") == "function":
        chosen = choice.get("function")
        choice = chosen.get("name") if isinstance(chosen, dict) else None
        return _asked(fields, tools, key, "function", choice)
    return _asked(fields, tools, key, choice)


def read_flat_tools(fields: Mapping[str, Any]) -> ToolsAsked:
    """Those of OpenAI's Responses API; raises as `read_chat_tools`."""
    tools, ignored = _read_own(fields, lambda tool, name: _function(tool, name, ""))
    choice = fields.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "function":
        return _asked(fields, tools, "tool_choice", "function", choice.get("name"), ignored)
    return _asked(fields, tools, "tool_choice", choice, ignored=ignored)


def read_anthropic_tools(fields: Mapping[str, Any]) -> ToolsAsked:
    """Those of Anthropic's Messages API; raises as `read_chat_tools`."""
    tools, ignored = _read_own(fields, _anthropic_function)
    choice: dict[str, Any] = read_field(fields, "tool_choice", dict[str, Any], {"type": "auto"})
    is_single = read_field(choice, "disable_parallel_tool_use", bool, False, parent="tool_choice.")
    given = {"parallel_tool_calls": not is_single}
    kind = {"any": "required", "tool": "function"}.get(str(choice.get("type")), choice.get("type"))
    return _asked(given, tools, "tool_choice", kind, choice.get("name"), ignored)


def read_ollama_tools(fields: Mapping[str, Any]) -> ToolsAsked:
    """Ollama's, which has no choice; raises as `read_chat_tools`."""
    return read_chat_tools({"tools": fields.get("tools")})


def read_reading(fields: Mapping[str, Any], asked: ToolsAsked) -> OutputReading:
    """What is told apart; `reasoning_format` none leaves thoughts in the text.

    Raises:
        RequestRefused: a field is of another type.
    """
    word: str | None = read_field(fields, "reasoning_format", str)
    is_separate: bool = read_field(fields, "separate_reasoning", bool, True)
    return OutputReading(
        calls=bool(asked.tools),
        reasoning=is_separate and word != "none",
        several_calls=asked.several,
    )


def _read_own(
    fields: Mapping[str, Any], read: Callable[[Any, str], dict[str, Any]]
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The tools but those that a vendor's server runs, and the types of these.

    Agents name them beside their own, whatever server they speak to, and do without. Where there is
    nothing else, they are what the request is about: then they are read, to be refused.
    """
    tools: list[Any] = read_field(fields, "tools", list[Any], [])
    hosted = [i for i, tool in enumerate(tools) if _is_hosted(tool)]
    left_out = hosted if len(hosted) < len(tools) else []
    own = _read_list(fields, "tools", read, left_out)
    return own, tuple(f"tools.{tools[i]['type']}" for i in left_out)


def _is_hosted(tool: Any) -> bool:
    kind = tool.get("type") if isinstance(tool, dict) else None
    return isinstance(kind, str) and kind.startswith(_HOSTED)


def _read_list(
    fields: Mapping[str, Any],
    name: str,
    read: Callable[[Any, str], dict[str, Any]],
    left_out: Collection[int] = (),
) -> list[dict[str, Any]]:
    tools: list[Any] = read_field(fields, name, list[Any], [])
    if len(tools) > MAX_TOOLS:
        raise RequestRefused(f"{len(tools)} {name} exceed {MAX_TOOLS}", name)
    return [read(tool, f"{name}[{i}]") for i, tool in enumerate(tools) if i not in left_out]


def _function(tool: Any, name: str, key: str) -> dict[str, Any]:
    """A tool of the type function, whose words stand in the field `key`, or in itself."""
    if not isinstance(tool, dict):
        raise RequestRefused(f"{name} must be an object, not {kind_of(tool)}", name)
    kind = tool.get("type", "function")
    if kind != "function":
        sentence = f"{name}.type = {shown(kind)}: only tools of the type function are called here"
        raise RequestRefused(sentence, f"{name}.type")
    return _read_function(tool[key], f"{name}.{key}") if key in tool else _read_function(tool, name)


def _anthropic_function(tool: Any, name: str) -> dict[str, Any]:
    if isinstance(tool, dict) and tool.get("type") in (None, "custom"):
        words = {key: tool.get(key) for key in ("name", "description")}
        return _read_function({**words, "parameters": tool.get("input_schema")}, name)
    if not isinstance(tool, dict):
        raise RequestRefused(f"{name} must be an object, not {kind_of(tool)}", name)
    sentence = f"{name}.type = {shown(tool['type'])}: only a client's own tools are called here"
    raise RequestRefused(sentence, f"{name}.type")


def _read_function(function: Any, name: str) -> dict[str, Any]:
    if not isinstance(function, dict):
        raise RequestRefused(f"{name} must be an object, not {kind_of(function)}", name)
    called = function.get("name")
    if not isinstance(called, str) or _NAME.fullmatch(called) is None:
        form = "must be of 1 to 128 letters, digits, dots, dashes and underscores"
        raise RequestRefused(f"{name}.name = {shown(called)}: {form}", f"{name}.name")
    parent = f"{name}."
    description: str = read_field(function, "description", str, "", parent=parent)
    parameters = read_field(function, "parameters", dict[str, Any], _NO_PARAMETERS, parent=parent)
    told = {"name": called, "description": description, "parameters": parameters}
    return {"type": "function", "function": told}


def _asked(
    fields: Mapping[str, Any],
    tools: list[dict[str, Any]],
    key: str,
    choice: Any,
    chosen: Any = None,
    ignored: tuple[str, ...] = (),
) -> ToolsAsked:
    several: bool = read_field(fields, "parallel_tool_calls", bool, True)
    names = tuple(tool["function"]["name"] for tool in tools)
    packed = msgspec.json.encode(tools) if tools else b""
    if len(packed) > MAX_TOOLS_BYTES:
        raise RequestRefused(f"tools of {len(packed)} bytes exceed {MAX_TOOLS_BYTES}", "tools")
    match choice:
        case None | "auto":
            return ToolsAsked(packed, several, (), ignored)
        case "none":
            return ToolsAsked()
        case "required" if names:
            return ToolsAsked(packed, several, names, ignored)
        case "function" if chosen in names:
            return ToolsAsked(packed, several, (chosen,), ignored)
        case "required" | "function":
            named = "any" if choice == "required" else shown(chosen)
            raise RequestRefused(f"{key} asks for {named} of the tools, of which none is it", key)
        case _:
            words = "must be auto, none, required or the name of a function"
            raise RequestRefused(f"{key} = {shown(choice)}: {words}", key)
