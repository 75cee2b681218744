"""An answer that must be a call is one, of a tool on offer, with arguments of its schema."""

from __future__ import annotations

import re
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
MARKS = {
    name: 257 + i
    for i, name in enumerate(
        (
            *("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]"),
            *("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>"),
            *("<|tool_call>", "<tool_call|>", '<|"|>', "<|channel>", "<channel|>"),
        )
    )
}
MISTRAL, HARMONY = OutputFormat("mistral"), OutputFormat("harmony", "harmony")
GEMMA = OutputFormat("gemma", "gemma")
HERMES, LLAMA = OutputFormat("hermes"), OutputFormat("llama")
THINKING, OPENED = OutputFormat("hermes", "think"), OutputFormat("hermes", "think", "<think>")


class Bytes(ScriptedTokenizer):
    """A byte is a token; the last ones are the end and the marks."""

    def __init__(self) -> None:
        super().__init__(2)
        names = (b"<end>", *(name.encode() for name in MARKS))
        self.token_bytes = (*(bytes([i]) for i in range(256)), *names)
        self.end_ids = frozenset({256})
        self.special_ids = frozenset({256, *MARKS.values()})

    def encode_text(self, text: str, *, adds_special: bool = True) -> list[int]:
        return list(text.encode())


@pytest.fixture(scope="module")
def grammars() -> Iterator[Grammars]:
    with closing(Grammars(Bytes(), 257 + len(MARKS))) as made:
        made.begin(Grammar("regex", "a"), lambda: None)  # its threads and process are there
        yield made


def allows(grammars: Grammars, grammar: Grammar, text: str) -> bool:
    """Whether the whole text, and its end behind it, is of the grammar; marks are tokens."""
    parts = re.split(f"({'|'.join(map(re.escape, MARKS))})", text)
    ids = [i for part in parts for i in ([MARKS[part]] if part in MARKS else part.encode())]
    return grammars.begin(grammar, lambda: None).begin_behind([*ids, 256])


def hermes(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def gemma(name: str, arguments: str) -> str:
    return f"<|tool_call>call:{name}{arguments}<tool_call|>"


CITY_OF = '{"city": "Rome"}'
LISTED = f'{{"name": "get_weather", "arguments": {CITY_OF}}}'
BOTH = ["get_weather", "now"]
COMMENTARY, TO = "<|channel|>commentary", " to=functions.get_weather"
THOUGHT = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant"
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
        (MISTRAL, ["get_weather"], f"[TOOL_CALLS]get_weather[ARGS]{CITY_OF}", True),
        (
            MISTRAL,
            ["get_weather"],
            f"[TOOL_CALLS]get_weather[CALL_ID]abcDEF123[ARGS]{CITY_OF}",
            True,
        ),
        (MISTRAL, ["get_weather"], f"[TOOL_CALLS][{LISTED}]", True),
        (MISTRAL, ["get_weather"], f'[THINK]hm "[\n[/THINK][TOOL_CALLS][{LISTED}]', True),
        (MISTRAL, ["get_weather"], f"[TOOL_CALLS][{LISTED}, {LISTED}]", False),
        (MISTRAL, ["get_weather"], f"[TOOL_CALLS]now[ARGS]{CITY_OF}", False),
        (MISTRAL, ["get_weather"], "[TOOL_CALLS]get_weather[ARGS]{}", False),
        (MISTRAL, ["get_weather"], f"I look.[TOOL_CALLS]get_weather[ARGS]{CITY_OF}", False),
        (MISTRAL, ["get_weather"], PARIS, False),
        (MISTRAL, BOTH, f"[TOOL_CALLS][{LISTED}, {LISTED}]", True),
        (MISTRAL, BOTH, f"[TOOL_CALLS]now[ARGS]{{}}[TOOL_CALLS]get_weather[ARGS]{CITY_OF}", True),
        (
            OutputFormat("mistral", "mistral", "[THINK]"),
            ["now"],
            "a[/THINK][TOOL_CALLS]now[ARGS]{}",
            True,
        ),
        (OutputFormat("mistral", "mistral", "[THINK]"), ["now"], "[TOOL_CALLS]now[ARGS]{}", False),
        (HARMONY, ["get_weather"], f"{COMMENTARY}{TO}<|message|>{CITY_OF}", True),
        (HARMONY, ["get_weather"], f"{COMMENTARY}{TO} <|constrain|>json<|message|>{CITY_OF}", True),
        (HARMONY, ["get_weather"], f"{TO}{COMMENTARY} json<|message|>{CITY_OF}", True),
        (HARMONY, ["get_weather"], f"{THOUGHT}{TO}{COMMENTARY}<|message|>{CITY_OF}", True),
        (HARMONY, BOTH, f"{THOUGHT}{THOUGHT}{COMMENTARY}{TO}<|message|>{CITY_OF}", True),
        (HARMONY, ["now"], f"{COMMENTARY}{TO}<|message|>{CITY_OF}", False),
        (HARMONY, ["get_weather"], f"{COMMENTARY}{TO}<|message|>{{}}", False),
        (HARMONY, ["get_weather"], "<|channel|>final<|message|>Hello", False),
        (HARMONY, ["get_weather"], PARIS, False),
        (GEMMA, ["get_weather"], gemma("get_weather", '{city:<|"|>Rome<|"|>}'), True),
        (GEMMA, ["get_weather"], gemma("get_weather", '{city:<|"|>Oslo<|"|>}'), False),
        (GEMMA, ["get_weather"], gemma("get_weather", "{city:Rome}"), False),
        (GEMMA, ["get_weather"], gemma("now", "{}"), False),
        (GEMMA, ["now"], gemma("now", "{}") * 2, False),
        (GEMMA, ["now"], f"I look. {gemma('now', '{}')}", False),
        (GEMMA, BOTH, gemma("now", "{}") * 2, True),
        (GEMMA, ["now"], f"<|channel>thought\nHm<channel|>{gemma('now', '{}')}", True),
        (OutputFormat("gemma"), ["now"], f"<|channel>Hm<channel|>{gemma('now', '{}')}", False),
        (
            OutputFormat("gemma", "gemma", "<|channel>"),
            ["now"],
            f"Hm<channel|>{gemma('now', '{}')}",
            True,
        ),
        (OutputFormat("gemma", "gemma", "<|channel>"), ["now"], gemma("now", "{}"), False),
    ],
)
def test_only_calls_of_these_functions_are_allowed(
    grammars: Grammars,
    output_format: OutputFormat,
    names: list[str],
    text: str,
    is_allowed: bool,
) -> None:
    grammar = forced_call(output_format, TOOLS, names, MARKS)
    assert is_allowed == allows(grammars, grammar, text)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (HERMES, HERMES),
        (OPENED, OPENED),
        (LLAMA, LLAMA),
        (GEMMA, GEMMA),
        (HARMONY, HARMONY),
        (
            OutputFormat("mistral", "mistral", "[THINK]"),
            OutputFormat("mistral", "mistral", "[THINK]"),
        ),
        (OutputFormat("harmony", "harmony", "<|channel|>final<|message|>"), HERMES),
    ],
)
def test_a_forced_call_is_in_the_targets_own_form_where_a_grammar_can_say_it(
    target: OutputFormat, expected: OutputFormat
) -> None:
    assert expected == forced_format(target, TOOLS, BOTH, MARKS)


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("look", {"properties": {"day": {"type": "string", "format": "date"}}}),
        ("look-ü", {"properties": {}}),
    ],
)
def test_a_call_that_gemmas_form_cannot_say_is_in_a_form_of_text(name: str, schema: Any) -> None:
    tools = [*TOOLS, tool(name, schema)]
    assert HERMES == forced_format(GEMMA, tools, [*BOTH, name], MARKS)
    assert GEMMA == forced_format(GEMMA, tools, BOTH, MARKS)


