from __future__ import annotations

from typing import Any, get_args

import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.requests.request_fields import HARMLESS
from edge_agent.api.responses.response_request import read_response_request
from edge_agent.generation.generation import GenerationRequest
from edge_agent.output_parsing.output_parser import OutputReading
from shared.errors import RequestRefused
from shared.protocol.messages import ChatMessage
from shared.speculation.model_defaults import ProcessorField
from shared.speculation.sampling import SamplingParameters

LEFT_OPEN = get_args(ProcessorField)
PART = {"type": "input_text", "text": "hi"}
FIELDS = ResponseCreateParamsBase.__annotations__.keys() | {"stream"}


def test_every_honoured_field_arrives() -> None:
    asked = read_response_request(
        {
            "model": "any",
            "instructions": "be brief",
            "input": [
                {"role": "developer", "content": "be kind"},
                {"type": "message", "role": "user", "content": [PART]},
            ],
            "max_output_tokens": 9,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 40,
            "seed": 3,
            "stream": True,
            "metadata": {"a": "b"},
            "goodspeed": {"acceptance_mode": "coupled"},
        }
    )
    generation = GenerationRequest(
        messages=(
            ChatMessage("system", "be brief"),
            ChatMessage("system", "be kind"),
            ChatMessage("user", "hi"),
        ),
        sampling=SamplingParameters(0.5, 40, 0.9),
        seed=3,
        max_tokens=9,
        acceptance_mode="coupled",
        processors_left_open=LEFT_OPEN,
        reading=OutputReading(reasoning=True),
    )
    assert ClientRequest(generation, is_streamed=True, metadata={"a": "b"}) == asked


def test_effort_is_the_templates_to_understand() -> None:
    asked = read_response_request({"input": "hi", "reasoning": {"effort": "low"}})
    assert '{"reasoning_effort":"low"}' == asked.generation.template.arguments


@pytest.mark.parametrize("value", [None, 5, [], [5], {}])
def test_an_input_is_a_text_or_messages(value: object) -> None:
    if value == "":
        assert (
            ChatMessage("user", "") == read_response_request({"input": ""}).generation.messages[0]
        )
        return
    with pytest.raises(RequestRefused) as refused:
        read_response_request({"input": value})
    assert (refused.value.field or "").startswith("input")


@pytest.mark.parametrize("name", sorted(FIELDS - HARMLESS - {"input", "stream_options"}))
def test_nonsense_in_a_field_of_openais_responses_is_never_passed_over(name: str) -> None:
    fields: dict[str, Any] = {"input": "hi", name: {"no": "sense"}}
    names: set[str]
    try:
        names = set(read_response_request(fields).ignored)
    except RequestRefused as refused:
        names = {refused.field or ""}
    assert {name} == {said.partition(".")[0] for said in names}


@pytest.mark.parametrize("metadata", [{"a": 1}, ["a"], {str(i): "x" for i in range(17)}])
def test_metadata_are_a_few_texts(metadata: object) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_response_request({"input": "hi", "metadata": metadata})
    assert "metadata" == refused.value.field
