from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edge_agent.api.answers.spoken_answer import SpokenAnswer
from edge_agent.api.openai_response import (
    Envelope,
    answer_headers,
    error_object,
    event_line,
    first_chunk,
    last_chunks,
    model_list,
    text_chunk,
    whole_answer,
)
from edge_agent.generation.generation import Finished, TextPiece, Timings
from shared.protocol.messages import FinishReason
from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.sampling import SamplingParameters
from tests.support.messages.timings import TIMINGS

CHAT = Envelope("chatcmpl-1", 1000, "target", is_chat=True)
COMPLETION = Envelope("cmpl-1", 1000, "target", is_chat=False)
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {
        "accepted_prediction_tokens": 3,
        "rejected_prediction_tokens": 2,
        "reasoning_tokens": 0,
    },
}
LLAMA_SERVER_TIMINGS = {
    "cache_n": 4,
    "prompt_n": 6,
    "prompt_ms": 500.0,
    "prompt_per_token_ms": 500.0 / 6,
    "prompt_per_second": 12.0,
    "predicted_n": 5,
    "predicted_ms": 1000.0,
    "predicted_per_token_ms": 250.0,
    "predicted_per_second": 4.0,
    "draft_n": 6,
    "draft_n_accepted": 3,
}


def finished(reason: FinishReason = "end", timings: Timings = TIMINGS) -> Finished:
    sampling = SamplingParameters(temperature=0.5, top_k=3)
    return Finished(
        reason,
        timings,
        seed=7,
        acceptance_mode="coupled",
        sampling=sampling,
        processors=LogitProcessors(repetition_penalty=1.05),
    )


def choice_of(answer: dict[str, Any]) -> dict[str, Any]:
    (choice,) = answer["choices"]
    assert isinstance(choice, dict)
    return choice


def test_a_whole_chat_answer() -> None:
    expected = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1000,
        "model": "target",
        "system_fingerprint": "goodspeed:target",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
        "timings": LLAMA_SERVER_TIMINGS,
        "goodspeed": {
            "acceptance_mode": "coupled",
            "seed": 7,
            "sampling": {
                "temperature": 0.5,
                "top_k": 3,
                "top_p": 1.0,
                "min_p": 0.0,
                "repetition_penalty": 1.05,
            },
            "finish_reason": "end",
            "num_verdicts": 2,
            "num_drafting_verdicts": 2,
            "survived_tokens": 4,
            "rejections": 1,
            "wire_bytes": 60,
        },
    }
    assert expected == whole_answer(CHAT, SpokenAnswer("Hello"), finished())


def test_a_whole_completion_has_its_text_in_the_choice() -> None:
    answer = whole_answer(COMPLETION, SpokenAnswer("Hello"), finished())
    assert ("text_completion", "Hello") == (answer["object"], choice_of(answer)["text"])


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "stop"),
        ("end", "stop"),
        ("length", "length"),
        ("context", "length"),
        ("cancelled", "stop"),
    ],
)
def test_finish_reasons_are_in_openais_words(reason: FinishReason, expected: str) -> None:
    assert (
        expected
        == choice_of(whole_answer(CHAT, SpokenAnswer(""), finished(reason)))["finish_reason"]
    )


def test_a_streamed_chat_names_the_role_then_brings_text_then_the_reason() -> None:
    chunks = [
        first_chunk(CHAT),
        text_chunk(CHAT, TextPiece("Hello", "accepted")),
        *last_chunks(CHAT, finished(), includes_usage=False),
    ]
    expected: list[tuple[dict[str, str], str | None]] = [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "Hello"}, None),
        ({}, "stop"),
    ]
    got = [(choice_of(chunk)["delta"], choice_of(chunk)["finish_reason"]) for chunk in chunks]
    assert expected == got
    assert {"chat.completion.chunk"} == {chunk["object"] for chunk in chunks}
    assert LLAMA_SERVER_TIMINGS == chunks[-1]["timings"]


def test_usage_comes_in_a_chunk_of_its_own_without_choices() -> None:
    reason, usage = last_chunks(CHAT, finished(), includes_usage=True)
    assert "usage" not in reason
    assert ([], USAGE) == (usage["choices"], usage["usage"])
    assert LLAMA_SERVER_TIMINGS == usage["timings"]


def test_a_streamed_completion_has_text_in_its_choices() -> None:
    (reason,) = last_chunks(COMPLETION, finished(), includes_usage=False)
    text = text_chunk(COMPLETION, TextPiece("Hello", "target"))
    assert [("Hello", None), ("", "stop")] == [
        (choice_of(chunk)["text"], choice_of(chunk)["finish_reason"]) for chunk in (text, reason)
    ]


def test_an_answer_without_tokens_divides_by_nothing() -> None:
    nothing = msgspec.structs.replace(
        TIMINGS, prompt_tokens=4, output_tokens=0, seconds_to_first_token=0.0, total_seconds=0.0
    )
    timings = whole_answer(CHAT, SpokenAnswer(""), finished(timings=nothing))["timings"]
    assert (0.0, 0.0, 0.0) == (
        timings["predicted_per_second"],
        timings["prompt_per_second"],
        timings["prompt_per_token_ms"],
    )


def test_an_event_is_one_line_and_an_empty_one() -> None:
    assert b'data: {"a":"x\\ny"}\n\n' == event_line({"a": "x\ny"})


def test_headers_name_mode_and_seed() -> None:
    expected = {"x-goodspeed-acceptance-mode": "coupled", "x-goodspeed-seed": "7"}
    assert expected == answer_headers(finished())


def test_the_model_list_is_empty_without_a_verifier() -> None:
    assert {"object": "list", "data": []} == model_list(None)
    assert ["target"] == [model["id"] for model in model_list("target")["data"]]


def test_an_error_has_openais_four_fields() -> None:
    expected = {"error": {"message": "no", "type": "kind", "param": "seed", "code": None}}
    assert expected == error_object("no", "kind", param="seed")
