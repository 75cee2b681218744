"""From a generation's events to the JSON and the events that Anthropic's clients read. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_agent.api.error_shapes import Failure, error_body
from edge_agent.api.openai_response import EVENT_STREAM
from edge_agent.generation.generation import Finished, TextPiece
from edge_agent.generation.waiting_line import Place
from shared.protocol.messages import FinishReason

_STOP_REASONS: dict[FinishReason, str] = {
    "stop": "stop_sequence",
    "end": "end_turn",
    "length": "max_tokens",
    "context": "model_context_window_exceeded",
    "cancelled": "end_turn",
}
# Of how many tokens a prompt comes to nothing is known when the answer begins: the last event says.
_NOTHING_YET = {"input_tokens": 0, "output_tokens": 0}


class MessageAnswer:
    """One message; see `edge_agent.api.answers.answer_shape.AnswerShape`."""

    media_type = EVENT_STREAM

    def __init__(self, message_id: str, model: str, stop: tuple[str, ...]) -> None:
        self.answer_id = self._message_id = message_id
        self._model = model
        self._stop = stop

    def keepalive(self, place: Place | None) -> bytes:
        return _event("ping", {})

    def whole(self, text: str, finished: Finished) -> dict[str, Any]:
        content = [{"type": "text", "text": text}]
        return self._message(content, _usage(finished)) | self._end(finished)

    def opening(self) -> bytes:
        block = {"index": 0, "content_block": {"type": "text", "text": ""}}
        return _event("message_start", {"message": self._message([], _NOTHING_YET)}) + _event(
            "content_block_start", block
        )

    def piece(self, piece: TextPiece) -> bytes:
        delta = {"type": "text_delta", "text": piece.text}
        return _event("content_block_delta", {"index": 0, "delta": delta})

    def ending(self, finished: Finished) -> bytes:
        delta = {"delta": self._end(finished), "usage": _usage(finished)}
        return (
            _event("content_block_stop", {"index": 0})
            + _event("message_delta", delta)
            + _event("message_stop", {})
        )

    def failing(self, failure: Failure) -> bytes:
        return _event("error", error_body("anthropic", failure))

    def _message(self, content: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }

    def _end(self, finished: Finished) -> dict[str, Any]:
        """Which of several strings it was is not told."""
        is_known = finished.reason == "stop" and len(self._stop) == 1
        return {
            "stop_reason": _STOP_REASONS[finished.reason],
            "stop_sequence": self._stop[0] if is_known else None,
        }


def model_page(model: str | None) -> dict[str, Any]:
    """The answer of `GET /v1/models` to Anthropic's clients."""
    models = [] if model is None else [model_object(model)]
    return {"data": models, "has_more": False, "first_id": model, "last_id": model}


def model_object(model: str) -> dict[str, Any]:
    """The answer of `GET /v1/models/{id}`; an epoch says that a date is not known."""
    return {
        "type": "model",
        "id": model,
        "display_name": model,
        "created_at": "1970-01-01T00:00:00Z",
    }


def _usage(finished: Finished) -> dict[str, int]:
    """Of the prompt only what was read anew counts as input there."""
    timings = finished.timings
    return {
        "input_tokens": timings.prompt_tokens - timings.cached_prefix_tokens,
        "cache_read_input_tokens": timings.cached_prefix_tokens,
        "output_tokens": timings.output_tokens,
    }


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    encoded = msgspec.json.encode({"type": kind, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + encoded + b"\n\n"
