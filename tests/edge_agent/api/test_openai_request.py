from __future__ import annotations

import math
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.api.openai_request import (
    DEFAULT_COMPLETION_TOKENS,
    read_chat_request,
    read_completion_request,
)
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.requests.message_fields import MAX_TEXT_PARTS
from edge_agent.generation.generation import GenerationRequest
from edge_agent.output_parsing.output_parser import OutputReading
from shared.errors import RequestRefused
from shared.protocol.codec import encode
from shared.protocol.messages import (
    MAX_CHAT_MESSAGES,
    MAX_STOP_BYTES,
    MAX_STOP_STRINGS,
    PART_BYTES,
    ChatMessage,
    Open,
)
from shared.protocol.prompt_parts import MAX_PARTS, MAX_PROMPT_BYTES, cut_open
from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.model_defaults import ProcessorField
from shared.speculation.sampling import SamplingParameters

LEFT_OPEN = get_args(ProcessorField)
TEXT_PART = {"type": "text", "text": "x"}
USER = {"role": "user", "content": "hi"}
KNOWN_FIELDS = (
    *("stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p"),
    *("top_k", "seed", "stop", "n", "tools", "logprobs", "response_format", "goodspeed"),
)


SAMPLING_FIELDS = ("temperature", "top_k", "top_p")


def chat(**fields: Any) -> GenerationRequest:
    return read_chat_request({"messages": [USER], **fields}).generation


def refusal(fields: dict[str, Any]) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        read_chat_request(fields)
    return refused.value


def test_messages_alone_are_a_whole_request() -> None:
    expected = ClientRequest(
        GenerationRequest(
            messages=(ChatMessage("user", "hi"),),
            left_open=SAMPLING_FIELDS,
            processors_left_open=LEFT_OPEN,
            reading=OutputReading(reasoning=True),
        )
    )
    assert expected == read_chat_request({"messages": [USER]})


def test_every_honoured_field_arrives() -> None:
    request = read_chat_request(
        {
            "model": "anything",
            "messages": [{"role": "system", "content": "be brief"}, USER],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 12,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 40,
            "seed": 3,
            "stop": ["\n", "END"],
            "n": 1,
            "frequency_penalty": 0.5,
            "user": "someone",
            "goodspeed": {"acceptance_mode": "coupled", "draft_length": 4},
        }
    )
    expected = GenerationRequest(
        messages=(ChatMessage("system", "be brief"), ChatMessage("user", "hi")),
        sampling=SamplingParameters(temperature=0.5, top_k=40, top_p=0.9),
        seed=3,
        stop=("\n", "END"),
        max_tokens=12,
        acceptance_mode="coupled",
        draft_length=4,
        processors=LogitProcessors(frequency_penalty=0.5),
        processors_left_open=LEFT_OPEN,
        reading=OutputReading(reasoning=True),
    )
    assert ClientRequest(expected, is_streamed=True, includes_usage=True) == request


def test_what_is_not_said_of_the_sampling_is_left_open() -> None:
    assert ("temperature", "top_k") == chat(top_p=0.9).left_open
    assert ("top_p",) == chat(temperature=1.0, top_k=0).left_open  # a value is a word, too
    assert () == chat(temperature=0, top_k=1, top_p=1).left_open


def test_null_is_the_same_as_a_missing_field() -> None:
    assert chat() == chat(**dict.fromkeys(KNOWN_FIELDS))


def test_unknown_fields_are_taken_and_named_and_harmless_ones_are_taken() -> None:
    fields = {"messages": [{**USER, "name": "Ann"}], "metadata": {"a": "b"}, "magic": 1, "x": None}
    asked = read_chat_request(fields)
    assert (chat(), ("magic", "messages.name")) == (asked.generation, asked.ignored)


@pytest.mark.parametrize(
    ("off", "plain"),
    [
        ({"seed": -1}, {}),
        ({"seed": -1.0}, {}),
        ({"max_tokens": -1}, {}),
        ({"n_predict": -1}, {}),
        ({"stop": ""}, {}),
        ({"stop": []}, {}),
        ({"stop": ["", "x"]}, {"stop": "x"}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"top_p": 0}, {"top_k": 1, "top_p": 1}),
        ({"top_p": 0.0, "top_k": 40}, {"top_k": 1, "top_p": 1}),
        ({"max_tokens": 6.0, "seed": 3.0, "top_k": 2.0}, {"max_tokens": 6, "seed": 3, "top_k": 2}),
        ({"n_predict": 5}, {"max_tokens": 5}),
        ({"max_tokens": None, "n_predict": 5}, {"max_tokens": 5}),
    ],
)
def test_every_dialects_word_for_nothing_is_understood(
    off: dict[str, Any], plain: dict[str, Any]
) -> None:
    assert chat(**plain) == chat(**off)


def test_a_completion_without_end_is_one_that_was_asked_for() -> None:
    assert read_completion_request({"prompt": "x", "max_tokens": -1}).generation.max_tokens is None