def test_without_the_control_tokens_it_is_in_a_form_of_text() -> None:
    for target in (MISTRAL, HARMONY, GEMMA):
        assert HERMES == forced_format(target, TOOLS, BOTH, {"<|end|>": 5})
    only_lists = {"[TOOL_CALLS]": 300}
    assert MISTRAL == forced_format(MISTRAL, TOOLS, BOTH, only_lists)
    assert "named" not in forced_call(MISTRAL, TOOLS, BOTH, only_lists).text


def test_an_id_beyond_the_vocabulary_is_refused(grammars: Grammars) -> None:
    with pytest.raises(RequestRefused, match="cannot be followed: it cannot be read"):
        allows(grammars, Grammar("lark", "start: <[5000]>", "grammar"), "")


def test_a_function_that_is_not_on_offer_is_refused() -> None:
    with pytest.raises(RequestRefused, match="none of the tools is fly") as refused:
        forced_call(HERMES, TOOLS, ["fly"], MARKS)
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
        forced_call(HERMES, [*TOOLS, odd], ["now"], MARKS)
    assert "tools" == refused.value.field


def test_a_name_that_is_said_again_makes_no_grammar_longer() -> None:
    once = forced_call(HERMES, TOOLS, ["now"], MARKS)
    assert once == forced_call(HERMES, TOOLS, ["now"] * 512, MARKS)


def test_schemas_that_are_too_long_together_are_refused() -> None:
    huge = {"type": "object", "description": "x" * MAX_GRAMMAR_BYTES}
    with pytest.raises(RequestRefused, match="name one function, or send auto"):
        forced_call(HERMES, [tool("a", huge)], ["a"], MARKS)


def test_a_schema_that_is_none_is_refused_in_the_clients_words(grammars: Grammars) -> None:
    nonsense = tool("a", {"properties": {"b": {"type": "nope"}}})
    grammar = forced_call(HERMES, [nonsense], ["a"], MARKS)
    with pytest.raises(RequestRefused, match=r"^tool_choice cannot be followed: ") as refused:
        allows(grammars, grammar, "")
    assert "tool_choice" == refused.value.field
