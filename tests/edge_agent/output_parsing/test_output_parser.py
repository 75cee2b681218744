"""What targets of every family write is told apart, however it is cut, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.output_parsing.control_marks import with_marks
from edge_agent.output_parsing.output_parser import OutputParser, OutputReading
from edge_agent.output_parsing.said import Said, joined
from shared.protocol.messages import OutputFormat

ALL = OutputReading(calls=True, reasoning=True)
TOOLS = json.dumps(
    [
        {"type": "function", "function": {"name": "look_up", "parameters": {
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}},
        {"type": "function", "function": {"name": "add"}},
    ]
).encode()  # fmt: skip
FORMATS = {
    "hermes": OutputFormat("hermes", "think"),
    "llama": OutputFormat("llama"),
    "mistral": OutputFormat("mistral", "mistral"),
    "gemma": OutputFormat("gemma", "gemma"),
    "harmony": OutputFormat("harmony", "harmony"),
}
CITY, SUM = '{"city": "Paris}\\"{"}', '{"a": [1, {"b": 2}]}'


def said(
    pieces: Sequence[str], output_format: OutputFormat, reading: OutputReading = ALL
) -> list[Said]:
    parser = OutputParser(output_format, reading, TOOLS)
    parts = [part for piece in pieces for part in parser.feed(piece)]
    return joined(parts + parser.close())


def call(name: str, arguments: str = "{}") -> list[Said]:
    return [Said("call", name), Said("arguments", arguments)]


def text(words: str) -> list[Said]:
    return [Said("text", words)]


def thought(words: str) -> list[Said]:
    return [Said("reasoning", words)]


def hermes(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


QWEN_CODER = (
    "<tool_call>\n<function=look_up>\n<parameter=city>\nNew\nYork\n</parameter>\n"
    "<parameter=days>\n3\n</parameter>\n<parameter=more>\n[1, x]\n</parameter>\n"
    "</function>\n</tool_call>"
)
START, END = "<|start|>assistant", "<|end|>"
OUTPUTS: list[tuple[str, str, list[Said]]] = [
    ("hermes", "Just text. <b>", text("Just text. <b>")),
    ("hermes", " \n", text(" \n")),
    ("hermes", hermes("look_up", CITY), call("look_up", CITY)),
    ("hermes", "Well.\n" + hermes("add", SUM), text("Well.\n") + call("add", SUM)),
    (
        "hermes",
        f"\n{hermes('add', SUM)}\n{hermes('look_up', CITY)}\n",
        call("add", SUM) + call("look_up", CITY),
    ),
    ("hermes", hermes("add", "{}") + "\nDone.", [*call("add"), *text("\nDone.")]),
    (
        "hermes",
        '<tool_call>{"arguments": {"a": 1}, "name": "add"}</tool_call>',
        call("add", '{"a": 1}'),
    ),
    (
        "hermes",
        '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>',
        call("add", '{"a": 1}'),
    ),
    ("hermes", '<tool_call>{"name": "add"}</tool_call>', call("add")),
    (
        "hermes",
        '<tool_call>{"type": "function", "name": "add", "arguments": {"a": 1}, "id": "{"}'
        "</tool_call> so",
        [*call("add", '{"a": 1}'), *text(" so")],
    ),
    (
        "hermes",
        '<tool_call>{"function": {"name": "add", "parameters": {"a": 1}}}</tool_call>',
        call("add", '{"a":1}'),
    ),
    (
        "hermes",
        '<tool_call>{"name": "add", "arguments": {"a": 1}\n</tool_call>' + hermes("add", "{}"),
        call("add", '{"a": 1}') + call("add"),
    ),
    (
        "hermes",
        '<tool_call>{"name": "add", "arguments": {}}\n{"name": "add", "arguments": {}}</tool_call>',
        call("add") + call("add"),
    ),
    ("hermes", "<tool_call>oh</tool_call>", text("<tool_call>oh</tool_call>")),
    ("hermes", "<tool_call>{'name': 1}", text("<tool_call>{'name': 1}")),
    ("hermes", '<tool_call>{"name": "ad', text('<tool_call>{"name": "ad')),
    ("hermes", '<tool_call>{"a": 1} so', text('<tool_call>{"a": 1} so')),
    (
        "hermes",
        '<tool_call>{"name": "add", "arguments": {"a": 1',
        [Said("call", "add"), Said("arguments", '{"a": 1')],
    ),
    ("hermes", "a <tool", text("a <tool")),
    ("hermes", QWEN_CODER, call(
        "look_up", '{"city": "New\\nYork", "days": 3, "more": "[1, x]"}')),
    ("hermes", "<tool_call>\n<function=add>\n</function>\n</tool_call>", call("add")),
    ("hermes", "<tool_call><function=>", text("<tool_call><function=>")),
    ("hermes", "<think>\nHm,\n\nso.\n</think>\n\nYes.", thought("Hm,\n\nso.") + text("Yes.")),
    ("hermes", "<think>\n\n</think>\n\nYes.", text("Yes.")),
    ("hermes", "<think>Hm", thought("Hm")),
    ("hermes", "About <think>", text("About <think>")),
    (
        "hermes",
        f"<think>{hermes('add', '{}')}</think>{hermes('add', '{}')}",
        thought(hermes("add", "{}")) + call("add"),
    ),
    ("llama", "Just { text", text("Just { text")),
    ("llama", '{"city": "Paris"}', text('{"city": "Paris"}')),
    ("llama", '{"name": "Bob", "parameters": {}}', text('{"name": "Bob", "parameters": {}}')),
    ("llama", f'{{"name": "look_up", "parameters": {CITY}}}', call("look_up", CITY)),
    (
        "llama",
        f'<|python_tag|>{{"type": "function", "name": "add", "parameters": {SUM}}}; '
        f'{{"name": "look_up", "parameters": {CITY}}}',
        call("add", SUM) + call("look_up", CITY),
    ),
    (
        "llama",
        'Well: <|python_tag|>{"name": "add", "parameters": {}}',
        text("Well: ") + call("add"),
    ),
    ("llama", "<|python_tag|>print(1)", text("print(1)")),
    ("llama", '{"name": "add", "parameters": 7}', text('{"name": "add", "parameters": 7}')),
    ("mistral", "Just [text", text("Just [text")),
    (
        "mistral",
        f'[TOOL_CALLS] [{{"name": "add", "arguments": {SUM}, "id": "abcdefghi"}}, '
        f'{{"name": "look_up", "arguments": {CITY}}}]',
        call("add", SUM) + call("look_up", CITY),
    ),
    (
        "mistral",
        f"Well. [TOOL_CALLS]add[ARGS]{SUM}[TOOL_CALLS]look_up[CALL_ID]abcdefghi[ARGS]{CITY}",
        text("Well. ") + call("add", SUM) + call("look_up", CITY),
    ),
    ("mistral", f"[TOOL_CALLS]add {SUM} so", [*call("add", SUM), *text(" so")]),
    ("mistral", "[TOOL_CALLS][so", text("[TOOL_CALLS][so")),
    ("mistral", "[TOOL_CALLS]add so", text("[TOOL_CALLS]add so")),
    ("mistral", "[THINK]Hm[/THINK]Yes", thought("Hm") + text("Yes")),
    ("gemma", "Just <|text", text("Just <|text")),
    (
        "gemma",
        '<|tool_call>call:look_up{city:<|"|>Par}is<|"|>,days:3,l:[true,null,1.5],o:{<|"|>k<|"|>:'
        "word}}<tool_call|><|tool_call>call:add{}<tool_call|>",
        call("look_up", '{"city": "Par}is", "days": 3, "l": [true, null, 1.5], '
             '"o": {"k": "word"}}') + call("add"),
    ),
    (
        "gemma",
        '<|tool_call>call:add{a:<|"|>a <think> or <|tool_call><|"|>}<tool_call|>',
        call("add", '{"a": "a <think> or <|tool_call>"}'),
    ),
    ("gemma", "<|tool_call>call:add{<tool_call|>", text("<|tool_call>call:add{<tool_call|>")),
    ("gemma", "<|channel>thought\nHm\n<channel|>Yes", thought("Hm") + text("Yes")),
    ("harmony", "Just text", text("Just text")),
    (
        "harmony",
        f"<|channel|>analysis<|message|>Hm{END}{START}<|channel|>final<|message|>Yes<|return|>",
        thought("Hm") + text("Yes"),
    ),
    (
        "harmony",
        f"<|channel|>analysis<|message|>Hm{END}{START}<|channel|>commentary<|message|>Wait{END}"
        f"{START}<|channel|>commentary to=functions.look_up <|constrain|>json<|message|>{CITY}"
        f"<|call|>{START} to=functions.add<|channel|>commentary json<|message|>{SUM}<|call|>",
        thought("Hm") + text("Wait") + call("look_up", CITY) + call("add", SUM),
    ),
    ("harmony", "<|channel|>final", []),
]  # fmt: skip


@pytest.mark.parametrize("is_token", [True, False])
@pytest.mark.parametrize(("family", "output", "expected"), OUTPUTS)
def test_an_output_says_what_it_says(
    family: str, output: str, expected: list[Said], is_token: bool
) -> None:
    """Whether the marks are control tokens or spelled."""
    whole = with_marks(output) if is_token else output
    one_by_one = said(list(whole), FORMATS[family])
    assert one_by_one == said([whole], FORMATS[family])
    if not is_token or not any("<" in piece.text for piece in expected):
        assert expected == one_by_one


FRAGMENTS = st.sampled_from(
    [
        *("a", " ", "\n", "<", "[", "{", "}", '"', "\\", ",", ";", "look_up", "name", "arguments"),
        *('{"name": "look_up", "arguments": {', '"parameters": {', '{"a": 1}', "}}", "[1, {", "]"),
        *("<tool_call>", "</tool_call>", "<function=add>", "<parameter=city>", "</parameter>"),
        *("</function>", "<think>", "</think>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]"),
        *("[CALL_ID]", "[THINK]", "[/THINK]", "<|tool_call>", "call:add{", "a:", '<|"|>'),
        *("<tool_call|>", "<|channel>", "thought\n", "<channel|>", "<|start|>", "assistant"),
        *("<|channel|>", "analysis", "final", "commentary", " to=functions.add", "<|message|>"),
        *("<|end|>", "<|call|>", "<|constrain|>", "x" * 130, " " * 300),
        *(output for _, output, _ in OUTPUTS),
    ]
)


@given(
    st.sampled_from(sorted(FORMATS)),
    st.lists(FRAGMENTS, max_size=8).map("".join),
    st.booleans(),
    st.data(),
)
def test_any_cut_of_an_output_says_the_same(
    family: str, output: str, is_token: bool, data: st.DataObject
) -> None:
    output = with_marks(output) if is_token else output
    cuts = sorted(data.draw(st.sets(st.integers(0, len(output)), max_size=12)))
    pieces = [
        output[start:end] for start, end in zip([0, *cuts], [*cuts, len(output)], strict=True)
    ]
    assert said([output], FORMATS[family]) == said(pieces, FORMATS[family])
    assert said([output], FORMATS[family]) == said(list(output), FORMATS[family])


OPENINGS = {
    "hermes": ("<tool_call>", "<think>"),
    "llama": ("<|python_tag|>", '{"name": "look_up", "parameters": '),
    "mistral": ("[TOOL_CALLS]", "[THINK]"),
    "gemma": ("<|tool_call>", "<|channel>"),
}
PLAIN_TOKENS = st.sampled_from(["a", " the", "\n", "<", "tool", " {", "[", '"', ": 1}", "<b>", "."])


@given(st.sampled_from(sorted(OPENINGS)), st.lists(PLAIN_TOKENS, max_size=30))
@example("hermes", ["Well", " <", "b", ">"])
def test_text_waits_only_while_it_may_begin_a_call(family: str, tokens: list[str]) -> None:
    parser, fed, told = OutputParser(FORMATS[family], ALL, TOOLS), "", ""
    for token in tokens:
        fed += token
        told += "".join(piece.text for piece in parser.feed(token))
        assert fed.startswith(told)
        waiting = fed[len(told) :]
        begun = "".join(waiting.split())
        assert any("".join(of.split()).startswith(begun) for of in OPENINGS[family])
        assert not told or not waiting[:1].isspace()
    told += "".join(piece.text for piece in parser.close())
    assert fed == told


def test_no_word_of_plain_text_waits_for_the_next() -> None:
    for output_format in (*FORMATS.values(), OutputFormat()):
        parser = OutputParser(output_format, ALL, TOOLS)
        parser.feed(with_marks("<|channel|>final<|message|>"))
        for word in ("One", " two,", " three\n", "\n", "four", " 5 > 4"):
            assert word == "".join(piece.text for piece in parser.feed(word))


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (OutputReading(calls=True), "<think>\nHm\n</think>\n\n"),
        (OutputReading(), f"<think>\nHm\n</think>\n\n{hermes('add', SUM)}"),
    ],
)
def test_what_is_not_to_be_told_apart_stays_in_the_text(
    reading: OutputReading, expected: str
) -> None:
    output = f"<think>\nHm\n</think>\n\n{hermes('add', SUM)}"
    first, *_ = said([output], FORMATS["hermes"], reading)
    assert Said("text", expected) == first


def test_only_the_first_call_counts_where_one_is_wanted() -> None:
    reading = OutputReading(calls=True, reasoning=True, several_calls=False)
    output = hermes("add", SUM) + hermes("look_up", CITY) + "so"
    assert call("add", SUM) + text("so") == said([output], FORMATS["hermes"], reading)


@pytest.mark.parametrize(
    ("family", "opening", "output", "expected"),
    [
        ("hermes", "<think>", "\nHm</think>Yes", thought("Hm") + text("Yes")),
        ("hermes", "", "</think>Yes", text("</think>Yes")),
        ("mistral", "[THINK]", "Hm[/THINK]Yes", thought("Hm") + text("Yes")),
        ("harmony", "<|channel|>final<|message|>", "and so on", text("and so on")),
    ],
)
def test_a_prompt_may_open_what_the_output_goes_on_with(
    family: str, opening: str, output: str, expected: list[Said]
) -> None:
    output_format = OutputFormat(FORMATS[family].tools, FORMATS[family].reasoning, opening)
    assert expected == said([with_marks(output)], output_format) or "</think>" in expected[0].text
    assert said([output], output_format) == said(list(output), output_format) == expected


def test_whether_the_target_thinks_is_known_at_every_token() -> None:
    parser = OutputParser(FORMATS["hermes"], ALL)
    thinks: list[Any] = []
    for token in ("<think>", "\n", "Hm", "</think>", "\n\n", "Yes"):
        parser.feed(token)
        thinks.append(parser.is_reasoning)
    assert [True, True, True, False, False, False] == thinks
