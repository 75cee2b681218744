"""An answer that must be a call is one, of a tool on offer, with arguments of its schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from shared.errors import RequestRefused
from shared.protocol.grammar import MAX_GRAMMAR_BYTES, Grammar
from shared.protocol.messages import OutputFormat
from verifier.chat_template.forced_call import forced_call, forced_format
from verifier.grammar.grammars import Grammars
from verifier.target.scripted_tokenizer import ScriptedTokenizer

CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def tool(name: str, parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("get_weather", CITY), tool("now", {"type": "object", "properties": {}})]
HERMES, LLAMA = OutputFormat("hermes"), OutputFormat("llama")
THINKING, OPENED = OutputFormat("hermes", "think"), OutputFormat("hermes", "think", "<think>")


class Bytes(ScriptedTokenizer):
    """A byte is a token, the last one the end."""

    def __init__(self) -> None:
        super().__init__(2)
        self.token_bytes = (*(bytes([i]) for i in range(256)), b"<end>")
        self.special_ids = self.end_ids = frozenset({256})

    def encode_text(self, text: str) -> list[int]:
        return list(text.encode())


@pytest.fixture(scope="module")
def grammars() -> Iterator[Grammars]:
    with closing(Grammars(Bytes(), 257)) as made:
        made.begin(Grammar("regex", "a"), lambda: None)  # its threads and process are there
        yield made


def allows(grammars: Grammars, grammar: Grammar, text: str) -> bool:
    """Whether the whole text, and its end behind it, is of the grammar."""
    return grammars.begin(grammar, lambda: None).begin_behind([*text.encode(), 256])


def hermes(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


PARIS, NOW = hermes("get_weather", '{"city": "Paris"}'), hermes("now", "{}")


@pytest.mark.parametrize(
    ("output_format", "names", "text", "is_allowed"),
    [
        (HERMES, ["get_weather"], PARIS, True),
        (HERMES, ["get_weather"], hermes("get_weather", '{"city": "Oslo"}'), False),
        (HERMES, ["get_weather"], hermes("get_weather", "{}"), False),
        (HERMES, ["get_weather"], NOW, False),
        (HERMES, ["get_weather"], f"{PARIS}\n{PARIS}", False),
        (HERMES, ["get_weather"], "Hello", False),
        (HERMES, ["get_weather"], "", False),
        (HERMES, ["get_weather", "now"], NOW, True),
        (HERMES, ["get_weather", "now"], f"{PARIS}\n{NOW}", True),
        (HERMES, ["get_weather", "now"], f"{PARIS} so", False),
        (HERMES, ["now"], f"<think>\nhm\n</think>\n\n{NOW}", False),
        (THINKING, ["now"], f"<think>\nhm <b>\n</think>\n\n{NOW}", True),
        (THINKING, ["now"], NOW, True),
        (OPENED, ["now"], f"\nhm\n</think>\n\n{NOW}", True),
        (LLAMA, ["get_weather"], '{"name": "get_weather", "parameters": {"city": "Rome"}}', True),
        (LLAMA, ["get_weather"], PARIS, False),
    ],
)
def test_only_calls_of_these_functions_are_allowed(
    grammars: Grammars,
    output_format: OutputFormat,
    names: list[str],
    text: str,
    is_allowed: bool,
) -> None:
    grammar = forced_call(output_format, TOOLS, names)
    assert is_allowed == allows(grammars, grammar, text)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (HERMES, HERMES),
        (OPENED, OPENED),
        (LLAMA, LLAMA),
        (OutputFormat("harmony", "harmony"), HERMES),
        (OutputFormat("mistral", "mistral", "[THINK]"), HERMES),
    ],
)
def test_a_forced_call_is_in_a_form_of_text(target: OutputFormat, expected: OutputFormat) -> None:
    assert expected == forced_format(target)


def test_a_function_that_is_not_on_offer_is_refused() -> None:
    with pytest.raises(RequestRefused, match="none of the tools is fly") as refused:
        forced_call(HERMES, TOOLS, ["fly"])
    assert "tool_choice" == refused.value.field


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "function"},
        {"function": 7},
        {"function": {"name": "a"}},
        {"function": {"name": ["a"], "parameters": {}}},
        {"function": {"name": "a", "parameters": [1]}},
    ],
    ids=str,
)
def test_a_tool_that_is_no_function_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused, match="no function with a name and parameters") as refused:
        forced_call(HERMES, [*TOOLS, odd], ["now"])
    assert "tools" == refused.value.field


def test_a_name_that_is_said_again_makes_no_grammar_longer() -> None:
    assert forced_call(HERMES, TOOLS, ["now"]) == forced_call(HERMES, TOOLS, ["now"] * 512)


def test_schemas_that_are_too_long_together_are_refused() -> None:
    huge = {"type": "object", "description": "x" * MAX_GRAMMAR_BYTES}
    with pytest.raises(RequestRefused, match="name one function, or send auto"):
        forced_call(HERMES, [tool("a", huge)], ["a"])


def test_a_schema_that_is_none_is_refused_in_the_clients_words(grammars: Grammars) -> None:
    grammar = forced_call(HERMES, [tool("a", {"properties": {"b": {"type": "nope"}}})], ["a"])
    with pytest.raises(RequestRefused, match=r"^tool_choice cannot be followed: ") as refused:
        allows(grammars, grammar, "")
    assert "tool_choice" == refused.value.field
