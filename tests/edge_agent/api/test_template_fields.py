from __future__ import annotations

from typing import Any

import pytest

from edge_agent.api.openai_request import read_chat_request, read_completion_request
from edge_agent.generation.generation import GenerationRequest
from shared.errors import RequestRefused
from shared.protocol.messages import MAX_TEMPLATE_BYTES, PLAIN_TEMPLATE, TemplateOptions

USER = {"role": "user", "content": "hi"}


def asked(**fields: Any) -> TemplateOptions:
    request: GenerationRequest = read_chat_request({"messages": [USER], **fields}).generation
    return request.template


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, PLAIN_TEMPLATE),
        ({"chat_template_kwargs": None, "add_generation_prompt": None}, PLAIN_TEMPLATE),
        (
            {"chat_template_kwargs": {"enable_thinking": False}},
            TemplateOptions('{"enable_thinking":false}'),
        ),
        ({"reasoning_effort": "high"}, TemplateOptions('{"reasoning_effort":"high"}')),
        (
            {"reasoning_effort": "none"},
            TemplateOptions('{"reasoning_effort":"none","enable_thinking":false}'),
        ),
        (
            {"reasoning_effort": "low", "chat_template_kwargs": {"reasoning_effort": "max"}},
            TemplateOptions('{"reasoning_effort":"max"}'),
        ),
        ({"add_generation_prompt": False}, TemplateOptions("", False, False)),
        ({"continue_final_message": True}, TemplateOptions("", False, True)),
        (
            {"continue_final_message": True, "add_generation_prompt": False},
            TemplateOptions("", False, True),
        ),
    ],
)
def test_what_a_client_says_of_the_template_goes_to_the_verifier(
    fields: dict[str, Any], options: TemplateOptions
) -> None:
    assert options == asked(**fields)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        (
            {"continue_final_message": True, "add_generation_prompt": True},
            "continue_final_message",
            "only one of them can be true",
        ),
        ({"continue_final_message": "yes"}, "continue_final_message", "expected boolean"),
        ({"add_generation_prompt": 1}, "add_generation_prompt", "expected boolean"),
        ({"chat_template_kwargs": []}, "chat_template_kwargs", "expected object"),
        (
            {"chat_template_kwargs": {"a": "x" * MAX_TEMPLATE_BYTES}},
            "chat_template_kwargs",
            f"of {MAX_TEMPLATE_BYTES + 8} bytes exceed {MAX_TEMPLATE_BYTES}",
        ),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "must be one of none, minimal, low"),
        ({"chat_template": "{{ x }}"}, "chat_template", "not supported"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    fields: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(RequestRefused) as refused:
        asked(**fields)
    assert words in str(refused.value)
    assert field == refused.value.field


def test_a_plain_prompt_has_no_template() -> None:
    fields = {"prompt": "a", "continue_final_message": True}
    assert PLAIN_TEMPLATE == read_completion_request(fields).generation.template
