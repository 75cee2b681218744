from __future__ import annotations

from typing import Any, get_args

import pytest

from edge_agent.api.anthropic.message_request import read_message_request
from edge_agent.generation.generation import GenerationRequest
from edge_agent.output_parsing.output_parser import OutputReading
from shared.errors import RequestRefused
from shared.protocol.messages import ChatMessage, TemplateOptions
from shared.speculation.model_defaults import ProcessorField
from shared.speculation.sampling import SamplingParameters

LEFT_OPEN = get_args(ProcessorField)
USER = {"role": "user", "content": "hi"}


def test_every_honoured_field_arrives() -> None:
    block = {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
    asked = read_message_request(
        {
            "model": "claude",
            "max_tokens": 9,
            "system": [block, {"type": "text", "text": "Be kind."}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            "stop_sequences": ["END"],
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 40,
            "stream": True,
            "metadata": {"user_id": "x"},
            "thinking": {"type": "adaptive"},
            "goodspeed": {"draft_length": 4},
        }
    )
    expected = GenerationRequest(
        messages=(ChatMessage("system", "Be brief.\nBe kind."), ChatMessage("user", "hi")),
        sampling=SamplingParameters(0.5, 40, 0.9),
        stop=("END",),
        max_tokens=9,
        draft_length=4,
        processors_left_open=LEFT_OPEN,
        reading=OutputReading(reasoning=True),
    )
    assert (expected, True, ()) == (asked.generation, asked.is_streamed, asked.ignored)


def test_where_the_assistant_spoke_last_its_turn_goes_on() -> None:
    turns = [USER, {"role": "assistant", "content": "The answer is ("}]
    template = read_message_request({"messages": turns}).generation.template
    assert TemplateOptions("", False, True) == template


def test_no_token_may_be_wanted_at_all() -> None:
    asked = read_message_request({"messages": [USER], "max_tokens": 0})
    assert (True, 1) == (asked.writes_nothing, asked.generation.max_tokens)


def test_a_block_among_others_is_refused_by_its_own_place() -> None:
    content = [{"type": "tool_result", "tool_use_id": "a"}, {"type": "image"}]
    with pytest.raises(RequestRefused) as refused:
        read_message_request({"messages": [USER, {"role": "user", "content": content}]})
    assert "messages[1].content[1].type" == refused.value.field


def test_effort_is_the_templates_to_understand() -> None:
    asked = read_message_request({"messages": [USER], "output_config": {"effort": "low"}})
    assert '{"reasoning_effort":"low"}' == asked.generation.template.arguments


def test_tools_that_none_may_call_are_not_shown() -> None:
    fields = {"messages": [USER], "tools": [{"name": "x"}], "tool_choice": {"type": "none"}}
    asked = read_message_request(fields)
    assert (b"", ()) == (asked.generation.tools, asked.ignored)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, None),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_result"}]}]}, None),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]}, None),
        ({"system": 5}, "system"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"thinking": {"type": "hard"}}, "thinking.type"),
        ({"tools": [{"name": "x y"}]}, "tools[0].name"),
        ({"tools": [{"name": "x", "type": "bash_20250124"}]}, "tools[0].type"),
        ({"tools": [5]}, "tools[0]"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"stop_sequences": [5]}, "stop_sequences[0]"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_config": {"effort": "huge"}}, "reasoning_effort"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
    ],
)
def test_what_is_not_done_is_refused_by_name(fields: dict[str, Any], field: str | None) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_message_request({"messages": [USER], **fields})
    assert (field or "messages[0].content[0].type") == refused.value.field
