from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from edge_agent.api.answers.spoken_answer import SpokenAnswer
from edge_agent.api.anthropic.message_answer import MessageAnswer
from edge_agent.generation.generation import Finished, TextPiece
from shared.protocol.messages import FinishReason
from tests.support.messages.timings import TIMINGS

FINISHED = Finished("end", TIMINGS, seed=7, acceptance_mode="rejection")


def answer(*stop: str) -> MessageAnswer:
    return MessageAnswer("msg_1", "target", stop)


def events_of(lines: bytes) -> list[dict[str, Any]]:
    """The data of every event, whose first line names its type."""
    events = []
    for event in lines.decode().removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert f"event: {events[-1]['type']}" == name
    return events


def test_what_was_cached_of_the_prompt_is_no_input_again() -> None:
    usage = answer().whole(SpokenAnswer("x"), FINISHED)["usage"]
    expected = {"input_tokens": 6, "cache_read_input_tokens": 4, "output_tokens": 5}
    assert expected == usage


@pytest.mark.parametrize(
    ("reason", "stop", "told"),
    [
        ("end", (), ("end_turn", None)),
        ("stop", ("x",), ("stop_sequence", "x")),
        ("stop", ("x", "y"), ("stop_sequence", None)),
        ("length", ("x",), ("max_tokens", None)),
        ("context", (), ("model_context_window_exceeded", None)),
    ],
)
def test_why_it_ended_is_told(
    reason: FinishReason, stop: tuple[str, ...], told: tuple[str, str | None]
) -> None:
    whole = answer(*stop).whole(SpokenAnswer("x"), msgspec.structs.replace(FINISHED, reason=reason))
    assert told == (whole["stop_reason"], whole["stop_sequence"])


def test_a_stream_says_what_a_whole_message_says() -> None:
    shape = answer("x")
    (start,) = events_of(shape.opening())
    block, delta = events_of(shape.piece(TextPiece("é", "target")))
    _, last, _ = events_of(shape.ending(FINISHED))
    assert ("", "é") == (block["content_block"]["text"], delta["delta"]["text"])
    content = [{"type": "text", "text": delta["delta"]["text"]}]
    told = start["message"] | {"content": content, "usage": last["usage"]} | last["delta"]
    assert shape.whole(SpokenAnswer("é"), FINISHED) == told


def test_a_sign_of_life_is_an_event() -> None:
    assert [{"type": "ping"}] == events_of(answer().keepalive(None))
