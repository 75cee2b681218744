"""From a generation's events to the lines of JSON that Ollama's clients read: pure.

Durations are measured, in nanoseconds; what is not known is left out, or has the value with which
Ollama itself says so.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from edge_agent.api.answers.spoken_answer import SpokenAnswer, SpokenCall
from edge_agent.api.answers.token_logprobs import listed_logprobs
from edge_agent.api.error_shapes import Failure, error_body
from edge_agent.generation.figures import decode_seconds
from edge_agent.generation.generation import Finished, ScoredToken, TextPiece, Timings
from edge_agent.generation.waiting_line import Place
from shared.protocol.messages import FinishReason

# What clients may rely on, in the words of ollama-python 0.6.3; what answers them follows.
API_VERSION = "0.13.0+goodspeed"

_NANOSECONDS = 1_000_000_000
_UNKNOWN_TIME = "0001-01-01T00:00:00Z"  # of Go
_DONE_REASONS: dict[FinishReason, str] = {
    "stop": "stop",
    "end": "stop",
    "length": "length",
    "context": "length",
    "cancelled": "stop",
}


class OllamaAnswer:
    """Of a chat, or of `generate`; see `edge_agent.api.answers.answer_shape.AnswerShape`."""

    answer_id = None
    media_type = "application/x-ndjson"

    def __init__(self, model: str, created_at: datetime, *, is_chat: bool) -> None:
        self._head = {"model": model, "created_at": created_at.isoformat().replace("+00:00", "Z")}
        self._is_chat = is_chat
        self._call: SpokenCall | None = None  # that goes on
        self._unsaid: tuple[ScoredToken, ...] = ()  # of tokens that no line has told yet
        self._num_scored = 0

    def keepalive(self, place: Place | None) -> bytes:
        """Clients take every line for JSON, which may begin with spaces."""
        return b" "

    def whole(self, answer: SpokenAnswer, finished: Finished) -> dict[str, Any]:
        self._unsaid = finished.logprobs
        return self._last_line(answer, finished)

    def opening(self) -> bytes:
        return b""

    def piece(self, piece: TextPiece) -> bytes:
        """A call is told whole, at its end."""
        self._unsaid += piece.logprobs
        self._num_scored += len(piece.logprobs)
        if piece.part == "arguments" and self._call is not None:
            name, arguments = self._call.name, self._call.arguments
            self._call = SpokenCall(name, arguments + piece.text)
            return b""
        told = self._finished_call()
        if piece.part == "call":
            self._call = SpokenCall(piece.text)
            return told
        is_thought = piece.part == "reasoning"
        answer = SpokenAnswer("" if is_thought else piece.text, piece.text if is_thought else "")
        return told + _encoded(self._line(answer, is_done=False))

    def ending(self, finished: Finished) -> bytes:
        told = self._finished_call()
        self._unsaid += finished.logprobs[self._num_scored :]
        return told + _encoded(self._last_line(SpokenAnswer(), finished))

    def failing(self, failure: Failure) -> bytes:
        return _encoded(error_body("ollama", failure))

    def nothing(self, *, stays: bool) -> dict[str, Any]:
        """To a client that asked only for the model to be there, or to go."""
        return self._line(SpokenAnswer(), is_done=True) | {
            "done_reason": "load" if stays else "unload"
        }

    def _last_line(self, answer: SpokenAnswer, finished: Finished) -> dict[str, Any]:
        end = {"done_reason": _DONE_REASONS[finished.reason], **_durations(finished.timings)}
        return self._line(answer, is_done=True) | end

    def _finished_call(self) -> bytes:
        call, self._call = self._call, None
        if call is None:
            return b""
        return _encoded(self._line(SpokenAnswer(calls=(call,)), is_done=False))

    def _line(self, answer: SpokenAnswer, *, is_done: bool) -> dict[str, Any]:
        # Half of a call's arguments are none: what a limit cut off is text.
        cut = "".join(call.as_text for call in answer.calls if call.as_object is None)
        text = answer.text + cut
        said: dict[str, Any] = {"role": "assistant", "content": text}
        if not self._is_chat:
            said = {"response": text}
        if answer.reasoning:
            said["thinking"] = answer.reasoning
        calls = [
            {"function": {"name": call.name, "arguments": call.as_object}}
            for call in answer.calls
            if call.as_object is not None
        ]
        if calls:
            said["tool_calls"] = calls
        told: dict[str, Any] = {"message": said} if self._is_chat else said
        if self._unsaid:
            told["logprobs"], self._unsaid = listed_logprobs(self._unsaid), ()
        return {**self._head, **told, "done": is_done}


def model_tags(model: str | None) -> dict[str, Any]:
    """The answer of `GET /api/tags`."""
    return {"models": [] if model is None else [_model(model)]}


def running_models(model: str | None, context_tokens: int | None) -> dict[str, Any]:
    """The answer of `GET /api/ps`: the target stays in the verifier's memory."""
    if model is None:
        return {"models": []}
    known = {} if context_tokens is None else {"context_length": context_tokens}
    return {"models": [{**_model(model), "expires_at": _UNKNOWN_TIME, **known}]}


def model_details(model: str, context_tokens: int | None) -> dict[str, Any]:
    """The answer of `POST /api/show`; what the target is made of only the verifier knows."""
    known = {} if context_tokens is None else {"goodspeed.context_length": context_tokens}
    return {
        "details": {},
        "model_info": {"general.name": model, **known},
        "capabilities": ["completion", "tools"],
        "modified_at": _UNKNOWN_TIME,
    }


def names_model(asked: str, model: str | None) -> bool:
    """Whether it is the target's name, with Ollama's tag or without."""
    return model is not None and asked in (model, f"{model}:latest")


def _model(model: str) -> dict[str, Any]:
    return {
        "name": model,
        "model": model,
        "modified_at": _UNKNOWN_TIME,
        "size": 0,
        "digest": "",
        "details": {},
    }


def _durations(timings: Timings) -> dict[str, int]:
    return {
        "total_duration": round(timings.total_seconds * _NANOSECONDS),
        "prompt_eval_count": timings.prompt_tokens,
        "prompt_eval_duration": round(timings.seconds_to_first_token * _NANOSECONDS),
        "eval_count": timings.output_tokens,
        "eval_duration": round(decode_seconds(timings) * _NANOSECONDS),
    }


def _encoded(line: dict[str, Any]) -> bytes:
    return msgspec.json.encode(line) + b"\n"