def test_an_assistant_that_said_nothing_may_say_so_by_null() -> None:
    silent = {"role": "assistant", "content": None, "refusal": None, "tool_calls": []}
    assert ChatMessage("assistant", "") == chat(messages=[USER, silent]).messages[1]


@pytest.mark.parametrize("role", ["user", "system"])
def test_null_in_place_of_a_text_is_an_empty_one(role: str) -> None:
    silent = {"role": role, "content": None}
    assert ChatMessage(role, "") == chat(messages=[silent, USER]).messages[0]


def test_tools_that_none_may_call_are_not_shown() -> None:
    tools = [{"type": "function", "function": {"name": "x"}}]
    asked = read_chat_request({"messages": [USER], "tools": tools, "tool_choice": "none"})
    assert (chat(), ()) == (asked.generation, asked.ignored)


def test_one_stop_string_needs_no_list() -> None:
    assert ("END",) == chat(stop="END").stop


def test_the_newer_name_of_max_tokens_wins() -> None:
    assert 5 == chat(max_completion_tokens=5, max_tokens=9).max_tokens
    assert 5 == chat(max_completion_tokens=5).max_tokens


def test_text_parts_are_joined_by_line_feeds() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    (message,) = chat(messages=[{"role": "user", "content": parts}]).messages
    assert ChatMessage("user", "one\ntwo") == message


def test_what_the_assistant_refused_is_what_it_said() -> None:
    parts = [{"type": "refusal", "refusal": "I cannot say."}]
    (message,) = chat(messages=[{"role": "assistant", "content": parts}]).messages
    assert ChatMessage("assistant", "I cannot say.") == message


def test_a_developer_message_is_a_system_message() -> None:
    (message,) = chat(messages=[{"role": "developer", "content": "x"}]).messages
    assert "system" == message.role


