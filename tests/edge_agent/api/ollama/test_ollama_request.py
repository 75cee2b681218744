from __future__ import annotations

from typing import Any

import pytest

from edge_agent.api.ollama.ollama_request import read_ollama_chat, read_ollama_generate
from edge_agent.generation.generation import GenerationRequest
from edge_agent.output_parsing.output_parser import OutputReading
from shared.errors import RequestRefused
from shared.protocol.messages import PLAIN_TEMPLATE, ChatMessage, TemplateOptions
from shared.speculation.sampling import SamplingParameters

USER = {"role": "user", "content": "hi"}


def chat(**options: Any) -> GenerationRequest:
    return read_ollama_chat({"messages": [USER], "options": options}).generation


def test_every_honoured_field_arrives() -> None:
    asked = read_ollama_chat(
        {
            "model": "llama3",
            "messages": [{"role": "system", "content": "be brief"}, USER],
            "stream": False,
            "keep_alive": "5m",
            "format": "",
            "options": {
                "temperature": 0.5,
                "top_k": 40,
                "top_p": 0.9,
                "seed": 3,
                "stop": ["END"],
                "num_predict": 9,
                "repeat_penalty": 1.0,
                "num_thread": 4,
                "num_ctx": 4096,
            },
        }
    )
    expected = GenerationRequest(
        messages=(ChatMessage("system", "be brief"), ChatMessage("user", "hi")),
        sampling=SamplingParameters(0.5, 40, 0.9),
        seed=3,
        stop=("END",),
        max_tokens=9,
        processors_left_open=("min_p",),
        reading=OutputReading(reasoning=True),
    )
    expected_ignored = ("options.num_ctx",)
    assert (expected, False, expected_ignored) == (
        asked.generation,
        asked.is_streamed,
        asked.ignored,
    )


def test_an_answer_is_streamed_unless_it_is_not_wanted() -> None:
    assert read_ollama_chat({"messages": [USER]}).is_streamed
    assert read_ollama_generate({"prompt": "hi"}).is_streamed


@pytest.mark.parametrize("number", [-1, -2, 0])
def test_without_a_limit_the_answer_ends_by_itself(number: int) -> None:
    assert chat() == chat(num_predict=number)


def test_where_the_assistant_spoke_last_its_turn_goes_on() -> None:
    turns = [USER, {"role": "assistant", "content": "Well"}]
    template = read_ollama_chat({"messages": turns}).generation.template
    assert TemplateOptions("", False, True) == template


@pytest.mark.parametrize(
    ("think", "arguments"),
    [
        (None, ""),
        (False, '{"enable_thinking":false}'),
        (True, '{"enable_thinking":true}'),
        ("high", '{"reasoning_effort":"high"}'),
    ],
)
def test_whether_to_think_is_the_templates_to_understand(think: object, arguments: str) -> None:
    asked = read_ollama_chat({"messages": [USER], "think": think})
    assert arguments == asked.generation.template.arguments


def test_a_question_is_a_chat_and_raw_text_goes_on() -> None:
    asked = read_ollama_generate({"prompt": "hi", "system": "be brief"}).generation
    assert (ChatMessage("system", "be brief"), ChatMessage("user", "hi")) == asked.messages
    raw = read_ollama_generate({"prompt": "Once", "raw": True}).generation
    assert ("Once", (), PLAIN_TEMPLATE) == (raw.text, raw.messages, raw.template)


@pytest.mark.parametrize(("keep_alive", "stays"), [(None, True), ("5m", True), (0, False)])
def test_to_ask_nothing_is_to_ask_for_the_model(keep_alive: object, stays: bool) -> None:
    fields = {"keep_alive": keep_alive}
    assert stays is read_ollama_generate({"prompt": "", **fields}).keep_alive
    assert stays is read_ollama_chat({"messages": [], **fields}).keep_alive


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"format": "yaml"}, "format"),
        ({"tools": [{}]}, "tools[0].name"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"options": 5}, "options"),
        ({"options": {"mirostat": 2}}, "options.mirostat"),
        ({"options": {"num_predict": -3}}, "options.num_predict"),
        ({"options": {"stop": 5}}, "options.stop"),
        ({"think": "huge"}, "reasoning_effort"),
        ({"messages": [{"role": "tool", "content": 5}]}, "messages[0].content"),
        ({"messages": [{**USER, "images": ["aGk="]}]}, "messages[0].images"),
    ],
)
def test_what_is_not_done_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_ollama_chat({"messages": [USER], **fields})
    assert field == refused.value.field


@pytest.mark.parametrize("name", ["suffix", "template", "context", "images"])
def test_what_generate_cannot_do_is_refused_by_name(name: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_ollama_generate({"prompt": "hi", name: ["x"]})
    assert name == refused.value.field
