from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from edge_agent.api.answers.spoken_answer import SpokenAnswer
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.responses.response_answer import ResponseAnswer, ResponseNames
from edge_agent.api.responses.response_request import read_response_request
from edge_agent.generation.generation import Finished, TextPiece
from shared.protocol.messages import FinishReason
from shared.speculation.sampling import SamplingParameters
from tests.support.messages.timings import TIMINGS

NAMES = ResponseNames("resp_1", 1000, "target")
FINISHED = Finished(
    "end", TIMINGS, 7, "rejection", sampling=SamplingParameters(temperature=0.6, top_p=0.95)
)


def answer(**fields: Any) -> ResponseAnswer:
    asked: ClientRequest = read_response_request({"input": "hi", **fields})
    return ResponseAnswer(NAMES, asked)


def events_of(lines: bytes) -> list[dict[str, Any]]:
    events = []
    for event in lines.decode().removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert f"event: {events[-1]['type']}" == name
    return events


def test_a_response_says_what_was_in_force_and_what_it_took() -> None:
    whole = answer(temperature=0.6, metadata={"a": "b"}, max_output_tokens=9).whole(
        SpokenAnswer("x"), FINISHED
    )
    assert (0.6, 0.95, 9, {"a": "b"}, False) == tuple(
        whole[name] for name in ("temperature", "top_p", "max_output_tokens", "metadata", "store")
    )
    assert {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 15,
    } == whole["usage"]


def test_at_its_beginning_a_stream_says_no_more_than_is_known() -> None:
    created, *_ = events_of(answer(temperature=0.6).opening())
    response = created["response"]
    assert ("in_progress", 0.6, None, None, []) == tuple(
        response[name] for name in ("status", "temperature", "top_p", "usage", "output")
    )


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("end", "completed"),
        ("stop", "completed"),
        ("length", "incomplete"),
        ("context", "incomplete"),
    ],
)
def test_a_stream_ends_with_what_a_whole_response_says(reason: FinishReason, status: str) -> None:
    finished = msgspec.structs.replace(FINISHED, reason=reason)
    shape = answer()
    lines = shape.opening() + shape.piece(TextPiece("a", "target"))
    lines += shape.piece(TextPiece("é", "accepted")) + shape.ending(finished)
    events = events_of(lines)
    assert [*range(len(events))] == [event["sequence_number"] for event in events]
    assert f"response.{status}" == events[-1]["type"]
    assert answer().whole(SpokenAnswer("aé"), finished) == events[-1]["response"]