@pytest.mark.parametrize(
    ("name", "edges", "beyond"),
    [
        ("temperature", [0, -0.0, 5e-324, 2.9e-39, 100], [-5e-324, math.nextafter(100, 101)]),
        ("top_p", [5e-324, 1e-40, math.nextafter(1, 0), 1], [-5e-324, math.nextafter(1, 2)]),
        ("top_k", [0, 1, 1 << 24], [-2, (1 << 24) + 1]),
    ],
)
def test_a_client_may_ask_for_what_the_protocol_may_carry(
    name: str, edges: list[float], beyond: list[float]
) -> None:
    fields = SamplingParameters.__struct_fields__
    for value in edges:
        sampling = read_completion_request({"prompt": "x", name: value}).generation.sampling
        carried = msgspec.msgpack.decode(msgspec.msgpack.encode(sampling), type=SamplingParameters)
        assert value == getattr(carried, name)
    for value in [*beyond, math.nan, math.inf]:
        with pytest.raises(RequestRefused) as refusal:
            read_completion_request({"prompt": "x", name: value})
        assert name == refusal.value.field
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert([value if field == name else 1 for field in fields], SamplingParameters)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"temperature": 101}, "temperature = 101: expected number <= 100.0"),
        ({"temperature": True}, "temperature = true: expected number, got boolean"),
        ({"temperature": "hot"}, "temperature = 'hot': expected number, got string"),
        ({"top_p": -0.5}, "top_p = -0.5: expected number > 0.0"),
        ({"top_k": -2}, "top_k = -2: expected integer >= 0"),
        ({"seed": -2}, "seed = -2: expected integer >= 0"),
        ({"seed": 1.5}, "seed = 1.5: expected integer, got number"),
        (
            {"seed": 1 << 70},
            "seed = an integer of 71 bits: expected integer <= 9223372036854775807",
        ),
        ({"max_tokens": -2}, "max_tokens = -2: expected integer >= 1"),
        ({"stop": 5}, "stop = 5: expected array, got integer"),
        ({"stop": "é" * 200}, f"stop string of 400 bytes: at most {MAX_STOP_BYTES}"),
        (
            {"stop": ["a"] * (MAX_STOP_STRINGS + 1)},
            f"stop = a list of {MAX_STOP_STRINGS + 1}: expected array of length <= 16",
        ),
        ({"stream": "yes"}, "stream = 'yes': expected boolean, got string"),
        ({"n": 65}, "n = 65: expected integer <= 64"),
        ({"n": True}, "n = true: expected integer, got boolean"),
        (
            {"best_of": 2},
            "best_of = 2: not supported; chats have n answers; send a completion, or n",
        ),
        ({"top_a": 0.5}, "top_a = 0.5: not supported; send 0, or use top_p"),
        ({"goodspeed": 3}, "goodspeed = 3: expected object, got integer"),
        (
            {"goodspeed": {"draft_lenght": 3}},
            "unknown field 'draft_lenght' in goodspeed: it has acceptance_mode, draft_length",
        ),
    ],
)
def test_a_refusal_names_field_value_and_limit(fields: dict[str, Any], sentence: str) -> None:
    refused = refusal({"messages": [USER], **fields})
    assert (sentence, next(iter(fields))) == (str(refused), refused.field)


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        (
            {"goodspeed": {"draft_length": 129}},
            "goodspeed.draft_length",
            "goodspeed.draft_length = 129: expected integer <= 128",
        ),
        (
            {"goodspeed": {"acceptance_mode": "fast"}},
            "goodspeed.acceptance_mode",
            "goodspeed.acceptance_mode = 'fast': must be one of rejection, coupled",
        ),
        (
            {"stream_options": {"include_usage": 1}},
            "stream_options.include_usage",
            "stream_options.include_usage = 1: expected boolean, got integer",
        ),
        ({"stop": ["a", 3]}, "stop[1]", "stop[1] = 3: expected string, got integer"),
    ],
)
def test_a_refusal_names_the_part_of_a_field(
    fields: dict[str, Any], field: str, sentence: str
) -> None:
    refused = refusal({"messages": [USER], **fields})
    assert (sentence, field) == (str(refused), refused.field)


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        (None, "messages"),
        ("hi", "messages"),
        ([], "messages"),
        ([USER] * (MAX_CHAT_MESSAGES + 1), "messages"),
        ([{"role": "user", "content": [TEXT_PART] * (MAX_TEXT_PARTS // 2 + 1)}] * 2, "messages"),
        (["hi"], "messages[0]"),
        ([USER, {"content": "hi"}], "messages[1].role"),
        ([{"role": "tool"}], "messages[0].content"),
        ([{"role": ["user"], "content": "hi"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": "x", "images": ["aGk="]}], "messages[0].images"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{"role": "user", "content": ["hi"]}], "messages[0].content[0]"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}],
            "messages[0].content[1].type",
        ),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": ["text"]}]}], "messages[0].content[0].type"),
        (
            [{"role": "assistant", "content": "", "tool_calls": [{}]}],
            "messages[0].tool_calls[0].function",
        ),
    ],
)
def test_a_refused_message_is_named(messages: object, field: str) -> None:
    assert field == refusal({"messages": messages}).field


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "tools": [], "tool_choice": "none", "logit_bias": {}, "presence_penalty": 0.0},
        {"response_format": {"type": "text"}, "logprobs": False, "modalities": ["text"]},
    ],
)
def test_fields_that_ask_for_nothing_are_no_reason_to_refuse(fields: dict[str, Any]) -> None:
    assert chat() == chat(**fields)


def test_text_of_messages_is_in_no_refusal() -> None:
    secret = "my secret diary"
    fields = {"messages": [{"role": "user", "content": [{"type": "text", "text": [secret]}]}]}
    assert secret not in str(refusal(fields))


def test_the_longest_prompt_can_be_sent_to_the_verifier() -> None:
    content = "x" * (MAX_PROMPT_BYTES // MAX_CHAT_MESSAGES)
    messages = [{"role": "assistant", "content": content}] * MAX_CHAT_MESSAGES
    asked = chat(messages=messages, stop=["s" * MAX_STOP_BYTES] * MAX_STOP_STRINGS)
    parts = cut_open(Open(channel=1, stream_id=1, messages=asked.messages, stop=asked.stop))
    assert len(parts) < MAX_PARTS
    assert all(len(encode(part)) < 2 * PART_BYTES for part in parts)


def test_a_longer_prompt_is_refused() -> None:
    refused = refusal(
        {"messages": [{"role": "user", "content": "é" * (MAX_PROMPT_BYTES // 2 + 1)}]}
    )
    expected = f"messages of {MAX_PROMPT_BYTES + 2} bytes exceed {MAX_PROMPT_BYTES}"
    assert (expected, "messages") == (str(refused), refused.field)


def test_a_completion_has_a_plain_prompt_and_the_documented_default_length() -> None:
    expected = GenerationRequest(
        text="Once",
        max_tokens=DEFAULT_COMPLETION_TOKENS,
        left_open=SAMPLING_FIELDS,
        processors_left_open=LEFT_OPEN,
    )
    assert expected == read_completion_request({"prompt": "Once"}).generation
    assert expected == read_completion_request({"prompt": ["Once"]}).generation


@pytest.mark.parametrize("prompt", [None, 5, ["a", 5], [1, "b"], [[1], []], [[1, True]], []])
def test_other_prompts_are_refused(prompt: object) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_completion_request({"prompt": prompt})
    assert (refused.value.field or "").startswith("prompt")


@pytest.mark.parametrize(
    ("field", "value"), [("best_of", -1), ("echo", 1), ("suffix", "x"), ("top_logprobs", 2)]
)
def test_what_a_completion_cannot_do_is_refused(field: str, value: object) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_completion_request({"prompt": "Once", field: value})
    assert field == refused.value.field


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["messages", "prompt", *KNOWN_FIELDS]), JSON))
def test_any_json_is_a_request_or_a_refusal(fields: dict[str, Any]) -> None:
    for read in (read_chat_request, read_completion_request):
        try:
            assert isinstance(read({"messages": [USER], "prompt": "x", **fields}), ClientRequest)
        except RequestRefused as refused:
            if refused.field is None:
                raise
