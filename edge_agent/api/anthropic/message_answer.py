"""From a generation's events to the JSON and the events that Anthropic's clients read. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_agent.api.answers.spoken_answer import SpokenAnswer, call_name
from edge_agent.api.error_shapes import Failure, error_body
from edge_agent.api.openai_response import EVENT_STREAM
from edge_agent.generation.generation import Finished, TextPiece
from edge_agent.generation.waiting_line import Place
from edge_agent.output_parsing.said import Part
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

_DELTA_TYPES: dict[Part, str] = {
    "text": "text_delta",
    "reasoning": "thinking_delta",
    "arguments": "input_json_delta",
}
_DELTA_FIELDS: dict[Part, str] = {
    "text": "text",
    "reasoning": "thinking",
    "arguments": "partial_json",
}


class MessageAnswer:
    """One message; see `edge_agent.api.answers.answer_shape.AnswerShape`."""

    media_type = EVENT_STREAM

    def __init__(self, message_id: str, model: str, stop: tuple[str, ...]) -> None:
        self.answer_id = self._message_id = message_id
        self._model = model
        self._stop_strings = stop
        self._num_blocks = 0
        self._num_calls = 0
        self._part: Part | None = None  # of the last block

    def keepalive(self, place: Place | None) -> bytes:
        return _event("ping", {})

    def whole(self, answer: SpokenAnswer, finished: Finished) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = []
        if answer.reasoning:
            blocks.append(_block("reasoning") | {"thinking": answer.reasoning})
        if answer.text or not answer.calls:
            blocks.append(_block("text") | {"text": answer.text})
        for i, call in enumerate(answer.calls):
            arguments = call.as_object
            if arguments is None:  # a limit cut it off: no tool may run with half of its input
                blocks.append(_block("text") | {"text": call.as_text})
            else:
                blocks.append(self._call_block(call.name, i) | {"input": arguments})
        message = self._message(blocks, _usage(finished))
        return message | self._end(finished, has_calls=bool(answer.calls))

    def opening(self) -> bytes:
        return _event("message_start", {"message": self._message([], _NOTHING_YET)})

    def piece(self, piece: TextPiece) -> bytes:
        begun = b""
        if piece.part == "call":
            block = self._call_block(piece.text, self._num_calls)
            self._num_calls += 1
            return self._begin(piece.part, block)
        if piece.part not in (self._part, "arguments"):
            begun = self._begin(piece.part, _block(piece.part))
        delta = {"type": _DELTA_TYPES[piece.part], _DELTA_FIELDS[piece.part]: piece.text}
        fields = {"index": self._num_blocks - 1, "delta": delta}
        return begun + _event("content_block_delta", fields)

    def ending(self, finished: Finished) -> bytes:
        begun = b"" if self._num_blocks else self._begin("text", _block("text"))
        end = self._end(finished, has_calls=self._num_calls > 0)
        delta = {"delta": end, "usage": _usage(finished)}
        return begun + self._stop() + _event("message_delta", delta) + _event("message_stop", {})

    def failing(self, failure: Failure) -> bytes:
        return _event("error", error_body("anthropic", failure))

    def _begin(self, part: Part, block: dict[str, Any]) -> bytes:
        """Another block, behind the one before."""
        stopped = self._stop() if self._num_blocks else b""
        self._part = part
        self._num_blocks += 1
        fields = {"index": self._num_blocks - 1, "content_block": block}
        return stopped + _event("content_block_start", fields)

    def _stop(self) -> bytes:
        return _event("content_block_stop", {"index": self._num_blocks - 1})

    def _call_block(self, name: str, index: int) -> dict[str, Any]:
        call_id = call_name("toolu", self._message_id, index)
        return {"type": "tool_use", "id": call_id, "name": name, "input": {}}

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

    def _end(self, finished: Finished, *, has_calls: bool) -> dict[str, Any]:
        """Which of several strings it was is not told."""
        if has_calls and finished.reason == "end":
            return {"stop_reason": "tool_use", "stop_sequence": None}
        is_known = finished.reason == "stop" and len(self._stop_strings) == 1
        return {
            "stop_reason": _STOP_REASONS[finished.reason],
            "stop_sequence": self._stop_strings[0] if is_known else None,
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


def _block(part: Part) -> dict[str, Any]:
    """Of text or thoughts, empty; there is nothing that would prove where thoughts come from."""
    if part == "reasoning":
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


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
